"""What the executor says of items, as the feedback that it submits. Pure.

The same version run again by the same sandbox has the same submission id: it is known already.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from epistream.services.execution.judging import Judged, Survival
from epistream.services.execution.verdict import Verdict
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import review_service_pb2 as api
from epistream.wire.printable import printable

ASPECT: Final = "execution"
REGRESSION: Final = "regression"
_RATIONALE_CHARACTERS: Final = 4000
_FAILED_MOST: Final = 20
_NAMED_MOST: Final = 20


@dataclass(frozen=True, slots=True)
class Subject:
    """Code that is judged: a version, or what would become one."""

    namespace: str
    item_id: str
    which: str
    """For people, such as `version 3`."""
    identity: str
    """Of no other in any store."""
    knowledge: pb.Knowledge

    @classmethod
    def of_change(cls, change: pb.Change) -> Self:
        """A version."""
        which = f"version {change.version}"
        return cls(change.namespace, change.item_id, which, change.fingerprint.hex(), change.knowledge)

    @classmethod
    def of_review(cls, review: api.Review) -> Self:
        """A submission that is held."""
        sent = review.submission
        knowledge = pb.Knowledge(
            origin=sent.origin,
            modality=sent.modality,
            content=sent.content,
            provenance=sent.provenance,
            tests=sent.tests,
        )
        identity = f"{sent.provenance.producer} {sent.submission_id}"
        return cls(review.namespace, review.item_id, f"review {review.review_id}", identity, knowledge)


def opinion_id(kind: str, subject: Subject, sandbox: str, because: str = "") -> str:
    """The submission id of what is said.

    Args:
        kind: ASPECT or REGRESSION.
        subject: what it is said of.
        sandbox: what ran it, with its version.
        because: what gave occasion to run it again; empty for the first time.
    """
    parts = [kind, subject.item_id, subject.which, subject.identity, sandbox, because]
    return f"{kind}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:40]}"


def of_verdict(subject: Subject, judged: Judged, rater: str, sandbox: str, because: str = "") -> pb.Submission:
    """Whether a version is verified, the verdict's word and why; in `details` how many mutants its tests noticed."""
    result = judged.result
    feedback = pb.Feedback(
        kind=pb.FEEDBACK_KIND_BINARY,
        judged=[pb.Judged(item_id=subject.item_id, score=float(result.verdict == Verdict.VERIFIED))],
        aspect=ASPECT,
        degree=str(result.verdict),
        rationale=_joined([*_told(subject, judged), *([f"run again for {because}"] if because else []), sandbox]),
    )
    made = _submission(subject.namespace, opinion_id(ASPECT, subject, sandbox, because), feedback, rater)
    if result.mutants:
        made.details.update({"mutants": result.mutants, "killed": result.killed})
    return made


def of_survival(
    subject: Subject, survival: Survival, rater: str, sandbox: str, because: str = ""
) -> pb.Submission | None:
    """The share of the dependants that still pass with a new version; None where none passed before it."""
    if survival.share is None:
        return None
    feedback = pb.Feedback(
        kind=pb.FEEDBACK_KIND_RATING,
        judged=[pb.Judged(item_id=subject.item_id, score=survival.share)],
        aspect=REGRESSION,
        scale_min=0.0,
        scale_max=1.0,
        rationale=_joined([*survival_told(subject, survival), sandbox]),
    )
    return _submission(subject.namespace, opinion_id(REGRESSION, subject, sandbox, because), feedback, rater)


def survival_told(subject: Subject, survival: Survival) -> Iterator[str]:
    """What a new version did to its dependants, for people."""
    passing = len(survival.passed_before)
    yield f"{subject.which}: {passing - len(survival.broken)} of {passing} dependants still pass"
    if survival.left_out:
        yield f"{survival.left_out} more dependants were not run"
    yield from (f"broken: {name}: {why}" for name, why in [*survival.broken.items()][:_NAMED_MOST])


def _told(subject: Subject, judged: Judged) -> Iterator[str]:
    result = judged.result
    yield f"{subject.which}: {result.verdict}: {result.reason}"
    yield f"run: {_counted(subject.knowledge.tests)}"
    if judged.before:
        yield f"with the code before it of {', '.join(judged.before[:_NAMED_MOST])}"
    yield from (f"{each.test}: {each.verdict}: {each.reason}" for each in result.failed[:_FAILED_MOST])


def _counted(tests: pb.Tests) -> str:
    counts = {"asserts": len(tests.asserts), "cases": len(tests.cases), "check": int(bool(tests.check))}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{said} in {tests.language}" if said else "nothing"


def _joined(lines: list[str]) -> str:
    # Surrogates and NUL, which no message may hold, are not printable either.
    return printable("\n".join(lines))[:_RATIONALE_CHARACTERS]


def _submission(namespace: str, submission_id: str, feedback: pb.Feedback, rater: str) -> pb.Submission:
    feedback.rater, feedback.rater_type = rater, pb.RATER_TYPE_EXECUTOR
    return pb.Submission(
        namespace=namespace,
        submission_id=submission_id,
        # Not a person's word, as that of other programs that rate.
        origin=pb.ORIGIN_SYNTHETIC,
        provenance=pb.Provenance(producer=rater),
        feedback=feedback,
    )
