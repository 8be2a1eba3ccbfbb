"""How the demonstration judges what the gate made of its variants (epistream.clients.demo.story)."""

import io

import pytest
from rich.console import Console

from epistream.clients.demo.report import Report
from epistream.clients.demo.story import judge
from epistream.clients.demo.variants import Kind, Variant
from epistream.v1 import knowledge_pb2 as pb

CONTRADICTION = (
    Variant(Kind.CONTRADICTION, "number", "a", "", "6 mg"),
    pb.Receipt(outcome=pb.OUTCOME_HELD, reason=pb.REASON_CONFLICT_WITH_EXPERT),
)
NEW = Variant(Kind.NEW, "count", "", "b", "It has 6 functions.")


UNLIKE = pb.Receipt(outcome=pb.OUTCOME_HELD, reason=pb.REASON_IMPLAUSIBLE)
ADMITTED = pb.Receipt(outcome=pb.OUTCOME_ADMITTED, reason=pb.REASON_NEW)


def judged(*receipts: pb.Receipt) -> tuple[Report, str]:
    """The report on a contradiction that was held and new statements with these receipts, and what it printed."""
    printed = io.StringIO()
    report = Report(Console(file=printed, width=200))
    judge(report, [CONTRADICTION[0], *[NEW] * len(receipts)], [CONTRADICTION[1], *receipts])
    return report, printed.getvalue()


def test_a_new_statement_that_was_held_for_how_it_looks_is_told_and_no_failure() -> None:
    report, printed = judged(UNLIKE, ADMITTED)
    assert not report.failed
    assert "on which a person decides: 1." in printed


def test_more_than_a_few_new_statements_that_were_held_for_how_they_look_are_a_failure() -> None:
    report, _ = judged(*[UNLIKE] * 2, *[ADMITTED] * 38)
    assert not report.failed
    report, _ = judged(*[UNLIKE] * 3, *[ADMITTED] * 37)
    (failed,) = report.failed
    assert "of 40 37 were admitted, and 3 held for that" in failed


def test_a_new_statement_that_was_admitted_is_not_told_as_held() -> None:
    report, printed = judged(ADMITTED)
    assert not report.failed
    assert "look like noise" not in printed


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(pb.OUTCOME_MERGED, pb.REASON_SAME_CLAIM), (pb.OUTCOME_HELD, pb.REASON_CONFLICT_WITH_EXPERT)],
)
def test_a_new_statement_that_became_anything_else_is_a_failure(
    outcome: "pb.Outcome.ValueType", reason: "pb.Reason.ValueType"
) -> None:
    report, _ = judged(pb.Receipt(outcome=outcome, reason=reason))
    (failed,) = report.failed
    assert "new statement" in failed
