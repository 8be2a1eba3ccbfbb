"""The collapse watch: who is noticed and who is not, how far copies go, and what consumers get of what is real."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epistream.indexer.collapse import (
    CLEARED_AFTER,
    Alarm,
    RealShare,
    RealShares,
    has_room,
)
from epistream.indexer.spectrum import Comparison, Diversity, HumanWindow, Missing, drawn
from tests.support.samples import (
    STREAMS,
    TRAJECTORIES,
    compared,
    each_once,
    needs_samples,
    places,
    rows,
    shorter_half,
    values,
    window_of,
)

REGIMES = ["replace", "accumulate", "accumulate_10pct_real_subsample"]
MANY = ["crawl:c4", "crawl:wikipedia", "human_experts_truthfulqa"]
FEW = ["human_seed_authors", "human_experts"]
"""Of fewer than 64 texts, so that halves of them are too small to be compared."""
PEOPLE = [*MANY, *FEW]


def comparison(ratio: float, margin: float = 1.05, support: float = 0.5) -> Comparison:
    figures = Diversity(100, 1, 1, 1, 1, 1)
    return Comparison(
        items=100,
        matched=False,
        same_lengths=False,
        human_version="v",
        produced=figures,
        human=figures,
        ratio=(ratio,) * 4,
        low=(ratio / margin,) * 4,
        high=(ratio * margin,) * 4,
        support=support,
    )


def after(*found: Comparison | Missing, alarm: Alarm | None = None) -> Alarm:
    state = alarm or Alarm()
    for one in found:
        state = state.after(one)
    return state


# The alarm.


def test_the_alarm_is_raised_beyond_doubt_only() -> None:
    assert after(comparison(1.0)) == Alarm(windows=1, first_low=1 / 1.05, ratios=(1.0,))
    assert not after(comparison(0.92, margin=1.05)).on
    assert after(comparison(0.85, margin=1.05)).on
    assert not after(comparison(0.85, margin=1.2)).on


def test_it_stays_on_until_the_ratio_has_recovered_for_some_windows() -> None:
    alarm = after(comparison(0.7), comparison(0.94), *[comparison(0.96)] * (CLEARED_AFTER - 1))
    assert alarm.on
    assert after(comparison(0.94), *[comparison(0.96)] * (CLEARED_AFTER - 1), alarm=alarm).on
    assert not after(comparison(0.96), alarm=alarm).on


def test_a_window_that_cannot_be_compared_changes_nothing() -> None:
    alarm = after(comparison(0.7), comparison(0.96))

    assert after(Missing("BELOW_MINIMUM", 3), alarm=alarm) == alarm


def test_text_about_something_else_is_drift_and_no_collapse() -> None:
    alarm = after(*[comparison(0.5, support=0.2)] * 3)

    assert alarm.drifted
    assert not alarm.on


def test_who_has_drifted_is_measured_by_its_own_first_window() -> None:
    assert after(comparison(0.6, support=0.2), comparison(0.4, support=0.2)).on


def test_drifting_does_not_clear_the_alarm() -> None:
    assert after(comparison(0.7), *[comparison(0.5, support=0.2)] * 5).on


def test_the_slope_is_that_of_the_newest_ratios() -> None:
    assert after(comparison(1.0), comparison(0.9)).slope is None
    assert after(*[comparison(1 - place / 10) for place in range(4)]).slope == pytest.approx(-0.1)


# On the samples.


def people_of(regime: str) -> HumanWindow:
    """The texts that a trajectory begins with, each once."""
    return window_of(TRAJECTORIES, each_once(TRAJECTORIES, places(TRAJECTORIES, regime=regime, generation=0)))


def found_in(human: HumanWindow, path: Path, of: Sequence[int], pair_ids: Sequence[str] = ()) -> Comparison:
    found = compared(human, path, of, pair_ids)
    assert isinstance(found, Comparison)
    return found


def trajectory(regime: str) -> list[tuple[int, Comparison]]:
    generations = sorted(set(values(TRAJECTORIES, "generation")) - {0})
    human = people_of(regime)
    return [(g, found_in(human, TRAJECTORIES, places(TRAJECTORIES, regime=regime, generation=g))) for g in generations]


def spearman(pairs: Sequence[tuple[float, float]]) -> float:
    a, b = (np.argsort(np.argsort([pair[side] for pair in pairs])) for side in (0, 1))
    return 1 - 6 * int(np.square(a - b).sum()) / (len(a) * (len(a) ** 2 - 1))


@needs_samples
@pytest.mark.slow
def test_r17_the_alarm_is_raised_by_generation_2_of_replace_and_stays_on() -> None:
    found = trajectory("replace")
    states: list[tuple[int, Alarm]] = []
    for generation, one in found:
        states.append((generation, after(one, alarm=states[-1][1] if states else None)))

    ratios = [(float(generation), one.ratio[1]) for generation, one in found]
    assert min(generation for generation, state in states if state.on) <= 2
    assert all(state.on for generation, state in states if generation >= 2)
    assert ratios[-1][1] < ratios[0][1] - 0.10
    assert spearman(ratios) <= -0.8


def halves_compared(source: str, split: int) -> Comparison | Missing:
    """One half of a source's texts beside the other, drawn at random."""
    everything = places(STREAMS, producer=source)
    order, half = [everything[at] for at in drawn(len(everything), split)], len(everything) // 2
    return compared(window_of(STREAMS, order[:half]), STREAMS, order[half : 2 * half])


@needs_samples
@pytest.mark.slow
@pytest.mark.parametrize("source", MANY)
def test_r18_people_against_people_raise_no_alarm(source: str) -> None:
    raised = 0
    for split in range(100):
        found = halves_compared(source, split)
        assert isinstance(found, Comparison)
        raised += Alarm().after(found).on
    assert raised <= 5


@needs_samples
@pytest.mark.parametrize("source", FEW)
def test_r18_people_of_whom_there_are_too_few_are_not_compared(source: str) -> None:
    assert isinstance(halves_compared(source, 0), Missing)


@needs_samples
@pytest.mark.slow
def test_r18_people_of_another_source_are_no_collapse() -> None:
    for ours in PEOPLE:
        human = window_of(STREAMS, places(STREAMS, producer=ours))
        for theirs in PEOPLE:
            found = found_in(human, STREAMS, places(STREAMS, producer=theirs))
            assert not Alarm().after(found).on, (ours, theirs)


@needs_samples
@pytest.mark.slow
def test_people_s_short_texts_are_as_diverse_as_people_s_short_texts() -> None:
    short, others = shorter_half(STREAMS, places(STREAMS, producer="human_experts_truthfulqa"))

    found = found_in(window_of(STREAMS, others), STREAMS, short)
    without = compared(window_of(STREAMS, others), STREAMS, short, by_length=False)

    assert found.same_lengths
    assert found.ratio[1] > 0.95
    assert isinstance(without, Comparison)
    assert without.ratio[1] < 0.8, "they have fewer kinds than people's texts of all lengths"


@needs_samples
@pytest.mark.slow
def test_r19_a_store_that_accumulates_stays_diverse_and_one_that_replaces_does_not() -> None:
    ratios = {}
    for regime in ("accumulate", "replace"):
        human = people_of(regime)
        for generation in sorted(set(values(TRAJECTORIES, "generation"))):
            kept = range(generation + 1) if regime == "accumulate" else [generation]
            store = [place for g in kept for place in places(TRAJECTORIES, regime=regime, generation=g)]
            order = [store[at] for at in drawn(len(store), 1)]
            ratios[regime, generation] = found_in(human, TRAJECTORIES, order).ratio[1]
    assert ratios["accumulate", 9] >= 0.6
    assert all(ratios["accumulate", g] > ratios["replace", g] for r, g in ratios if g > 0)


@needs_samples
@pytest.mark.slow
def test_r20_models_that_answer_the_same_prompts_as_people_are_compared_on_those() -> None:
    people = [row for row in rows(STREAMS) if row["producer"] == "human_experts"]
    human = window_of(STREAMS, places(STREAMS, producer="human_experts"), [row["pair_id"] for row in people])
    for producer in values(STREAMS, "producer"):
        pairs = [str(row["pair_id"]) for row in rows(STREAMS) if row["producer"] == producer]
        found = found_in(human, STREAMS, places(STREAMS, producer=producer), pairs)
        shared = {row["pair_id"] for row in people} & set(pairs) - {"None"}
        assert found.matched == (len(shared) >= 32), producer
        assert not found.matched or found.items == len(shared)
        assert not (found.matched and found.same_lengths)


# The real share.


@given(st.lists(st.booleans(), max_size=300), st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.62, 1.0]), st.integers(1, 60))
def test_r22_whoever_asks_for_room_keeps_every_window_at_the_floor(
    synthetic: list[bool], floor: float, window: int
) -> None:
    share = RealShare(window=window)
    delivered: list[bool] = []
    for made in synthetic:
        if made and not has_room(share.after_one_more(), floor):
            real = 1 - (sum(delivered[-window + 1 :] if window > 1 else []) + 1) / window
            assert real < floor  # one more would go below
            continue
        share.deliver(synthetic=made)
        delivered.append(made)

    for end in range(window, len(delivered) + 1):
        assert 1 - sum(delivered[end - window : end]) / window >= floor - 1e-9
    newest = delivered[-window:]
    assert share.real == (pytest.approx(1 - sum(newest) / len(newest)) if newest else None)
    assert RealShare(newest, window).after_one_more() == share.after_one_more() == share.branch().after_one_more()


@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=300),
    st.sampled_from([0.1, 0.25, 0.62, 1.0]),
    st.integers(1, 40),
)
def test_r22_the_windows_of_all_changes_and_those_of_each_modality_keep_the_floor(
    offered: list[tuple[int, bool]], floor: float, window: int
) -> None:
    shares = RealShares(window=window)
    delivered: list[tuple[int, bool]] = []
    for modality, made in offered:
        if not made or has_room(shares.after_one_more(modality), floor):
            shares.deliver(modality, synthetic=made)
            delivered.append((modality, made))

    by_modality = {each: [made for modality, made in delivered if modality == each] for each in (1, 2, 3)}
    for seen in ([made for _, made in delivered], *by_modality.values()):
        for end in range(window, len(seen) + 1):
            assert 1 - sum(seen[end - window : end]) / window >= floor - 1e-9
    again = RealShares([made for _, made in delivered], by_modality, window)
    for modality in (1, 2, 3):
        after = shares.after_one_more(modality)
        assert after == again.after_one_more(modality) == shares.branch().after_one_more(modality)


def test_the_example_of_the_real_share() -> None:
    share = RealShare(window=10)
    for _ in range(5):
        assert has_room(share.after_one_more(), 0.5)
        share.deliver(synthetic=True)
    for _ in range(5):
        assert not has_room(share.after_one_more(), 0.5)
        share.deliver(synthetic=False)
    assert has_room(share.after_one_more(), 0.5)
