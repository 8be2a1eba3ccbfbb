"""TFRecord files: records with a length and CRC32C each. The place in the file is the byte where the next one begins.

8 bytes  length of the payload, little endian
4 bytes  masked CRC32C of those 8
n bytes  payload
4 bytes  masked CRC32C of the payload
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from google.protobuf.message import DecodeError

from epistream.clients.sources.formats.messages import contest_problem_record, example_record
from epistream.clients.sources.formats.piece import RECORD_BYTES_MAX, CannotRead, Piece, needed, reading
from epistream.clients.sources.record import Json

_HEADER: Final = struct.Struct("<QI")
_FOOTER: Final = struct.Struct("<I")
_MASK: Final = 0xA282EAD8
EPISODE_BYTES_MAX: Final = 8 * RECORD_BYTES_MAX
"""An episode holds its images."""


def examples(path: Path, start: int) -> Iterator[Piece]:
    """Records that are a tf.train.Example, as RLDS keeps episodes: `{"offset": …, "features": {…}}`."""
    return _pieces(path, start, lambda offset, payload: {"offset": offset, "features": example_record(payload)})


def contest_problems(path: Path, start: int) -> Iterator[Piece]:
    """Records that are a ContestProblem of CodeContests."""
    return _pieces(path, start, lambda _, payload: contest_problem_record(payload))


def masked_crc32c(content: bytes) -> int:
    """The checksum of TFRecord: CRC32C, rotated by 15 bits, plus a constant."""
    crc: int = needed("crc32c", "TFRecord").crc32c(content)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def _pieces(path: Path, start: int, decode: Callable[[int, bytes], Json]) -> Iterator[Piece]:
    with reading(path), path.open("rb") as file:
        file.seek(start)
        offset = start
        while header := file.read(_HEADER.size):
            payload, checksum = _payload(path, file, header, offset)
            after = offset + _HEADER.size + len(payload) + _FOOTER.size
            yield replace(_piece(payload, checksum, offset, after, decode), read=after)
            offset = after


def _payload(path: Path, file: BinaryIO, header: bytes, offset: int) -> tuple[bytes, int]:
    """The payload and the checksum that stands after it. A wrong length leaves no way on."""
    if len(header) < _HEADER.size:
        raise CannotRead(f"{path} cannot be read: it ends within the record at byte {offset}")
    length, checksum = _HEADER.unpack(header)
    if checksum != masked_crc32c(header[:8]):
        raise CannotRead(f"{path} cannot be read: the length of the record at byte {offset} has a wrong checksum")
    if length > EPISODE_BYTES_MAX:
        raise CannotRead(f"{path} cannot be read: the record at byte {offset} has {length} bytes")
    payload, footer = file.read(length), file.read(_FOOTER.size)
    if len(footer) < _FOOTER.size:
        raise CannotRead(f"{path} cannot be read: it ends within the record at byte {offset}")
    return payload, _FOOTER.unpack(footer)[0]


def _piece(payload: bytes, checksum: int, offset: int, after: int, decode: Callable[[int, bytes], Any]) -> Piece:
    if checksum != masked_crc32c(payload):
        return Piece(None, after, f"expected the checksum of the payload at byte {offset}, found another", payload)
    try:
        return Piece(decode(offset, payload), after, raw=payload)
    except DecodeError as error:
        return Piece(None, after, f"expected a protobuf message at byte {offset}: {error}", payload)
