"""A consumer's subscription: every change once and in order, across whatever happens to the connection."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeAlias

import grpc
import grpc.aio

from epistream.clients.channel import Backoff, Connection, Conversation
from epistream.clients.credentials import Credentials
from epistream.clients.cursor import Cursor, Event, Position, SnapshotEnd, Start, StreamFault
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import sync_service_pb2 as sync
from epistream.v1 import sync_service_pb2_grpc as rpc
from epistream.wire.errors import Denied, EpistreamError, InvalidInput, Resync, State, Unavailable

OPENING_SECONDS_MAX: Final = 10.0
"""How long a stream may take to its first message, a handshake over a slow network included, and between the messages
of a snapshot, which the service reads from its disk."""
SILENT_INTERVALS_MAX: Final = 3
"""After so many progress intervals without a word a stream is dead (requirement R39 of the sync protocol)."""
ACKNOWLEDGE_INTERVAL_SECONDS: Final = 0.05
"""At most one acknowledgement in this time (R23)."""
FLUSH_SECONDS_MAX: Final = 1.0
"""How long `aclose` waits for the last acknowledgement to be written."""

_Conversation: TypeAlias = Conversation[sync.SubscribeRequest, sync.SubscribeResponse]
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Counts:
    """What has happened to a subscription so far."""

    reconnects: int = 0
    """Streams that ended and were followed by another."""
    faults: int = 0
    """Streams that were left because something was missing on them."""
    resyncs: int = 0
    """Snapshots that were taken because the position meant nothing any more."""
    duplicates: int = 0
    """Changes that came again and were dropped."""


class Subscriber:
    """Yields the changes of a namespace, each once, in the order of their revisions, for ever.

    A stream that ends or falls silent is followed by another, which goes on where the last one stopped; the waits
    between grow to a second. Construct it inside the event loop that iterates over it, and iterate in one task at a
    time. An iteration that was cancelled can be taken up again.

    Acknowledge what was applied. Nothing is lost without, but a service that has 64 messages unacknowledged sends new
    changes only every 0.2 to 0.6 s (docs/decisions/0016), and cannot tell anybody how far this consumer is.

    Iterating raises:
        Resync: the position means nothing to the store (`reason` says why), or revisions stay missing. Never with
            `auto_snapshot`.
        InvalidInput, NotFound, Denied, Broken: as the service says. A subscription that is denied because the token it
            began with is no longer good goes on when its file holds another by then.
    """

    def __init__(
        self,
        target: str | grpc.aio.Channel,
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
        """Connects when it is first iterated over.

        Args:
            target: `host:port`; or a channel, which stays the caller's to close, and cannot be replaced when its
                connection falls silent.
            namespace: the namespace.
            consumer: the name of the consuming model.
            credentials: what to show to the service, and how to know it; not with a channel.
            start: where to begin.
            filter: only what matches; an item that ceases to match comes once as LEFT.
            include_embeddings: have each change bring its vector.
            include_late: have LATE changes come as they are: versions that hold from an earlier time on than the item's
                head. Without it a LEFT without an item comes in their place, or with a filter nothing.
            auto_snapshot: yield a snapshot where `Resync` would be raised.
            progress_interval_seconds: how often to hear from an idle service, 0.1 to 60.

        Raises:
            InvalidInput: the credentials cannot be used.
        """
        self._connection = Connection(target, credentials)
        self._shown = self._connection.files()
        self._subscription = sync.Subscription(
            namespace=namespace,
            consumer=consumer,
            filter=filter,
            include_embeddings=include_embeddings,
            include_late=include_late,
            snapshot_if_compacted=auto_snapshot,
        )
        self._subscription.progress_interval.FromMilliseconds(round(progress_interval_seconds * 1000))
        self._silence_seconds = SILENT_INTERVALS_MAX * progress_interval_seconds
        self._auto_snapshot = auto_snapshot
        self._cursor = Cursor(start, dense=filter is None or filter == pb.Filter())
        self._reconnects = self._faults = self._resyncs = 0
        self._backoff = Backoff()
        self._wait_seconds = 0.0
        self._fault_revision: int | None = None
        self._stream: _Stream | None = None
        self._acknowledged: _Applied | None = None
        self._closed = asyncio.Event()
        self.last_error = ""
        """Why the last stream ended, in words, until another one delivers."""

    @property
    def position(self) -> Position | None:
        """Up to where changes were yielded.

        None before there is anything to resume from. Keep it to go on in another process.
        """
        return self._cursor.position

    @property
    def epoch(self) -> str:
        """The epoch of the store; empty before the first connection."""
        return self._cursor.epoch

    @property
    def head_revision(self) -> int:
        """The newest revision heard of; 0 before the first connection."""
        return self._cursor.head_revision

    @property
    def alarms(self) -> Sequence[pb.CollapseAlarm]:
        """The collapse alarms that are on in the namespace, as was last heard; the newest 100."""
        return self._cursor.alarms

    @property
    def counts(self) -> Counts:
        """What happened so far."""
        return Counts(self._reconnects, self._faults, self._resyncs, self._cursor.duplicates)

    def acknowledge(self, revision: int, applied_time: datetime | None = None) -> None:
        """Says that everything up to `revision` is applied, at `applied_time` (now, when not given). Does not block.

        Acknowledgements are cumulative: a lower one than before does nothing, and of several in a row only the last is
        sent. After a reconnection the last one is sent again. One that is given less than 50 ms before the process dies
        may be lost.

        Raises:
            InvalidInput: `revision` was not yielded yet.
        """
        if revision > self._cursor.revision:
            raise InvalidInput.at(
                "revision", f"{revision} was not received yet; the last received is {self._cursor.revision}"
            )
        last = self._acknowledged.revision if self._acknowledged is not None else 0
        if self._closed.is_set() or revision <= last:
            return
        self._acknowledged = _Applied(revision, applied_time or datetime.now(UTC))
        if self._stream is not None and self._cursor.live:
            self._stream.acknowledge(self._acknowledged)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._closed.is_set():
            try:
                event = await self._next_event()
            except (Unavailable, StreamFault) as error:
                await self._reconnect(error)
            except Resync as error:
                await self._resync(error)
            except Denied as error:
                await self._leave_stream()
                passing = self._connection.passing(error, self._shown)
                if passing is None:
                    raise
                await self._reconnect(passing)
            except BaseException:
                await self._leave_stream()
                raise
            else:
                if event is not None:
                    return event
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Sends the last acknowledgement and ends the subscription.

        Iterations end. Closes the channel if it was made here.
        """
        self._closed.set()
        if self._stream is not None:
            await self._stream.flush()
        await self._leave_stream()
        await self._connection.aclose()

    async def _next_event(self) -> Event | None:
        if self._stream is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_seconds):
                    await self._closed.wait()
            if self._closed.is_set():
                return None
            self._stream = self._open()
        message = await self._stream.read(self._silence_seconds if self._cursor.live else OPENING_SECONDS_MAX)
        if message is None:
            raise Unavailable("The service ended the stream.", retry_delay_seconds=0.0)
        self._connection.proven = True
        if message.WhichOneof("message") == "drain":
            self._stream.retry_delay_seconds = message.drain.retry_delay.ToMicroseconds() / 1e6
        live_before, revision_before = self._cursor.live, self._cursor.revision
        event = self._cursor.take(message)
        if self._cursor.live and not live_before:
            self._catch_up_acknowledgement(event)
        if event is not None:
            self.last_error = ""
            if self._cursor.revision > revision_before:
                self._backoff.reset()
        return event

    def _open(self) -> "_Stream":
        subscription = sync.Subscription()
        subscription.CopyFrom(self._subscription)
        self._cursor.open(subscription)
        self._shown = self._connection.files()
        stub = rpc.SyncServiceStub(self._connection.channel)
        return _Stream(Conversation(stub.Subscribe(wait_for_ready=self._connection.proven)), subscription)

    def _catch_up_acknowledgement(self, event: Event | None) -> None:
        """A new stream, or the state after a snapshot, knows nothing of what was acknowledged before."""
        if isinstance(event, SnapshotEnd):
            self._acknowledged = None
        elif self._acknowledged is not None and self._stream is not None:
            self._stream.acknowledge(self._acknowledged)

    async def _reconnect(self, error: Unavailable | StreamFault) -> None:
        drain_seconds = self._stream.retry_delay_seconds if self._stream else None
        await self._leave_stream()
        if self._closed.is_set():
            return
        if isinstance(error, Unavailable):
            if error.reason == "DEADLINE":
                # The silent connection may swallow every stream until TCP gives it up.
                await self._connection.replace()
            else:
                self._connection.renew()
        self._reconnects += 1
        if isinstance(error, StreamFault):
            self._faults += 1
            if self._fault_revision == self._cursor.revision:
                state = State(self._cursor.epoch, self._cursor.head_revision, 0)
                text = (
                    f"Twice the stream after revision {self._cursor.revision} was not whole: {error} Take a snapshot."
                )
                await self._resync(Resync(text, reason="GAP", state=state))
                return
            self._fault_revision = self._cursor.revision
        least_seconds = error.retry_delay_seconds if isinstance(error, Unavailable) else 0.0
        self._put_off(error, least_seconds + self._backoff.next_seconds() if drain_seconds is None else drain_seconds)

    async def _resync(self, error: Resync) -> None:
        await self._leave_stream()
        self._fault_revision = None
        if not self._auto_snapshot:
            raise error
        self._resyncs += 1
        self._cursor.forget()
        self._put_off(error, self._backoff.next_seconds())

    def _put_off(self, error: Exception, wait_seconds: float) -> None:
        """Has the next stream begin after `wait_seconds`."""
        known, self.last_error = self.last_error, str(error)
        self._wait_seconds = wait_seconds
        _log.log(
            logging.DEBUG if known == self.last_error else logging.WARNING,  # once, not with every attempt
            "%s: the subscription to %s ended after revision %d and goes on in %.3f s: %s",
            self._subscription.consumer,
            self._subscription.namespace,
            self._cursor.revision,
            self._wait_seconds,
            self.last_error,
        )

    async def _leave_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()


class _Applied(NamedTuple):
    """An acknowledgement."""

    revision: int
    time: datetime


class _Stream:
    """One stream of a subscription: the reads, and one task that writes the acknowledgements."""

    def __init__(self, conversation: _Conversation, subscription: sync.Subscription) -> None:
        self.retry_delay_seconds: float | None = None
        """When to come back, as a service that goes down says."""
        self._conversation = conversation
        self._applied: _Applied | None = None
        self._wake = asyncio.Event()
        self._closing = False
        self._writer = asyncio.create_task(self._write(subscription))

    async def read(self, silence_seconds: float) -> sync.SubscribeResponse | None:
        """The next message, None at the end. Raises as `Conversation.read`."""
        self._conversation.expect_word_in(silence_seconds)
        message = await self._conversation.read()
        self._conversation.relax()  # between reads it is the consumer that takes its time
        return message

    def acknowledge(self, applied: _Applied) -> None:
        """Has `applied` written when its time comes, unless a later one comes before."""
        self._applied = applied
        self._wake.set()

    async def flush(self) -> None:
        """Waits until the last acknowledgement is written, within reason."""
        self._closing = True
        self._wake.set()
        if self._applied is not None:
            await asyncio.wait({self._writer}, timeout=FLUSH_SECONDS_MAX)

    async def close(self) -> None:
        """Ends the stream: the call first, so that the pending read ends by itself."""
        self._conversation.cancel()
        self._writer.cancel()
        await asyncio.wait({self._writer})

    async def _write(self, subscription: sync.Subscription) -> None:
        with contextlib.suppress(EpistreamError):  # the reader hears of it
            await self._conversation.write(sync.SubscribeRequest(subscribe=subscription))
            while not self._closing or self._applied is not None:
                await self._wake.wait()
                self._wake.clear()
                await self._write_acknowledgement()

    async def _write_acknowledgement(self) -> None:
        applied = self._applied
        if applied is None:
            return
        request = sync.SubscribeRequest()
        request.acknowledge.applied_revision = applied.revision
        request.acknowledge.applied_time.FromDatetime(applied.time)
        await self._conversation.write(request)
        if self._applied is applied:
            self._applied = None
        if not self._closing:
            await asyncio.sleep(ACKNOWLEDGE_INTERVAL_SECONDS)
