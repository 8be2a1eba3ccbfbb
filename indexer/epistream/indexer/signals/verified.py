"""The cells of code that execution and experts' capacity tell: what was verified, what it led to, what waits.

Verdicts are feedback of a program that ran the tests (RATER_TYPE_EXECUTOR), as `epistream execute` submits it: the
verdict's word is its `degree`; of one that only gave a score the best score is `verified` and any other `fail`. What
was said of an earlier version counts until the newer one is run.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from epistream.indexer.signals.figure import Figure, largest, mean, missing, p95, share
from epistream.indexer.signals.window import Said, Window, number, positive
from epistream.v1 import knowledge_pb2 as pb

VERIFIED: Final = "verified"
FAIL: Final = "fail"
VERDICTS: Final = (VERIFIED, FAIL, "error", "timeout", "no_tests", "vacuous")
UNVERIFIED: Final = "unverified"
"""Of a program that nobody has run."""
REGRESSION: Final = "regression"
"""The aspect under which an executor says which share of an item's dependants survived its new version."""

_HOUR_US: Final = 3_600_000_000
_NO_EXPERT: Final = "no code of experts with a vector in the window"


@dataclass(frozen=True, slots=True)
class Execution:
    """What came of running a program's tests."""

    verdict: str
    kill_rate: float | None
    """The share of mutants that the tests noticed, where that was tried."""


def gain_per_record(window: Window) -> Figure:
    """What an expert's program tells beyond everything else in the window, on average. Capacity, not quality.

        IG(x) = ½ ln(1 + x'A⁻¹x),   A = λI + Σ y y' over all other vectors of the window, λ = 1

    Range 0 to 0.347. Unit: nats. Source: Chaloner & Verdinelli 1995.
    """
    return mean(_expert_gains(window), _NO_EXPERT)


def gain_per_hour(window: Window) -> Figure:
    """The same for each hour in which an expert handed something in.

        Σ_x IG(x) / |{(producer, hour) of a program x}|

    Nobody tells how long experts work: an hour counts for each producer and hour of the journal's clock with at least
    one of the window's programs with a vector. Range 0 to ∞. Unit: nats an hour. Source: own.
    """
    cell = [place for place in window.cell(pb.ORIGIN_EXPERT, pb.MODALITY_CODE) if window.has_vector(place)]
    hours = {(window.producer(place), window.changes[place].commit_time.ToMicroseconds() // _HOUR_US) for place in cell}
    gains = _expert_gains(window)
    if not gains:
        return missing(_NO_EXPERT)
    return Figure(value=math.fsum(gains) / len(hours), items=len(hours))


def leverage(window: Window) -> Figure:
    """How many verified programs came of each program of an expert, through any number of steps.

        |verified items derived from expert code| / |expert items of code|

    None where nobody has run anything that was derived from it. Range 0 to ∞. Unit: programs. Source: own.
    """
    seeds = window.cell(pb.ORIGIN_EXPERT, pb.MODALITY_CODE)
    if not seeds:
        return missing("no code of experts in the window")
    ran = executions(window)
    from_expert = _descendants(window, seeds)
    if not any(window.changes[place].item_id in ran for place in from_expert):
        return missing("nobody has run a program that was derived from experts' code", len(seeds))
    verified = sum(_newest(ran, window.changes[place].item_id) == VERIFIED for place in from_expert)
    return Figure(value=verified / len(seeds), items=len(seeds))


def queue_age_p95(window: Window) -> Figure:
    """How long submissions have waited for a person, of 95 % at most, until the journal's newest time.

        95th percentile of (newest time - time when it was held), linear between ranks

    Of all modalities: experts are asked for everything that is held. Range 0 to ∞. Unit: s. Source: own.
    """
    return p95([max(0, window.end_us - us) / 1e6 for us in window.held_us], "nothing is held")


def unverified_share(window: Window) -> Iterator[Figure]:
    """The share of a producer's synthetic code whose newest execution did not verify it, or that nobody has run.

        1 - |items whose newest verdict is `verified`| / |items|

    What nobody has run is unverified: that is what the signal shows, so it is 1 without any execution. `parts` has each
    verdict's share. Range 0 to 1. Unit: share. Source: own; verdicts as in docs/execution.md.
    """
    ran = executions(window)
    for producer, places in window.by_producer(window.cell(pb.ORIGIN_SYNTHETIC, pb.MODALITY_CODE)):
        verdicts = Counter(_newest(ran, window.changes[place].item_id) for place in places)
        found = share(len(places) - verdicts[VERIFIED], len(places), "", producer)
        yield replace(found, parts=largest(verdicts, len(places)))


def mutation_kill(window: Window) -> Figure:
    """The share of mutants that the tests of synthetic code noticed, on average. Below 1/2 tests count as vacuous.

        killed / mutants   of each newest execution that tried any

    Range 0 to 1. Unit: share. Source: DeMillo, Lipton & Sayward 1978.
    """
    ran = executions(window)
    cell = [window.changes[place].item_id for place in window.cell(pb.ORIGIN_SYNTHETIC, pb.MODALITY_CODE)]
    rates = [rate for item_id in cell if item_id in ran and (rate := ran[item_id].kill_rate) is not None]
    return mean(rates, "no execution of synthetic code tried mutants")


def regression_survival(window: Window) -> Figure:
    """How many of the dependants of updated code still pass, of those that passed before, on average over updates.

        |dependants that pass with the new version| / |dependants that passed with the version before|

    As the executor that ran them says: its newest rating of each item with the aspect `regression`, as a share of its
    scale.
    Range 0 to 1. Unit: share. Source: own.
    """
    survived = {
        said.feedback.judged[0].item_id: said.rating
        for said in window.said
        if _is_run(said) and said.feedback.aspect == REGRESSION and said.rating is not None
    }
    found = [score for item_id, score in survived.items() if window.is_a(item_id, pb.MODALITY_CODE)]
    return mean(found, "no executor ran the dependants of updated code again")


def executions(window: Window) -> Mapping[str, Execution]:
    """Of each item of code that was run: what came of it the last time."""
    return window.remembered("executions", lambda: _executions(window))


def _executions(window: Window) -> Mapping[str, Execution]:
    found: dict[str, Execution] = {}
    for said in window.said:
        judged = said.feedback.judged[0]
        if _is_run(said) and said.feedback.aspect != REGRESSION and window.is_a(judged.item_id, pb.MODALITY_CODE):
            found[judged.item_id] = Execution(_verdict(said), _kill_rate(said))
    return found


def _is_run(said: Said) -> bool:
    return said.feedback.rater_type == pb.RATER_TYPE_EXECUTOR


def _verdict(said: Said) -> str:
    feedback = said.feedback
    if feedback.degree in VERDICTS:
        return feedback.degree
    best = feedback.scale_max if feedback.kind == pb.FEEDBACK_KIND_RATING else 1.0
    return VERIFIED if feedback.judged[0].HasField("score") and feedback.judged[0].score >= best else FAIL


def _kill_rate(said: Said) -> float | None:
    mutants, killed = positive(said.submission.details, "mutants"), number(said.submission.details, "killed")
    return killed / mutants if mutants and killed is not None and 0 <= killed <= mutants else None


def _newest(ran: Mapping[str, Execution], item_id: str) -> str:
    return ran[item_id].verdict if item_id in ran else UNVERIFIED


def _expert_gains(window: Window) -> list[float]:
    gains = window.gains[window.cell(pb.ORIGIN_EXPERT, pb.MODALITY_CODE)]
    return [float(gain) for gain in gains if not math.isnan(gain)]


def _descendants(window: Window, seeds: Sequence[int]) -> set[int]:
    children: defaultdict[int, list[int]] = defaultdict(list)
    for place in range(len(window.changes)):
        for parent in window.parents(place):
            children[parent].append(place)
    found: set[int] = set()
    open_places = list(seeds)
    while open_places:
        for child in children[open_places.pop()]:
            if child not in found:
                found.add(child)
                open_places.append(child)
    return found - set(seeds)
