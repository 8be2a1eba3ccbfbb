"""What the tests of held code decide, and what is left to people."""

import pytest

from epistream.services.execution.assessing import Assessed
from epistream.services.execution.held import ruling
from epistream.services.execution.judging import Judged, Survival
from epistream.services.execution.opinions import Subject
from epistream.services.execution.verdict import Result, Verdict
from epistream.v1 import knowledge_pb2 as pb

SUBJECT = Subject.of_change(pb.Change(item_id="add", version=2))


def ruled(verdict: Verdict, survival: Survival | None = None) -> bool | None:
    return ruling(Assessed(SUBJECT, Judged(Result(verdict=verdict, reason="")), survival or Survival()))


def test_what_is_verified_and_breaks_nothing_is_let_in() -> None:
    assert ruled(Verdict.VERIFIED) is True
    assert ruled(Verdict.VERIFIED, Survival(("total",))) is True


def test_what_a_test_says_is_wrong_is_turned_away() -> None:
    assert ruled(Verdict.FAIL) is False


@pytest.mark.parametrize("verdict", sorted(set(Verdict) - {Verdict.VERIFIED, Verdict.FAIL}))
def test_what_may_be_the_tests_fault_is_left_to_people(verdict: Verdict) -> None:
    assert ruled(verdict) is None


@pytest.mark.parametrize("survival", [Survival(("total",), {"total": "fail"}), Survival(("total",), left_out=1)])
def test_what_breaks_a_dependant_or_may_break_one_that_was_not_run_is_left_to_people(survival: Survival) -> None:
    assert ruled(Verdict.VERIFIED, survival) is None
