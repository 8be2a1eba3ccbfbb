"""What the tests of held code decide, and what is left to people."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from epistream.services.execution.assessing import Assessed, Place
from epistream.services.execution.held import HeldCode, ruling
from epistream.services.execution.judging import Beside, Judged, Survival
from epistream.services.execution.opinions import Subject
from epistream.services.execution.verdict import Result, Verdict
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns
from epistream.v1 import review_service_pb2 as api
from epistream.wire.errors import Conflict

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


class Reviewed:
    """One review of code that is derived from `add`, and what was done about it."""

    def __init__(self) -> None:
        submission = pb.Submission(provenance=pb.Provenance(derived_from=["add"]))
        self.review = api.Review(namespace="n", review_id=7, item_id="total", submission=submission)
        self.done: list[str] = []

    async def namespace(self, _: str) -> ns.Namespace:
        return ns.Namespace(policy=ns.Policy(verify_code=True), held_count=1 - len(self.done))

    async def reviews(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(reviews=[self.review], next_page_token="")

    async def claim(self, _: str, __: int, seconds: int = 900) -> None:
        self.review.claim.reviewer = "executor" if seconds else ""
        if not seconds:
            self.done.append("left")

    async def admit(self, *_: Any) -> None:
        self.done.append("admitted")

    async def reject(self, *_: Any) -> None:
        self.done.append("rejected")


class Many(Reviewed):
    """Reviews in pages of ten, each as long as people have not decided it."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.waiting = list(range(1, count + 1))
        self.claimed: list[int] = []

    async def namespace(self, _: str) -> ns.Namespace:
        return ns.Namespace(policy=ns.Policy(verify_code=True), held_count=len(self.waiting))

    async def reviews(self, *_: Any, page_token: str, **__: Any) -> Any:
        begin = int(page_token or 0)
        listed = self.waiting[begin : begin + 10]
        made = [api.Review(review_id=each, submission=self.review.submission) for each in listed]
        return SimpleNamespace(reviews=made, next_page_token=str(begin + 10) if listed else "")

    async def claim(self, _: str, review_id: int, seconds: int = 900) -> None:
        if seconds:
            self.claimed.append(review_id)

    async def admit(self, _: str, review_id: int, __: str) -> None:
        self.waiting.remove(review_id)


class Assessing:
    """Finds one verdict after the other; `meanwhile` happens while the first is run."""

    def __init__(self, verdicts: list[Verdict], meanwhile: Callable[[], None]) -> None:
        self.verdicts, self.meanwhile = verdicts, meanwhile
        self.runs: list[tuple[int, str]] = []

    async def of_held(self, subject: Subject, _: Beside, revision: int, because: str) -> Assessed:
        if not self.runs:
            self.meanwhile()
        self.runs.append((revision, because))
        result = Result(verdict=self.verdicts[(len(self.runs) - 1) % len(self.verdicts)], reason="")
        return Assessed(subject, Judged(result), Survival())


def reviewed(verdicts: list[Verdict], changed: str) -> tuple[list[str], list[tuple[int, str]]]:
    """What is done about it, and how it was run, where an item changes while it is run the first time."""
    service: Any = Reviewed()
    assessing: Any = Assessing(verdicts, lambda: held.take(pb.Change(item_id=changed, version=2, revision=6)))
    held = HeldCode(Place("", "n"), service, service, assessing, lambda _: None)

    async def twice() -> None:
        for revision in (5, 6):
            await held.review(revision, asyncio.Semaphore(1))

    asyncio.run(twice())
    return service.done, assessing.runs


@pytest.mark.parametrize("first", [Verdict.FAIL, Verdict.ERROR])
def test_what_is_run_while_what_it_is_derived_from_changes_is_run_again(first: Verdict) -> None:
    done, runs = reviewed([first, Verdict.VERIFIED], "add")
    assert done == ["admitted"]
    assert runs == [(5, ""), (6, "add version 2")]


def test_what_is_run_while_something_else_changes_is_decided_at_once() -> None:
    assert reviewed([Verdict.FAIL], "mul") == (["rejected"], [(5, "")])
    assert reviewed([Verdict.ERROR], "mul") == (["left"], [(5, "")])


def test_what_passes_while_what_it_is_derived_from_changes_is_let_in() -> None:
    """As a version it is run again anyhow."""
    assert reviewed([Verdict.VERIFIED], "add") == (["admitted"], [(5, "")])


async def review_all(service: Any, *verdicts: Verdict) -> None:
    assessing: Any = Assessing(list(verdicts), lambda: None)
    held = HeldCode(Place("", "n"), service, service, assessing, lambda _: None)
    await held.review_all(5, asyncio.Semaphore(1))


async def test_all_that_waits_is_decided_though_not_at_a_time() -> None:
    service = Many(120)
    await review_all(service, Verdict.VERIFIED, Verdict.ERROR)
    assert sorted(service.claimed) == list(range(1, 121)), "each once, those too that are left to people"
    assert len(service.waiting) == 60


async def test_what_another_takes_meanwhile_is_waited_for_by_nobody() -> None:
    service = Many(3)

    async def claim(_: str, review_id: int, seconds: int = 900) -> None:
        del review_id, seconds
        raise Conflict("another looks at it", reason="CLAIMED")

    service.claim = claim  # type: ignore[method-assign]
    await review_all(service, Verdict.VERIFIED)
    assert len(service.waiting) == 3


async def test_what_people_have_decided_is_forgotten() -> None:
    """Were it there again it would be run again, as anything that is new. Else all that ever was would be kept."""
    service = Many(3)
    assessing: Any = Assessing([Verdict.ERROR], lambda: None)
    reviewing: Any = service
    held = HeldCode(Place("", "n"), reviewing, reviewing, assessing, lambda _: None)

    async def review(*waiting: int) -> None:
        service.waiting = [*waiting]
        await held.review(5, asyncio.Semaphore(1))

    await review(1, 2, 3)
    await review(1, 2)
    await review(1, 2, 3)
    assert service.claimed == [1, 2, 3], "a listing may miss what moves up a page meanwhile"
    await review(1, 2)
    await review(1, 2)
    await review(1, 2, 3)
    assert service.claimed == [1, 2, 3, 3]
    await review()
    await review()
    await review(1)
    assert service.claimed == [1, 2, 3, 3, 1]
    held.take(pb.Change(item_id="add", version=2))
    await review()
    await review()
    await review(1)
    assert assessing.runs[-1] == (5, ""), "why it was to be run again is forgotten, too"
