"""The cells of text: what crawled text adds and who confirms it, and how synthetic text becomes alike."""

import math
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from epistream.indexer.anchors import text_length
from epistream.indexer.claim import Claim, claim_of, compare
from epistream.indexer.claim.facts import DATE, QUANTITY, TIME
from epistream.indexer.signals.figure import Figure, entropy, mean, missing
from epistream.indexer.signals.window import Window
from epistream.indexer.signals.words import words
from epistream.indexer.spectrum import ITEMS_MIN, Comparison, HumanWindow, Missing, diversity, same_lengths, slope
from epistream.indexer.spectrum import compare as compare_windows
from epistream.indexer.spectrum import near_self as nearness
from epistream.v1 import knowledge_pb2 as pb

NEIGHBOURS: Final = 8
"""k of the nearest items of other producers that are asked."""
COMPARED_MAX: Final = 250
"""So many of the newest crawled texts are compared with their neighbours, claim by claim."""
SPECTRUM_MAX: Final = 256
"""So many of a producer's newest texts are compared with as many of people's."""
EMOTION: Final = "emotion"
"""The attribute in which producers name the emotion of a text."""

_CEILING: Final = math.log(2)
"""ln(1 + 1/λ), λ = 1."""
_ORDER_1, _ORDER_2, _ORDER_INF = 1, 2, 3
_NO_CRAWLED: Final = "no crawled text with a vector in the window"


def relative_gain(window: Window) -> Figure:
    """What a crawled text tells beyond everything else in the window, on average. Low: the crawl adds nothing.

        r(x) = ln(1 + x'A⁻¹x) / ln(1 + 1/λ),   A = λI + Σ y y' over all other vectors y of the window, λ = 1

    Range 0 to 1. Unit: share of what the first vector of its direction tells. Source: Chaloner & Verdinelli 1995.
    """
    gains = window.gains[window.cell(pb.ORIGIN_CRAWLED, pb.MODALITY_TEXT)]
    return mean([2 * float(gain) / _CEILING for gain in gains if not math.isnan(gain)], _NO_CRAWLED)


def unsupported_numbers(window: Window) -> Figure:
    """The share of a crawled text's numbers, dates and times that none of its neighbours has, on average.

        u(x) = |num(x) minus U num(N_k)| / |num(x)|,   N_k: the k = 8 nearest texts of other producers

    What other producers said that was merged into it supports all its numbers. A proxy for hallucination, not truth: a
    number that nobody else has may be right. Of the newest 250 texts, those with a number; none where no other producer
    has a text. Range 0 to 1. Unit: share. Source: own.
    """
    supported = _supported(window)
    found = [one.unsupported for one in supported if one.unsupported is not None]
    return mean(found, "no crawled text with a number" if supported else _nobody_else(window))


def uncorroborated_risk(window: Window) -> Figure:
    """The risk that nobody else says what a crawled text says, on average.

        1 / (1 + c),   c: other producers that said the same claim: merged into it, or near it with no difference

    Near is at or above the namespace's threshold. Of the newest 250; none where no other producer has a text.
    Range 0 to 1. Unit: share. Source: own.
    """
    return mean([1 / (1 + one.sayers) for one in _supported(window)], _nobody_else(window))


def corroboration(window: Window) -> Figure:
    """How many other producers say what a crawled text says, on average.

        Σ_x c(x) / |crawled texts x|,   c: as in `uncorroborated_risk`

    Of the newest 250; none where no other producer has a text. Range 0 to ∞. Unit: producers. Source: own.
    """
    return mean([float(one.sayers) for one in _supported(window)], _nobody_else(window))


def vendi_ratio(window: Window) -> Iterator[Figure]:
    """How many kinds of synthetic text a producer makes, against as many texts of people.

        VS_1(producer) / VS_1(people),   VS_q = exp(H_q(l)), l: eigenvalues of the window's covariance

    Of the newest 256 on both sides, of the same quartiles of length where there are enough, with an interval from split
    halves. About 1 for people against people; nothing bounds it where people's texts are the more alike.
    Range 0 to ∞. Unit: ratio. Source: Friedman & Dieng 2023; `spectrum.compare`.
    """
    yield from _ratios(window, _ORDER_1)


def rke_ratio(window: Window) -> Iterator[Figure]:
    """The same for the order 2, which sees what is frequent.

        RKE(producer) / RKE(people),   RKE = VS_2 = 1 / Σ l²

    Range 0 to ∞. Unit: ratio. Source: Jalali et al. 2023; `spectrum.compare`.
    """
    yield from _ratios(window, _ORDER_2)


def vendi_inf_ratio(window: Window) -> Iterator[Figure]:
    """The same for the order ∞, which sees one kind that dominates.

        VS_∞(producer) / VS_∞(people),   VS_∞ = 1 / max l

    Range 0 to ∞. Unit: ratio. Source: Pasarkar & Dieng 2024; `spectrum.compare`.
    """
    yield from _ratios(window, _ORDER_INF)


def vendi_slope(window: Window) -> Iterator[Figure]:
    """How VS_1 of a synthetic producer changes from one 256 texts to the next, by least squares. Below 0: it narrows.

        Σ_i (i - mean i) (v_i - mean v) / Σ_i (i - mean i)²,   v_i = VS_1 of the i-th 256 / VS_1 of the first

    Of at least three windows. Range -1 to ∞. Unit: per window. Source: own, least squares.
    """
    for producer, places in _synthetic(window):
        rows = window.vectors[places]
        whole = [rows[at : at + SPECTRUM_MAX] for at in range(0, len(rows) - SPECTRUM_MAX + 1, SPECTRUM_MAX)]
        scores = [diversity(each).vendi for each in whole]
        found = slope([score / scores[0] for score in scores]) if scores else None
        if found is None:
            yield missing(f"fewer than {3 * SPECTRUM_MAX} texts", len(places), producer)
        else:
            yield Figure(value=found, items=len(places), producer=producer)


def near_self(window: Window) -> Iterator[Figure]:
    """The share of a synthetic producer's newest 256 texts that are near an earlier one of these.

        #{i: max_j<i cos(x_i, x_j) >= t} / n,   t: the namespace's threshold

    Range 0 to 1. Unit: share. Source: own; `spectrum.near_self`.
    """
    for producer, places in _synthetic(window):
        own = places[-SPECTRUM_MAX:]
        if len(own) > 1:
            yield Figure(value=nearness(window.vectors[own], window.threshold), items=len(own), producer=producer)
        else:
            yield missing("only one text with a vector: there is none to be near to", len(own), producer)


def distinct_3(window: Window) -> Iterator[Figure]:
    """How many of a synthetic producer's runs of three words are different ones, in its newest 256 texts.

        distinct-n = |set of n-grams| / |n-grams|,   n = 3

    Range 0 to 1. Unit: share. Source: Li et al. 2016 (arXiv 1510.03055).
    """
    for producer, places in _synthetic(window):
        runs = [run for place in places[-SPECTRUM_MAX:] for run in _trigrams(words(window.content(place)))]
        if runs:
            yield Figure(value=len(set(runs)) / len(runs), items=len(runs), producer=producer)
        else:
            yield missing("no text of three words", producer=producer)


def emotions(window: Window) -> Iterator[Figure]:
    """How evenly a synthetic producer's texts are spread over emotions, against people's.

        (H(classes) / ln K) / the same of people's texts,   K: classes that anybody in the window names

    The classes are those that producers name in the attribute `emotion`: no lexicon is shipped, so without labels there
    is no figure. Range 0 to ∞. Unit: ratio. Source: Shannon 1948.
    """
    people = [label for place in _people(window) if (label := window.changes[place].knowledge.attributes.get(EMOTION))]
    theirs = entropy(people)
    for producer, places in _synthetic(window):
        labels = [window.changes[place].knowledge.attributes.get(EMOTION, "") for place in places]
        named = [label for label in labels if label]
        if not named or theirs <= 0:
            who = "this producer" if not named else "people"
            yield missing(f"no emotion lexicon is shipped, and {who} named no emotions", len(named), producer)
        else:
            yield Figure(value=entropy(named) / theirs, items=len(named), producer=producer)


@dataclass(frozen=True, slots=True)
class _Support:
    """What other producers say of a crawled text."""

    unsupported: float | None
    """The share of its numbers that nobody else has; None where it has no number."""
    sayers: int
    """How many of them say the same."""


def _nobody_else(window: Window) -> str:
    """Why there is no figure of what others say."""
    asked = any(window.has_vector(place) for place in window.cell(pb.ORIGIN_CRAWLED, pb.MODALITY_TEXT))
    return "no text of another producer to compare crawled texts with" if asked else _NO_CRAWLED


def _supported(window: Window) -> list[_Support]:
    """Of each of the newest crawled texts what other producers say; of those that there is anybody else to ask of."""
    return window.remembered("supported", lambda: list(_support(window)))


def _support(window: Window) -> Iterator[_Support]:
    asked = [p for p in window.cell(pb.ORIGIN_CRAWLED, pb.MODALITY_TEXT) if window.has_vector(p)][-COMPARED_MAX:]
    texts = np.array([place for place in window.places(pb.MODALITY_TEXT) if window.has_vector(place)], np.intp)
    if not asked:
        return
    producers = np.array([window.producer(int(place)) for place in texts])
    cosines = window.vectors[asked] @ window.vectors[texts].T
    claims: dict[int, Claim] = {}
    for row, place in enumerate(asked):
        cosines[row][producers == window.producer(place)] = -2.0
        nearest = np.argsort(-cosines[row], kind="stable")[:NEIGHBOURS]
        near = [(int(texts[at]), float(cosines[row][at])) for at in nearest if cosines[row][at] > -2.0]
        merged = set(window.corroborations.get(window.changes[place].item_id, ())) - {window.producer(place)}
        if near or merged:
            yield _support_of(window, claims, place, near, merged)


def _support_of(
    window: Window, claims: dict[int, Claim], place: int, near: Sequence[tuple[int, float]], merged: AbstractSet[str]
) -> _Support:
    own = _claim(window, claims, place)
    numbers = _numbers(own)
    saying = set(merged)
    unsupported = set() if merged else set(numbers)
    for other, cosine in near:
        if unsupported or cosine >= window.threshold:
            theirs = _claim(window, claims, other)
            unsupported -= _numbers(theirs)
            if cosine >= window.threshold and compare(own, theirs).same:
                saying.add(window.producer(other))
    return _Support(len(unsupported) / len(numbers) if numbers else None, len(saying))


def _claim(window: Window, claims: dict[int, Claim], place: int) -> Claim:
    if place not in claims:
        claims[place] = claim_of(pb.MODALITY_TEXT, window.content(place))
    return claims[place]


def _numbers(claim: Claim) -> set[str]:
    return {key for key in claim.keys if key[:1] in (QUANTITY, DATE, TIME)}


def _synthetic(window: Window) -> Iterator[tuple[str, list[int]]]:
    cell = [place for place in window.cell(pb.ORIGIN_SYNTHETIC, pb.MODALITY_TEXT) if window.has_vector(place)]
    yield from window.by_producer(cell)


def _people(window: Window) -> list[int]:
    found = [*window.cell(pb.ORIGIN_CRAWLED, pb.MODALITY_TEXT), *window.cell(pb.ORIGIN_EXPERT, pb.MODALITY_TEXT)]
    return sorted(place for place in found if window.has_vector(place))


def _ratios(window: Window, order: int) -> Iterator[Figure]:
    for producer, found in window.remembered("ratios", lambda: dict(_compared(window))).items():
        if isinstance(found, Comparison):
            yield Figure(
                value=found.ratio[order],
                items=found.items,
                low=found.low[order],
                high=found.high[order],
                parts=tuple((name, 1.0) for name in _how(found)),
                producer=producer,
            )
        else:
            yield missing(f"fewer than {ITEMS_MIN} texts with vectors to compare", found.items, producer)


def _compared(window: Window) -> Iterator[tuple[str, Comparison | Missing]]:
    """Of each synthetic producer the comparison with people's texts, as many.

    Where both answer enough of the same prompts, with those; else with texts of the same lengths, as the collapse watch
    has it; else with people's newest.
    """
    people = _people(window)
    for producer, places in _synthetic(window):
        own: Sequence[int] = places[-SPECTRUM_MAX:]
        known = {prompt for place in own if (prompt := _prompt(window, place))}
        theirs: Sequence[int] = [place for place in people if _prompt(window, place) in known]
        alike = False
        if len({_prompt(window, place) for place in theirs}) < ITEMS_MIN:
            own, theirs, alike = _of_same_lengths(window, own, people)
        if len(theirs) < ITEMS_MIN:
            yield producer, Missing("BELOW_MINIMUM", len(theirs))
        else:
            human = HumanWindow(window.vectors[theirs], [_prompt(window, place) for place in theirs])
            found = compare_windows(human, window.vectors[own], [_prompt(window, place) for place in own])
            yield producer, replace(found, same_lengths=alike) if isinstance(found, Comparison) else found


def _how(found: Comparison) -> Iterator[str]:
    """How both sides were chosen."""
    yield "matched prompts" if found.matched else "unmatched prompts"
    if found.same_lengths:
        yield "same lengths"


def _of_same_lengths(
    window: Window, own: Sequence[int], people: Sequence[int]
) -> tuple[Sequence[int], Sequence[int], bool]:
    """A producer's texts and as many of people's, and whether they are of the same lengths; else the newest."""
    sides = [[text_length(window.content(place)) for place in side] for side in (people, own)]
    found = same_lengths(*sides)
    if found is None:
        return own, people[-len(own) :], False
    return [own[at] for at in found[1]], [people[at] for at in found[0]], True


def _prompt(window: Window, place: int) -> str:
    return window.changes[place].knowledge.prompt


def _trigrams(found: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return zip(found, found[1:], found[2:], strict=False)
