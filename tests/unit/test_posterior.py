"""A posterior: what its gains add up to, what rounding may do to it, and that its figures are the same everywhere."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from epistream.indexer.ahead import BLOCK, PLACES, Expectation
from epistream.indexer.posterior import DRIFT_MAX, Posterior
from epistream.indexer.sealed import seal
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


@given(seeds, st.lists(st.integers(1, 7), min_size=1, max_size=12), st.sampled_from([1, 8, 24, 193, 300]))
def test_r16_scores_are_the_same_bits_however_a_stream_is_cut(seed: int, cuts: list[int], dimension: int) -> None:
    rows = unit(seed, sum(cuts), dimension)
    posterior = Posterior(dimension)
    for row in unit(seed + 1, BLOCK + 10, dimension):
        posterior.observe(row)
    whole = posterior.score(rows)

    parts = [posterior.score(part) for part in np.split(rows, np.cumsum(cuts)[:-1])]

    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert np.all((whole >= 0) & (whole <= 1))


@given(seeds, st.integers(1, 120))
def test_what_is_asked_in_between_changes_no_bit(seed: int, count: int) -> None:
    rows, other = unit(seed, count, 24), unit(seed + 1, 1, 24)[0]
    asked = np.random.default_rng(seed).choice(["nothing", "itself", "another", "both"], count).tolist()
    quiet, curious = Posterior(24, rebuild_every=50), Posterior(24, rebuild_every=50)
    for number, (row, what) in enumerate(zip(rows, asked, strict=True)):
        if what in ("itself", "both"):
            curious.relative(row)
        if what in ("another", "both"):
            curious.relative(other)
        weight = (1.0, 0.25, 0.3)[number % 3]
        quiet.observe(row, weight)
        curious.observe(row, weight)

    assert curious.score(rows).tobytes() == quiet.score(rows).tobytes()
    assert curious.to_bytes() == quiet.to_bytes()


@settings(max_examples=25)
@given(seeds, st.sampled_from([1, 8, 24, 193, 300, 384]), st.integers(0, 2 * BLOCK), st.booleans())
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
            ahead.expect(Expectation.of(some).weighing(random.choice([0.0, 0.25, 1.0], len(some)).tolist()))
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


@pytest.mark.parametrize(
    ("vectors", "told"),
    [([[0, 1, 0, 0], [0, np.nan, 0, 0]], "finite"), ([[1e200, 0, 0, 0]], "finite"), ([[0, 1, 0]], "4 dimensions")],
)
def test_what_is_expected_is_checked_as_what_is_observed(vectors: list[list[float]], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Posterior(4).expect(Expectation.of(np.array(vectors)))


@pytest.mark.parametrize("vector", [[[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5, 0.5, 0.5]], [0.5, 0.5, 0.5]])
def test_the_shape_of_a_vector_is_checked_also_where_its_bytes_are_expected(vector: list[object]) -> None:
    posterior = Posterior(4)
    posterior.expect(Expectation.of(np.full((1, 4), 0.5)))

    for said in (posterior.observe, posterior.relative, posterior.gain):
        with pytest.raises(ValueError, match="expected a vector of 4 dimensions"):
            said(np.array(vector))


def test_a_vector_in_another_type_is_another_vector_unless_it_is_the_same() -> None:
    posterior, row = Posterior(4), unit(3, 1, 4)[0]
    posterior.observe(row)
    told = posterior.relative(row)

    assert posterior.relative(row.astype(">f4")) == posterior.relative(row.astype(np.float64)) == told
    assert posterior.relative(np.frombuffer(row.tobytes(), ">f4")) != told
    assert posterior.relative([1, 0, 0, 0]) > 0


def test_what_is_expected_is_what_it_was_then() -> None:
    posterior, rows = Posterior(4), unit(3, 5, 4)
    posterior.observe(rows[0])
    told, said = posterior.relative(rows[3]), rows.copy()

    posterior.expect(Expectation.of(rows))
    rows[:] = 0

    assert posterior.relative(said[3]) == told


def test_what_a_caller_does_with_his_array_afterwards_changes_nothing() -> None:
    posterior, row = Posterior(4), np.array([1.0, 0, 0, 0])
    posterior.observe(row)
    row[:] = [0, 5, 0, 0]

    assert posterior.gain([1, 0, 0, 0]) == pytest.approx(0.5 * math.log1p(1 / 2))


@pytest.fixture
def pulled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many vectors each product of a posterior has, one after the other."""
    found: list[int] = []
    pull = Posterior._pull

    def counted(self: Posterior, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        found.append(len(rows))
        return pull(self, rows)

    monkeypatch.setattr(Posterior, "_pull", counted)
    return found


@pytest.mark.parametrize("missed", [[], [3], [0, 1, 2, 17, 31]])
def test_what_is_expected_is_looked_at_in_one_also_where_some_of_it_is_not_observed(
    pulled: list[int], missed: list[int]
) -> None:
    posterior, rows = Posterior(384), np.random.default_rng(3).standard_normal((100, 384)).astype(np.float32)
    for row in rows[:BLOCK]:
        posterior.observe(row)
    pulled.clear()

    posterior.expect(Expectation.of(rows[BLOCK:]))
    for place, row in enumerate(rows[BLOCK : BLOCK + 32]):
        posterior.relative(row)
        if place not in missed:
            posterior.observe(row)

    assert pulled == [40]


def test_what_fails_in_the_middle_leaves_every_figure_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior, never, rows = Posterior(16), Posterior(16), unit(5, 200, 16)
    for row in rows[:34]:
        posterior.relative(row)
    posterior.expect(Expectation.of(rows[40:50]))
    for row in rows[40:50]:
        posterior.relative(row)
        posterior.observe(row)
        never.observe(row)
    for row in rows[60:80]:
        posterior.relative(row)  # what is looked at is full now

    def without_memory(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Posterior, "_pull", without_memory)
        with pytest.raises(MemoryError):
            posterior.relative(rows[100])

    assert [posterior.relative(row) for row in rows[40:80]] == [never.relative(row) for row in rows[40:80]]
    for row in rows[120:160]:
        posterior.observe(row)
        never.observe(row)
    assert posterior.to_bytes() == never.to_bytes()


def test_what_is_expected_and_cannot_be_observed_together_changes_no_figure() -> None:
    far, near = np.array([1e8, 0, 0, 0]), np.array([0, 1.0, 0, 0])
    posterior, never = Posterior(4), Posterior(4)
    posterior.expect(Expectation.of(np.stack([near, far, far * 0.5, far])))

    assert posterior.relative(near) == never.relative(near)
    assert posterior.relative(far) == never.relative(far)


def test_of_each_that_is_expected_there_is_a_weight() -> None:
    with pytest.raises(ValueError, match="expected 4 weights, found 2"):
        Expectation.of(np.eye(4)).weighing([1.0, 0.25])


def test_what_waits_is_looked_at_once_and_nothing_of_what_was_expected_is_kept(pulled: list[int]) -> None:
    posterior, rows = Posterior(8), unit(3, 200, 8)
    for row in rows[: BLOCK + 1]:
        posterior.observe(row)
    pulled.clear()
    for row in rows[100:110]:
        posterior = posterior.branch()
        posterior.expect(Expectation.of(row[None]))
        posterior.relative(row)
        posterior.observe(row)
        posterior.rest()

    assert pulled == [2, *[1] * 9]
    assert posterior._expected == []
    assert not any(np.shares_memory(one.vector.row, rows) for one in posterior._waiting), "a view would keep all"


def test_what_is_asked_about_and_never_observed_is_not_all_kept(pulled: list[int]) -> None:
    posterior, asked = Posterior(8), np.random.default_rng(1).standard_normal((1000, 8))
    for row in unit(3, BLOCK + 9, 8):
        posterior.observe(row)
    pulled.clear()
    told = [posterior.relative(row) for row in asked]

    assert len(posterior._look.places) <= PLACES
    assert told == posterior.score(asked).tolist()
    assert pulled[:3] == [10, 1, 1], "and what waits is looked at once"


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


@given(
    seeds,
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 50),
    st.sampled_from([1, 5, 8]),
    st.sampled_from([1.0, 3.0]),
)
def test_a_restored_state_goes_on_bit_for_bit_across_rebuilds(
    seed: int, before: int, after: int, rebuild_every: int, dimension: int, prior: float
) -> None:
    rows = unit(seed, before + after, dimension)
    posterior = Posterior(dimension, prior=prior, rebuild_every=rebuild_every)
    for row in rows[:before]:
        posterior.observe(row)
    restored = Posterior.from_bytes(posterior.to_bytes())

    for row in rows[before:]:
        assert observed(posterior, row) == observed(restored, row)

    assert posterior.to_bytes() == restored.to_bytes()


@pytest.mark.parametrize(
    ("waiting", "weights"),
    [([[np.nan, 0]], [1.0]), ([[1, 0]], [-3.0]), ([[1, 0]], [1.5]), ([[1, 0]], []), ([[1, 0]] * BLOCK, [1.0] * BLOCK)],
)
def test_a_state_that_no_observations_make_is_refused(waiting: list[list[float]], weights: list[float]) -> None:
    figures = {"dimension": 2, "prior": 1.0, "rebuild_every": 9, "count": 1, "drift": 0.0, "logdet": 0.0}
    arrays = {"waiting": np.array(waiting, np.float64), "weights": np.array(weights, np.float64)}

    with pytest.raises(Broken) as raised:
        Posterior.from_bytes(seal("gain", 4, figures, arrays))

    assert raised.value.reason == "CORRUPT"


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.5, np.nan])
def test_a_weight_is_more_than_0_and_at_most_1(weight: float) -> None:
    with pytest.raises(ValueError, match="a weight lies in"):
        Posterior(2).observe([1, 0], weight)


@pytest.mark.parametrize("vectors", [[[np.nan, 0]], [[1e200, 0]], [[1, 0, 0]], [1, 0]])
def test_what_is_pulled_or_scored_is_checked(vectors: object) -> None:
    posterior = Posterior(2)

    for said in (posterior.pull, posterior.score):
        with pytest.raises(ValueError, match=r"finite|2 dimensions"):
            said(np.array(vectors))


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
