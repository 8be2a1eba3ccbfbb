r"""A Searchable in one file, so that a restart need not read every vector and label out of the store.

The file, all numbers little-endian:

    magic            18 bytes   b"epistream index 1\n"; another number is another format
    length            8 bytes   of the header
    header           JSON       epoch, namespace, revision, dimension, count, label_count, producer_names, label_names
    columns                     revisions, ended_at (count int64 each), origins, modalities, producers (count int32
                                each), labels (label_count int32), label_slots (label_count int64): see columns.State
    vectors                     count x dimension float32, in the order of slots
    SHA-256          32 bytes   of everything before

It is written beside its place, made durable, and renamed, so its place holds the last whole snapshot or none.

It is the state after `revision`. The journal's later changes, given to `Searchable.append` in order, bring it up to
date: a row for each change with a vector, and the end (`replaced_revision`, `revision`) for each change that replaced
or retracted a version.

A file that is not exactly what was written, or that belongs to another store, another namespace or a future that this
store does not have, is not used: the caller builds the index from the journal.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.index.base import Index
from epistream.indexer.index.columns import Columns, State
from epistream.indexer.index.searchable import Searchable
from epistream.wire.errors import Broken

MAGIC: Final = b"epistream index 1\n"
LENGTH_BYTES: Final = 8
DIGEST_BYTES: Final = hashlib.sha256().digest_size
READ_BYTES: Final = 4 << 20

COLUMNS: Final = {
    "revisions": ("count", "<i8"),
    "ended_at": ("count", "<i8"),
    "origins": ("count", "<i4"),
    "modalities": ("count", "<i4"),
    "producers": ("count", "<i4"),
    "labels": ("label_count", "<i4"),
    "label_slots": ("label_count", "<i8"),
}
"""The columns in the file's order: which number of the header is their length, and their type."""

_NUMBERS: Final = ("namespace", "revision", "dimension", "count", "label_count")


@dataclass(frozen=True, slots=True)
class Unusable:
    """A snapshot that may not be used."""

    reason: str
    """For the log."""


def save_snapshot(searchable: Searchable, folder: Path, *, epoch: str, namespace: int) -> Path:
    """Write a namespace's snapshot, durably, in place of the one before; blocks for the disk.

    The index may be searched and appended to meanwhile.

    Returns:
        The file.

    Raises:
        Broken: the file could not be written; the snapshot before is still there.
    """
    path = _path(folder, namespace)
    beside = path.with_suffix(".tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            digest = hashlib.sha256()
            for chunk in _chunks(searchable, epoch, namespace):
                digest.update(chunk)
                file.write(chunk)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(folder)
    except OSError as error:
        with suppress(OSError):  # the first error is the one to tell
            beside.unlink(missing_ok=True)
        raise Broken(
            f"The index snapshot {path} could not be written: {error}. Is the disk full or read-only?"
        ) from error
    return path


def load_snapshot(
    folder: Path, index: Index, *, epoch: str, namespace: int, head_revision: int
) -> Searchable | Unusable | None:
    """Read a namespace's snapshot into an empty index.

    Args:
        folder: what `save_snapshot` was given.
        index: empty, of the namespace's dimension; left empty unless a Searchable is returned.
        epoch: the store's epoch.
        namespace: the namespace's number.
        head_revision: the newest revision in the store.

    Returns:
        The namespace as it was after `last_revision`; Unusable when there is a file that may not be used; None when
        there is none.
    """
    path = _path(folder, namespace)
    try:
        with path.open("rb") as file:
            return _load(file, index, {"epoch": epoch, "namespace": namespace}, head_revision)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Unusable(f"{path}: {error}")


def _path(folder: Path, namespace: int) -> Path:
    return folder / f"{namespace}.index"


def _chunks(searchable: Searchable, epoch: str, namespace: int) -> Iterator[bytes]:
    """The file but for its last 32 bytes."""
    state, dimension = searchable.columns.state(), searchable.index.dimension
    header = {
        "epoch": epoch,
        "namespace": namespace,
        "revision": state.revision,
        "dimension": dimension,
        "count": len(state.revisions),
        "label_count": len(state.labels),
        "producer_names": state.producer_names,
        "label_names": state.label_names,
    }
    encoded = json.dumps(header).encode()
    yield MAGIC + len(encoded).to_bytes(LENGTH_BYTES, "little") + encoded
    for name, (_, dtype) in COLUMNS.items():
        column: NDArray[Any] = getattr(state, name)
        yield column.astype(dtype).tobytes()
    step = _vectors_at_a_time(dimension)
    for start in range(0, len(state.revisions), step):
        slots = np.arange(start, min(start + step, len(state.revisions)))
        yield searchable.index.rows(slots).astype("<f4").tobytes()


def _load(file: BinaryIO, index: Index, owner: dict[str, Any], head_revision: int) -> Searchable | Unusable:
    if file.read(len(MAGIC)) != MAGIC:
        return Unusable(f"{file.name} is not an index snapshot of this format.")
    if not _is_whole(file):
        return Unusable(f"{file.name} is damaged: its SHA-256 does not fit.")
    file.seek(len(MAGIC))
    header = _header(file)
    if header is None:
        return Unusable(f"{file.name} has a header that its other parts do not fit.")
    for name, expected in (owner | {"dimension": index.dimension}).items():
        if header[name] != expected:
            return Unusable(f"{file.name} has {name} {header[name]!r}, expected {expected!r}.")
    if header["revision"] > head_revision:
        return Unusable(f"{file.name} is of revision {header['revision']}; the store has {head_revision} only.")
    columns: dict[str, Any] = {
        name: np.frombuffer(file.read(header[length] * np.dtype(dtype).itemsize), dtype)
        for name, (length, dtype) in COLUMNS.items()
    }
    step = _vectors_at_a_time(index.dimension)
    for start in range(0, header["count"], step):
        count = min(step, header["count"] - start)
        vectors = np.frombuffer(file.read(count * index.dimension * 4), "<f4").reshape(count, index.dimension)
        index.add(vectors.astype(np.float32, copy=False))
    state = State(
        revision=header["revision"],
        producer_names=header["producer_names"],
        label_names=[(key, value) for key, value in header["label_names"]],
        **columns,
    )
    return Searchable(index, Columns(state))


def _header(file: BinaryIO) -> dict[str, Any] | None:
    """The header at the file's position, if what it says is of the right types and adds up to the file's size."""
    try:
        header = json.loads(file.read(int.from_bytes(file.read(LENGTH_BYTES), "little")))
        sizes = [header[length] * np.dtype(dtype).itemsize for length, dtype in COLUMNS.values()]
        producers, labels = header["producer_names"], header["label_names"]
        sound = (
            all(type(header[name]) is int and header[name] >= 0 for name in _NUMBERS)
            and all(isinstance(name, str) for name in producers)
            and all(isinstance(name, str) for pair in labels for name in pair)
            and all(len(pair) == 2 for pair in labels)
        )
        rest = sum(sizes) + header["count"] * header["dimension"] * 4 + DIGEST_BYTES
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return header if sound and file.tell() + rest == os.fstat(file.fileno()).st_size else None


def _is_whole(file: BinaryIO) -> bool:
    """Whether the last bytes are the SHA-256 of those before. Right means: exactly what `save_snapshot` wrote."""
    left = file.seek(0, os.SEEK_END) - DIGEST_BYTES
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0 and (chunk := file.read(min(left, READ_BYTES))):
        digest.update(chunk)
        left -= len(chunk)
    return left == 0 and file.read() == digest.digest()


def _vectors_at_a_time(dimension: int) -> int:
    return max(1, READ_BYTES // (4 * dimension))


def _sync_folder(folder: Path) -> None:
    """Make the rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
