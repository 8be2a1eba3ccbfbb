"""What the executor says: one id for one version, and nothing that a message or a terminal could choke on."""

import pytest

from epistream.indexer import feedback_rules
from epistream.services.execution.judging import Judged, Survival
from epistream.services.execution.opinions import ASPECT, REGRESSION, Subject, of_survival, of_verdict, opinion_id
from epistream.services.execution.verdict import Failed, Result, Verdict
from epistream.v1 import knowledge_pb2 as pb

SANDBOX = "rules 1, bubblewrap 0.8.0 with seccomp, Python 3.11.2"


def version(number: int = 1, fingerprint: bytes = b"one", item_id: str = "item") -> Subject:
    return Subject.of_change(pb.Change(namespace="programs", item_id=item_id, version=number, fingerprint=fingerprint))


@pytest.mark.parametrize("verdict", Verdict)
def test_a_verdict_is_feedback_that_the_service_takes(verdict: Verdict) -> None:
    said = of_verdict(version(), Judged(Result(verdict=verdict, reason="because"), ("a", "b")), "executor", SANDBOX)
    assert [*feedback_rules.violations(said)] == []
    assert (said.feedback.degree, said.feedback.judged[0].score) == (verdict, float(verdict == Verdict.VERIFIED))
    assert "the code before it of a, b" in said.feedback.rationale
    assert SANDBOX in said.feedback.rationale


def test_what_a_program_said_can_be_sent_and_shown() -> None:
    hostile = "\ud800\0\x1b[2J" + "e" + "\u0301" * 10_000
    failed = tuple(Failed(f"asserts[{at}]", Verdict.FAIL, hostile) for at in range(100))
    said = of_verdict(version(), Judged(Result(verdict=Verdict.FAIL, reason=hostile, failed=failed)), "me", SANDBOX)
    assert [*feedback_rules.violations(said)] == []
    assert not set("\ud800\0\x1b") & set(said.feedback.rationale)
    assert said == pb.Submission.FromString(said.SerializeToString())


def test_the_id_is_that_of_the_version_the_sandbox_and_the_occasion() -> None:
    ids = [
        opinion_id(ASPECT, version(), SANDBOX),
        opinion_id(ASPECT, version(2), SANDBOX),
        opinion_id(ASPECT, version(fingerprint=b"two"), SANDBOX),
        opinion_id(ASPECT, version(item_id="other"), SANDBOX),
        opinion_id(ASPECT, version(), SANDBOX + "1"),
        opinion_id(ASPECT, version(), SANDBOX, "a version 2"),
        opinion_id(REGRESSION, version(), SANDBOX),
    ]
    assert len(set(ids)) == len(ids)
    assert opinion_id(ASPECT, version(), SANDBOX) == ids[0]
    assert max(map(len, ids)) <= 200


def test_survival_is_a_rating_from_0_to_1() -> None:
    survival = Survival(("a", "b", "c", "d"), {"b": "fail: asserts[0]"}, left_out=7)
    said = of_survival(version(2), survival, "executor", SANDBOX)
    assert said is not None
    assert [*feedback_rules.violations(said)] == []
    assert (said.feedback.judged[0].score, said.feedback.aspect) == (0.75, REGRESSION)
    assert "3 of 4 dependants still pass" in said.feedback.rationale
    assert "7 more dependants were not run" in said.feedback.rationale
    assert "broken: b: fail: asserts[0]" in said.feedback.rationale


def test_of_nothing_that_passed_nothing_is_said() -> None:
    assert of_survival(version(), Survival(mended=("a",)), "executor", SANDBOX) is None
