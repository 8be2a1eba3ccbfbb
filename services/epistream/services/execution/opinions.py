"""What the executor says of items, as the feedback that it submits. Pure.

The same version run again by the same sandbox has the same submission id: it is known already.
"""

import hashlib
from collections.abc import Iterator
from typing import Final

from epistream.services.execution.judging import Judged, Survival
from epistream.services.execution.verdict import Verdict, printable
from epistream.v1 import knowledge_pb2 as pb

ASPECT: Final = "execution"
REGRESSION: Final = "regression"
_RATIONALE_CHARACTERS: Final = 4000
_FAILED_MOST: Final = 20
_NAMED_MOST: Final = 20


def opinion_id(kind: str, change: pb.Change, sandbox: str, because: str = "") -> str:
    """The submission id of what is said of one version: of its content, so that another store's is another.

    Args:
        kind: ASPECT or REGRESSION.
        change: the version.
        sandbox: what runs it, with its version.
        because: the version of another item that gave occasion; empty for the version's own.
    """
    parts = [kind, change.item_id, str(change.version), change.fingerprint.hex(), sandbox, because]
    return f"{kind}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:40]}"


def of_verdict(change: pb.Change, judged: Judged, rater: str, sandbox: str, because: str = "") -> pb.Submission:
    """Whether a version is verified, with the verdict's word and why."""
    result = judged.result
    feedback = pb.Feedback(
        kind=pb.FEEDBACK_KIND_BINARY,
        judged=[pb.Judged(item_id=change.item_id, score=float(result.verdict == Verdict.VERIFIED))],
        aspect=ASPECT,
        degree=str(result.verdict),
        rationale=_joined([*_told(change, judged), *([f"run again for {because}"] if because else []), sandbox]),
    )
    return _submission(change.namespace, opinion_id(ASPECT, change, sandbox, because), feedback, rater)


def of_survival(change: pb.Change, survival: Survival, rater: str, sandbox: str) -> pb.Submission | None:
    """The share of the dependants that still pass with a new version; None where none passed before it."""
    if survival.share is None:
        return None
    feedback = pb.Feedback(
        kind=pb.FEEDBACK_KIND_RATING,
        judged=[pb.Judged(item_id=change.item_id, score=survival.share)],
        aspect=REGRESSION,
        scale_min=0.0,
        scale_max=1.0,
        rationale=_joined([*survival_told(change, survival), sandbox]),
    )
    return _submission(change.namespace, opinion_id(REGRESSION, change, sandbox), feedback, rater)


def survival_told(change: pb.Change, survival: Survival) -> Iterator[str]:
    """What a new version did to its dependants, for people."""
    passing = len(survival.passed_before)
    yield f"version {change.version}: {passing - len(survival.broken)} of {passing} dependants still pass"
    if survival.left_out:
        yield f"{survival.left_out} more dependants were not run"
    yield from (f"broken: {name}: {why}" for name, why in [*survival.broken.items()][:_NAMED_MOST])


def _told(change: pb.Change, judged: Judged) -> Iterator[str]:
    result = judged.result
    yield f"version {change.version}: {result.verdict}: {result.reason}"
    yield f"run: {_counted(change.knowledge.tests)}"
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
