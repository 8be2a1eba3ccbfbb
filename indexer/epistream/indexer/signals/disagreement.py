"""The cell of collaborative text: do raters contradict each other, and how long do conflicts stay open?"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from epistream.indexer import agreement
from epistream.indexer.agreement import Level
from epistream.indexer.conflicts import Conflict
from epistream.indexer.signals.figure import Figure, entropy, mean, missing, p95, share
from epistream.indexer.signals.window import Said, Window
from epistream.v1 import knowledge_pb2 as pb

Vote: TypeAlias = float
_Unit: TypeAlias = tuple[int, str, str, str]
"""Kind of judgement, aspect, item, and of a comparison the other item."""

_WAYS: Final = 3
"""A comparison ends with one item, the other, or a tie."""
_SCALE_STEPS_MAX: Final = 100


def alpha(window: Window) -> Figure:
    """Krippendorff's alpha of people's votes on texts: 1 is perfect agreement, 0 what chance would bring.

        alpha = 1 - D_o / D_e,   nominal for yes or no and for comparisons, interval for ratings

    For each way of judging (kind, aspect, scale) over all its units with at least two raters; then the mean of those
    that have one, by the number of their units. Range -1 to 1. Unit: alpha.
    Source: Krippendorff 2011; `agreement.alpha`.
    """
    ways: defaultdict[tuple[int, str, int], list[list[float | None]]] = defaultdict(list)
    for (kind, aspect, _, _), (votes, kinds) in _votes(window).items():
        if len(votes) > 1:
            ways[kind, aspect, kinds].append(list(votes.values()))
    found = []
    for (kind, _, _), units in sorted(ways.items()):
        told = agreement.alpha(units, Level.INTERVAL if kind == pb.FEEDBACK_KIND_RATING else Level.NOMINAL)
        found.extend([] if told is None else [(told, len(units))])
    units_in_all = sum(count for _, count in found)
    if not units_in_all:
        return missing("no text was judged by two people in the same way, or all of them said the same")
    return Figure(value=math.fsum(told * count for told, count in found) / units_in_all, items=units_in_all)


def vote_entropy(window: Window) -> Figure:
    """How much people's votes on the same text, or the same two texts, are spread, on average.

        H(votes) / ln K,   K: what can be voted: 2 for yes or no, 3 for a comparison, the steps of a scale of integers

    Of what at least two raters judged in the same way and aspect. Range 0 to 1. Unit: share of the largest possible.
    Source: Shannon 1948.
    """
    units = _votes(window)
    found = [entropy(votes.values()) / math.log(kinds) for votes, kinds in units.values() if len(votes) > 1]
    return mean(found, "no text was judged by two people in the same way")


def conflict_age_p95(window: Window) -> Figure:
    """How long the conflicts between texts have been open, of 95 % at most.

    From when each was opened until the window's newest time. Range 0 to ∞. Unit: s. Source: own.
    """
    ages = [
        max(0, window.end_us - conflict.opened_us) / 1e6
        for conflict in window.conflicts
        if any(window.is_a(item_id, pb.MODALITY_TEXT) for item_id in _items(conflict))
    ]
    return p95(ages, "no conflict between texts is open")


def conflicted_share(window: Window) -> Figure:
    """The share of the texts in answers that are in an open conflict.

    Range 0 to 1. Unit: share. Source: own.
    """
    texts = window.places(pb.MODALITY_TEXT)
    parties = {item_id for conflict in window.conflicts for item_id in _items(conflict)}
    hits = sum(window.changes[place].item_id in parties for place in texts)
    return share(hits, len(texts), "no text in the window")


def _items(conflict: Conflict) -> Iterator[str]:
    """The items that are parties of it still."""
    yield from (party.item_id for party in conflict.parties if party.item_id and not party.gone)


def _votes(window: Window) -> Mapping[_Unit, tuple[dict[str, Vote], int]]:
    """The newest vote of each rater on each unit, and of how many kinds a vote can be."""
    found: dict[_Unit, tuple[dict[str, Vote], int]] = {}
    for said in window.said:
        if said.feedback.rater_type != pb.RATER_TYPE_HUMAN:
            continue
        for unit, vote, kinds in _cast(said, window):
            votes, _ = found.setdefault(unit, ({}, kinds))
            votes[said.feedback.rater] = vote
    return found


def _cast(said: Said, window: Window) -> Iterator[tuple[_Unit, Vote, int]]:
    feedback = said.feedback
    judged = [one for one in feedback.judged if window.is_a(one.item_id, pb.MODALITY_TEXT)]
    if feedback.kind == pb.FEEDBACK_KIND_BINARY and judged:
        yield (feedback.kind, feedback.aspect, judged[0].item_id, ""), judged[0].score, 2
    elif feedback.kind == pb.FEEDBACK_KIND_RATING and judged:
        steps = feedback.scale_max - feedback.scale_min + 1
        if steps == int(steps) and steps <= _SCALE_STEPS_MAX and judged[0].score == int(judged[0].score):
            yield (feedback.kind, feedback.aspect, judged[0].item_id, ""), judged[0].score, int(steps)
    elif feedback.kind == pb.FEEDBACK_KIND_PAIRWISE and len(judged) == 2:
        first, second = sorted(judged, key=lambda one: one.item_id)
        vote = (first.place > second.place) - (first.place < second.place)
        yield (feedback.kind, feedback.aspect, first.item_id, second.item_id), vote, _WAYS
