"""How the demonstration judges what became of what it sent (epistream.clients.demo.story)."""

import asyncio
import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from epistream.clients.demo.corpus import Fact
from epistream.clients.demo.report import Report
from epistream.clients.demo.story import Story, judge, not_their_own
from epistream.clients.demo.variants import Kind, Variant
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge
from epistream.wire.errors import Unavailable

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


FACT = Fact("len", "function", "builtins", "len(obj, /): Return the number of items in a container.")


@pytest.mark.parametrize(
    ("outcome", "item_id", "is_own"),
    [
        (pb.OUTCOME_ADMITTED, FACT.item_id, True),
        (pb.OUTCOME_REVISED, FACT.item_id, True),
        (pb.OUTCOME_MERGED, FACT.item_id, True),
        (pb.OUTCOME_MERGED, "python:sized", False),
        (pb.OUTCOME_HELD, FACT.item_id, False),
    ],
)
def test_a_fact_that_another_python_says_too_is_still_an_item_of_its_own(
    outcome: "pb.Outcome.ValueType", item_id: str, is_own: bool
) -> None:
    receipt = pb.Receipt(outcome=outcome, item_id=item_id)
    assert not_their_own([FACT], [receipt]) == ([] if is_own else [receipt])


def test_where_sending_fails_nobody_goes_on_asking() -> None:
    asked = 0

    async def search(*_: object, **__: object) -> knowledge.SearchResponse:
        nonlocal asked
        asked += 1
        return knowledge.SearchResponse()

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    async def fails() -> None:
        await asyncio.sleep(0.01)
        raise Unavailable("Kafka is away")

    async def tried() -> tuple[int, int]:
        parts: dict[str, Any] = {
            "report": Report(Console(file=io.StringIO())),
            "client": SimpleNamespace(search=search),
            "producer": None,
            "way": None,
            "replica": SimpleNamespace(wait_for=never),
        }
        with pytest.raises(Unavailable, match="Kafka is away"):
            await Story(**parts)._race(fails(), "What does len return?", 1)
        then = asked
        await asyncio.sleep(0.05)
        return then, asked

    then, later = asyncio.run(tried())
    assert then == later > 1
