"""What the gate's figures cost: one accepted record in the posteriors, and a window of 10,000 compared with people.

One thread, embeddings drawn at random: the time does not depend on what they are. Each figure is the median of windows
of updates, so that one that another process interrupted does not decide.
"""

import itertools
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas

from bench.report import Figure, below, report
from epistream.indexer.ahead import BLOCK
from epistream.indexer.gain import Gains
from epistream.indexer.posterior import DRIFT_MAX, REBUILD_EVERY, Posterior
from epistream.indexer.spectrum import Comparison, HumanWindow, compare, diversity

DIMENSION: Final = 384
ACCEPTED: Final = 20_000
WINDOW: Final = 10_000
_ANCHORS, _WATCHED = 500, 250
"""What a policy has by default."""
_AT_ONCE: Final = 500
_UPDATE_MICROSECONDS: Final = 150
_REFRESH_SECONDS: Final = 2
_GROWTH: Final = 1.25


def main() -> int:
    rows = unit_vectors(ACCEPTED)
    gains = Gains(DIMENSION)
    alone = windows(rows[: 10 * _AT_ONCE], lambda row: gains.observe(row, anchored=True))
    gains.observe(rows[0], anchored=False)  # from here on the posteriors are two
    updates = windows(rows, lambda row: gains.observe(row, anchored=True))
    synthetic = windows(rows[: 10 * _AT_ONCE], lambda row: gains.observe(row, anchored=False))
    saved = timed(gains.to_bytes)
    restored = timed(lambda: Gains.from_bytes(gains.to_bytes()))
    scoring = timed(lambda: gains.known.score(rows[:1000])) * 1000
    alone_scoring = statistics.median(windows(rows[:_AT_ONCE], lambda row: unexpected(gains, row)))
    halves = [decided(gains, batch) for batch in rows.reshape(-1, _AT_ONCE, DIMENSION)]
    few = 4 * _AT_ONCE
    first, last = updates[: few // _AT_ONCE], updates[-(few // _AT_ONCE) :]
    return report(
        "gain",
        [
            below(
                "update of both posteriors, an item from people", statistics.median(updates), "µs", _UPDATE_MICROSECONDS
            ),
            Figure("the same before the first synthetic item, when they are one", statistics.median(alone), "µs"),
            below("the same, mean with the rebuilds", statistics.mean(updates), "µs", _UPDATE_MICROSECONDS),
            below("update, synthetic", statistics.median(synthetic), "µs", _UPDATE_MICROSECONDS),
            below(f"the last {few} over the first", statistics.median(last) / statistics.median(first), "", _GROWTH),
            Figure("score of one record against one posterior, one of a thousand", scoring, "µs"),
            Figure("the same by itself, where nobody expected it", alone_scoring, "µs"),
            Figure("where half are synthetic: a record", statistics.median(halves), "µs"),
            Figure("of it BLAS cannot take less than", least_microseconds(rows), "µs"),
            Figure(f"rebuild, once in {REBUILD_EVERY:,}", rebuild_milliseconds(rows), "ms"),
            below("drift before the newest rebuild", gains.known.drift, "", DRIFT_MAX),
            *(Figure(f"memory of both, {d} dimensions", memory_bytes(d) / 2**20, "MiB") for d in (DIMENSION, 1536)),
            Figure("state of both", len(gains.to_bytes()) / 2**20, "MiB"),
            Figure("saving it", saved * 1000, "ms"),
            Figure("saving and restoring it", restored * 1000, "ms"),
            *window_figures(rows),
        ],
    )


def unexpected(gains: Gains, row: NDArray[np.float32]) -> None:
    gains.known.relative(row)
    gains.rest()


def decided(gains: Gains, batch: NDArray[np.float32]) -> float:
    """Microseconds a record of a batch of which each second one is synthetic: what the pipeline does for them."""
    began = time.perf_counter()
    gains.expect(batch, [number % 2 == 1 for number in range(len(batch))])
    for synthetic, human in batch.reshape(-1, 2, DIMENSION):
        gains.score(synthetic)
        gains.observe(synthetic, anchored=False)
        gains.observe(human, anchored=True)
    gains.rest()
    return (time.perf_counter() - began) / len(batch) * 1e6


def least_microseconds(rows: NDArray[np.float32]) -> float:
    """A record where half are synthetic, if there were nothing but the products and updates themselves.

    Of two records: A⁻¹x of each in both posteriors, and three posteriors' observations taken in, each into A and into
    A⁻¹; BLOCK at once. In turns on the matrices of two, as it is done, since one core's cache does not hold them all.
    """
    matrices = [np.asfortranarray(np.eye(DIMENSION)) for _ in range(4)]
    block = np.asfortranarray(rows[:BLOCK].T, np.float64)

    def products() -> None:
        for matrix in matrices:
            blas.dsymm(1.0, matrix, block, lower=1)

    def taken_in() -> None:
        for matrix in matrices:
            blas.dsyrk(1.0, block, beta=1.0, c=matrix, lower=1, overwrite_c=1)

    product, update = timed(products, 101) / 4, timed(taken_in, 101) / 4
    return (4 * product + 6 * update) / BLOCK / 2 * 1e6


def window_figures(rows: NDArray[np.float32]) -> Iterable[Figure]:
    human = HumanWindow(rows[:WINDOW])
    window = rows[-WINDOW:]
    yield Figure("first comparison of 10,000, once for a human window", timed(lambda: compare(human, window), 1), "s")
    yield below(
        "refresh of a window of 10,000: comparison", timed(lambda: compare(human, window), 3), "s", _REFRESH_SECONDS
    )
    few, anchors = rows[:_WATCHED], HumanWindow(rows[-_ANCHORS:], lengths=range(_ANCHORS))
    anchors.support(few)  # what is made once for a window
    plain = timed(lambda: compare(anchors, few), 21)
    yield Figure(f"comparison of {_WATCHED} with as many of people's of any length", plain * 1000, "ms")
    longer = itertools.count()

    def by_length() -> None:
        start = next(longer)  # other lengths each time: people's figures are not known from the time before
        found = compare(anchors, few, lengths=range(start, start + _WATCHED))
        assert isinstance(found, Comparison)
        assert found.same_lengths

    yield Figure("the same with people's of these lengths", timed(by_length, 21) * 1000, "ms")
    yield Figure("refresh of its spectrum alone", timed(lambda: diversity(human.centred(window))) * 1000, "ms")


def memory_bytes(dimension: int) -> int:
    """What two posteriors hold."""
    rows = unit_vectors(2 * BLOCK, dimension)
    tracemalloc.start()
    gains = Gains(dimension)
    for row in rows:
        gains.observe(row, anchored=False)
        gains.observe(row, anchored=True)
    gains.score(rows[0])  # with what is looked at
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held


def unit_vectors(count: int, dimension: int = DIMENSION) -> NDArray[np.float32]:
    found = np.random.default_rng(1).standard_normal((count, dimension))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def windows(rows: NDArray[np.float32], act: Callable[[NDArray[np.float32]], object]) -> list[float]:
    """Microseconds for one, in each window of so many."""
    found = []
    for start in range(0, len(rows), _AT_ONCE):
        began = time.perf_counter()
        for row in rows[start : start + _AT_ONCE]:
            act(row)
        found.append((time.perf_counter() - began) / _AT_ONCE * 1e6)
    return found


def timed(act: Callable[[], object], times: int = 5) -> float:
    """Seconds, the median."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def rebuild_milliseconds(rows: NDArray[np.float32]) -> float:
    """By how much longer an update takes that rebuilds."""
    always, never = Posterior(DIMENSION, rebuild_every=1), Posterior(DIMENSION, rebuild_every=10**9)
    return (timed(lambda: always.observe(rows[0])) - timed(lambda: never.observe(rows[0]))) * 1000


if __name__ == "__main__":
    sys.exit(main())
