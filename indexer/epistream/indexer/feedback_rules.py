"""The rules of feedback: what a submission must be that says what a rater thinks of items. Pure."""

import math
from collections.abc import Iterator
from typing import Final

from epistream.indexer.texts import line, prose, unset
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import FieldViolation
from epistream.wire.limits import ID_CHARACTERS_MAX, RATIONALE_BYTES_MAX, WORD_CHARACTERS_MAX

_OF_KNOWLEDGE: Final = (
    "item_id",
    "modality",
    "content",
    "media",
    "embedding",
    "expected_version",
    "retraction",
    "prompt",
    "tests",
    "further_media",
    "valid_from",
)
_COUNTS: Final = {
    pb.FEEDBACK_KIND_PAIRWISE: (2, 2),
    pb.FEEDBACK_KIND_RANKING: (2, None),
    pb.FEEDBACK_KIND_RATING: (1, 1),
    pb.FEEDBACK_KIND_BINARY: (1, 1),
    pb.FEEDBACK_KIND_EDIT: (2, 2),
    pb.FEEDBACK_KIND_CRITIQUE: (1, 1),
}
"""How many items each kind judges, from and to; a ranking as many as its submission has room for. Places likewise."""
_PLACED: Final = frozenset({pb.FEEDBACK_KIND_PAIRWISE, pb.FEEDBACK_KIND_RANKING})
_SCORED: Final = frozenset({pb.FEEDBACK_KIND_RATING, pb.FEEDBACK_KIND_BINARY})
_KINDS: Final = ", ".join(name for name, kind in pb.FeedbackKind.items() if kind)
_RATERS: Final = ", ".join(name for name, kind in pb.RaterType.items() if kind)


def violations(submission: pb.Submission) -> Iterator[FieldViolation]:
    """What is wrong with a submission's `feedback`, or set beside it."""
    feedback = submission.feedback
    yield from unset(submission, _OF_KNOWLEDGE, "feedback: it is kept beside the items that it names")
    if feedback.kind not in _COUNTS:
        yield FieldViolation("feedback.kind", f"required: one of {_KINDS}")
    else:
        yield from _judged(feedback)
    if not feedback.rater:
        yield FieldViolation("feedback.rater", "required: who judged, by the name that the source gives")
    yield from line("feedback.rater", feedback.rater, ID_CHARACTERS_MAX)
    if feedback.rater_type not in (pb.RATER_TYPE_HUMAN, pb.RATER_TYPE_AI, pb.RATER_TYPE_EXECUTOR):
        yield FieldViolation("feedback.rater_type", f"required: one of {_RATERS}")
    yield from line("feedback.aspect", feedback.aspect, WORD_CHARACTERS_MAX)
    yield from line("feedback.degree", feedback.degree, WORD_CHARACTERS_MAX)
    yield from prose("feedback.rationale", feedback.rationale, RATIONALE_BYTES_MAX)
    if feedback.kind == pb.FEEDBACK_KIND_CRITIQUE and not feedback.rationale.strip():
        yield FieldViolation("feedback.rationale", "required for FEEDBACK_KIND_CRITIQUE: the rater's words")
    yield from _scale(feedback)


def _judged(feedback: pb.Feedback) -> Iterator[FieldViolation]:
    fewest, most = _COUNTS[feedback.kind]
    count, name = len(feedback.judged), pb.FeedbackKind.Name(feedback.kind)
    if not _within(count, fewest, most):
        expected = _range(fewest, most)
        yield FieldViolation("feedback.judged", f"{name} judges {expected} items, found {count}")
        return
    for index, judged in enumerate(feedback.judged):
        path = f"feedback.judged[{index}]"
        if not judged.item_id:
            yield FieldViolation(f"{path}.item_id", "required: the item that is judged")
        yield from line(f"{path}.item_id", judged.item_id, ID_CHARACTERS_MAX)
        if judged.HasField("place") != (feedback.kind in _PLACED):
            must = "required for" if feedback.kind in _PLACED else "must be unset for"
            yield FieldViolation(f"{path}.place", f"{must} {name}")
        elif judged.HasField("place") and not _within(judged.place, 1, most):
            yield FieldViolation(f"{path}.place", f"expected {_range(1, most)}, found {judged.place}")
        if feedback.kind in _SCORED and not judged.HasField("score"):
            yield FieldViolation(f"{path}.score", f"required for {name}")
        yield from _score(f"{path}.score", judged.score, feedback)


def _within(number: int, least: int, most: int | None) -> bool:
    return number >= least and (most is None or number <= most)


def _range(least: int, most: int | None) -> str:
    return f"{least} or more" if most is None else str(least) if least == most else f"{least} to {most}"


def _score(path: str, score: float, feedback: pb.Feedback) -> Iterator[FieldViolation]:
    if not math.isfinite(score):
        yield FieldViolation(path, f"expected a finite number, found {score}")
    elif feedback.kind == pb.FEEDBACK_KIND_BINARY and score not in (0.0, 1.0):
        yield FieldViolation(path, f"expected 1 for yes or 0 for no, found {score:g}")
    elif feedback.kind == pb.FEEDBACK_KIND_RATING and not feedback.scale_min <= score <= feedback.scale_max:
        scale = f"{feedback.scale_min:g} to {feedback.scale_max:g}"
        yield FieldViolation(path, f"expected what the scale has, {scale}, found {score:g}")


def _scale(feedback: pb.Feedback) -> Iterator[FieldViolation]:
    given = feedback.HasField("scale_min"), feedback.HasField("scale_max")
    if feedback.kind == pb.FEEDBACK_KIND_RATING and not all(given):
        yield FieldViolation("feedback.scale_max", "required for FEEDBACK_KIND_RATING, as is `scale_min`")
    elif given[0] != given[1]:
        yield FieldViolation("feedback.scale_max", "both ends of a scale are given, or none")
    elif all(given) and not 0 < feedback.scale_max - feedback.scale_min < math.inf:
        found = f"{feedback.scale_min:g} to {feedback.scale_max:g}"
        expected = "expected a finite number above `scale_min`, at a finite distance"
        yield FieldViolation("feedback.scale_max", f"{expected}, found {found}")
