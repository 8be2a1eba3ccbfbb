"""The rules of what reviewers send. Pure."""

from typing import Final

from epistream.indexer.texts import line, prose
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import review_service_pb2 as api
from epistream.wire.errors import FieldViolation, InvalidInput
from epistream.wire.limits import ID_CHARACTERS_MAX
from epistream.wire.origins import PEOPLE

COMMENT_CHARACTERS_MAX: Final = 4000
LEASE_SECONDS: Final = 15 * 60.0
"""How long a claim lasts where nothing is said."""
LEASE_SECONDS_MAX: Final = 8 * 3600.0

_VERDICTS: Final = (api.REVIEW_VERDICT_ADMIT, api.REVIEW_VERDICT_REJECT)


def require_reviewer(reviewer: api.Reviewer, *, reason: pb.Reason.ValueType = pb.REASON_UNSPECIFIED) -> None:
    """Raises InvalidInput unless it names somebody who can answer for what is decided.

    A program may decide what is held for REASON_UNVERIFIED.
    """
    violations = list(line("reviewer.name", reviewer.name, ID_CHARACTERS_MAX))
    if not reviewer.name:
        violations.append(FieldViolation("reviewer.name", "required: who reviews"))
    by_program = reviewer.origin == pb.ORIGIN_SYNTHETIC and reason == pb.REASON_UNVERIFIED
    if reviewer.origin not in PEOPLE and not by_program:
        expected = " or ".join(map(pb.Origin.Name, sorted(PEOPLE)))
        violations.append(FieldViolation("reviewer.origin", f"required: {expected}, on whose authority it is decided"))
    _refuse(violations)


def require_comment(field: str, text: str, *, needed: bool) -> None:
    """Raises InvalidInput unless it is a comment; an empty one where none is needed."""
    violations = list(prose(field, text, 4 * COMMENT_CHARACTERS_MAX))
    if len(text) > COMMENT_CHARACTERS_MAX:
        found = len(text)
        violations.append(FieldViolation(field, f"at most {COMMENT_CHARACTERS_MAX} characters, found {found}"))
    if needed and not text.strip():
        violations.append(FieldViolation(field, "required: what is to be said"))
    _refuse(violations)


def require_verdict(verdict: int) -> None:
    """Raises InvalidInput unless it is one."""
    if verdict not in _VERDICTS:
        expected = " or ".join(map(api.ReviewVerdict.Name, _VERDICTS))
        _refuse([FieldViolation("verdict", f"required: {expected}")])


def lease_seconds(request: api.ClaimReviewRequest) -> float:
    """For how long a review is claimed; 0 to let go of it. Raises InvalidInput."""
    if not request.HasField("lease"):
        return LEASE_SECONDS
    seconds = request.lease.seconds + request.lease.nanos / 1e9
    if not 0 <= seconds <= LEASE_SECONDS_MAX:
        _refuse([FieldViolation("lease", f"expected 0 to {LEASE_SECONDS_MAX:g} seconds, found {seconds:g}")])
    return seconds


def _refuse(violations: list[FieldViolation]) -> None:
    if violations:
        raise InvalidInput("; ".join(f"{v.field}: {v.description}" for v in violations), *violations)
