"""The errors that both ends know, one class for each thing that a caller can do about them.

EpistreamError
├── InvalidInput    fix the input: `violations` name the fields
├── NotFound        there is no such namespace or item
├── Conflict        somebody else was first: read again, then decide
├── Resync          the revision means nothing here: `state` tells where the namespace stands; take a snapshot
├── Denied          you may not: bring credentials, or ask for the permission
├── Unavailable     try again after `retry_delay_seconds`
└── Broken          neither the input nor the moment is at fault: tell the operator
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field that is wrong, and how to put it right."""

    field: str
    """The path of the field, such as `provenance.producer`; empty when the whole record is meant."""
    description: str
    """What was expected, what was found, what to do."""


class _Violation(Protocol):
    """One of ours, or a message's."""

    @property
    def field(self) -> str: ...

    @property
    def description(self) -> str: ...


def in_words(violation: _Violation) -> str:
    """A violation on a line of its own: the field's path, where there is one, and what is wrong."""
    return f"{violation.field}: {violation.description}" if violation.field else violation.description


@dataclass(frozen=True, slots=True)
class State:
    """Where a namespace stands."""

    epoch: str
    """The store's epoch."""
    head_revision: int
    """The newest revision."""
    compacted_revision: int
    """The oldest revision that can be resumed from and asked about."""


class EpistreamError(Exception):
    """Anything that went wrong, with a message for people and a `reason` for programs.

    Attributes:
        reason: a name in capitals, such as `FUTURE_REVISION`; the same on the wire and in the metrics.
        message: what happened, and what to do.
    """

    default_reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason


class InvalidInput(EpistreamError):
    """The request is wrong. The same request fails again.

    Attributes:
        violations: the fields that are wrong.
    """

    default_reason = "INVALID"

    def __init__(self, message: str, *violations: FieldViolation, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.violations = violations

    @classmethod
    def at(cls, field: str, description: str) -> "InvalidInput":
        """One field is wrong."""
        return cls(f"{field}: {description}", FieldViolation(field, description))


class NotFound(EpistreamError):
    """There is no such namespace or item, or it is not there at the point asked about."""

    default_reason = "NOT_FOUND"


class Conflict(EpistreamError):
    """What the request relies on is no longer so, or the name is taken.

    Attributes:
        violations: the fields that say what is no longer so; of an atomic batch each with its submission.
    """

    default_reason = "VERSION_CONFLICT"

    def __init__(self, message: str, *violations: FieldViolation, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.violations = violations


class Resync(EpistreamError):
    """A revision or epoch that this store cannot go on from.

    Attributes:
        reason: FUTURE_REVISION, COMPACTED or EPOCH_MISMATCH.
        state: where the namespace stands.
    """

    default_reason = "COMPACTED"

    def __init__(self, message: str, *, reason: str, state: State) -> None:
        super().__init__(message, reason=reason)
        self.state = state


class Denied(EpistreamError):
    """The caller may not do this. What it asked about may or may not be there.

    Attributes:
        reason: UNAUTHENTICATED where it is not known who calls, PERMISSION_DENIED where it is.
    """

    default_reason = "PERMISSION_DENIED"


class Unavailable(EpistreamError):
    """Not now.

    Attributes:
        retry_delay_seconds: when to try again.
    """

    default_reason = "UNAVAILABLE"

    def __init__(self, message: str, *, reason: str | None = None, retry_delay_seconds: float = 1.0) -> None:
        super().__init__(message, reason=reason)
        self.retry_delay_seconds = retry_delay_seconds


class Broken(EpistreamError):
    """Something that must hold does not: a corrupt file, a disk that fails, a bug."""
