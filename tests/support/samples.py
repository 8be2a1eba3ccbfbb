"""The sample data in ../shared/data, and the packaged encoder, which is given each text once in a test run."""

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from epistream.indexer.anchors import text_length
from epistream.indexer.encoder import PACKAGED_DIMENSION, SentenceTransformerEmbedder
from epistream.indexer.spectrum import Comparison, HumanWindow, Missing, compare

DATA = Path(__file__).parents[3] / "shared" / "data"
TRAJECTORIES = DATA / "collapse_trajectory_sample.jsonl"
STREAMS = DATA / "streams_sample.jsonl"

ENCODED_VARIABLE: Final = "ENCODED_SAMPLES_FOLDER"
"""Names the folder in which a test run keeps vectors."""

needs_samples = pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no {DATA}")
"""For a test that reads them."""


class Remembering:
    """The packaged encoder, which is given each text once in a run: by one process, and read by the others.

    It is loaded with the first text that no process has had. Implements `embed.Embedder`.
    """

    def __init__(self) -> None:
        self._encoder, self._vectors = SentenceTransformerEmbedder(), dict[str, NDArray[np.float32]]()
        self.model, self.dimension, self.ready = self._encoder.model, PACKAGED_DIMENSION, True

    def encode(self, texts: Sequence[str], *, ahead: bool = False) -> NDArray[np.float32]:
        """One row of length one for each text."""
        new = [text for text in dict.fromkeys(texts) if not self._knows(text)]
        if new:
            for text, vector in zip(new, self._encoder.encode(new, ahead=ahead), strict=True):
                self._vectors[text] = vector
                _keep(text, vector)
        return np.array([self._vectors[text] for text in texts], np.float32).reshape(-1, self.dimension)

    def _knows(self, text: str) -> bool:
        if text not in self._vectors and (file := _file_of(text)) is not None and file.exists():
            self._vectors[text] = np.fromfile(file, np.float32)
        return text in self._vectors


def _file_of(text: str) -> Path | None:
    folder = os.environ.get(ENCODED_VARIABLE)
    return Path(folder, hashlib.sha256(text.encode()).hexdigest()) if folder else None


def _keep(text: str, vector: NDArray[np.float32]) -> None:
    """Whole or not at all: other processes read beside it."""
    if (file := _file_of(text)) is not None:
        beside = file.with_suffix(f".{uuid.uuid4().hex}")
        vector.tofile(beside)
        beside.rename(file)


def require_samples() -> None:
    """For a program that is nothing without them. SystemExit is raised where they are not there."""
    if not DATA.is_dir():
        raise SystemExit(f"the sample data is not there: {DATA}")


@cache
def encoder() -> Remembering:
    """The one of this process."""
    return Remembering()


@cache
def rows(path: Path) -> Sequence[dict[str, Any]]:
    """The rows of a file of samples."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@cache
def vectors(path: Path) -> NDArray[np.float32]:
    """The vector of each row's text. Of the processes of a test run the first makes them, for all."""
    texts = [row["text"] for row in rows(path)]
    if not (folder := os.environ.get(ENCODED_VARIABLE)):
        return encoder().encode(texts)
    with Path(folder, path.stem).with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return encoder().encode(texts)


def where(path: Path, **wanted: object) -> NDArray[np.float32]:
    """The vectors of the rows that have these values."""
    return vectors(path)[places(path, **wanted)]


def window_of(path: Path, places: Sequence[int], pair_ids: Sequence[str] = ()) -> HumanWindow:
    """The rows at these places as people's."""
    return HumanWindow(vectors(path)[places], pair_ids, _lengths(path, places))


def compared(
    human: HumanWindow, path: Path, places: Sequence[int], pair_ids: Sequence[str] = (), *, by_length: bool = True
) -> Comparison | Missing:
    """The rows at these places as a producer's, oldest first, beside people's, by length or whatever their lengths."""
    return compare(human, vectors(path)[places], pair_ids, _lengths(path, places) if by_length else ())


def _lengths(path: Path, places: Sequence[int]) -> list[int]:
    return [text_length(rows(path)[place]["text"]) for place in places]


def shorter_half(path: Path, places: Sequence[int]) -> tuple[list[int], list[int]]:
    """Every other one of the shorter half, in the order of the file, and all others."""
    by_length = sorted(places, key=lambda place: len(rows(path)[place]["text"]))
    shorter = sorted(by_length[: len(places) // 2 : 2])
    return shorter, [place for place in places if place not in shorter]


def each_once(path: Path, places: Sequence[int]) -> list[int]:
    """Of rows with the same text the first."""
    return list({rows(path)[place]["text"]: place for place in reversed(places)}.values())[::-1]


def places(path: Path, **wanted: object) -> list[int]:
    """The rows that have these values."""
    return [place for place, row in enumerate(rows(path)) if all(row.get(k) == v for k, v in wanted.items())]


def values(path: Path, field: str) -> list[Any]:
    """The different values of a field, in the order of the file."""
    return list(dict.fromkeys(row[field] for row in rows(path)))
