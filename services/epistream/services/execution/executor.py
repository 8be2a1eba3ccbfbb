"""The executor: follows a namespace's code, runs the tests of each version, and submits what came of it as feedback.

It keeps nothing: what it has said is in the service, and what it said before it is asked for when it starts. So it may
be ended at any time, and a version that it was at is run again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from epistream.clients.cursor import Changes, Event, SnapshotBegin, SnapshotEnd, SnapshotItems, Start, Subscribed
from epistream.clients.knowledge import KnowledgeClient
from epistream.clients.producer import Producer
from epistream.clients.reviews import ReviewClient
from epistream.clients.subscriber import Subscriber
from epistream.services.execution.assessing import Assessed, Assessor, Place
from epistream.services.execution.held import HeldCode
from epistream.services.execution.judging import Beside, Judging
from epistream.services.execution.verifying import Verifier
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import EpistreamError

_CODE: Final = pb.Filter(modalities=[pb.MODALITY_CODE])
_REVIEW_SECONDS: Final = 1.0
"""How often it is asked whether something is held, at most: the more there is to list, the less often."""
_LISTING_SHARE: Final = 0.2
"""Of the time."""
_log = logging.getLogger(__name__)


async def execute(
    place: Place,
    verifier: Verifier,
    told: Callable[[Assessed], None],
    *,
    at_a_time: int,
    once: bool,
    stopped: asyncio.Event,
) -> None:
    """Run the code of a namespace until it is stopped; with `once`, all that the namespace has now.

    Args:
        place: the service, the namespace, and in whose name.
        verifier: what runs the tests.
        told: called with what was run.
        at_a_time: how many tests are run at one time.
        once: end then.
        stopped: leaves what is under way undone, when it is set.

    Raises:
        NoIsolation: the sandbox cannot be started any more.
        EpistreamError: as iterating over a `Subscriber` does, and calls of the service.
    """
    async with contextlib.AsyncExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(at_a_time, "epistream-executor"))
        client = await stack.enter_async_context(KnowledgeClient(place.target, credentials=place.credentials))
        producer = await stack.enter_async_context(Producer(place.target, credentials=place.credentials))
        assessor = Assessor(place, client, producer, Judging(verifier, threads), verifier.version)
        reviews = await stack.enter_async_context(
            ReviewClient(place.target, reviewer=place.name, origin="SYNTHETIC", credentials=place.credentials)
        )
        held = HeldCode(place, reviews, client, assessor, told)
        subscriber = await stack.enter_async_context(
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
        # As many again wait for what they need to be read, so that no core has to.
        executor = Executor(subscriber, assessor, held, told, asyncio.Semaphore(2 * at_a_time))
        try:
            async with asyncio.TaskGroup() as group:
                following = group.create_task(executor.follow(group, once=once))
                stopping = group.create_task(_stop(stopped, subscriber))
                following.add_done_callback(lambda _: stopping.cancel())
        except BaseExceptionGroup as failures:
            if not stopped.is_set():
                raise failures.exceptions[0] from None


class _Stopped(Exception):
    """Somebody wants it to end."""


async def _stop(stopped: asyncio.Event, subscriber: Subscriber) -> None:
    await stopped.wait()
    await subscriber.aclose()
    raise _Stopped


class Executor:
    """Follows the code, and has each version assessed.

    Args:
        subscriber: the namespace's code from the beginning on.
        assessor: says what the tests say.
        held: decides what waits for them.
        told: called with what was run.
        room: how much is under way at a time.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        assessor: Assessor,
        held: HeldCode,
        told: Callable[[Assessed], None],
        room: asyncio.Semaphore,
    ) -> None:
        self._subscriber, self._assessor, self._held = subscriber, assessor, held
        self._told, self._room = told, room
        self._open: dict[asyncio.Task[None], int] = {}
        self._snapshot = False
        self._snapshot_revision = 0
        self._said_up_to = 0
        """Of what was there when this began, something may have been said already."""

    async def follow(self, group: asyncio.TaskGroup, *, once: bool) -> None:
        """Take what comes, run it in the group. With `once` it ends when all is taken and what is held is decided."""
        reviewing = None if once else group.create_task(self._review())
        async for event in self._subscriber:
            await self._take(event, group)
            if once and self._has_all():
                break
        if once:
            await asyncio.gather(*self._open)
            await self._held.review_all(self._revision, self._room)
        elif reviewing is not None:
            reviewing.cancel()

    @property
    def _revision(self) -> int:
        position = self._subscriber.position
        return 0 if position is None else position.revision

    def _has_all(self) -> bool:
        """Whether it has taken all that the service has, as far as it has heard."""
        here = self._subscriber.position is not None and not self._snapshot
        return here and self._revision >= self._subscriber.head_revision

    async def _take(self, event: Event, group: asyncio.TaskGroup) -> None:
        match event:
            case Subscribed(_, head_revision):
                self._said_up_to = self._said_up_to or head_revision
            case SnapshotBegin(revision):
                self._snapshot, self._snapshot_revision = True, revision
                self._held.known.clear()
            case SnapshotItems(changes) | Changes(changes):
                for change in changes:
                    await self._begin(change, group.create_task)
            case SnapshotEnd():
                self._snapshot = False
            case _:
                pass
        self._acknowledge()

    async def _begin(self, change: pb.Change, start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        """Have a version run, when there is room for it."""
        self._held.take(change)
        if change.kind in (pb.CHANGE_KIND_RETRACTED, pb.CHANGE_KIND_LEFT):
            return
        beside = Beside.of(change.item_id, change.knowledge.provenance.derived_from, self._held.known)
        await self._room.acquire()
        # Of heads what is around them is read as it is in their snapshot: nothing older may be kept any more.
        task = start(self._judge(change, beside, max(change.revision, self._snapshot_revision)))
        self._open[task] = change.revision
        task.add_done_callback(self._ended)

    async def _judge(self, change: pb.Change, beside: Beside, revision: int) -> None:
        try:
            if change.revision > self._said_up_to or not await self._assessor.has_said(change):
                self._told(await self._assessor.of_version(change, beside, revision))
        except EpistreamError:
            raise
        except Exception:  # noqa: BLE001 - told, and passed over
            # Whatever somebody has found here, the others are still to be run.
            _log.exception("%s version %d is passed over. This is a defect: report it", change.item_id, change.version)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._open[task]
        self._room.release()
        if not task.cancelled() and task.exception() is None:
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Say that all is judged up to before the oldest that is under way."""
        if not self._snapshot:
            self._subscriber.acknowledge(min([self._revision + 1, *self._open.values()]) - 1)

    async def _review(self) -> None:
        """Decide what is held, as it comes, once all that may depend on it is known."""
        seconds = 0.0
        while True:
            await asyncio.sleep(max(_REVIEW_SECONDS, seconds / _LISTING_SHARE))
            if self._has_all():
                seconds = await self._held.review(self._revision, self._room)
