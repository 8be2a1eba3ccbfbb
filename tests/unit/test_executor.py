"""The executor follows, several at a time, and says how far it is: with a scripted feed and no sandbox."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from epistream.clients.cursor import Changes, Event, Position, Progress, Subscribed
from epistream.services.execution.assessing import Assessed
from epistream.services.execution.dependants import Dependants
from epistream.services.execution.executor import Executor
from epistream.services.execution.judging import Beside, Judged, Survival
from epistream.services.execution.opinions import Subject
from epistream.services.execution.verdict import Result, Verdict
from epistream.v1 import knowledge_pb2 as pb
from tests.support.waits import until


class Feed:
    """Three versions, and then nothing new."""

    head_revision = 3

    def __init__(self) -> None:
        self.position: Position | None = None
        self.acknowledged = [0]

    async def __aiter__(self) -> AsyncIterator[Event]:
        yield Subscribed("epoch", 0, 8)
        for revision in (1, 2, 3):
            self.position = Position("epoch", revision)
            yield Changes([pb.Change(item_id=f"i{revision}", version=1, revision=revision)], revision)
        while True:
            await asyncio.sleep(0.001)
            yield Progress(3, 3, datetime.now(UTC))

    def acknowledge(self, revision: int) -> None:
        self.acknowledged.append(max(revision, self.acknowledged[-1]))


class Runs:
    """An assessor whose runs end as a test says."""

    def __init__(self) -> None:
        self.ends = {revision: asyncio.get_running_loop().create_future() for revision in (1, 2, 3)}

    async def of_version(self, change: pb.Change, _: Beside, __: int) -> Assessed:
        await self.ends[change.revision]
        return Assessed(Subject.of_change(change), Judged(Result(verdict=Verdict.VERIFIED, reason="")), Survival())


class NothingHeld:
    def __init__(self) -> None:
        self.known = Dependants()
        self.take: Callable[[pb.Change], None] = self.known.take

    async def review_all(self, *_: object) -> None:
        pass


async def test_what_is_acknowledged_is_judged_and_a_defect_passes_over_one_version_only() -> None:
    told: list[str] = []
    feed: Any = Feed()
    runs: Any = Runs()
    held: Any = NothingHeld()
    executor = Executor(feed, runs, held, lambda found: told.append(found.subject.item_id), asyncio.Semaphore(4))
    async with asyncio.TaskGroup() as group:
        following = group.create_task(executor.follow(group, once=True))
        runs.ends[3].set_result(None)
        await until(lambda: told == ["i3"])
        assert feed.acknowledged[-1] == 0, "the first two are under way"
        runs.ends[1].set_exception(ValueError("a defect that one program has found"))
        await until(lambda: feed.acknowledged[-1] == 1)
        runs.ends[2].set_result(None)
        await following
    assert told == ["i3", "i2"]
    assert feed.acknowledged[-1] == 3
