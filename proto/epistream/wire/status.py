"""Errors as `google.rpc.Status` and back: one table for both directions.

The reason travels in `google.rpc.ErrorInfo` (domain `epistream`), violations in `BadRequest`, a retry delay in
`RetryInfo`, and where a namespace stands in `epistream.v1.RevisionState`.
"""

from typing import Final

from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from epistream.v1 import errors_pb2
from epistream.wire.errors import (
    Broken,
    Conflict,
    Denied,
    EpistreamError,
    FieldViolation,
    InvalidInput,
    NotFound,
    Resync,
    State,
    Unavailable,
)

DOMAIN: Final = "epistream"
_DELAY_SECONDS_MAX: Final = 315_576_000_000.0
"""The longest google.protobuf.Duration, 10,000 years."""

_CODES: Final[dict[tuple[type[EpistreamError], str], int]] = {
    (InvalidInput, "INVALID"): code_pb2.INVALID_ARGUMENT,
    (InvalidInput, "TOO_LARGE"): code_pb2.RESOURCE_EXHAUSTED,
    (InvalidInput, "NO_SUCH_ENCODER"): code_pb2.FAILED_PRECONDITION,
    (NotFound, "NOT_FOUND"): code_pb2.NOT_FOUND,
    (NotFound, "UNKNOWN_NAMESPACE"): code_pb2.NOT_FOUND,
    (Conflict, "VERSION_CONFLICT"): code_pb2.ABORTED,
    (Conflict, "ALREADY_EXISTS"): code_pb2.ALREADY_EXISTS,
    (Conflict, "NOT_HELD"): code_pb2.ABORTED,
    (Conflict, "NOT_OPEN"): code_pb2.ABORTED,
    (Conflict, "CLAIMED"): code_pb2.ABORTED,
    (Resync, "FUTURE_REVISION"): code_pb2.FAILED_PRECONDITION,
    (Resync, "EPOCH_MISMATCH"): code_pb2.FAILED_PRECONDITION,
    (Resync, "COMPACTED"): code_pb2.OUT_OF_RANGE,
    (Denied, "UNAUTHENTICATED"): code_pb2.UNAUTHENTICATED,
    (Denied, "PERMISSION_DENIED"): code_pb2.PERMISSION_DENIED,
    (Unavailable, "UNAVAILABLE"): code_pb2.UNAVAILABLE,
    (Unavailable, "ENCODER_LOADING"): code_pb2.UNAVAILABLE,
    (Unavailable, "DRAINING"): code_pb2.UNAVAILABLE,
    (Unavailable, "CREDENTIALS_EXPIRED"): code_pb2.UNAVAILABLE,
    (Unavailable, "OVERLOADED"): code_pb2.RESOURCE_EXHAUSTED,
    (Unavailable, "RATE_LIMITED"): code_pb2.RESOURCE_EXHAUSTED,
    (Unavailable, "DISK_FULL"): code_pb2.RESOURCE_EXHAUSTED,
    (Unavailable, "DEADLINE"): code_pb2.DEADLINE_EXCEEDED,
    (Broken, "INTERNAL"): code_pb2.INTERNAL,
    (Broken, "CORRUPT"): code_pb2.DATA_LOSS,
}
_CLASSES: Final = {reason: cls for cls, reason in _CODES}
_CLASSES_BY_CODE: Final[dict[int, type[EpistreamError]]] = {
    code_pb2.INVALID_ARGUMENT: InvalidInput,
    code_pb2.NOT_FOUND: NotFound,
    code_pb2.ABORTED: Conflict,
    code_pb2.ALREADY_EXISTS: Conflict,
    code_pb2.UNAUTHENTICATED: Denied,
    code_pb2.PERMISSION_DENIED: Denied,
    code_pb2.UNAVAILABLE: Unavailable,
    code_pb2.RESOURCE_EXHAUSTED: Unavailable,
    code_pb2.DEADLINE_EXCEEDED: Unavailable,
}


def to_status(error: EpistreamError) -> status_pb2.Status:
    """The status that tells a client of `error`."""
    status = status_pb2.Status(code=_code(error), message=error.message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN))
    match error:
        case InvalidInput(violations=violations) | Conflict(violations=violations) if violations:
            bad = error_details_pb2.BadRequest()
            for violation in violations:
                bad.field_violations.add(field=violation.field, description=violation.description)
            status.details.add().Pack(bad)
        case Resync(state=state):
            status.details.add().Pack(
                errors_pb2.RevisionState(
                    epoch=state.epoch,
                    head_revision=state.head_revision,
                    compacted_revision=state.compacted_revision,
                )
            )
        case Unavailable(retry_delay_seconds=seconds):
            delay = duration_pb2.Duration()
            delay.FromMicroseconds(int(min(seconds, _DELAY_SECONDS_MAX) * 1e6))
            status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        case _:
            pass
    return status


def from_status(status: status_pb2.Status) -> EpistreamError:
    """The error that `status` tells of; of a status that is not ours, the class that its code comes nearest to."""
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    state = errors_pb2.RevisionState()
    for detail in status.details:
        for message in (info, bad, retry, state):
            detail.Unpack(message)
    reason = info.reason if info.domain == DOMAIN else ""
    cls = _CLASSES.get(reason) or _CLASSES_BY_CODE.get(status.code, Broken)
    text = status.message
    if cls is InvalidInput or cls is Conflict:
        violations = (FieldViolation(v.field, v.description) for v in bad.field_violations)
        return cls(text, *violations, reason=reason or None)
    if cls is Resync:
        where = State(state.epoch, state.head_revision, state.compacted_revision)
        return Resync(text, reason=reason, state=where)
    if cls is Unavailable:
        seconds = retry.retry_delay.ToMicroseconds() / 1e6
        return Unavailable(text, reason=reason or None, retry_delay_seconds=seconds or 1.0)
    if cls is Denied and not reason:
        reason = code_pb2.Code.Name(status.code)  # somebody in between says so, with details of its own
    return cls(text, reason=reason or None)


def _code(error: EpistreamError) -> int:
    for cls in type(error).__mro__:
        code = _CODES.get((cls, error.reason))
        if code is not None:
            return code
    internal: int = code_pb2.INTERNAL
    return internal
