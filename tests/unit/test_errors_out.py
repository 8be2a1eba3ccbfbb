"""Errors as they leave the process."""

import logging

import grpc
import pytest
from google.rpc import status_pb2

from epistream.services.errors import STATUS_BYTES_MAX, grpc_status, unexpected
from epistream.wire.errors import FieldViolation, InvalidInput, NotFound, Unavailable
from epistream.wire.status import from_status


def sent(status: grpc.Status) -> status_pb2.Status:
    [(key, value)] = status.trailing_metadata
    assert key == "grpc-status-details-bin"
    return status_pb2.Status.FromString(value)


def test_an_error_arrives_as_it_was() -> None:
    error = Unavailable("later", reason="OVERLOADED", retry_delay_seconds=2.5)
    status = grpc_status(error)
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    back = from_status(sent(status))
    assert isinstance(back, Unavailable)
    assert (back.message, back.reason, back.retry_delay_seconds) == ("later", "OVERLOADED", 2.5)


def test_a_delay_without_end_arrives_as_the_longest_there_is() -> None:
    """A limit of 1e-300 calls a second makes one."""
    back = from_status(sent(grpc_status(Unavailable("later", reason="RATE_LIMITED", retry_delay_seconds=1e300))))
    assert isinstance(back, Unavailable)
    assert back.retry_delay_seconds == 315_576_000_000


@pytest.mark.parametrize("count", [1, 5, 50, 5000])
def test_of_many_violations_as_many_as_fit_are_sent(count: int) -> None:
    violations = [FieldViolation(f"submissions[{n}].attributes", "wrong " * 20) for n in range(count)]
    status = sent(grpc_status(InvalidInput("wrong", *violations)))
    assert status.ByteSize() <= STATUS_BYTES_MAX
    back = from_status(status)
    assert isinstance(back, InvalidInput)
    kept = [v for v in back.violations if v.field]
    assert kept == violations[: len(kept)]
    assert len(kept) >= min(count, 10)
    assert (len(back.violations) > len(kept)) == (len(kept) < count)


def test_an_endless_message_is_cut() -> None:
    status = grpc_status(NotFound("x" * 100_000))
    assert len(status.details) < 1100
    assert sent(status).ByteSize() <= STATUS_BYTES_MAX


def test_a_bug_is_told_by_a_number_that_the_log_has(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        broken = unexpected(KeyError("secret"), "Test/Method")
    assert "secret" not in broken.message
    number = broken.message.rpartition(" ")[2]
    assert number in caplog.text
    assert "secret" in caplog.text
