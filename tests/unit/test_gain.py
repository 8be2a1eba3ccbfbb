"""Information gain: two posteriors side by side, and what is chosen by it."""

import hashlib
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from epistream.indexer.gain import Gains, greedy
from epistream.indexer.posterior import Posterior
from epistream.wire.errors import Broken
from tests.support.vectors import observed, seeds, unit

PROGRAM = """
import hashlib, sys
from epistream.indexer.gain import Gains
from tests.support.vectors import unit
gains = Gains(384)
for place, row in enumerate(unit(3, 300, 384)):
    gains.observe(row, anchored=place % 3 == 0)
    if place == int(sys.argv[1]):
        gains = Gains.from_bytes(gains.to_bytes())
print(hashlib.sha256(gains.to_bytes()).hexdigest())
"""


def test_the_same_observations_make_the_same_bits_in_another_process_and_after_a_restore() -> None:
    gains = Gains(384)
    for place, row in enumerate(unit(3, 300, 384)):
        gains.observe(row, anchored=place % 3 == 0)
    ours = hashlib.sha256(gains.to_bytes()).hexdigest()

    for restored_at in ("-1", "10", "250"):
        ran = subprocess.run([sys.executable, "-c", PROGRAM, restored_at], capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == ours


def test_another_kind_of_state_is_refused() -> None:
    with pytest.raises(Broken) as raised:
        Posterior.from_bytes(Gains(4).to_bytes())

    assert raised.value.reason == "UNKNOWN_STATE"


@given(
    before=st.lists(st.booleans(), max_size=80),
    after=st.lists(st.booleans(), min_size=1, max_size=80),
    asked=st.booleans(),
)
def test_a_branch_goes_on_by_itself_and_ends_as_if_there_had_been_none(
    *, before: list[bool], after: list[bool], asked: bool
) -> None:
    rows = unit(1, len(before) + len(after), 6)
    gains, alone = Gains(6), Gains(6)
    for row, anchored in zip(rows, before, strict=False):
        gains.observe(row, anchored=anchored)
        alone.observe(row, anchored=anchored)
    untouched = gains.to_bytes()

    branch = gains.branch()
    for row, anchored in zip(rows[len(before) :], after, strict=True):
        if asked:
            branch.score(rows[0])
        branch.observe(row, anchored=anchored)
        alone.observe(row, anchored=anchored)

    assert gains.to_bytes() == untouched
    assert branch.to_bytes() == alone.to_bytes()
    for row in rows:
        gains.observe(row, anchored=True)
    assert branch.to_bytes() == alone.to_bytes()


def test_synthetic_items_move_what_is_known_less_and_what_people_said_not_at_all() -> None:
    rows = unit(2, 2, 6)
    by_people, synthetic = Gains(6, synthetic_weight=0.25), Gains(6, synthetic_weight=0.25)
    by_people.observe(rows[0], anchored=True)
    untouched = synthetic.human.to_bytes()

    synthetic.observe(rows[0], anchored=False)

    assert synthetic.human.to_bytes() == untouched
    assert synthetic.known.gained == pytest.approx(0.5 * math.log1p(0.25), abs=1e-6)
    assert synthetic.score(rows[0])[0] > by_people.score(rows[0])[0]
    assert synthetic.score(rows[0])[1] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("wrong", [np.full(4, np.nan), np.array([np.inf, 0, 0, 0]), np.ones(3), np.ones((1, 4))])
def test_what_is_no_vector_changes_nothing(wrong: NDArray[np.float64]) -> None:
    gains = Gains(4)
    before = gains.to_bytes()

    with pytest.raises(ValueError, match=r"expected a vector|finite"):
        gains.observe(wrong, anchored=True)

    assert gains.to_bytes() == before


@given(seeds, st.integers(2, 9), st.integers(1, 4))
def test_a_greedy_choice_is_as_good_as_one_minus_one_over_e_of_the_best(seed: int, count: int, wanted: int) -> None:
    rows = unit(seed, count, 4)
    posterior = Posterior(4, prior=0.1)
    posterior.observe(rows[0])

    chosen = greedy(posterior, rows, wanted)

    def told(places: tuple[int, ...]) -> float:
        branch = posterior.branch()
        return math.fsum(observed(branch, rows[place]) for place in places)

    places = tuple(place for place, _ in chosen)
    gains = [gain for _, gain in chosen]
    best = max(told(others) for others in itertools.combinations(range(count), min(wanted, count)))
    assert len(set(places)) == min(wanted, count)
    assert math.fsum(gains) == pytest.approx(told(places), abs=1e-8)
    assert math.fsum(gains) >= (1 - 1 / math.e) * best - 1e-9
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(gains))


def test_a_greedy_choice_takes_one_of_near_copies() -> None:
    rows = np.eye(5, dtype=np.float32)[[0, 0, 0, 0, 1, 2]]

    assert sorted(place for place, _ in greedy(Posterior(5), rows, 3)) == [0, 4, 5]
