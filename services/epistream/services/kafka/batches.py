"""How much kafka-python makes of what a broker sends: a few KiB of zeros, compressed, become GiB.

A broker bounds a batch as it is compressed, and looks at no size behind that. kafka-python decompresses whatever comes,
whole. Here a consumer is bounded: what is larger stands in its place as a record whose value is `Refused`, so that it
is passed over as other wrong records are, and what one poll brings ends at some bytes, too.

kafka-python has no hook for any of it, so its classes are extended; `pyproject.toml` says which release they are of.
"""

import gzip
import io
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from epistream.services.kafka.backlog import weight_bytes
from epistream.wire.topics import DEAD_LETTER_BYTES_MAX, RECORD_BYTES_MAX
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

DECOMPRESSED_BYTES_MAX: Final = 32 * RECORD_BYTES_MAX
"""Of a batch, decompressed. Our topics take 2 MiB of a batch as it comes: text becomes 3 to 10 times as much, JSON that
repeats itself 20 times; zeros become thousands."""
RECORD_READ_BYTES_MAX: Final = DEAD_LETTER_BYTES_MAX
"""Of one record in a compressed batch: no more could be passed on as a dead letter. A header of two bytes is a hundred
in memory, so it must not be larger even for a moment."""
POLL_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of the records that one poll brings, by their weight: as much as one answer of a broker, as long as nothing is
compressed."""
_PIECE_BYTES: Final = 64 * 1024
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16
_NOT_ASCII: Final = re.compile(rb"[^\x00-\x7f]")


class Refused(bytes):
    """The value of what is not read, empty. `why` is for people."""

    why: str


class Enough(Exception):
    """A poll has brought its bytes. The next one goes on there."""


def bound(consumer: Any) -> None:
    """Bound what a consumer that was just made decompresses, and what one poll of it brings; `poll` raises `Enough`."""
    consumer._fetcher.PartitionRecords = partial(_PartitionRecords, _Poll())  # noqa: SLF001


class _Poll:
    """What was brought since `Enough` was raised."""

    brought_bytes = 0


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc] # the library has no types
    """What a broker has sent of one partition, record by record."""

    def __init__(self, poll: _Poll, offset: int, partition: Any, records: Any, *rest: Any, **more: Any) -> None:
        super().__init__(offset, partition, _Batches(records._buffer), *rest, **more)  # noqa: SLF001
        self._poll = poll

    def take(self, n: int) -> list[Any]:
        """The next records. Raises Enough."""
        if self._poll.brought_bytes >= POLL_BYTES_MAX:
            self._poll.brought_bytes = 0
            raise Enough
        taken: list[Any] = []
        try:
            while len(taken) < n and self._poll.brought_bytes < POLL_BYTES_MAX and (one := super().take(1)):
                taken += one
                self._poll.brought_bytes += weight_bytes(one[0])
        except Exception as error:
            if not taken:
                raise
            self._next_inline_exception = error
        return taken


class _Batches(MemoryRecords):  # type: ignore[misc]
    """The batches of an answer."""

    def next_batch(self) -> Any:
        """None at the end. Raises CorruptRecordError."""
        batch = super().next_batch()
        if batch is None:
            return None
        if batch.magic < 2:
            if batch.compression_type:
                raise CorruptRecordError("compressed records of the formats before Kafka 0.11 are not read")
            return batch
        return _Batch(batch._buffer)  # noqa: SLF001


class _Batch(DefaultRecordBatch):  # type: ignore[misc]
    """One batch, in which what is too large is replaced by a record that says so."""

    _buffer: bytearray
    _pos: int
    _decompressed: bool

    def __iter__(self) -> Iterator[Any]:
        compressed_bytes = self.size_in_bytes
        try:
            self._maybe_uncompress()
        except _TooLarge:
            why = (
                f"the batch of the records {self.base_offset} to {self.last_offset} has {compressed_bytes:,} bytes as "
                f"it came, and more than {DECOMPRESSED_BYTES_MAX:,} when it is decompressed: send fewer records in one"
            )
            return iter([self._refused(self.last_offset, why)])
        return self

    def _maybe_uncompress(self) -> None:
        if self._decompressed or self.compression_type == self.CODEC_NONE:
            super()._maybe_uncompress()
            return
        self._assert_has_codec(self.compression_type)
        self._buffer = decompressed(self.compression_type, bytes(memoryview(self._buffer)[self._pos :]))
        self._pos, self._decompressed = 0, True

    def _read_msg(self) -> Any:
        if self.compression_type != self.CODEC_NONE and len(self._buffer) > RECORD_READ_BYTES_MAX:
            size, start = decode_varint(self._buffer, self._pos)
            if size > RECORD_READ_BYTES_MAX and start + size <= len(self._buffer):
                return self._passed_over(start, size)
        try:
            return super()._read_msg()
        except UnicodeDecodeError:  # a broker does not look at the names of headers
            self._mend_names()
            return super()._read_msg()

    def _passed_over(self, start: int, size: int) -> Any:
        at = start
        for _ in ("attributes", "timestamp"):
            _, at = decode_varint(self._buffer, at)
        offset = self.base_offset + decode_varint(self._buffer, at)[0]
        self._pos = start + size
        why = f"the record has {size:,} bytes when it is decompressed, at most {RECORD_READ_BYTES_MAX:,} are read"
        return self._refused(offset, why)

    def _mend_names(self) -> None:
        """Make question marks of what is not ASCII in those names of the next record's headers that are not UTF-8."""
        buffer, at = self._buffer, self._pos
        for _ in ("length", "attributes", "timestamp", "offset"):
            _, at = decode_varint(buffer, at)
        for _ in ("key", "value"):
            size, at = decode_varint(buffer, at)
            at += max(size, 0)
        count, at = decode_varint(buffer, at)
        for _ in range(count):
            size, at = decode_varint(buffer, at)
            name = buffer[at : at + size]
            if name.decode(errors="ignore").encode() != name:
                buffer[at : at + size] = _NOT_ASCII.sub(b"?", name)
            size, at = decode_varint(buffer, at + size)
            at += max(size, 0)

    def _refused(self, offset: int, why: str) -> Any:
        value = Refused()
        value.why = why
        return DefaultRecord(0, offset, self.max_timestamp, self.timestamp_type, None, value, [])


class _TooLarge(Exception):
    """It is more than DECOMPRESSED_BYTES_MAX."""


def decompressed(codec: int, payload: bytes) -> bytearray:
    """What a batch's records are, of which `payload` is the compressed form.

    Raises:
        _TooLarge: they are more than DECOMPRESSED_BYTES_MAX. No more than that was made of them.
        CorruptRecordError: they are not of that form.
    """
    try:
        match codec:
            case DefaultRecordBatch.CODEC_SNAPPY:
                return _read_snappy(payload)
            case DefaultRecordBatch.CODEC_GZIP:
                return _read(gzip.GzipFile(fileobj=io.BytesIO(payload)))
            case DefaultRecordBatch.CODEC_LZ4:
                from lz4 import frame  # type: ignore[import-untyped]

                return _read(frame.LZ4FrameFile(io.BytesIO(payload)))
            case _:
                import zstandard

                return _read(zstandard.ZstdDecompressor().stream_reader(payload, read_across_frames=True))
    except (MemoryError, _TooLarge):
        raise
    except Exception as error:  # each of the four packages has errors of its own
        raise CorruptRecordError(f"a batch cannot be decompressed: {type(error).__name__}: {error}") from error


def _read(reader: Any) -> bytearray:
    whole = bytearray()
    with reader:
        while piece := reader.read(_PIECE_BYTES):
            whole += piece
            _check_size(len(whole))
    return whole


def _check_size(size: int) -> None:
    if size > DECOMPRESSED_BYTES_MAX:
        raise _TooLarge


def _read_snappy(payload: bytes) -> bytearray:
    """Block by block. kafka-python copies what is left of the payload for each: 600 KB of small ones took 0.7 s."""
    import snappy  # type: ignore[import-untyped]

    whole = bytearray()
    for block in _snappy_blocks(payload):
        _check_size(len(whole) + _claimed_bytes(block))
        whole += snappy.decompress(block)
    return whole


def _snappy_blocks(payload: bytes) -> Iterator[bytes]:
    """One alone, or those that Java's snappy writes, each after its length in four bytes."""
    if not payload.startswith(_XERIAL):
        yield payload
        return
    at = _XERIAL_HEADER_BYTES
    while at < len(payload):
        start = at + 4
        at = start + int.from_bytes(payload[at:start], "big")
        yield payload[start:at]


def _claimed_bytes(block: bytes) -> int:
    """How many bytes a block says that it becomes, which is what is allocated: seven bits a byte, the lowest first.

    See https://github.com/google/snappy, format.
    """
    size = shift = 0
    for byte in block[:5]:
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return size
