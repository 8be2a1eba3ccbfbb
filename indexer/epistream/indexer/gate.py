"""gate: what becomes of a submission. Pure policy over the match.

The authority of origins decides: EXPERT over COLLABORATIVE over CRAWLED over SYNTHETIC. Knowledge of a lower authority
never replaces, retracts or brings back what a higher one said: it is held. A higher authority that says the same
promotes the item: a new version under its name. What may replace a head, but holds from an earlier time on than it
does, comes late: it is a version that leaves the head as it is. Before all that, a Kafka topic has to carry the origin:
what was decided once stays decided, also where it is read again and its topic carries other origins by then. And
synthetic knowledge has to say where it comes from, before anybody looks at what it says. Last, where the policy asks
for it, code waits until its tests were run.

What is held can be decided again: `decide_again`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

from epistream.indexer.catalog import Head
from epistream.indexer.collapse import has_room
from epistream.indexer.lineage import NO_MODEL, Lineage
from epistream.indexer.match import (
    Beside,
    Conflict,
    Conflicting,
    IdReused,
    Judgement,
    KnownItem,
    Match,
    Novel,
    Repeated,
    Retraction,
    SameClaim,
    SameContent,
    SameLate,
    Stale,
    contradicted,
    nearest,
)
from epistream.indexer.measure import Measured
from epistream.indexer.model import AUTHORITY, Held, NamespaceConfig, Ruling, valid_us
from epistream.indexer.plausibility import NOISE
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import FieldViolation


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a verdict on knowledge rests on beside what is known. Of what no model made, nothing."""

    lineage: Lineage = NO_MODEL
    measured: Measured | None = None
    """None where it would say nothing new."""
    real_share: float | None = None
    """The least share of what is real that a window has with it; None where that is not asked."""
    waiting: bool = False
    """Whether others that were put off wait before it."""
    verified: bool = False
    """Whether somebody answers for it: a person, or what has run its tests."""
    alarm: pb.CollapseAlarm | None = None
    """The collapse alarm of its producer, where it is on."""


NO_GROUNDS: Final = Grounds()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a submission, why, and the figures that led to it."""

    outcome: pb.Outcome.ValueType
    reason: pb.Reason.ValueType
    head: Head | None = None
    """The item that it is decided against; for ADMITTED none."""
    similarity: float | None = None
    threshold: float | None = None
    differences: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    """The items near by that say something else."""
    violations: tuple[FieldViolation, ...] = ()
    """For REFUSED."""
    grounds: Grounds | None = None
    """Of knowledge: what else it rests on."""
    late: bool = False
    """For REVISED and MERGED: it holds from an earlier time on than the head, which stays the head."""
    verified_by: str = ""
    """The program that has run its tests and lets it in."""
    earlier: pb.Receipt | None = None
    """The receipt of the first time, when there was one: it is the answer, and nothing is written."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A Kafka topic that a submission came in."""

    name: str
    carries: Collection[pb.Origin.ValueType]
    """The origins of what may come in it."""


def decide(
    submission: pb.Submission,
    found: Match,
    grounds: Grounds,
    config: NamespaceConfig,
    topic: Topic | None = None,
) -> Verdict:
    """The verdict on `submission`, of which `found` is known, on these `grounds`.

    `topic` is None where any origin may come.
    """
    match found:
        case Repeated(decision):
            return Verdict(decision.receipt.outcome, decision.receipt.reason, earlier=decision.receipt)
        case _ if topic is not None and submission.origin not in topic.carries:
            return _not_carried(submission, topic)
        case IdReused() | Stale():
            return _refuse(submission, found)
        case Judgement():
            return Verdict(pb.OUTCOME_RECORDED, pb.REASON_FEEDBACK)
        case Retraction(head, put_off):
            return _retract(submission, head, put_off=put_off)
        case _:
            return _on_grounds(submission, found, grounds, config)


def for_all_known(submission: pb.Submission, found: Beside, config: NamespaceConfig) -> Verdict:
    """The verdict on knowledge, beside what is known already, when it holds from, and what experts say near by.

    It rests on no grounds: where it comes from, how it looks and how much came is not asked.
    """
    verdict = _in_time(submission, _beside(submission, found, config))
    return _unless_an_expert_differs(submission, found, verdict, config)


def _beside(submission: pb.Submission, found: Beside, config: NamespaceConfig) -> Verdict:
    """The verdict on knowledge, beside what is known already."""
    match found:
        case SameContent():
            return _same_content(submission, found, config)
        case KnownItem(head, conflicts, taken_back):
            if AUTHORITY[submission.origin] < AUTHORITY[head.origin]:
                return Verdict(pb.OUTCOME_HELD, pb.REASON_LOWER_AUTHORITY, head)
            reason = pb.REASON_REINSTATEMENT if head.retracted else pb.REASON_REVISION
            verdict = Verdict(pb.OUTCOME_REVISED, reason, head, conflicts=_named(conflicts))
            return _unless_taken_back(submission, taken_back, verdict)
        case SameClaim(head, similarity):
            higher = AUTHORITY[submission.origin] > AUTHORITY[head.origin]
            outcome = pb.OUTCOME_REVISED if higher else pb.OUTCOME_MERGED
            reason = pb.REASON_PROMOTION if higher else pb.REASON_SAME_CLAIM
            return Verdict(outcome, reason, head, similarity, config.policy.near_duplicate_threshold)
        case SameLate(version, beside):
            if AUTHORITY[submission.origin] > AUTHORITY[version.origin]:
                return _beside(submission, beside, config)
            return Verdict(pb.OUTCOME_MERGED, pb.REASON_SAME_CONTENT, version, late=True)
        case Conflicting(conflicts):
            reason = pb.REASON_NEW_WITH_CONFLICT
            return _contradicting(pb.OUTCOME_ADMITTED, reason, conflicts[0], conflicts, config)
        case Novel():
            return Verdict(pb.OUTCOME_ADMITTED, pb.REASON_NEW)
        case _:
            assert_never(found)


def _in_time(submission: pb.Submission, verdict: Verdict) -> Verdict:
    """The verdict again; where it would replace a head that holds from a later time on, that stays the head."""
    valid, head = valid_us(submission), verdict.head
    if verdict.outcome != pb.OUTCOME_REVISED or head is None or valid is None or head.valid_us is None:
        return verdict
    if valid >= head.valid_us:
        return verdict
    # What is in no answer contradicts nothing that is.
    return replace(verdict, reason=pb.REASON_LATE, late=True, conflicts=())


def _unless_taken_back(submission: pb.Submission, taken_back: Head | None, otherwise: Verdict) -> Verdict:
    """That it is held, where a higher authority took its content back, by whatever name it comes; else otherwise."""
    if taken_back is None or AUTHORITY[submission.origin] >= AUTHORITY[taken_back.origin]:
        return otherwise
    return Verdict(pb.OUTCOME_HELD, pb.REASON_RETRACTED_CONTENT, taken_back)


def _unless_an_expert_differs(
    submission: pb.Submission, found: Beside, otherwise: Verdict, config: NamespaceConfig
) -> Verdict:
    """That it is held, where it is synthetic and would be in answers though an expert near by says something else."""
    answers = otherwise.outcome in (pb.OUTCOME_ADMITTED, pb.OUTCOME_REVISED) and not otherwise.late
    if submission.origin != pb.ORIGIN_SYNTHETIC or not answers:
        return otherwise
    conflicts = contradicted(found)
    expert = next((conflict for conflict in conflicts if conflict.head.origin == pb.ORIGIN_EXPERT), None)
    if expert is None:
        return otherwise
    return _contradicting(pb.OUTCOME_HELD, pb.REASON_CONFLICT_WITH_EXPERT, expert, conflicts, config)


def _on_grounds(submission: pb.Submission, found: Beside, grounds: Grounds, config: NamespaceConfig) -> Verdict:
    """The verdict on knowledge: of SYNTHETIC knowledge also by where it comes from, how it looks, and how much came."""
    synthetic = submission.origin == pb.ORIGIN_SYNTHETIC
    reason = (_astray(submission, grounds, config) or _says_less(grounds, config)) if synthetic else None
    verdict = Verdict(pb.OUTCOME_HELD, reason) if reason else for_all_known(submission, found, config)
    if verdict.outcome in (pb.OUTCOME_ADMITTED, pb.OUTCOME_REVISED):
        reason = _until_verified(submission, grounds, config)
        if synthetic:
            reason = reason or _too_little(grounds, config) or _too_much(grounds, config)
        verdict = replace(verdict, outcome=pb.OUTCOME_HELD, reason=reason) if reason else verdict
    if not synthetic:
        return verdict
    return replace(verdict, grounds=grounds)


def _until_verified(submission: pb.Submission, grounds: Grounds, config: NamespaceConfig) -> pb.Reason.ValueType | None:
    """Why code is held until its tests were run, or an expert answers for it; None for what is not."""
    return pb.REASON_UNVERIFIED if _tests_decide(submission, config) and not grounds.verified else None


def _tests_decide(submission: pb.Submission, config: NamespaceConfig) -> bool:
    """Whether it is code that its tests let in, or turn away."""
    asked = config.policy.verify_code and submission.modality == pb.MODALITY_CODE
    return asked and submission.origin != pb.ORIGIN_EXPERT


def _says_less(grounds: Grounds, config: NamespaceConfig) -> pb.Reason.ValueType | None:
    """Why synthetic knowledge is held for who says it; None for what is not, as what was verified otherwise."""
    holds = grounds.alarm is not None and config.policy.on_collapse == ns_pb.COLLAPSE_ACTION_HOLD
    return pb.REASON_COLLAPSE if holds and not grounds.verified else None


def _too_little(grounds: Grounds, config: NamespaceConfig) -> pb.Reason.ValueType | None:
    """Why synthetic knowledge is held for what it is; None for what is not, as what was verified otherwise."""
    measured, guard = grounds.measured, config.policy.guard
    if guard == ns_pb.GUARD_MEASURE or measured is None or grounds.verified:
        return None
    doubts = frozenset(measured.looks.doubts)
    if doubts if guard == ns_pb.GUARD_HOLD else doubts & NOISE:
        return pb.REASON_IMPLAUSIBLE
    worth, least = measured.worth, config.policy.worth_min
    if worth is None:
        # What cannot be told holds with GUARD_HOLD alone, of a worth as of looks.
        return pb.REASON_LOW_GAIN if least and guard == ns_pb.GUARD_HOLD else None
    return pb.REASON_LOW_GAIN if worth < least else None


def _too_much(grounds: Grounds, config: NamespaceConfig) -> pb.Reason.ValueType | None:
    """Why synthetic knowledge is put off; None for what is not."""
    if grounds.real_share is None or not config.policy.real_share_floor:
        return None
    full = grounds.waiting or not has_room(grounds.real_share, config.policy.real_share_floor)
    return pb.REASON_DEFERRED if full else None


def _astray(submission: pb.Submission, grounds: Grounds, config: NamespaceConfig) -> pb.Reason.ValueType | None:
    """Why synthetic knowledge is held for where it comes from; None for what is not."""
    lineage = grounds.lineage
    if config.policy.require_generator and not submission.provenance.generator:
        return pb.REASON_NO_GENERATOR
    if lineage.unknown:
        return pb.REASON_UNKNOWN_PARENT
    if lineage.cycle:
        return pb.REASON_CYCLE
    # Of code whose tests decide these are asked instead: it is held for one reason, and who ends that ends both.
    asked = not grounds.verified and not _tests_decide(submission, config)
    return pb.REASON_GENERATION if asked and lineage.generation > config.policy.generation_max else None


def confirmed(submission: pb.Submission, origin: pb.Origin.ValueType) -> pb.Submission:
    """What a held submission is when somebody answers for it: of that origin, where its authority is the higher one.

    A synthetic submission that an expert lets in is expert knowledge from then on: else the next synthetic one could
    replace it. Its provenance still says which model made it.
    """
    if AUTHORITY[origin] <= AUTHORITY[submission.origin]:
        return submission
    said = pb.Submission()
    said.CopyFrom(submission)
    said.origin = origin
    return said


def decide_again(
    submission: pb.Submission, found: Match, grounds: Grounds, config: NamespaceConfig, ruling: Ruling
) -> Verdict:
    """The verdict on a submission that was held, as `confirmed`, of which `found` is known now.

    Who lets it in ends the reason for which it was held, and nothing else: it may say what is known by now, and merges.
    The authority of who decides counts, so what an expert lets in may revise what an expert said. Where that does not
    suffice, or the version that the producer expected is the head's no more, the verdict is HELD or REFUSED, which is
    no decision of a person's: the submission waits on. The gate itself rejects what came too late, and may have to hold
    for another reason what it lets go of.
    """
    by_program = ruling.origin == pb.ORIGIN_SYNTHETIC
    if not ruling.admits:
        return Verdict(pb.OUTCOME_REJECTED, pb.REASON_FAILED_TESTS if by_program else pb.REASON_REVIEW_REJECTED)
    # Who lets it in answers for it, be it a person or what has run its tests; the gate itself does not. Nor does the
    # gate ask again for what somebody let in and was only put off since.
    verified = bool(ruling.decided_by or ruling.held.decision.decided_by)
    verdict = decide(submission, found, replace(grounds, verified=verified), config)
    if verdict.outcome in (pb.OUTCOME_HELD, pb.OUTCOME_REFUSED):
        late = verdict.outcome == pb.OUTCOME_REFUSED and not ruling.decided_by
        return replace(verdict, outcome=pb.OUTCOME_REJECTED) if late else verdict
    if not ruling.decided_by:
        # Only what a program let in was put off since: what a person lets in is theirs, and waits for no share.
        return replace(verdict, reason=pb.REASON_RELEASED, verified_by=ruling.held.decision.decided_by)
    return replace(verdict, reason=pb.REASON_REVIEW_ADMITTED, verified_by=ruling.decided_by if by_program else "")


TAKEN_BACK: Final = Verdict(pb.OUTCOME_REJECTED, pb.REASON_RETRACTION)
"""On what may come in with no person in between, when its item is taken back."""


def superseded(head: Head | None) -> Verdict:
    """On the same, when its turn comes and its item was set anew since. `head`: what that says by now."""
    return Verdict(pb.OUTCOME_REJECTED, pb.REASON_SUPERSEDED, head)


def _refuse(submission: pb.Submission, found: IdReused | Stale) -> Verdict:
    if isinstance(found, IdReused):
        text = (
            f"{submission.provenance.producer} used the id {submission.submission_id} before, for other content:"
            " give each submission an id of its own"
        )
        return Verdict(
            pb.OUTCOME_REFUSED,
            pb.REASON_SUBMISSION_ID_REUSED,
            violations=(FieldViolation("submission_id", text),),
        )
    now = f"is at version {found.head.version}" if found.head else "does not exist"
    text = f"expected version {found.expected}, but the item {now}: read it again, then decide"
    violation = FieldViolation("expected_version", text)
    return Verdict(pb.OUTCOME_REFUSED, pb.REASON_VERSION_CONFLICT, found.head, violations=(violation,))


def _not_carried(submission: pb.Submission, topic: Topic) -> Verdict:
    found, *carried = (
        pb.Origin.Name(origin).removeprefix("ORIGIN_") for origin in (submission.origin, *sorted(topic.carries))
    )
    text = (
        f"{topic.name} carries {', '.join(carried)} only, found {found}: send it to the topic for its origin, or have"
        " this one carry it (the setting kafka_topic_origins)"
    )
    violation = FieldViolation("origin", text)
    return Verdict(pb.OUTCOME_REFUSED, pb.REASON_ORIGIN_NOT_CARRIED, violations=(violation,))


def takes_back(retraction: pb.Submission, held: Held) -> bool:
    """Whether a retraction ends what waits of the same item: of its own producer, or of a lower authority."""
    submission = held.decision.held
    own = submission.provenance.producer == retraction.provenance.producer
    return own or AUTHORITY[retraction.origin] > AUTHORITY[submission.origin]


def _retract(submission: pb.Submission, head: Head | None, *, put_off: bool) -> Verdict:
    if head is None and put_off:
        return Verdict(pb.OUTCOME_MERGED, pb.REASON_ALREADY_RETRACTED)
    if head is None:
        violation = FieldViolation("item_id", f"there is no item {submission.item_id} to retract")
        return Verdict(pb.OUTCOME_REFUSED, pb.REASON_UNKNOWN_ITEM, violations=(violation,))
    if AUTHORITY[submission.origin] < AUTHORITY[head.origin]:
        return Verdict(pb.OUTCOME_HELD, pb.REASON_LOWER_AUTHORITY, head)
    if head.retracted and AUTHORITY[submission.origin] == AUTHORITY[head.origin]:
        return Verdict(pb.OUTCOME_MERGED, pb.REASON_ALREADY_RETRACTED, head)
    return Verdict(pb.OUTCOME_REVISED, pb.REASON_RETRACTION, head)


def _same_content(submission: pb.Submission, found: SameContent, config: NamespaceConfig) -> Verdict:
    head = found.head
    authority, known = AUTHORITY[submission.origin], AUTHORITY[head.origin]
    if head.retracted:
        verdict = _back(submission, found, config)
        return _unless_taken_back(submission, head, _unless_taken_back(submission, found.taken_back, verdict))
    if authority > known:
        return Verdict(pb.OUTCOME_REVISED, pb.REASON_PROMOTION, head)
    valid = valid_us(submission)
    own = submission.item_id == head.item_id
    if authority == known and own and None not in (valid, head.valid_us) and valid != head.valid_us:
        # What holds again from another time on: were it merged, what held in between could become the head.
        return Verdict(pb.OUTCOME_REVISED, pb.REASON_REVISION, head)
    return Verdict(pb.OUTCOME_MERGED, pb.REASON_SAME_CONTENT, head)


def _back(submission: pb.Submission, found: SameContent, config: NamespaceConfig) -> Verdict:
    """The verdict on what a retracted item said: under another name it is as new as what nobody said."""
    if submission.item_id not in ("", found.head.item_id):
        return _beside(submission, nearest(found.near), config)
    conflicts = _named(contradicted(found))
    return Verdict(pb.OUTCOME_REVISED, pb.REASON_REINSTATEMENT, found.head, conflicts=conflicts)


def _contradicting(
    outcome: pb.Outcome.ValueType,
    reason: pb.Reason.ValueType,
    shown: Conflict,
    conflicts: Sequence[Conflict],
    config: NamespaceConfig,
) -> Verdict:
    """The verdict on what contradicts items near by, with the figures of one of them."""
    threshold = config.policy.near_duplicate_threshold
    return Verdict(outcome, reason, shown.head, shown.similarity, threshold, shown.differences, _named(conflicts))


def _named(conflicts: Sequence[Conflict]) -> tuple[str, ...]:
    return tuple(conflict.head.item_id for conflict in conflicts)
