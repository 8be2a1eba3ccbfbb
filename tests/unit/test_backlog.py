"""What waits between Kafka and the encoder is bounded by what it takes in memory."""

from epistream.indexer.model import Record
from epistream.services.kafka.backlog import (
    BATCH_BYTES_MAX,
    WAITING_BYTES_MAX,
    WAITING_RECORDS_MAX,
    Backlog,
    weight_bytes,
)

OF_HEADERS = Record(None, 0, headers=(("", b""),) * 60_000)
"""On the way here it has 120 kB."""


def test_a_header_without_a_byte_has_a_weight() -> None:
    assert weight_bytes(Record(b"value", 0, key=b"key")) == 8
    assert weight_bytes(Record(None, 0, headers=(("name", b"value"),))) == 109
    assert BATCH_BYTES_MAX / 2 < weight_bytes(OF_HEADERS) < BATCH_BYTES_MAX


def test_headers_fill_a_backlog_and_a_batch() -> None:
    backlog = Backlog()
    while backlog.await_room(0):
        backlog.put([OF_HEADERS])
    taken = 0
    while batch := backlog.take(wait=False):
        assert batch == [OF_HEADERS]
        taken += 1
    assert taken == -(-WAITING_BYTES_MAX // weight_bytes(OF_HEADERS))
    assert backlog.await_room(0)


def test_what_is_added_to_a_batch_fits_beside_it() -> None:
    backlog = Backlog()
    backlog.put([OF_HEADERS, Record(b"", 0)])
    assert backlog.take(wait=False, beside=[OF_HEADERS]) == []
    assert backlog.take(wait=False, beside=[Record(b"", 0)]) == [OF_HEADERS, Record(b"", 0)]


def test_who_waits_goes_on_when_half_of_it_is_empty_again() -> None:
    backlog, left = Backlog(), WAITING_RECORDS_MAX
    backlog.put([Record(b"", 0)] * left)
    while left > WAITING_RECORDS_MAX / 2:
        assert not backlog.await_room(0)
        left -= len(backlog.take(wait=False))
    assert left
    assert backlog.await_room(0)


def test_nothing_is_given_out_of_one_that_is_closed_and_nobody_waits_for_it() -> None:
    backlog = Backlog()
    backlog.put([Record(b"", 0)] * WAITING_RECORDS_MAX)
    backlog.close()
    assert backlog.take(wait=True) == backlog.take(wait=False) == []
    assert backlog.await_room(0)
