"""The same clients for programs without an event loop: each is its namesake without `Sync`, and its methods block.

They may be used from any thread. What each method does and raises is said at its namesake.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from epistream.clients.background import Blocking, run
from epistream.clients.channel import CALL_TIMEOUT_SECONDS
from epistream.clients.credentials import Credentials
from epistream.clients.cursor import Event, Position, Start
from epistream.clients.knowledge import PAGE_ENTRIES, KnowledgeClient
from epistream.clients.producer import OriginName, Producer
from epistream.clients.reading_thread import without_blocking
from epistream.clients.replica import WAIT_SECONDS, Encoder, Replica
from epistream.clients.submit_stream import ANSWER_SECONDS_MAX
from epistream.clients.subscriber import Counts, Subscriber
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge
from epistream.v1 import namespace_service_pb2 as ns
from epistream.v1 import sync_service_pb2 as sync
from epistream.wire.errors import EpistreamError

_T = TypeVar("_T")


class SyncProducer(Blocking):
    """`Producer`, blocking."""

    def __init__(
        self, target: str, *, credentials: Credentials | None = None, timeout_seconds: float = CALL_TIMEOUT_SECONDS
    ) -> None:
        """As `Producer`."""

        async def make() -> Producer:
            return Producer(target, credentials=credentials, timeout_seconds=timeout_seconds)

        self._producer = run(make())

    def submit(self, *submissions: pb.Submission, atomic: bool = False) -> list[pb.Receipt]:
        """As `Producer.submit`."""
        return run(self._producer.submit(*submissions, atomic=atomic))

    def retract(
        self,
        namespace: str,
        item_id: str,
        *,
        producer: str,
        origin: OriginName,
        submission_id: str = "",
        expected_version: int | None = None,
    ) -> pb.Receipt:
        """As `Producer.retract`."""
        return run(
            self._producer.retract(
                namespace,
                item_id,
                producer=producer,
                origin=origin,
                submission_id=submission_id,
                expected_version=expected_version,
            )
        )

    def stream(
        self, submissions: Iterable[pb.Submission], *, answer_seconds_max: float = ANSWER_SECONDS_MAX
    ) -> Iterator[pb.Receipt]:
        """As `Producer.stream`. The source is read ahead of the receipts, in another thread."""

        async def make() -> _Taken[pb.Receipt]:
            source = without_blocking(submissions)
            return _Taken(self._producer.stream(source, answer_seconds_max=answer_seconds_max))

        receipts = run(make())
        try:
            while True:
                try:
                    yield run(receipts.next())
                except StopAsyncIteration:
                    return
        finally:
            run(receipts.close())

    def close(self) -> None:
        """As `Producer.aclose`."""
        run(self._producer.aclose())


class SyncSubscriber(Blocking):
    """`Subscriber`, blocking: `for event in subscriber`. As there, who does not acknowledge is sent to less often."""

    def __init__(
        self,
        target: str,
        namespace: str,
        consumer: str,
        *,
        credentials: Credentials | None = None,
        start: Start | Position = Start.SNAPSHOT,
        filter: pb.Filter | None = None,  # noqa: A002 -- the contract's word
        include_embeddings: bool = False,
        include_late: bool = False,
        auto_snapshot: bool = False,
        progress_interval_seconds: float = 1.0,
    ) -> None:
        """As `Subscriber`."""

        async def make() -> Subscriber:
            return Subscriber(
                target,
                namespace,
                consumer,
                credentials=credentials,
                start=start,
                filter=filter,
                include_embeddings=include_embeddings,
                include_late=include_late,
                auto_snapshot=auto_snapshot,
                progress_interval_seconds=progress_interval_seconds,
            )

        self._subscriber = run(make())

    @property
    def position(self) -> Position | None:
        """As `Subscriber.position`."""
        return self._subscriber.position

    @property
    def alarms(self) -> Sequence[pb.CollapseAlarm]:
        """As `Subscriber.alarms`."""
        return self._subscriber.alarms

    @property
    def counts(self) -> Counts:
        """As `Subscriber.counts`."""
        return self._subscriber.counts

    def acknowledge(self, revision: int, applied_time: datetime | None = None) -> None:
        """As `Subscriber.acknowledge`."""

        async def acknowledge() -> None:
            self._subscriber.acknowledge(revision, applied_time)

        run(acknowledge())

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        try:
            return run(_next_of(self._subscriber))
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """As `Subscriber.aclose`.

        May be called from another thread than the one that iterates, whose iteration then ends.
        """
        run(self._subscriber.aclose())


class SyncReplica:
    """`Replica`, blocking.

    `with SyncReplica(path, target, namespace, consumer) as replica`. It follows the service in the background.
    """

    def __init__(
        self,
        path: str | Path,
        target: str,
        namespace: str,
        consumer: str,
        *,
        credentials: Credentials | None = None,
        filter: pb.Filter | None = None,  # noqa: A002 -- the contract's word
        encoder: Encoder | None = None,
        progress_interval_seconds: float = 1.0,
    ) -> None:
        """As `Replica.open`."""
        self._opened = Replica.open(
            path,
            target,
            namespace,
            consumer,
            credentials=credentials,
            filter=filter,
            encoder=encoder,
            progress_interval_seconds=progress_interval_seconds,
        )
        self._replica = run(self._opened.__aenter__())

    def __len__(self) -> int:
        """As `len` of a `Replica`."""
        return len(self._replica)

    @property
    def revision(self) -> int:
        """As `Replica.revision`."""
        return self._replica.revision

    @property
    def epoch(self) -> str:
        """As `Replica.epoch`."""
        return self._replica.epoch

    @property
    def alarms(self) -> Sequence[pb.CollapseAlarm]:
        """As `Replica.alarms`."""
        return self._replica.alarms

    @property
    def counts(self) -> Counts:
        """As `Replica.counts`."""
        return self._replica.counts

    @property
    def error(self) -> EpistreamError | None:
        """As `Replica.error`."""
        return self._replica.error

    def get(self, item_id: str) -> pb.Change | None:
        """As `Replica.get`."""
        return self._replica.get(item_id)

    def item_ids(self) -> list[str]:
        """As `Replica.item_ids`."""
        return self._replica.item_ids()

    def search(
        self,
        query: str | Sequence[float] | NDArray[np.float32],
        limit: int = 10,
        filter: pb.Filter | None = None,  # noqa: A002 -- the contract's word
    ) -> list[knowledge.Hit]:
        """As `Replica.search`."""
        return run(self._replica.search(query, limit, filter))

    def search_vector(
        self,
        vector: Sequence[float] | NDArray[np.float32],
        limit: int = 10,
        filter: pb.Filter | None = None,  # noqa: A002 -- the contract's word
    ) -> list[knowledge.Hit]:
        """As `Replica.search_vector`: in the calling thread."""
        return self._replica.search_vector(vector, limit, filter)

    def wait_for(self, revision: int, timeout_seconds: float = WAIT_SECONDS) -> None:
        """As `Replica.wait_for`."""
        run(self._replica.wait_for(revision, timeout_seconds))

    def wait_current(self, timeout_seconds: float = WAIT_SECONDS) -> None:
        """As `Replica.wait_current`."""
        run(self._replica.wait_current(timeout_seconds))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run(self._opened.__aexit__(kind, error, trace))

    def close(self) -> None:
        """Stops following and closes the file. Raises why the replica had stopped before, if it had."""
        self.__exit__(None, None, None)


class SyncKnowledgeClient(Blocking):
    """`KnowledgeClient`, blocking."""

    def __init__(
        self, target: str, *, credentials: Credentials | None = None, timeout_seconds: float = CALL_TIMEOUT_SECONDS
    ) -> None:
        """As `KnowledgeClient`."""

        async def make() -> KnowledgeClient:
            return KnowledgeClient(target, credentials=credentials, timeout_seconds=timeout_seconds)

        self._client = run(make())

    def get(
        self,
        namespace: str,
        item_id: str,
        *,
        as_of: int | datetime | None = None,
        valid_time: datetime | None = None,
        include_embedding: bool = False,
    ) -> knowledge.GetResponse:
        """As `KnowledgeClient.get`."""
        return run(
            self._client.get(
                namespace, item_id, as_of=as_of, valid_time=valid_time, include_embedding=include_embedding
            )
        )

    def history(
        self, namespace: str, item_id: str, *, by_valid_time: bool = False, page_entries: int = PAGE_ENTRIES
    ) -> list[pb.Change]:
        """As `KnowledgeClient.history`."""
        return run(self._client.history(namespace, item_id, by_valid_time=by_valid_time, page_entries=page_entries))

    def list_feedback(
        self, namespace: str, item_id: str, *, page_entries: int = PAGE_ENTRIES
    ) -> list[knowledge.RecordedFeedback]:
        """As `KnowledgeClient.list_feedback`."""
        return run(self._client.list_feedback(namespace, item_id, page_entries=page_entries))

    def explain(self, namespace: str, producer: str, submission_id: str) -> list[knowledge.Explanation]:
        """As `KnowledgeClient.explain`."""
        return run(self._client.explain(namespace, producer, submission_id))

    def list_alarms(
        self, namespace: str, *, on: bool = False, producer: str = "", limit: int = PAGE_ENTRIES
    ) -> list[pb.CollapseAlarm]:
        """As `KnowledgeClient.list_alarms`."""
        return run(self._client.list_alarms(namespace, on=on, producer=producer, limit=limit))

    def list_signals(self, namespace: str, *, history: int = 0) -> knowledge.ListSignalsResponse:
        """As `KnowledgeClient.list_signals`."""
        return run(self._client.list_signals(namespace, history=history))

    def search(
        self,
        namespace: str,
        query: str | Sequence[float] | NDArray[np.float32],
        *,
        limit: int = 10,
        filter: pb.Filter | None = None,  # noqa: A002 -- the contract's word
        as_of: int | datetime | None = None,
        include_embeddings: bool = False,
        include_query_embedding: bool = False,
    ) -> knowledge.SearchResponse:
        """As `KnowledgeClient.search`."""
        return run(
            self._client.search(
                namespace,
                query,
                limit=limit,
                filter=filter,
                as_of=as_of,
                include_embeddings=include_embeddings,
                include_query_embedding=include_query_embedding,
            )
        )

    def diff(
        self,
        namespace: str,
        earlier: int | datetime,
        later: int | datetime | None = None,
        *,
        filter: pb.Filter | None = None,  # noqa: A002 -- the contract's word
        page_entries: int = PAGE_ENTRIES,
    ) -> knowledge.DiffResponse:
        """As `KnowledgeClient.diff`."""
        return run(self._client.diff(namespace, earlier, later, filter=filter, page_entries=page_entries))

    def namespaces(self) -> list[ns.Namespace]:
        """As `KnowledgeClient.namespaces`."""
        return run(self._client.namespaces())

    def namespace(self, name: str) -> ns.Namespace:
        """As `KnowledgeClient.namespace`."""
        return run(self._client.namespace(name))

    def create_namespace(
        self, name: str, *, encoder: ns.Encoder | None = None, policy: ns.Policy | None = None
    ) -> ns.Namespace:
        """As `KnowledgeClient.create_namespace`."""
        return run(self._client.create_namespace(name, encoder=encoder, policy=policy))

    def policies(self, name: str, *, page_entries: int = PAGE_ENTRIES) -> list[ns.PolicyVersion]:
        """As `KnowledgeClient.policies`."""
        return run(self._client.policies(name, page_entries=page_entries))

    def update_policy(self, name: str, policy: ns.Policy) -> ns.Namespace:
        """As `KnowledgeClient.update_policy`."""
        return run(self._client.update_policy(name, policy))

    def consumers(self, namespace: str) -> sync.ListConsumersResponse:
        """As `KnowledgeClient.consumers`."""
        return run(self._client.consumers(namespace))

    def wait_applied(
        self, namespace: str, revision: int, consumers: Iterable[str] = (), *, timeout_seconds: float | None = None
    ) -> list[str]:
        """As `KnowledgeClient.wait_applied`."""
        return run(self._client.wait_applied(namespace, revision, consumers, timeout_seconds=timeout_seconds))

    def close(self) -> None:
        """As `KnowledgeClient.aclose`."""
        run(self._client.aclose())


async def _next_of(iterator: AsyncIterator[_T]) -> _T:
    return await anext(iterator)


class _Taken(Generic[_T]):
    """An asynchronous generator that is taken from a thread, whose wait for the next item may be interrupted."""

    def __init__(self, generator: AsyncGenerator[_T, None]) -> None:
        self._generator = generator
        self._taking: asyncio.Task[Any] | None = None

    async def next(self) -> _T:
        """The next item. Raises StopAsyncIteration after the last one."""
        self._taking = asyncio.current_task()
        return await anext(self._generator)

    async def close(self) -> None:
        """Closes the generator, which it must not be before an item that nobody waits for any more is given up."""
        if self._taking is not None and not self._taking.done():
            self._taking.cancel()
            await asyncio.wait({self._taking})
        await self._generator.aclose()
