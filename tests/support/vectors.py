"""Vectors to observe, and what one of them gains."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from epistream.indexer.posterior import Posterior

seeds = st.integers(0, 2**32 - 1)


def unit(seed: int, count: int, dimension: int) -> NDArray[np.float32]:
    """Unit vectors, many of them near copies or copies of others."""
    random = np.random.default_rng(seed)
    kinds = random.standard_normal((max(1, count // 3), dimension))
    rows = kinds[random.integers(0, len(kinds), count)]
    rows += random.choice([0, 1e-6, 0.1, 3.0], (count, 1)) * random.standard_normal((count, dimension))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def observed(posterior: Posterior, row: NDArray[np.float32], weight: float = 1.0) -> float:
    """What a row gains, which is then taken in."""
    gain = posterior.gain(row, weight)
    posterior.observe(row, weight)
    return gain
