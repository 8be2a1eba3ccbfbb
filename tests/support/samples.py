"""The sample data in ../shared/data, and its texts as the packaged encoder sees them: encoded once in a test run."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from epistream.indexer.encoder import SentenceTransformerEmbedder

DATA = Path(__file__).parents[3] / "shared" / "data"
TRAJECTORIES = DATA / "collapse_trajectory_sample.jsonl"
STREAMS = DATA / "streams_sample.jsonl"

needs_samples = pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no {DATA}")
"""For a test that reads them."""


@cache
def encoder() -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder()


@cache
def rows(path: Path) -> Sequence[dict[str, Any]]:
    """The rows of a file of samples."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@cache
def vectors(path: Path) -> NDArray[np.float32]:
    """The vector of each row's text."""
    return encoder().encode([row["text"] for row in rows(path)])


def where(path: Path, **wanted: object) -> NDArray[np.float32]:
    """The vectors of the rows that have these values."""
    places = [place for place, row in enumerate(rows(path)) if all(row.get(k) == v for k, v in wanted.items())]
    return vectors(path)[places]


def values(path: Path, field: str) -> list[Any]:
    """The different values of a field, in the order of the file."""
    return list(dict.fromkeys(row[field] for row in rows(path)))
