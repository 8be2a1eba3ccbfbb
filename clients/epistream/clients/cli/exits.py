"""Exit codes: what happened, for scripts."""

import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from epistream.wire.errors import Broken, EpistreamError, InvalidInput, Unavailable, in_words

if TYPE_CHECKING:
    from epistream.v1 import knowledge_pb2 as pb


class ExitCode(enum.IntEnum):
    """The process's exit codes.

    Where several apply, it is the first in this order: UNREACHABLE, BROKEN, USAGE, REFUSED, HELD.
    """

    DONE = 0
    """All went well."""
    REFUSED = 1
    """The service said no: a submission was refused or rejected, there is no such item or namespace, somebody else was
    first, or you may not.

    Of fsck: there are findings. Of demo: a step did not show what it should.
    """
    USAGE = 2
    """The command line is wrong, or input cannot be read."""
    UNREACHABLE = 3
    """The service or Kafka cannot be reached, or did not answer in time."""
    HELD = 4
    """Nothing was refused, but something waits in the held queue."""
    BROKEN = 5
    """The service reports a defect of its own, such as damaged data."""


HELP: Final = """Exit codes:
  0  all went well
  1  refused, rejected, not found, or not permitted
  2  wrong usage, or input that cannot be read
  3  the service or Kafka cannot be reached
  4  something was held, and nothing refused
  5  the service failed"""
_PRECEDENCE: Final = (ExitCode.UNREACHABLE, ExitCode.BROKEN, ExitCode.USAGE, ExitCode.REFUSED, ExitCode.HELD)


class Wrong(EpistreamError):
    """What this command line was given cannot be used: a file that cannot be read, a missing package."""

    default_reason = "USAGE"


def exit_code(error: EpistreamError) -> ExitCode:
    """The exit code for an error that ends a command."""
    match error:
        case Unavailable():
            return ExitCode.UNREACHABLE
        case Broken():
            return ExitCode.BROKEN
        case EpistreamError(reason="USAGE"):
            return ExitCode.USAGE
        case _:
            return ExitCode.REFUSED


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The one that the process ends with, of all that apply."""
    found = set(codes)
    return next((code for code in _PRECEDENCE if code in found), ExitCode.DONE)


def receipt_code(receipt: "pb.Receipt") -> ExitCode:
    """What a receipt means for the exit code."""
    from epistream.v1 import knowledge_pb2 as pb

    if receipt.outcome in (pb.OUTCOME_REFUSED, pb.OUTCOME_REJECTED):
        return ExitCode.REFUSED
    return ExitCode.HELD if receipt.outcome == pb.OUTCOME_HELD else ExitCode.DONE


def explain(error: EpistreamError) -> None:
    """Tells a person of an error, on the standard error stream."""
    from epistream.clients.cli.show import note

    note(error.message, style="red")
    if isinstance(error, InvalidInput):
        for violation in error.violations:
            line = in_words(violation)
            if line not in error.message:
                note(f"  {line}", style="red")
