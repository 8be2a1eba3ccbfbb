"""Errors on their way out of the process: as a gRPC status, small enough to arrive, without anything of the inside."""

import logging
import uuid
from typing import Final

import grpc
from grpc_status import rpc_status

from epistream.wire.errors import Broken, EpistreamError, FieldViolation, InvalidInput
from epistream.wire.status import to_status

_LOG: Final = logging.getLogger(__name__)

STATUS_BYTES_MAX: Final = 3500
"""The status travels twice, once in base64, in metadata of which a peer need not take more than 8 KiB."""
MESSAGE_CHARACTERS_MAX: Final = 1000
"""Of the message for people."""


def grpc_status(error: EpistreamError) -> grpc.Status:
    """The status that tells a client of `error`. Of many violations the first are kept, and how many there were."""
    shortened = error.message[:MESSAGE_CHARACTERS_MAX]
    if shortened != error.message:
        error = _with(error, shortened + " …")
    status = to_status(error)
    while status.ByteSize() > STATUS_BYTES_MAX and isinstance(error, InvalidInput) and len(error.violations) > 1:
        kept = len(error.violations) * 3 // 4
        more = FieldViolation("", "More fields are wrong than fit into this answer.")
        error = InvalidInput(error.message, *error.violations[:kept], reason=error.reason)
        status = to_status(InvalidInput(error.message, *error.violations, more, reason=error.reason))
    return rpc_status.to_status(status)  # type: ignore[no-any-return] # the library has no types


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


def _with(error: EpistreamError, message: str) -> EpistreamError:
    """`error` with another message."""
    copy = error.__class__.__new__(error.__class__)
    copy.__dict__.update(error.__dict__)
    copy.message = message
    return copy
