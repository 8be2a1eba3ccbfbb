"""Why a submission was decided as it was: the rules in their order, up to the one that decided."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from epistream.indexer.engine import Engine
from epistream.indexer.explain import explain
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import NotFound
from tests.support.knowing import NAMESPACE, commit, direction, open_engine, pending, ruling, submission

FIGURES = pb.Figures(
    similarity=0.8642,
    threshold=0.83,
    item_id="limit",
    version=7,
    origin=pb.ORIGIN_EXPERT,
    differences=["number: 5 mg | 50 mg"],
    generation=3,
    generation_max=4,
    unknown_parents=["lost"],
    gain=0.512,
    human_gain=0.623,
    plausibility=0.734,
    doubts=["TOO_FAR"],
    worth=0.376,
    real_share=0.145,
    worth_min=0.25,
    real_share_floor=0.15,
    collapse_ratio=0.851,
    collapse_bar=0.95,
    collapse_since_revision=4125,
)
UNMEASURED = pb.Figures()
"""The same of what has no vector, or none beside which it could be measured."""
UNMEASURED.CopyFrom(FIGURES)
for measure in ("gain", "human_gain", "plausibility", "worth", "worth_min"):
    UNMEASURED.ClearField(measure)
TOLD = {
    "similarity": ("known", "cosine 0.8642"),
    "threshold": ("known", "from 0.83 on"),
    "item_id": ("known", "against limit"),
    "version": ("known", "version 7"),
    "origin": ("known", "EXPERT"),
    "differences": ("known", "5 mg | 50 mg"),
    "generation": ("generation", "generation 3"),
    "generation_max": ("generation", "up to 4"),
    "unknown_parents": ("parents", "lost"),
    "gain": ("worth", "gain 0.512"),
    "human_gain": ("worth", "0.623 beyond what people said or tests verified"),
    "plausibility": ("looks", "0.734"),
    "doubts": ("looks", "TOO_FAR"),
    "worth": ("worth", "worth 0.376"),
    "worth_min": ("worth", "at least 0.25"),
    "real_share": ("real_share", "0.145"),
    "real_share_floor": ("real_share", "floor is 0.15"),
    "collapse_ratio": ("collapse", "0.851"),
    "collapse_bar": ("collapse", "less than 0.95"),
    "collapse_since_revision": ("collapse", "revision 4125"),
}
"""Of each figure the rule that tells it, and how."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_engine(tmp_path)
    yield opened
    opened.close()


def explained(engine: Engine, submission_id: str, producer: str = "alice") -> list[api.Explanation]:
    request = api.ExplainRequest(namespace=NAMESPACE, producer=producer, submission_id=submission_id)
    return list(engine.knowledge.explain(request).explanations)


def names(told: api.Explanation) -> list[str]:
    return [rule.name for rule in told.rules]


def synthetic(content: str, submission_id: str, **fields: object) -> pb.Submission:
    return submission(content, id=submission_id, origin=pb.ORIGIN_SYNTHETIC, **fields)  # type: ignore[arg-type]


def test_what_is_admitted_passed_every_rule(engine: Engine) -> None:
    commit(engine, submission("Lead is heavy.", id="1"), synthetic("Gold is soft.", "2"))

    (person,), (model,) = explained(engine, "1"), explained(engine, "2")

    assert names(person) == ["known", "admission"]
    assert names(model) == ["generator", "parents", "generation", "known", "looks", "worth", "real_share", "admission"]
    assert [rule.fired for rule in model.rules] == [False] * 7 + [True]
    assert "generation 1, taken up to 2" in model.rules[2].description
    assert "NO_ANCHORS" in model.rules[4].description
    assert "the floor is 0.1" in model.rules[6].description


def test_the_rule_that_fired_is_the_last_one(engine: Engine) -> None:
    commit(
        engine,
        submission("The daily limit is 5 mg.", id="expert", item="limit", vector=direction(1)),
        synthetic("The daily limit is 50 mg.", "conflict", vector=direction(1, 0.05)),
        synthetic("So it is.", "orphan", derived_from=["lost"]),
        synthetic("So it was.", "nobody", generator=""),
        submission("The daily limit is 5 mg.", id="again", producer="bob"),
    )

    for submission_id, producer, rule, told in (
        ("conflict", "alice", "known", "5 mg"),
        ("orphan", "alice", "parents", "lost"),
        ("nobody", "alice", "generator", "does not say"),
        ("again", "bob", "known", "byte for byte"),
    ):
        (explanation,) = explained(engine, submission_id, producer)
        last = explanation.rules[-1]
        assert (last.name, last.fired) == (rule, True), submission_id
        assert told in last.description
        assert not any(other.fired for other in explanation.rules[:-1])


def test_what_was_put_off_and_went_on_has_two_decisions(engine: Engine) -> None:
    for floor in (1.0, 0.0):
        policy = ns_pb.Policy(real_share_floor=floor)
        engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
        commit(engine, synthetic("Gold is soft.", "1"))
        engine.pipeline.let_go(NAMESPACE)

    first, second = explained(engine, "1")

    assert (first.receipt.outcome, first.rules[-1].name) == (pb.OUTCOME_HELD, "real_share")
    assert "the floor is 1" in first.rules[-1].description
    asked_again = ["generator", "parents", "generation", "known", "looks", "worth", "real_share"]
    assert (second.receipt.outcome, names(second)) == (pb.OUTCOME_ADMITTED, [*asked_again, "review"])
    assert [rule.fired for rule in second.rules] == [False] * 7 + [True]
    assert "the floor is 0" in second.rules[6].description


def test_what_a_person_turned_away_was_asked_nothing_again(engine: Engine) -> None:
    commit(engine, synthetic("Gold is soft.", "1", generator=""), synthetic("Lead is heavy.", "2", generator=""))
    one, other = pending(engine)
    engine.pipeline.release([ruling(engine, one, admits=False), ruling(engine, other)])

    (_, turned_away), (_, let_in) = explained(engine, "1"), explained(engine, "2")

    assert names(turned_away) == ["review"]
    # Whoever let it in answers for it from then on: it is no model's word any more.
    assert names(let_in) == ["known", "review"]
    assert "nothing known says the same" in let_in.rules[0].description


def test_a_generator_that_the_policy_does_not_ask_for_is_not_said_to_be_named(engine: Engine) -> None:
    policy = ns_pb.Policy(require_generator=False)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    commit(engine, synthetic("Gold is soft.", "1", generator=""))

    commit(
        engine,
        synthetic("So it is.", "2", generator="", derived_from=["lost"]),
        synthetic("No.", "3", derived_from=["x"]),
    )
    told = [explained(engine, submission_id)[0].rules[0] for submission_id in ("1", "2", "3")]

    assert [one.description for one in told] == [
        "it says which model made it, or need not",
        "it need not say which model made it",
        "it says which model made it",
    ]


def test_of_code_beyond_the_cap_it_is_told_that_its_tests_decide(engine: Engine) -> None:
    policy = ns_pb.Policy(verify_code=True, generation_max=1)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    program = synthetic("def f():\n    return 1\n", "2", derived_from=["gold"])
    program.modality = pb.MODALITY_CODE
    commit(engine, synthetic("Gold is soft.", "1", item="gold"), program)

    (told,) = explained(engine, "2")

    assert (told.rules[-1].name, told.rules[-1].fired) == ("tests", True)
    assert "generation 2, taken up to 1; beyond that its tests decide" in told.rules[2].description


def test_each_decision_names_the_policy_that_it_was_made_by(engine: Engine) -> None:
    commit(engine, synthetic("Gold is soft.", "1", generator=""))
    policy = ns_pb.Policy(require_generator=False)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    commit(engine, synthetic("Lead is heavy.", "2", generator=""), submission("Tin is light.", id="3"))
    (held,) = pending(engine)
    engine.pipeline.release([ruling(engine, held)])

    assert [told.policy_version for told in explained(engine, "1")] == [1, 2]
    assert [told.policy_version for told in explained(engine, "2")] == [2]
    assert [told.policy_version for told in explained(engine, "3")] == [2]
    # What comes again is not decided again: its first decision stands.
    commit(engine, synthetic("Gold is soft.", "1", generator=""))
    assert [told.policy_version for told in explained(engine, "1")] == [1, 2]


def test_what_was_never_decided_is_not_there(engine: Engine) -> None:
    with pytest.raises(NotFound, match="dead letter"):
        explained(engine, "never")


def test_every_reason_of_a_decision_can_be_told() -> None:
    refusals = {"INVALID", "MALFORMED", "UNKNOWN_NAMESPACE", "SUBMISSION_ID_REUSED"}
    refusals |= {"UNKNOWN_ITEM", "ORIGIN_NOT_CARRIED", "UNSPECIFIED"}
    held = {"NO_GENERATOR", "UNKNOWN_PARENT", "CYCLE", "GENERATION", "COLLAPSE", "UNVERIFIED", "IMPLAUSIBLE"}
    held |= {"LOW_GAIN", "DEFERRED", "LOWER_AUTHORITY", "CONFLICT_WITH_EXPERT", "RETRACTED_CONTENT"}
    rejected = {"REVIEW_REJECTED", "FAILED_TESTS", "SUPERSEDED", "RETRACTION", "VERSION_CONFLICT"}
    for name, value in pb.Reason.items():
        word = name.removeprefix("REASON_")
        if word in refusals:
            continue
        outcomes = [pb.OUTCOME_HELD] if word in held else [pb.OUTCOME_REJECTED] if word in rejected else []
        for outcome in outcomes or [pb.OUTCOME_ADMITTED, pb.OUTCOME_REVISED, pb.OUTCOME_MERGED]:
            for figures in (FIGURES, UNMEASURED):
                decision = journal_pb2.Decision(origin=pb.ORIGIN_SYNTHETIC)
                decision.receipt.reason, decision.receipt.outcome = value, outcome
                decision.receipt.figures.MergeFrom(figures)
                told = explain(decision)
                assert told.rules[-1].fired, word
                if outcome in (pb.OUTCOME_HELD, pb.OUTCOME_REJECTED):
                    assert told.rules[-1].name != "admission", word


def test_what_waited_and_came_too_late_is_told_so() -> None:
    decision = journal_pb2.Decision(origin=pb.ORIGIN_SYNTHETIC)
    decision.receipt.outcome, decision.receipt.reason = pb.OUTCOME_REJECTED, pb.REASON_VERSION_CONFLICT
    decision.receipt.figures.MergeFrom(pb.Figures(item_id="rock", version=2, origin=pb.ORIGIN_EXPERT))

    (told,) = explain(decision).rules

    assert (told.name, told.fired) == ("known", True)
    assert told.description == "it waited, and came too late: VERSION_CONFLICT; against rock version 2, which is EXPERT"


@pytest.mark.parametrize(
    ("gain", "text"), [(None, "gain unknown; worth unknown, which this guard holds"), (0.4, "0.4")]
)
def test_of_a_worth_that_is_not_known_no_bar_is_told(gain: float | None, text: str) -> None:
    decision = journal_pb2.Decision(origin=pb.ORIGIN_SYNTHETIC)
    decision.receipt.outcome, decision.receipt.reason = pb.OUTCOME_HELD, pb.REASON_LOW_GAIN
    decision.receipt.figures.MergeFrom(pb.Figures(generation=1, gain=gain, human_gain=gain))

    last = explain(decision).rules[-1]

    assert (last.name, last.fired) == ("worth", True)
    assert text in last.description
    assert "at least" not in last.description


@pytest.mark.parametrize("reason", [pb.REASON_NEW, pb.REASON_RELEASED, pb.REASON_REVIEW_ADMITTED])
def test_every_figure_of_a_decision_is_told_by_its_rule(reason: pb.Reason.ValueType) -> None:
    decision = journal_pb2.Decision(origin=pb.ORIGIN_SYNTHETIC)
    decision.receipt.outcome, decision.receipt.reason = pb.OUTCOME_ADMITTED, reason
    decision.receipt.figures.MergeFrom(FIGURES)

    rules = {rule.name: rule.description for rule in explain(decision).rules}

    assert set(TOLD) == {field.name for field in pb.Figures.DESCRIPTOR.fields}
    assert [figure for figure, (rule, text) in TOLD.items() if text not in rules.get(rule, "")] == []


def test_the_rule_that_fired_for_collapse_has_its_figures() -> None:
    decision = journal_pb2.Decision(origin=pb.ORIGIN_SYNTHETIC)
    decision.receipt.outcome, decision.receipt.reason = pb.OUTCOME_HELD, pb.REASON_COLLAPSE
    decision.receipt.figures.MergeFrom(FIGURES)

    last = explain(decision).rules[-1]

    assert (last.name, last.fired) == ("collapse", True)
    assert "0.851" in last.description
    assert "revision 4125" in last.description
