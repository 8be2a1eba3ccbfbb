"""State as bytes: named, versioned, with a checksum. What was damaged is refused, never read.

    b"ESTATE" | length of the header, 4 bytes little-endian | header, JSON | arrays by name | SHA-256 of all before

The header names the kind and the version of the state, its figures, and dtype and shape of each array. The same state
makes the same bytes, and a float comes back bit for bit: JSON has the shortest digits that name it.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from epistream.wire.errors import Broken

Figures: TypeAlias = Mapping[str, Any]
"""What JSON can say."""
Arrays: TypeAlias = Mapping[str, NDArray[Any]]

_MAGIC: Final = b"ESTATE"
_LENGTH: Final = struct.Struct("<I")
_DIGEST_BYTES: Final = hashlib.sha256().digest_size
_DTYPES: Final = frozenset({"<f4", "<f8", "<i8", "|u1"})


def seal(kind: str, version: int, figures: Figures, arrays: Arrays) -> bytes:
    """The bytes of a state."""
    shapes = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    header = json.dumps(
        {"kind": kind, "version": version, "figures": dict(figures), "arrays": shapes},
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    ).encode()
    parts = [_MAGIC, _LENGTH.pack(len(header)), header]
    parts.extend(np.ascontiguousarray(arrays[name]).tobytes() for name in sorted(arrays))
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()


def unseal(kind: str, version: int, sealed: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The figures and arrays of a state; the arrays are writable and nobody else's.

    Raises:
        Broken: CORRUPT where the bytes are damaged or cut; UNKNOWN_STATE where they are another kind or version.
    """
    body, digest = sealed[:-_DIGEST_BYTES], sealed[-_DIGEST_BYTES:]
    if not body.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
        raise Broken(f"the saved state of {kind} is damaged: make it anew from the journal", reason="CORRUPT")
    start = len(_MAGIC) + _LENGTH.size
    end = start + _LENGTH.unpack_from(body, len(_MAGIC))[0]
    header = json.loads(body[start:end])
    if (header["kind"], header["version"]) != (kind, version):
        found = f"{header['kind']} {header['version']}"
        raise Broken(
            f"expected a state of {kind} {version}, found {found}: make it anew from the journal",
            reason="UNKNOWN_STATE",
        )
    return header["figures"], _arrays(header["arrays"], body, end)


def keep(file: Path, state: bytes) -> None:
    """Write a state that can be made anew, in place of the one before, which stays where it cannot be. Blocks.

    Raises:
        Broken: it cannot be written.
    """
    unfinished = file.with_suffix(".tmp")
    try:
        file.parent.mkdir(exist_ok=True)
        unfinished.write_bytes(state)
        unfinished.replace(file)
    except OSError as error:
        with suppress(OSError):  # the first error is the one to tell
            unfinished.unlink(missing_ok=True)
        raise Broken(f"{file} cannot be written: {error}.") from error


def kept(kind: str, version: int, file: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """What `keep` wrote; None where there is none, or none that can be read: it is to be made anew. Blocks."""
    try:
        return unseal(kind, version, file.read_bytes())
    except (OSError, Broken):
        return None


def _arrays(shapes: Mapping[str, Any], body: bytes, at: int) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for name in sorted(shapes):
        dtype, shape = shapes[name]
        if dtype not in _DTYPES:
            raise Broken(f"a saved state has numbers of the kind {dtype}", reason="UNKNOWN_STATE")
        count = math.prod(shape)
        found[name] = np.frombuffer(body, dtype, count, at).reshape(shape).copy()
        at += count * np.dtype(dtype).itemsize
    return found
