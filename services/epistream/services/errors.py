"""Errors on their way out of the process: as a gRPC status, small enough to arrive, without anything of the inside."""

import asyncio
import logging
import uuid
from typing import Any, Final, Never, TypeVar

import grpc
import grpc.aio
from google.rpc import status_pb2
from grpc_status import rpc_status

from epistream.wire.errors import Broken, Conflict, EpistreamError, FieldViolation, InvalidInput
from epistream.wire.status import to_status

_LOG: Final = logging.getLogger(__name__)
_Error = TypeVar("_Error", bound=EpistreamError)

STATUS_BYTES_MAX: Final = 3500
"""The status travels twice, once in base64, in metadata of which a peer need not take more than 8 KiB."""
MESSAGE_BYTES_MAX: Final = 1000
"""Of the message for people. It travels beside the status, where a byte that is not ASCII takes three."""
_DESCRIPTION_BYTES_MAX: Final = 500
_FIELD_BYTES_MAX: Final = 500
_MORE: Final = FieldViolation("", "More fields are wrong than fit into this answer.")


def grpc_status(error: EpistreamError) -> grpc.Status:
    """The status that tells a client of `error`, cut to what arrives. Of many violations the first are kept."""
    error = _with(error, message=_cut(error.message, MESSAGE_BYTES_MAX))
    status = _with_violations(error) if isinstance(error, InvalidInput | Conflict) else to_status(error)
    return rpc_status.to_status(status)  # type: ignore[no-any-return] # the library has no types


async def abort(context: "grpc.aio.ServicerContext[Any, Any]", status: grpc.Status) -> Never:
    """End a call with an error, and leave no cycle behind.

    gRPC's call keeps what it has raised here, and with it the frames that it went through, and they the call: each
    refused call would stay until a garbage collection, which then ends hundreds at once while everybody waits. What
    others feel of refused calls: bench/hostile.py, over_limits.
    """
    try:
        await context.abort_with_status(status)
    except grpc.aio.AbortError as aborted:
        asyncio.get_running_loop().call_soon(_untie, aborted)  # when gRPC has seen it
        raise
    raise AssertionError("gRPC has not ended the call")


def _untie(error: BaseException) -> None:
    error.__traceback__ = error.__context__ = None


def _with_violations(error: InvalidInput | Conflict) -> status_pb2.Status:
    kept = [
        FieldViolation(_cut(v.field, _FIELD_BYTES_MAX), _cut(v.description, _DESCRIPTION_BYTES_MAX))
        for v in error.violations
    ]
    status = to_status(_with(error, violations=tuple(kept)))
    while status.ByteSize() > STATUS_BYTES_MAX and len(kept) > 1:
        kept = kept[: len(kept) * 3 // 4]
        status = to_status(_with(error, violations=(*kept, _MORE)))
    return status


def _cut(text: str, bytes_max: int) -> str:
    """The beginning of a text that may be of any length."""
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= bytes_max else encoded[:bytes_max].decode(errors="ignore") + " …"


def unexpected(error: BaseException, where: str) -> Broken:
    """What a client hears of a bug: a number, under which the log has the rest."""
    number = uuid.uuid4().hex[:12]
    _LOG.error("Error %s in %s", number, where, exc_info=error)
    broken = Broken(f"something unexpected went wrong; the service's log has it under {number}")
    broken.__cause__ = error
    return broken


def undecodable(what: str) -> InvalidInput:
    """What a client hears of bytes that are not the message they should be."""
    return InvalidInput(f"the bytes are not a {what} in protobuf's binary form: generate the client from the protos")


def _with(error: _Error, **attributes: object) -> _Error:
    """A copy of `error` with other attributes."""
    copy = error.__class__.__new__(error.__class__)
    copy.__dict__.update(error.__dict__ | attributes)
    return copy
