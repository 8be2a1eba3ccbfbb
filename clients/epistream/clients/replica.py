"""A consuming model's own copy of a namespace.

Searchable in its process, followed from the service, kept in a file across restarts.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, TypeAlias, TypeVar, assert_never

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from epistream.clients.credentials import Credentials
from epistream.clients.cursor import (
    Changes,
    Event,
    Position,
    Progress,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotItems,
    Start,
    Subscribed,
)
from epistream.clients.items import Items, Plan
from epistream.clients.knowledge import KnowledgeClient
from epistream.clients.replica_file import QUERIES_MAX, Held, ReplicaFile
from epistream.clients.subscriber import Counts, Subscriber
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge
from epistream.wire.errors import Broken, EpistreamError, Unavailable

WAIT_SECONDS: Final = 30.0
"""How long the waits of a replica take when the caller says nothing."""

Encoder: TypeAlias = Callable[[str], NDArray[np.float32]]
"""Turns a text into the vector that the namespace's own encoder would give.

May block; it is called in another thread.
"""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_log: Final = logging.getLogger(__name__)


class Replica:
    """A copy of a namespace, or of what a filter lets through, that follows the service by itself.

    It answers whether or not the service can be reached, from what it has applied. It goes on after any disconnection
    and after a restart from the last revision that its file holds; where the service cannot go on from there, it takes
    a snapshot, and answers from the old state until that is whole. A change is acknowledged when searches see it and
    the file holds it durably. On a full disk it stands still, answers from what it has, and goes on when there is room.

    Open it with `Replica.open`. Methods belong to the event loop that opened it, but `search_vector`, `get`, `len` and
    the properties, which may be used from any thread.
    """

    def __init__(
        self, worker: "_Worker", file: ReplicaFile, held: Held, subscriber: Subscriber, encode: "_Encode"
    ) -> None:
        """Use `Replica.open`."""
        self._worker = worker
        self._file = file
        self._items = held.items
        self._position = held.position
        self._subscriber = subscriber
        self._encode = encode
        self._queries = held.queries
        self._dimension = held.items.dimension
        self._staged: Items | None = None
        self._moved = asyncio.Condition()
        self._caught_up = False
        self._closing = asyncio.Event()
        self._full = ""
        """Why nothing can be written into the file now."""
        self._error: EpistreamError | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        path: str | Path,
        target: str | grpc.aio.Channel,
        namespace: str,
        consumer: str,
        *,
        credentials: Credentials | None = None,
        filter: pb.Filter | None = None,  # noqa: A002 -- the contract's word
        encoder: Encoder | None = None,
        progress_interval_seconds: float = 1.0,
    ) -> "AsyncIterator[Replica]":
        """Opens the replica in the file at `path`, or a new one, and follows the service until the block is left.

        Does not wait for the service: `wait_current` does.

        Args:
            path: the file. One replica at a time may use it.
            target: as for a `Subscriber`.
            namespace: the namespace; that of the file, when there is one.
            consumer: the name of the consuming model.
            credentials: as for a `Subscriber`.
            filter: only what matches. With another filter than the file's, the replica starts empty.
            encoder: turns the texts of searches into vectors; without it the service is asked, once for each text.
            progress_interval_seconds: how often to hear from an idle service.

        Raises:
            Conflict: another replica uses the file.
            InvalidInput: the file is not a replica's, or that of another namespace; the credentials cannot be used.
            Unavailable: there is no space for the file.
            EpistreamError: when the block is left without an error: why the replica had stopped following, if it had.
        """
        async with contextlib.AsyncExitStack() as stack:
            worker = _Worker(stack.enter_context(ThreadPoolExecutor(1, "epistream-replica")))
            file, held = await worker.do(_file_at, Path(path), namespace, filter or pb.Filter())
            stack.push_async_callback(worker.do, file.close)
            client = await stack.enter_async_context(KnowledgeClient(target, credentials=credentials))
            subscriber = Subscriber(
                target,
                namespace,
                consumer,
                credentials=credentials,
                start=held.position or Start.SNAPSHOT,
                filter=filter,
                include_embeddings=True,
                auto_snapshot=True,
                progress_interval_seconds=progress_interval_seconds,
            )
            replica = cls(worker, file, held, subscriber, _Encode(encoder, client, namespace))
            stack.push_async_callback(asyncio.wait, {asyncio.create_task(replica._follow())})
            stack.push_async_callback(replica._close)
            yield replica
        if replica.error is not None:
            raise replica.error

    def __len__(self) -> int:
        """How many items there are, those without a vector included."""
        return len(self._items)

    @property
    def revision(self) -> int:
        """Every matching change up to here is applied; 0 before there is a whole state."""
        return self._position.revision if self._position else 0

    @property
    def epoch(self) -> str:
        """The epoch of the store that `revision` belongs to; empty before there is a whole state."""
        return self._position.epoch if self._position else ""

    @property
    def alarms(self) -> Sequence[pb.CollapseAlarm]:
        """The collapse alarms that are on in the namespace, as was last heard: whose knowledge says less and less."""
        return self._subscriber.alarms

    @property
    def counts(self) -> Counts:
        """What happened to its subscription; `resyncs` are the snapshots that it had to take."""
        return self._subscriber.counts

    @property
    def error(self) -> EpistreamError | None:
        """Why the replica has stopped following; None while it follows. What it holds is getting old from then on."""
        return self._error

    def get(self, item_id: str) -> pb.Change | None:
        """The change that made the item's version; None when it is not here."""
        return self._items.get(item_id)

    def item_ids(self) -> list[str]:
        """The ids of all items, in no order."""
        return self._items.ids()

    async def search(
        self,
        query: str | Sequence[float] | NDArray[np.float32],
        limit: int = 10,
        filter: pb.Filter | None = None,  # noqa: A002 -- the contract's word
    ) -> list[knowledge.Hit]:
        """The items nearest to a text or a vector, among those that the filter lets through. Exact.

        The nearest come first, of equal ones the older.

        Raises:
            InvalidInput: the query or the limit is wrong.
            EpistreamError: the service had to turn the text into a vector, and could not.
        """
        vector = await self._vector(query) if isinstance(query, str) else np.asarray(query, np.float32)
        return await asyncio.to_thread(self._items.search, vector, limit, filter)

    def search_vector(
        self,
        vector: Sequence[float] | NDArray[np.float32],
        limit: int = 10,
        filter: pb.Filter | None = None,  # noqa: A002 -- the contract's word
    ) -> list[knowledge.Hit]:
        """As `search` for a vector, in the calling thread, which may be any."""
        return self._items.search(np.asarray(vector, np.float32), limit, filter)

    async def wait_for(self, revision: int, timeout_seconds: float = WAIT_SECONDS) -> None:
        """Waits until everything up to `revision` is applied.

        Raises:
            Unavailable: it is not, after the time.
            EpistreamError: why the replica has stopped following.
        """
        await self._wait(lambda: self.revision >= revision, f"revision {revision}", timeout_seconds)

    async def wait_current(self, timeout_seconds: float = WAIT_SECONDS) -> None:
        """Waits until the replica has once been level with the service since it was opened. Raises as `wait_for`."""
        await self._wait(lambda: self._caught_up, "the service's head", timeout_seconds)

    async def _wait(self, reached: Callable[[], bool], goal: str, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds), self._moved:
                await self._moved.wait_for(lambda: reached() or self._error is not None)
        except TimeoutError as error:
            why = self._full or self._subscriber.last_error
            text = f"After {timeout_seconds:g} s the replica is at revision {self.revision}, not yet at {goal}. {why}"
            raise Unavailable(text.rstrip(), reason="DEADLINE") from error
        if not reached() and self._error is not None:
            raise self._error

    async def _follow(self) -> None:
        """Applies what the subscription yields until it is closed or fails."""
        try:
            async for event in self._subscriber:
                epoch = self.epoch
                if not await self._done(await self._worker.do(self._plan, event)):
                    return
                if self.epoch != epoch:
                    self._queries.clear()
                await self._applied()
        except EpistreamError as error:
            self._error = error.with_traceback(None)  # its frames would keep the connection
        except Exception as error:  # noqa: BLE001 -- whatever it is, a replica that no longer follows must say so
            self._error = Broken(f"The replica failed: {error!r}. This is a defect: report it.")
            self._error.__cause__ = error
        if self._error is not None:
            await self._subscriber.aclose()
            _log.error("the replica has stopped following at revision %d: %s", self.revision, self._error.message)
            await self._tell()

    async def _close(self) -> None:
        """Have `_follow` end."""
        self._closing.set()
        await self._subscriber.aclose()

    async def _done(self, work: Callable[[], None]) -> bool:
        """Does what `_plan` has given, as soon as the disk has space for it; whether it has before the close."""
        while not self._closing.is_set():
            try:
                await self._worker.do(work)
            except Unavailable as error:
                if not self._full:
                    _log.warning("the replica waits for space at revision %d: %s", self.revision, error.message)
                self._full = error.message
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(error.retry_delay_seconds):
                        await self._closing.wait()
            else:
                self._full = ""
                return True
        return False

    async def _applied(self) -> None:
        """Tells the service and who waits how far the replica is, unless a snapshot is on its way."""
        if self._subscriber.position != self._position or self._position is None:
            return
        self._subscriber.acknowledge(self._position.revision, datetime.now(UTC))
        self._caught_up = self._caught_up or self._position.revision >= self._subscriber.head_revision
        await self._tell()

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    def _plan(self, event: Event) -> Callable[[], None]:
        """What `event` says to do, in the file first: where that has failed it can be done again. For the worker."""
        match event:
            case Changes(changes, revision):
                return self._plan_changes([change for change in changes if change.revision > self.revision], revision)
            case Progress(revision):
                return self._plan_changes([], revision)
            case Subscribed():
                self._dimension = event.dimension
                return _nothing
            case SnapshotBegin():
                return self._begin_snapshot
            case SnapshotItems(changes):
                return partial(self._stage, self._staging().plan(changes))
            case SnapshotEnd(revision):
                return partial(self._end_snapshot, self._at(revision))
            case _:
                assert_never(event)

    def _plan_changes(self, changes: Sequence[pb.Change], revision: int) -> Callable[[], None]:
        if revision <= self.revision:
            return _nothing
        return partial(self._apply, self._items.plan(changes), self._at(revision))

    def _apply(self, plan: Plan, position: Position) -> None:
        self._file.apply(plan, position)
        self._items.apply(plan)
        self._position = position

    def _begin_snapshot(self) -> None:
        self._file.begin_snapshot()
        self._staged = Items(self._dimension)

    def _stage(self, plan: Plan) -> None:
        self._file.stage(plan)
        self._staging().apply(plan)

    def _end_snapshot(self, position: Position) -> None:
        self._file.end_snapshot(position, self._staging().dimension)
        self._items, self._staged, self._position = self._staging(), None, position

    def _at(self, revision: int) -> Position:
        return Position(self._subscriber.epoch, revision)

    def _staging(self) -> Items:
        if self._staged is None:
            raise Broken("Items of a snapshot came before its begin.")
        return self._staged

    async def _vector(self, text: str) -> NDArray[np.float32]:
        remembered = self._queries.get(text)
        if remembered is not None:
            return np.frombuffer(remembered, "<f4")
        epoch = self.epoch
        vector = await self._encode(text)
        if self._encode.asks_the_service and epoch == self.epoch:
            forgotten = next(iter(self._queries)) if len(self._queries) >= QUERIES_MAX else None
            if forgotten is not None:
                del self._queries[forgotten]
            self._queries[text] = vector.tobytes()
            with contextlib.suppress(Unavailable):  # no space: it is remembered here, as long as the replica is open
                await self._worker.do(self._file.remember, text, vector.tobytes(), epoch, forgotten)
        return vector


def _nothing() -> None:
    pass


def _file_at(path: Path, namespace: str, only: pb.Filter) -> tuple[ReplicaFile, Held]:
    """The file and what it holds. Blocks. Raises as `ReplicaFile`."""
    file = ReplicaFile(path, namespace, only)
    try:
        return file, file.load()
    except BaseException:
        file.close()
        raise


class _Worker:
    """The thread that owns the file and applies changes. Its own, so that no other work of the process holds it up."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def do(self, work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """The result of `work` in the thread, after everything that was given to it before."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(work, *args, **kwargs))


class _Encode:
    """Turns texts into vectors: by the caller's encoder, else by the service's."""

    def __init__(self, encoder: Encoder | None, client: KnowledgeClient, namespace: str) -> None:
        self._encoder = encoder
        self._client = client
        self._namespace = namespace

    @property
    def asks_the_service(self) -> bool:
        """Then a vector is worth keeping."""
        return self._encoder is None

    async def __call__(self, text: str) -> NDArray[np.float32]:
        """The vector of `text`. Raises EpistreamError when the service cannot give it."""
        if self._encoder is not None:
            return await asyncio.to_thread(self._encoder, text)
        answer = await self._client.search(self._namespace, text, limit=1, include_query_embedding=True)
        return np.frombuffer(answer.query_embedding, "<f4")
