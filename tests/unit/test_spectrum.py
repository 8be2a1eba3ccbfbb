"""The diversity of windows: as by definition, in order, compared at equal n and on the same prompts."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from epistream.indexer import spectrum
from epistream.indexer.spectrum import (
    ITEMS_MIN,
    Comparison,
    HumanWindow,
    Missing,
    compare,
    diversity,
    drawn,
    same_lengths,
    slope,
)
from tests.support.collapsing import by_definition
from tests.support.fuzzing import examples

seeds = st.integers(0, 2**32 - 1)


def unit(seed: int, count: int, dimension: int, kinds: int = 10**6) -> NDArray[np.float32]:
    """Unit vectors around `kinds` directions at most."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, dimension))
    if kinds < count:
        rows = random.standard_normal((kinds, dimension))[random.integers(0, kinds, count)] + 0.2 * rows
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_three_of_one_kind_and_one_of_another() -> None:
    found = diversity(np.eye(4)[[0, 0, 0, 1]])

    assert found.items == 4
    assert found.rke == pytest.approx(1.6)
    assert found.vendi_inf == pytest.approx(4 / 3)
    assert found.vendi == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
    assert found.vendi_half == pytest.approx((math.sqrt(0.75) + math.sqrt(0.25)) ** 2)


def test_the_effective_rank_is_of_singular_values_not_of_their_squares() -> None:
    found = diversity(np.eye(4)[[0, 0, 0, 1]])

    shares = np.sqrt([3, 1]) / np.sqrt([3, 1]).sum()
    assert found.effective_rank == pytest.approx(math.exp(-float((shares * np.log(shares)).sum())))
    assert found.effective_rank != pytest.approx(found.vendi, rel=0.01)


@given(seeds, st.integers(1, 150), st.integers(1, 12), st.integers(1, 30))
def test_r15_figures_are_those_of_the_definitions_and_in_order(
    seed: int, count: int, dimension: int, kinds: int
) -> None:
    human = HumanWindow(unit(seed, 50, dimension + 1))
    rows = unit(seed + 1, count, dimension + 1, kinds)

    found = diversity(human.centred(rows))

    assert found.vendi_inf <= found.rke <= found.vendi <= min(count, dimension + 1)
    assert found.vendi <= found.vendi_half
    assert found.scores[1:] == pytest.approx(by_definition(rows, human.vectors).scores[1:], rel=1e-9)


def test_items_without_a_direction_have_figures() -> None:
    human = HumanWindow(np.tile(unit(1, 1, 6), (40, 1)))

    assert diversity(human.centred(human.vectors[:0])).scores == (1, 1, 1, 1)
    assert diversity(human.centred(human.vectors[:1])).scores == (1, 1, 1, 1)


def test_r20_too_few_items_have_no_figures_but_a_reason() -> None:
    human = HumanWindow(unit(1, 200, 16))

    assert compare(human, unit(2, ITEMS_MIN - 1, 16)) == Missing("BELOW_MINIMUM", ITEMS_MIN - 1)
    assert compare(HumanWindow(unit(1, 9, 16)), unit(2, 200, 16)) == Missing("BELOW_MINIMUM", 9)
    assert compare(human, unit(2, 0, 16)) == Missing("BELOW_MINIMUM", 0)


def test_r20_both_sides_answer_the_same_prompts_where_there_are_enough() -> None:
    people, machine = unit(1, 100, 16), unit(2, 50, 16)
    human = HumanWindow(people, [f"p{place}" for place in range(100)])
    pairs = [f"p{place * 2}" if place < 40 else "" for place in range(50)]

    found = compare(human, machine, pairs)

    assert isinstance(found, Comparison)
    assert (found.matched, found.items) == (True, 40)
    order = sorted(range(40), key=lambda place: f"p{place * 2}")
    expected = diversity(human.centred(machine[order])).vendi
    assert found.produced.vendi == pytest.approx(expected)
    assert found.human.vendi == pytest.approx(diversity(human.centred(people[[2 * place for place in order]])).vendi)


def test_r20_who_answers_some_prompts_of_people_hides_nothing_else_with_them() -> None:
    human = HumanWindow(unit(1, 100, 16), [f"p{place}" for place in range(100)])
    answers, said = unit(2, 40, 16), np.tile(unit(3, 1, 16), (60, 1))

    found = compare(human, np.concatenate([said, answers]), [""] * 60 + [f"p{place}" for place in range(40)])
    again = compare(human, np.concatenate([said, answers]), [f"p{place % 40}" for place in range(100)])

    assert isinstance(found, Comparison)
    assert isinstance(again, Comparison)
    assert (found.matched, found.items, found.high[1] < 0.95) == (False, 100, True)
    assert (again.matched, again.items, again.high[1] < 0.95) == (True, 40, True), "the newest hid the rest"


def test_r20_else_as_many_of_each_are_compared_and_it_is_said() -> None:
    human = HumanWindow(unit(1, 100, 16), [f"p{place}" for place in range(100)])

    found = compare(human, unit(2, 60, 16), [f"p{place}" for place in range(31)] + [""] * 29)

    assert isinstance(found, Comparison)
    assert not found.matched
    assert found.items == found.produced.items == found.human.items == 60
    assert found.human_version == human.version


lengths = st.lists(st.integers(1, 200), min_size=1, max_size=150)


@given(lengths, lengths)
def test_of_each_quartile_of_lengths_as_many_are_taken_as_both_sides_have(people: list[int], own: list[int]) -> None:
    def quartile(size: int) -> int:
        return int(np.searchsorted(bounds, size)) if min(own) <= size <= max(own) else 9

    bounds = np.quantile(own, (0.25, 0.5, 0.75))
    there = [Counter(map(quartile, side)) for side in (people, own)]
    both = {of: min(side[of] for side in there) for of in range(4)}

    found = same_lengths(people, own)

    without = min(len(people), len(own)) / len(own)
    halves = all(both[of] >= there[1][of] * without / 2 for of in range(4))
    assert (found is not None) == (sum(both.values()) >= ITEMS_MIN and halves)
    for side, taken in zip((people, own), found or (), strict=False):
        for of, count in both.items():
            places = [place for place, size in enumerate(side) if quartile(size) == of]
            last = places[len(places) - count :]
            assert [place for place in taken if quartile(side[place]) == of] == last
        assert len(taken) == sum(both.values())


def test_texts_are_compared_with_texts_of_such_lengths_and_it_is_said() -> None:
    sizes = [15 + place % 7 if place % 2 else 400 for place in range(200)]
    few, many = unit(1, 200, 16, kinds=4), unit(2, 200, 16)
    people = np.where(np.array(sizes)[:, None] < 100, few, many)
    human = HumanWindow(people, lengths=sizes)

    found = compare(human, unit(3, 80, 16), lengths=[15 + place % 7 for place in range(80)])

    assert isinstance(found, Comparison)
    assert (found.matched, found.same_lengths) == (False, True)
    assert found.items == found.produced.items == found.human.items == 80
    short = human.centred(few[[place for place in range(200) if sizes[place] < 100]])
    assert found.human.vendi == pytest.approx(diversity(short).vendi, rel=0.1)
    assert found.human.vendi < 0.8 * diversity(human.centred(people)).vendi


def test_where_people_have_too_few_of_such_lengths_they_are_drawn_and_it_is_said() -> None:
    people, machine = unit(1, 200, 16), unit(2, 80, 16)

    longer = compare(HumanWindow(people, lengths=[30] * 200), machine, lengths=range(100, 180))
    unknown = compare(HumanWindow(people), machine, lengths=range(100, 180))

    assert isinstance(longer, Comparison)
    assert (longer.items, longer.same_lengths) == (80, False)
    assert longer == unknown == compare(HumanWindow(people, lengths=[30] * 200), machine)


def test_what_a_producer_repeats_at_lengths_that_people_do_not_have_is_looked_at() -> None:
    people, varied, repeated = unit(1, 200, 16), unit(2, 60, 16), unit(3, 60, 16, kinds=2)
    human = HumanWindow(people, lengths=[20 + place % 40 for place in range(200)])
    own = np.stack([varied, repeated], axis=1).reshape(120, 16)

    found = compare(human, own, lengths=[20 + place % 40 if place % 2 == 0 else 300 for place in range(120)])

    assert isinstance(found, Comparison)
    assert (found.items, found.same_lengths) == (120, False)


def test_what_a_window_has_of_such_lengths_depends_on_it_and_the_lengths_alone() -> None:
    sizes = [10 + place * 37 % 290 for place in range(200)]
    own = [10 + place * 17 % 110 for place in range(90)]
    human = HumanWindow(unit(1, 200, 16), lengths=sizes)
    compare(human, unit(2, 50, 16), lengths=sizes[:50])

    again = HumanWindow(unit(1, 200, 16), lengths=sizes)

    assert compare(human, unit(3, 90, 16), lengths=own) == compare(again, unit(3, 90, 16), lengths=own)
    found = human.same_lengths(own)
    assert found is not None
    assert (len(found[0]), found[0][:8]) == TAKEN


TAKEN = (76, (0, 1, 2, 8, 9, 10, 16, 17))


def test_a_window_remembers_what_is_drawn_and_no_chosen_places() -> None:
    human = HumanWindow(unit(1, 200, 16))
    chosen = tuple(range(40))
    assert human.spread(40) is human.spread(40)
    assert human.spread(chosen) is not human.spread(chosen)
    assert np.array_equal(human.spread(chosen).errors, human.spread(chosen).errors)


def test_each_item_of_a_window_has_a_length_or_none_has() -> None:
    with pytest.raises(ValueError, match="expected a length for each of 9 rows, found 8"):
        HumanWindow(unit(1, 9, 16), lengths=range(8))


def test_an_interval_holds_the_ratio_of_samples_of_one_kind_and_not_that_of_a_few_kinds() -> None:
    human = HumanWindow(unit(1, 300, 32))

    same, few = compare(human, unit(2, 200, 32)), compare(human, unit(3, 200, 32, kinds=5))

    assert isinstance(same, Comparison)
    assert isinstance(few, Comparison)
    assert same.low[1] < 1 < same.high[1]
    assert few.high[1] < 0.5
    assert all(low <= ratio <= high for low, ratio, high in zip(few.low, few.ratio, few.high, strict=True))


def test_the_same_windows_have_the_same_comparison() -> None:
    rows = unit(1, 120, 32)

    assert compare(HumanWindow(rows), unit(2, 100, 32)) == compare(HumanWindow(rows), unit(2, 100, 32))


@given(st.integers(0, 300), st.integers(0, 50))
@examples(30)
def test_drawn_is_an_order_of_all(items: int, seed: int) -> None:
    assert sorted(drawn(items, seed).tolist()) == list(range(items))


def test_drawn_is_the_same_for_ever() -> None:
    assert drawn(8, 1).tolist() == DRAWN
    assert drawn(8, 2).tolist() != DRAWN


DRAWN = [6, 3, 0, 7, 4, 5, 2, 1]


def test_a_slope_needs_three_windows() -> None:
    assert slope([1.0, 0.5]) is None
    assert slope([1.0, 0.9, 0.8, 0.7]) == pytest.approx(-0.1)


@pytest.mark.parametrize("block", [1, 2, 3, 8])
def test_near_self_looks_at_all_that_came_before_whatever_is_looked_at_at_once(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(spectrum, "_BLOCK", block)
    a, b, c = np.eye(3)
    assert spectrum.near_self([a, b, a, c, c, b, a], 0.9) == 4 / 7
    assert spectrum.near_self(np.empty((0, 3)), 0.9) == 0
