"""Information gain: two posteriors side by side, and what is chosen by it."""

import hashlib
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from epistream.indexer.ahead import BLOCK
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


@given(seeds, st.integers(0, 2 * BLOCK + 20), st.integers(1, 2 * BLOCK + 20), st.booleans())
@example(seed=1, before=BLOCK + 8, after=BLOCK + 8, asked=False)
@example(seed=1, before=2 * BLOCK, after=BLOCK + 8, asked=True)
def test_a_branch_goes_on_by_itself_and_ends_as_if_there_had_been_none(
    seed: int, before: int, after: int, asked: bool
) -> None:
    rows, anchored = unit(1, before + after, 6), np.random.default_rng(seed).random(before + after) < 0.5
    gains, alone = Gains(6), Gains(6)
    for row, one in zip(rows[:before], anchored[:before], strict=True):
        gains.observe(row, anchored=bool(one))
        alone.observe(row, anchored=bool(one))
    untouched = gains.to_bytes()

    branch = gains.branch()
    for row, one in zip(rows[before:], anchored[before:], strict=True):
        if asked:
            branch.score(rows[0])
        branch.observe(row, anchored=bool(one))
        alone.observe(row, anchored=bool(one))

    assert gains.to_bytes() == untouched
    assert branch.to_bytes() == alone.to_bytes()
    for row in rows:
        gains.observe(row, anchored=True)
    assert branch.to_bytes() == alone.to_bytes()


def test_what_is_expected_is_looked_at_once_for_each_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 60 vectors, each second one synthetic: as many as may be observed, and some more, until A⁻¹ is made anew."""
    random = np.random.default_rng(1)
    rows = random.standard_normal((2 * BLOCK + 60, 16)).astype(np.float32)
    gains = Gains(16)
    for place, row in enumerate(rows[: 2 * BLOCK]):
        gains.observe(row, anchored=place % 2 == 0)
    looked: dict[Posterior, list[int]] = {gains.known: [], gains.human: []}
    pull = Posterior._pull

    def counted(self: Posterior, asked: NDArray[np.float64]) -> NDArray[np.float64]:
        looked[self].append(len(asked))
        return pull(self, asked)

    monkeypatch.setattr(Posterior, "_pull", counted)
    gains.expect(rows[2 * BLOCK :], [place % 2 == 1 for place in range(60)])
    for row in rows[2 * BLOCK : 2 * BLOCK + 30 : 2]:
        gains.score(row)

    assert looked == {gains.known: [40], gains.human: [60]}, "of the human one what people say counts alone"


def test_nothing_is_taken_in_of_a_vector_that_is_wrong() -> None:
    gains = Gains(4)
    before = gains.to_bytes()
    for anchored in (True, False):
        with pytest.raises(ValueError, match="finite"):
            gains.observe([math.nan] * 4, anchored=anchored)

    assert gains.to_bytes() == before


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
