"""explain: why a submission was decided as it was, for people. Pure: all of it stands in the decision.

The rules are told in the order in which the gate asks them, up to the one that decided: what comes after it was not
asked. Of what was held and then let in, all that was measured again is told, also what somebody answers for.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api

_BY_REVIEW: Final[Mapping[int, str]] = {
    pb.REASON_REVIEW_ADMITTED: "it was held, and who reviewed it let it in",
    pb.REASON_REVIEW_REJECTED: "it was held, and who reviewed it turned it away",
    pb.REASON_FAILED_TESTS: "it was held, and its tests say that it is wrong",
    pb.REASON_RELEASED: "what it was held for is over",
}
_LET_IN: Final[Mapping[int, str]] = {
    pb.OUTCOME_ADMITTED: "nothing known says the same",
    pb.OUTCOME_REVISED: "what is known of its item, or says the same, is replaced or taken back",
    pb.OUTCOME_MERGED: "it is known, or taken back, by now",
}
"""What was known beside it when it was let in: whether it is a retraction a decision does not keep."""
_ANSWERED: Final = "; who let it in answers for it"
_ENDED: Final[Mapping[int, str]] = {pb.REASON_RETRACTION: "taken back", pb.REASON_SUPERSEDED: "set anew since"}
_BESIDE: Final[Mapping[int, str]] = {
    pb.REASON_NEW: "nothing known says the same",
    pb.REASON_NEW_WITH_CONFLICT: "nothing known says the same, and something near says something else",
    pb.REASON_REVISION: "the item is known with other content, from no higher authority",
    pb.REASON_LATE: "the item is known with what holds from a later time on, which stays its head",
    pb.REASON_PROMOTION: "a higher authority says the same",
    pb.REASON_REINSTATEMENT: "a retracted item comes back, from no lower authority",
    pb.REASON_RETRACTION: "the item is taken back, by no lower authority",
    pb.REASON_SAME_CONTENT: "the content is known, byte for byte in its canonical form",
    pb.REASON_SAME_CLAIM: "something near makes the same claim",
    pb.REASON_ALREADY_RETRACTED: "the item is retracted already, or was never in answers",
    pb.REASON_LOWER_AUTHORITY: "what is known is of a higher authority",
    pb.REASON_CONFLICT_WITH_EXPERT: "an expert says something else nearby",
    pb.REASON_RETRACTED_CONTENT: "a higher authority retracted this content",
    pb.REASON_FEEDBACK: "it is a rater's feedback",
}


def explain(decision: journal_pb2.Decision) -> api.Explanation:
    """The explanation of one decision."""
    told = api.Explanation(
        receipt=decision.receipt,
        decided_by=decision.decided_by,
        comment=decision.comment,
        policy_version=decision.policy_version,
    )
    for rule in _rules(decision):
        told.rules.append(rule)
        if rule.fired:
            break
    return told


def _rules(decision: journal_pb2.Decision) -> Iterator[api.ExplainedRule]:
    receipt = decision.receipt
    reason, figures = receipt.reason, receipt.figures
    if receipt.outcome == pb.OUTCOME_REJECTED:
        yield _rejection(reason, figures)
        return
    reviewed = _BY_REVIEW.get(reason)
    synthetic = decision.origin == pb.ORIGIN_SYNTHETIC and figures.generation > 0
    if synthetic:
        yield from _lineage(reason, figures, decision.held if receipt.outcome == pb.OUTCOME_HELD else None)
    beside = _BESIDE.get(reason, "nothing known stands against it")
    if reviewed is not None:
        beside = _LET_IN[receipt.outcome]
    merged = receipt.outcome in (pb.OUTCOME_MERGED, pb.OUTCOME_HELD) and reason in _BESIDE
    yield _rule("known", "; ".join([beside, *_against(figures)]), fired=merged)
    yield from [_rule("tests", "its tests were not run yet", fired=True)] if reason == pb.REASON_UNVERIFIED else []
    if synthetic:
        yield from _measures(reason, figures)
    yield _rule("review", reviewed, fired=True) if reviewed else _rule("admission", "nothing holds it", fired=True)


def _rejection(reason: pb.Reason.ValueType, figures: pb.Figures) -> api.ExplainedRule:
    """Why what was held comes in no more."""
    if reason in _BY_REVIEW:
        return _rule("review", _BY_REVIEW[reason], fired=True)
    text = f"it waited, and came too late: {pb.Reason.Name(reason).removeprefix('REASON_')}"
    if reason in _ENDED:
        text = f"it waited to go on by itself, and its item was {_ENDED[reason]}"
    return _rule("known", "; ".join([text, *_against(figures)]), fired=True)


def _lineage(
    reason: pb.Reason.ValueType, figures: pb.Figures, held: pb.Submission | None
) -> Iterator[api.ExplainedRule]:
    yield _rule("generator", _generator(reason, held), fired=reason == pb.REASON_NO_GENERATOR)
    unknown = ", ".join(figures.unknown_parents)
    yield _rule(
        "parents",
        f"unknown or retracted: {unknown}" if unknown else "all that it was derived from is known",
        fired=reason == pb.REASON_UNKNOWN_PARENT,
    )
    if reason == pb.REASON_CYCLE:
        yield _rule("cycle", "it would be derived from itself", fired=True)
    text = f"generation {figures.generation}, taken up to {figures.generation_max}"
    if figures.generation > figures.generation_max and reason != pb.REASON_GENERATION:
        text += _ANSWERED if reason in _BY_REVIEW else "; beyond that its tests decide"
    yield _rule("generation", text, fired=reason == pb.REASON_GENERATION)
    if figures.HasField("collapse_ratio"):
        text = (
            f"its producer's collapse alarm is on since the window that ended at revision"
            f" {figures.collapse_since_revision}: the newest one amounts to {figures.collapse_ratio:.3f} of the kinds"
            f" that people's does, beyond doubt less than {figures.collapse_bar:g} when it was raised"
        )
        yield _rule("collapse", text, fired=reason == pb.REASON_COLLAPSE)


def _generator(reason: pb.Reason.ValueType, held: pb.Submission | None) -> str:
    """Of what is not held the decision does not keep it."""
    if reason == pb.REASON_NO_GENERATOR:
        return "it does not say which model made it"
    if held is None:
        return "it says which model made it, or need not"
    return "it says which model made it" if held.provenance.generator else "it need not say which model made it"


def _measures(reason: pb.Reason.ValueType, figures: pb.Figures) -> Iterator[api.ExplainedRule]:
    answered = _ANSWERED if reason == pb.REASON_REVIEW_ADMITTED else ""
    plausibility = f"{figures.plausibility:.3f}" if figures.HasField("plausibility") else "unknown"
    doubts = ", ".join(figures.doubts) or "none"
    text = f"plausibility {plausibility}, doubts: {doubts}{answered}"
    yield _rule("looks", text, fired=reason == pb.REASON_IMPLAUSIBLE)
    low = reason == pb.REASON_LOW_GAIN
    if figures.HasField("gain") or low:
        gain = "gain unknown"
        if figures.HasField("gain"):
            gain = (
                f"gain {figures.gain:.3f} beyond all that is known,"
                f" {figures.human_gain:.3f} beyond what people said or tests verified"
            )
        worth = "worth unknown, which this guard holds" if low else "worth unknown"
        if figures.HasField("worth"):
            worth = f"worth {figures.worth:.3f}, at least {figures.worth_min:g} where the policy holds"
        yield _rule("worth", f"{gain}; {worth}{answered}", fired=low)
    if figures.HasField("real_share"):
        text = (
            f"{figures.real_share:.3f} of 1,000 changes would be real, of all or of its modality, whichever is less;"
            f" the floor is {figures.real_share_floor:g}"
        )
        if reason == pb.REASON_DEFERRED and figures.real_share >= figures.real_share_floor:
            text += "; others that were put off go first"
        yield _rule("real_share", text, fired=reason == pb.REASON_DEFERRED)


def _against(figures: pb.Figures) -> Iterator[str]:
    if figures.item_id:
        origin = pb.Origin.Name(figures.origin).removeprefix("ORIGIN_")
        yield f"against {figures.item_id} version {figures.version}, which is {origin}"
    if figures.HasField("similarity"):
        yield f"cosine {figures.similarity:.4f}, compared from {figures.threshold:g} on"
    yield from figures.differences


def _rule(name: str, description: str, *, fired: bool) -> api.ExplainedRule:
    return api.ExplainedRule(name=name, description=description, fired=fired)
