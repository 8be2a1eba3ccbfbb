"""The cell of collaborative text: do raters contradict each other, and how long do conflicts stay open?"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np

from epistream.indexer import agreement
from epistream.indexer.agreement import Level
from epistream.indexer.conflicts import Conflict
from epistream.indexer.signals.figure import PARTS_MAX, Figure, entropy, mean, missing, p95, share
from epistream.indexer.signals.window import READ_MAX, Said, Window
from epistream.v1 import knowledge_pb2 as pb

Vote: TypeAlias = float
_Way: TypeAlias = tuple[int, str, tuple[float, float]]
"""Kind of judgement, aspect and scale."""
_Unit: TypeAlias = tuple[_Way, str, str]
"""Way of judging, item, and of a comparison the other item."""

_WAYS: Final = 3
"""A comparison ends with one item, the other, or a tie."""
_SCALE_STEPS_MAX: Final = 100


def alpha(window: Window) -> Figure:
    """Krippendorff's alpha of people's votes on texts, per claim: 1 is perfect agreement, 0 what chance would bring.

        alpha_c = 1 - D_o(c) / D_e,   D_o: of the votes on a claim c, D_e: of all votes of that way of judging
        alpha = Σ_c n_c alpha_c / Σ_c n_c,   n_c: votes on units with at least two raters

    A claim is a cluster of texts: those in an open conflict with each other, near each other at the namespace's
    threshold, or compared with each other; among the newest 500 that were judged. A way of judging is a kind, an aspect
    and a scale; votes are nominal for yes or no and for comparisons, interval for ratings. Chance is of all claims:
    within one alone, raters of one mind would leave none. `parts` has the claims with the lowest alpha, each by its
    first item. Range -1 to 1. Unit: alpha. Source: Krippendorff 2011; `agreement.alphas`.
    """
    found: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for (kind, *_), by_claim in sorted(_by_claim(window).items()):
        level = Level.INTERVAL if kind == pb.FEEDBACK_KIND_RATING else Level.NOMINAL
        told = agreement.alphas(list(by_claim.values()), level) or ()
        for (claim, units), of_claim in zip(by_claim.items(), told, strict=False):
            found[claim].extend([] if of_claim is None else [(of_claim, sum(map(len, units)))])
    if not found:
        return missing("no text was judged by two people in the same way, or all of them said the same")
    claims = {claim: _weighted(told) for claim, told in found.items()}
    lowest = sorted(claims.items(), key=lambda claim: (claim[1], claim[0]))[:PARTS_MAX]
    whole = _weighted([one for told in found.values() for one in told])
    return Figure(value=whole, items=len(claims), parts=tuple(lowest))


def vote_entropy(window: Window) -> Figure:
    """How much people's votes on the same text, or the same two texts, are spread, on average.

        H(votes) / ln K,   K: what can be voted: 2 for yes or no, 3 for a comparison, the steps of a scale of integers

    Of what at least two raters judged in the same way: a kind, an aspect and a scale. A rater is a producer and a name.
    Range 0 to 1. Unit: share of the largest possible. Source: Shannon 1948.
    """
    units = _votes(window)
    found = [entropy(votes.values()) / math.log(kinds) for votes, kinds in units.values() if len(votes) > 1]
    return mean(found, "no text was judged by two people in the same way")


def conflict_age_p95(window: Window) -> Figure:
    """How long the conflicts between texts have been open, of 95 % at most.

        95th percentile of (the window's newest time - time when it was opened), linear between ranks

    Range 0 to ∞. Unit: s. Source: own.
    """
    ages = [
        max(0, window.end_us - conflict.opened_us) / 1e6
        for conflict in window.conflicts
        if any(window.is_a(item_id, pb.MODALITY_TEXT) for item_id in _items(conflict))
    ]
    return p95(ages, "no conflict between texts is open")


def conflicted_share(window: Window) -> Figure:
    """The share of the texts in answers that are in an open conflict.

        |texts that are parties of an open conflict| / |texts that are, or that have a vector|

    Without a vector nobody looks for what contradicts a text. Range 0 to 1. Unit: share. Source: own.
    """
    parties = {item_id for conflict in window.conflicts for item_id in _items(conflict)}
    texts = window.places(pb.MODALITY_TEXT)
    hits = [window.changes[place].item_id in parties for place in texts]
    compared = sum(hit or window.has_vector(place) for hit, place in zip(hits, texts, strict=True))
    return share(sum(hits), compared, "no text with a vector: without one nothing is compared with it")


def _weighted(told: Sequence[tuple[float, int]]) -> float:
    return math.fsum(value * weight for value, weight in told) / sum(weight for _, weight in told)


def _by_claim(window: Window) -> Mapping[_Way, Mapping[str, list[list[Vote]]]]:
    """The votes of each way of judging, unit by unit, by the first item of the claim; of at least two raters each."""
    judged = {unit: found for unit, found in _votes(window).items() if len(found[0]) > 1}
    claims = _claims(window, judged)
    ways: defaultdict[_Way, defaultdict[str, list[list[Vote]]]] = defaultdict(lambda: defaultdict(list))
    for (way, item_id, _), (votes, _) in judged.items():
        if item_id in claims:
            ways[way][claims[item_id]].append(list(votes.values()))
    return ways


def _claims(window: Window, judged: Iterable[_Unit]) -> Mapping[str, str]:
    """Of each of the newest judged texts the claim that it makes, by the item of it that sorts first.

    Clusters are joined pair by pair: two that have a text in common are one.
    """
    pairs = [(first, second) for _, first, second in judged]
    named = {item_id for pair in pairs for item_id in pair if item_id}
    newest = sorted(named, key=lambda item_id: window.by_item[item_id])[-READ_MAX:]
    rows = window.vectors[[window.by_item[item_id] for item_id in newest]]
    near = np.argwhere(np.triu(rows @ rows.T >= window.threshold, 1))
    pairs.extend((newest[one], newest[other]) for one, other in near)
    for conflict in window.conflicts:
        pairs.extend(pairwise(item_id for item_id in _items(conflict) if item_id in named))
    claims = {item_id: item_id for item_id in newest}
    for one, other in pairs:
        if one in claims and other in claims and claims[one] != claims[other]:
            first, second = sorted((claims[one], claims[other]))
            claims = {item_id: first if claim == second else claim for item_id, claim in claims.items()}
    return claims


def _items(conflict: Conflict) -> Iterator[str]:
    """The items that are parties of it still."""
    yield from (party.item_id for party in conflict.parties if party.item_id and not party.gone)


def _votes(window: Window) -> Mapping[_Unit, tuple[dict[tuple[str, str], Vote], int]]:
    """The newest vote of each rater, by producer and name, on each unit, and of how many kinds a vote can be."""
    found: dict[_Unit, tuple[dict[tuple[str, str], Vote], int]] = {}
    for said in window.said:
        if said.feedback.rater_type != pb.RATER_TYPE_HUMAN:
            continue
        for unit, vote, kinds in _cast(said, window):
            votes, _ = found.setdefault(unit, ({}, kinds))
            votes[said.rater] = vote
    return found


def _cast(said: Said, window: Window) -> Iterator[tuple[_Unit, Vote, int]]:
    feedback = said.feedback
    # Only a rating is on the scale that it names.
    scale = (feedback.scale_min, feedback.scale_max) if feedback.kind == pb.FEEDBACK_KIND_RATING else (0.0, 0.0)
    way = feedback.kind, feedback.aspect, scale
    judged = [one for one in feedback.judged if window.is_a(one.item_id, pb.MODALITY_TEXT)]
    if feedback.kind == pb.FEEDBACK_KIND_BINARY and judged:
        yield (way, judged[0].item_id, ""), judged[0].score, 2
    elif feedback.kind == pb.FEEDBACK_KIND_RATING and judged:
        steps = feedback.scale_max - feedback.scale_min + 1
        if 2 <= steps <= _SCALE_STEPS_MAX and steps == int(steps) and judged[0].score == int(judged[0].score):
            yield (way, judged[0].item_id, ""), judged[0].score, int(steps)
    elif feedback.kind == pb.FEEDBACK_KIND_PAIRWISE and len(judged) == 2:
        first, second = sorted(judged, key=lambda one: one.item_id)
        vote = (first.place > second.place) - (first.place < second.place)
        yield (way, first.item_id, second.item_id), vote, _WAYS
