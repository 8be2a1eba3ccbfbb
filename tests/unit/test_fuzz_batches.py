"""Whatever a broker sends as a batch, its checksum right: records, refused ones among them, or CorruptRecordError."""

import struct
from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import CorruptRecordError, UnsupportedCodecError
from kafka.record.util import calc_crc32c

from epistream.services.kafka import batches
from tests.support.fuzzing import examples
from tests.unit.test_batches import CODECS, Reading, batch

CHECKSUM_AT: Final = 17
SUMMED_FROM: Final = 21
"""Of a batch: before that stand its offset, its length, the epoch, the form, and the checksum of all that follows."""
RECORDS_AT: Final = 61
HEADERS: Final = [("name", b"value"), ("none", None)]


def with_checksum(changed: bytes) -> bytes:
    whole = bytearray(changed)
    struct.pack_into(">i", whole, 8, len(whole) - 12)
    struct.pack_into(">I", whole, CHECKSUM_AT, calc_crc32c(bytes(whole[SUMMED_FROM:])))
    return bytes(whole)


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A batch of two records of which some bytes are others, more, or missing, behind its header or in it."""
    codec = draw(st.sampled_from([0, *CODECS.values()]))
    whole = bytearray(batch(codec, [b"first", b"second" * 20], 7, HEADERS))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(SUMMED_FROM, max(SUMMED_FROM, len(whole) - 1)))
        kept = draw(st.integers(at, min(len(whole), at + 3)))
        whole[at:kept] = draw(st.binary(max_size=4))
    whole += bytes(max(0, RECORDS_AT - len(whole)))
    return with_checksum(bytes(whole))


@examples(200)
@given(changed())
def test_a_batch_is_read_refused_or_corrupt(answer: bytes) -> None:
    try:
        taken = Reading(answer, 7).take()
    except (CorruptRecordError, UnsupportedCodecError, batches.Enough):
        return
    for record in taken:
        assert record.value is None or isinstance(record.value, bytes)


@given(st.sampled_from(list(CODECS.values())), st.binary(max_size=300))
def test_any_payload_is_decompressed_or_corrupt(codec: int, payload: bytes) -> None:
    try:
        made = batches.decompressed(codec, payload)
    except (CorruptRecordError, batches._TooLarge):
        return
    assert len(made) <= batches.DECOMPRESSED_BYTES_MAX
