"""A posterior: what its gains add up to, what rounding may do to it, and that its figures are the same everywhere."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from epistream.indexer.posterior import BLOCK, DRIFT_MAX, Expectation, Posterior
from epistream.wire.errors import Broken
from tests.support.vectors import observed, seeds, unit


def precision(rows: NDArray[np.float32], prior: float, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return prior * np.eye(rows.shape[1]) + (wide * weights[:, None]).T @ wide


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


@settings(max_examples=25)
@given(seeds, st.sampled_from([1, 8, 24, 100, 384]), st.integers(0, 2 * BLOCK), st.booleans())
def test_what_is_expected_changes_no_bit(seed: int, dimension: int, before: int, branched: bool) -> None:
    """What is looked at together depends on it: so BLAS must make each number by itself, wherever it stands."""
    random, rows = np.random.default_rng(seed), unit(seed, 2 * BLOCK + 40, dimension)
    alone, ahead = Posterior(dimension, rebuild_every=100), Posterior(dimension, rebuild_every=100)
    for row in unit(seed + 1, before, dimension):
        alone.observe(row)
        ahead.observe(row)

    told: list[tuple[float, float]] = []
    for number, row in enumerate(rows):
        if random.random() < 0.2:
            some = rows[random.permutation(len(rows))[: random.integers(1, len(rows))]]
            ahead.expect(Expectation.of(some).only((random.random(len(some)) < 0.5).tolist()))
        if random.random() < 0.1:
            ahead.rest()
        if branched and random.random() < 0.1:
            ahead = ahead.branch()
        if number % 3:
            told.append((alone.relative(row), ahead.relative(row)))
            alone.rest()  # each is looked at by itself
        if random.random() < 0.7:
            alone.observe(row, (1.0, 0.25, 0.3)[number % 3])
            ahead.observe(row, (1.0, 0.25, 0.3)[number % 3])

    assert [one for one, _ in told] == [other for _, other in told]
    assert ahead.to_bytes() == alone.to_bytes()


def test_what_is_expected_and_not_finite_is_told() -> None:
    with pytest.raises(ValueError, match="finite"):
        Posterior(4).expect(Expectation.of(np.array([[0, 1, 0, 0], [0, np.nan, 0, 0]])))


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
