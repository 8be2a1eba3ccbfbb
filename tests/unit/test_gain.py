"""Information gain: what its figures add up to, what rounding may do to them, and that they are the same everywhere."""

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

from epistream.indexer.gain import BLOCK, DRIFT_MAX, Gains, Posterior, greedy
from epistream.wire.errors import Broken

seeds = st.integers(0, 2**32 - 1)


def unit(seed: int, count: int, dimension: int) -> NDArray[np.float32]:
    """Unit vectors, many of them near copies or copies of others."""
    random = np.random.default_rng(seed)
    kinds = random.standard_normal((max(1, count // 3), dimension))
    rows = kinds[random.integers(0, len(kinds), count)]
    rows += random.choice([0, 1e-6, 0.1, 3.0], (count, 1)) * random.standard_normal((count, dimension))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def precision(rows: NDArray[np.float32], prior: float, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return prior * np.eye(rows.shape[1]) + (wide * weights[:, None]).T @ wide


def observed(posterior: Posterior, row: NDArray[np.float32], weight: float = 1.0) -> float:
    """What a row gains, which is then taken in."""
    gain = posterior.gain(row, weight)
    posterior.observe(row, weight)
    return gain


def logdet(matrix: NDArray[np.float64]) -> float:
    return float(np.linalg.slogdet(matrix)[1])


@given(seeds, st.integers(1, 100), st.integers(1, 24), st.sampled_from([0.01, 0.1, 1.0, 10.0]), st.integers(1, 20))
def test_r16_gains_add_up_to_half_the_growth_of_logdet(
    seed: int, count: int, dimension: int, prior: float, rebuild_every: int
) -> None:
    rows = unit(seed, count, dimension)
    weights = np.random.default_rng(seed).choice([1.0, 0.25], count)
    posterior = Posterior(dimension, prior=prior, rebuild_every=rebuild_every)

    gains = [observed(posterior, row, weight) for row, weight in zip(rows, weights, strict=True)]

    expected = logdet(precision(rows, prior, weights))
    assert math.fsum(gains) == pytest.approx(0.5 * (expected - dimension * math.log(prior)), abs=1e-8)
    assert posterior.gained == pytest.approx(math.fsum(gains), abs=1e-8)
    assert posterior.logdet == pytest.approx(expected, abs=1e-8)
    assert posterior.count == count
    assert posterior.drift == 0 or count >= rebuild_every
    assert all(0 <= gain < math.inf for gain in gains)
    assert posterior.gained <= dimension / 2 * math.log1p(count / (dimension * prior)) + 1e-6


@given(seeds, st.integers(1, 40), st.integers(1, 24))
def test_r16_a_second_copy_gains_what_the_first_left(seed: int, count: int, dimension: int) -> None:
    rows = unit(seed, count, dimension)
    posterior = Posterior(dimension)
    for row in rows[:-1]:
        posterior.observe(row)

    left = math.expm1(2 * observed(posterior, rows[-1]))

    assert posterior.gain(rows[-1]) == pytest.approx(0.5 * math.log1p(left / (1 + left)), abs=1e-9)


@given(seeds, st.lists(st.integers(1, 7), min_size=1, max_size=12), st.integers(1, 20))
def test_r16_scores_are_the_same_bits_however_a_stream_is_cut(seed: int, cuts: list[int], dimension: int) -> None:
    rows = unit(seed, sum(cuts), dimension)
    posterior = Posterior(dimension)
    for row in unit(seed + 1, 10, dimension):
        posterior.observe(row)
    whole = posterior.score(rows)

    parts = [posterior.score(part) for part in np.split(rows, np.cumsum(cuts)[:-1])]

    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert np.all((whole >= 0) & (whole <= 1))


@given(seeds, st.lists(st.sampled_from(["nothing", "itself", "another", "both"]), min_size=1, max_size=80))
def test_what_is_asked_in_between_changes_no_bit(seed: int, asked: list[str]) -> None:
    """Of a row that is asked about before it is taken in a product is kept: it must be the one that BLAS makes."""
    rows, other = unit(seed, len(asked), 24), unit(seed + 1, 1, 24)[0]
    quiet, curious = Posterior(24, rebuild_every=50), Posterior(24, rebuild_every=50)
    for number, (row, what) in enumerate(zip(rows, asked, strict=True)):
        if what in ("itself", "both"):
            curious.score(row)
        if what in ("another", "both"):
            curious.score(other)
        weight = (1.0, 0.25, 0.3)[number % 3]
        quiet.observe(row, weight)
        curious.observe(row, weight)

    assert curious.score(rows).tobytes() == quiet.score(rows).tobytes()
    assert curious.to_bytes() == quiet.to_bytes()


def test_a_direction_that_is_known_m_times_has_half_the_logarithm_of_one_and_one_over_one_plus_m() -> None:
    posterior = Posterior(3)
    first = np.array([1, 0, 0], np.float32)

    assert [observed(posterior, first) for _ in range(4)] == pytest.approx(
        [0.5 * math.log1p(1 / (1 + m)) for m in range(4)]
    )
    assert posterior.score(np.eye(3)) == pytest.approx([math.log1p(1 / 5) / math.log(2), 1, 1])


def test_the_inverse_stays_one_and_what_is_kept_does_not_depend_on_the_number_observed() -> None:
    rows = unit(7, 3000, 48)
    posterior, never_rebuilt = Posterior(48, rebuild_every=1000), Posterior(48, rebuild_every=10**9)
    sizes = set()
    for count, row in enumerate(rows):
        posterior.observe(row)
        never_rebuilt.observe(row)
        if count % 500 == 0:
            sizes.add(len(posterior.to_bytes()))

    assert 0 < posterior.drift < 1e-10 < DRIFT_MAX
    np.testing.assert_allclose(posterior.score(rows[:50]), never_rebuilt.score(rows[:50]), rtol=1e-9)
    expected = np.linalg.inv(precision(rows, 1.0, np.ones(len(rows)))) @ rows[:50].astype(float).T
    np.testing.assert_allclose(posterior.pull(rows[:50]), expected.T, atol=1e-11)
    assert max(sizes) < 8 * (48 * 49 + 48 * BLOCK) + 1000


@pytest.mark.parametrize("matrix", ["_covariance", "_precision"])
def test_a_damaged_inverse_is_told_at_the_next_rebuild_and_is_no_state(matrix: str) -> None:
    posterior = Posterior(12, rebuild_every=64)
    rows = unit(8, 64, 12)
    for row in rows[:32]:
        posterior.observe(row)
    damaged = getattr(posterior, matrix)
    damaged *= 0.5

    with pytest.raises(Broken, match="is none: make it anew from the journal"):
        Posterior.from_bytes(posterior.to_bytes())
    for row in rows[32:-1]:
        posterior.observe(row)
    with pytest.raises(Broken, match="after 64 observations the inverse was off by 0") as raised:
        posterior.observe(rows[-1])

    assert DRIFT_MAX < posterior.drift < 1
    assert f"{posterior.drift:.3g}" in raised.value.message


PROGRAM = """
import hashlib, sys
from epistream.indexer.gain import Gains
from tests.unit.test_gain import unit
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


@given(seeds, st.integers(1, 70), st.integers(1, 70), st.integers(1, 50))
def test_a_restored_state_goes_on_bit_for_bit_across_rebuilds(
    seed: int, before: int, after: int, rebuild_every: int
) -> None:
    rows = unit(seed, before + after, 8)
    posterior = Posterior(8, rebuild_every=rebuild_every)
    for row in rows[:before]:
        posterior.observe(row)
    restored = Posterior.from_bytes(posterior.to_bytes())

    for row in rows[before:]:
        assert observed(posterior, row) == observed(restored, row)

    assert posterior.to_bytes() == restored.to_bytes()


@given(st.data())
def test_damaged_state_is_refused(data: st.DataObject) -> None:
    posterior = Posterior(4)
    posterior.observe(np.eye(4)[0])
    state = bytearray(posterior.to_bytes())
    if data.draw(st.booleans()):
        state[data.draw(st.integers(0, len(state) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del state[data.draw(st.integers(0, len(state) - 1)) :]

    with pytest.raises(Broken) as raised:
        Posterior.from_bytes(bytes(state))

    assert raised.value.reason == "CORRUPT"


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
            branch.score(rows[:1])
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
    assert synthetic.score(rows[:1])[0] > by_people.score(rows[:1])[0]
    assert synthetic.score(rows[:1])[1] == pytest.approx(1, abs=1e-6)


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
