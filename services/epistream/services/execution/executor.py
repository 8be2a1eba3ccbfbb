"""The executor: follows a namespace's code, runs the tests of each version, and submits what came of it as feedback.

It keeps nothing: what it has said is in the service, and what it said before it is asked for when it starts. So it may
be ended at any time, and a version that it was at is run again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from epistream.clients.credentials import Credentials
from epistream.clients.cursor import Changes, Event, SnapshotBegin, SnapshotEnd, SnapshotItems, Start, Subscribed
from epistream.clients.knowledge import KnowledgeClient
from epistream.clients.producer import Producer
from epistream.clients.subscriber import Subscriber
from epistream.services.execution import opinions
from epistream.services.execution.dependants import Dependants
from epistream.services.execution.judging import Beside, Judged, Judging, Survival
from epistream.services.execution.verifying import Verifier
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import NotFound, Resync, Unavailable

NAME: Final = "executor"
_CODE: Final = pb.Filter(modalities=[pb.MODALITY_CODE])
_WAIT_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Done:
    """One version that was run, for whoever watches."""

    change: pb.Change
    judged: Judged
    survival: Survival


@dataclass(frozen=True, slots=True)
class Place:
    """Where the executor works, and in whose name."""

    target: str
    """HOST:PORT of the service."""
    namespace: str
    credentials: Credentials | None = None
    name: str = NAME
    """As a consumer, as the producer of its feedback, and as the rater."""


class Executor:
    """Runs until it is stopped.

    Args:
        place: the service and the namespace.
        verifier: what runs the tests.
        at_a_time: how many are run at one time.
        told: called with each version that was run.
    """

    def __init__(self, place: Place, verifier: Verifier, at_a_time: int, told: Callable[[Done], None]) -> None:
        self._place, self._sandbox, self._told = place, verifier.version, told
        self._threads = ThreadPoolExecutor(at_a_time, "epistream-executor")
        self._judging = Judging(verifier, self._threads)
        # As many again wait for what they need to be read, so that no core does.
        self._room = asyncio.Semaphore(2 * at_a_time)
        self._known = Dependants()
        self._open: dict[asyncio.Task[None], int] = {}
        self._failure: BaseException | None = None
        self._stopped = self._snapshot = False
        self._said_up_to = 0
        """Of what was there when this began, something may have been said already."""

    async def run(self, *, once: bool = False) -> None:
        """Follow the namespace until `stop`; with `once`, until all that it has now is judged.

        Raises:
            NoIsolation: the sandbox cannot be started any more.
            EpistreamError: as iterating over a `Subscriber` does, and submitting.
        """
        place = self._place
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._threads.shutdown)
            self._client = await stack.enter_async_context(KnowledgeClient(place.target, credentials=place.credentials))
            self._producer = await stack.enter_async_context(Producer(place.target, credentials=place.credentials))
            self._subscriber = await stack.enter_async_context(
                Subscriber(
                    place.target,
                    place.namespace,
                    place.name,
                    credentials=place.credentials,
                    # Each version, not only the heads; the heads where the service does not have all any more.
                    start=Start.BEGINNING,
                    filter=_CODE,
                    auto_snapshot=True,
                )
            )
            stack.push_async_callback(self._leave)
            async for event in self._subscriber:
                await self._take(event)
                if once and self._has_all():
                    break
            await asyncio.gather(*self._open, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """Take nothing more, and leave what is under way undone."""
        self._stopped = True
        for task in self._open:
            task.cancel()
        await self._subscriber.aclose()

    async def _leave(self) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _has_all(self) -> bool:
        position = self._subscriber.position
        return not self._snapshot and position is not None and position.revision >= self._subscriber.head_revision

    async def _take(self, event: Event) -> None:
        match event:
            case Subscribed(_, head_revision):
                self._said_up_to = self._said_up_to or head_revision
            case SnapshotBegin():
                self._snapshot = True
                self._known.clear()
            case SnapshotItems(changes) | Changes(changes):
                for change in changes:
                    await self._begin(change)
            case SnapshotEnd():
                self._snapshot = False
            case _:
                pass
        self._acknowledge()

    async def _begin(self, change: pb.Change) -> None:
        """Have a version run, when there is room for it."""
        self._known.take(change)
        if change.kind in (pb.CHANGE_KIND_RETRACTED, pb.CHANGE_KIND_LEFT):
            return
        beside = Beside.of(change.item_id, change.knowledge.provenance.derived_from, self._known)
        await self._room.acquire()
        if self._stopped:
            return
        task = asyncio.create_task(self._judge(change, beside))
        self._open[task] = change.revision
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._open[task]
        self._room.release()
        if not task.cancelled() and (failure := task.exception()) is not None:
            # It is not this version's: the executor cannot go on.
            self._failure = self._failure or failure
            self._closing = asyncio.create_task(self.stop())
        self._acknowledge()

    def _acknowledge(self) -> None:
        """Say that all is judged up to before the oldest that is under way."""
        position = self._subscriber.position
        if position is not None and not self._snapshot and self._failure is None:
            self._subscriber.acknowledge(min([position.revision + 1, *self._open.values()]) - 1)

    async def _judge(self, change: pb.Change, beside: Beside) -> None:
        if change.revision <= self._said_up_to and await self._has_said(change):
            return
        reader = _Reader(self._client, change.namespace, change.revision)
        judged = await self._judging.judge(change.knowledge, beside.before, reader.knowledge)
        survival = await self._survival(change, beside, reader)
        because = f"{change.item_id} version {change.version}"
        said = [
            opinions.of_verdict(change, judged, self._place.name, self._sandbox),
            opinions.of_survival(change, survival, self._place.name, self._sandbox),
            *[await self._again(name, because, beside, reader) for name in (*survival.broken, *survival.mended)],
        ]
        # The verdict last: where it is there, all of it is.
        await self._submit([each for each in reversed(said) if each is not None])
        self._told(Done(change, judged, survival))

    async def _survival(self, change: pb.Change, beside: Beside, reader: "_Reader") -> Survival:
        if not beside.dependants:
            return Survival()
        old = await reader.at(change.revision - 1).knowledge(change.item_id)
        code = old.content if old is not None and old.modality == pb.MODALITY_CODE else None
        return await self._judging.survival(change.item_id, code, change.knowledge.content, beside, reader.knowledge)

    async def _again(self, name: str, because: str, beside: Beside, reader: "_Reader") -> pb.Submission | None:
        """The verdict on a dependant, whose tests say something else since another item's new version."""
        dependant = await reader.change(name)
        if dependant is None:
            return None
        judged = await self._judging.judge(dependant.knowledge, beside.dependants[name], reader.knowledge)
        return opinions.of_verdict(dependant, judged, self._place.name, self._sandbox, because)

    async def _has_said(self, change: pb.Change) -> bool:
        """Whether the service has the verdict on this version by this sandbox."""
        wanted = opinions.opinion_id(opinions.ASPECT, change, self._sandbox)
        feedback = await _patiently(lambda: self._client.list_feedback(change.namespace, change.item_id))
        return any(
            (each.submission.submission_id, each.submission.provenance.producer) == (wanted, self._place.name)
            for each in feedback
        )

    async def _submit(self, said: Sequence[pb.Submission]) -> None:
        for receipt in await _patiently(lambda: self._producer.submit(*said)):
            if receipt.outcome == pb.OUTCOME_REFUSED and receipt.reason != pb.REASON_SUBMISSION_ID_REUSED:
                why = "; ".join(each.description for each in receipt.violations)
                _log.warning("%s was refused: %s", receipt.submission_id, why)


class _Reader:
    """Items as they were at one revision, each asked for once."""

    def __init__(self, client: KnowledgeClient, namespace: str, revision: int) -> None:
        self._client, self._namespace, self._revision = client, namespace, revision
        self._read: dict[str, pb.Change | None] = {}

    def at(self, revision: int) -> "_Reader":
        """The same for another revision."""
        return _Reader(self._client, self._namespace, revision)

    async def knowledge(self, item_id: str) -> pb.Knowledge | None:
        change = await self.change(item_id)
        return None if change is None else change.knowledge

    async def change(self, item_id: str) -> pb.Change | None:
        """The item's version at that revision; None where there was none, or none is kept any more."""
        if item_id not in self._read:
            self._read[item_id] = await _patiently(lambda: self._ask(item_id))
        return self._read[item_id]

    async def _ask(self, item_id: str) -> pb.Change | None:
        if not self._revision:
            return None
        try:
            return (await self._client.get(self._namespace, item_id, as_of=self._revision)).change
        except (NotFound, Resync):
            return None


async def _patiently(ask: Callable[[], Awaitable[_T]]) -> _T:
    """What it answers, once the service can be reached. Raises what else it raises."""
    while True:
        try:
            return await ask()
        except Unavailable as error:
            _log.warning("The service cannot be reached, and is asked again: %s", error.message)
            await asyncio.sleep(_WAIT_SECONDS)
