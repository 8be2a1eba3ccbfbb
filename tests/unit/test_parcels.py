"""What the poller's process hands on is what the service would have decoded itself."""

from multiprocessing.reduction import ForkingPickler

import pytest

from epistream.indexer.decode import decode
from epistream.indexer.model import Arrived, Decoded, Malformed, Position, Record
from epistream.services.kafka import parcels
from epistream.services.kafka.parcels import pack, unpack
from tests.support.bad_input import (
    BAD_INPUT,
    EVENT,
    FRAME,
    JSON,
    PROTOBUF,
    BadInput,
    Headers,
    good_json,
    good_submission,
)

GOOD = good_submission().SerializeToString()
UNKNOWN_FIELD = b"\xfa\x3f\x01x"
"""Field 1023 of a later version of the contract: one byte."""


def record(value: bytes | None, headers: Headers = (), *, key: bytes | None = b"key") -> Record:
    return Record(value, 7, headers, key, 5, Position("facts", 1, 42, 3))


def sent(one: Record) -> Arrived:
    return unpack(ForkingPickler.loads(ForkingPickler.dumps(pack(one))))


@pytest.mark.parametrize("bad", BAD_INPUT, ids=lambda bad: bad.name)
def test_a_refusal_passes_whole(bad: BadInput) -> None:
    one = record(bad.value, bad.headers)
    arrived = sent(one)
    assert isinstance(arrived, Malformed)
    assert arrived == decode(one)


@pytest.mark.parametrize(
    "one",
    [
        record(GOOD, PROTOBUF),
        record(GOOD),
        record(GOOD + UNKNOWN_FIELD, PROTOBUF),
        record(FRAME + GOOD, PROTOBUF),
        record(good_json(), JSON),
        record(GOOD, (*EVENT, *PROTOBUF)),
        record(GOOD, (*PROTOBUF, ("note", b"\xff\x00"), ("empty", b"")), key=None),
        Record(GOOD, 7),
    ],
    ids=["protobuf", "no headers", "an unknown field", "framed", "json", "event", "other headers", "no position"],
)
def test_a_submission_passes_whole(one: Record) -> None:
    arrived = sent(one)
    assert isinstance(arrived, Decoded)
    assert arrived == decode(one)


def test_bytes_that_are_the_submission_pass_once() -> None:
    large = good_submission()
    large.content = "x" * 10_000
    large.attributes.clear()  # a map may be written in any order
    value = large.SerializeToString()
    assert len(ForkingPickler.dumps(pack(record(value, PROTOBUF)))) < len(value) + 1000


def test_a_record_that_decoding_fails_on_passes_as_it_came(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(one: Record) -> Decoded | Malformed:
        raise ZeroDivisionError(one)

    monkeypatch.setattr(parcels, "decode", failing)
    one = record(GOOD, PROTOBUF)
    assert sent(one) == one
    assert "facts" in caplog.text
