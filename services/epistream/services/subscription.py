"""One subscription: a cursor into the journal, and the stream that it is pushed over.

There is no queue. Whatever was committed since the cursor stands in the feed; the loop here takes as much as fits into
a message, sends it, and takes the next. So changes that come while a message is being sent are together in the next
one, an idle subscription costs nothing, and a consumer that does not read stops only its own loop.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from google.protobuf.message import DecodeError

from epistream.indexer.clock import Clock
from epistream.indexer.feed import Batch, Feed, Wish
from epistream.services.calls import Call, Context, read_message
from epistream.services.consumers import Consumers
from epistream.services.errors import undecodable, unexpected
from epistream.services.metrics import Metrics
from epistream.services.tracing import Traces
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import raw_pb2
from epistream.v1 import sync_service_pb2 as api
from epistream.wire.errors import EpistreamError, InvalidInput, Resync

_T = TypeVar("_T")

FIRST_MESSAGE_SECONDS: Final = 10.0
"""How long a client may take to say what it subscribes to."""
_ALARMS_MAX: Final = 100
"""So many collapse alarms are told at most, half a kilobyte each; ListAlarms has all."""
_DRAIN_DELAY_SECONDS: Final = (0.1, 1.0)
"""Between these each client is asked to come back, so that not all do at once."""
_UNANSWERED_MAX: Final = 64
"""Whoever leaves this many messages unacknowledged is paced: decision 0016."""
_PACE_SECONDS: Final = (0.2, 0.6)
"""Between these such a stream waits after each message; by chance, so that those beside it are not sent to at once."""

_SAID_BYTES_MAX: Final = 4096
"""An acknowledgement has less than 64 bytes; what a later version may say has room, too."""
_SAID_AT_ONCE: Final = 64
"""So many messages of a client are read as they come, and one more for each change that is sent to it."""
_SAID_SECONDS: Final = 0.05
"""After each one beyond these the next is read so much later. Acknowledgements are cumulative, so none is missed."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What every subscription works with."""

    feed: Feed
    epoch: str
    consumers: Consumers
    metrics: Metrics
    clock: Clock
    readers: Executor
    """For what blocks: reading the journal and snapshots."""
    traces: Traces | None = None
    """Is told what is pushed; None where nothing is followed."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A subscription's request, checked."""

    request: api.Subscription
    dimension: int
    after: int
    """Where it starts; a snapshot's own revision."""
    snapshot: bool
    compacted: bool
    """The snapshot is because the revision asked for is no longer retained."""
    interval_seconds: float


async def first_message(context: Context, call: Call) -> api.Subscription:
    """What a client subscribes to.

    Raises:
        InvalidInput: its first message is something else, is larger than the caller may send, or does not come.
    """
    reading = asyncio.create_task(read_message(context))
    await asyncio.wait({reading}, timeout=FIRST_MESSAGE_SECONDS)
    if not reading.done():
        raise InvalidInput(f"the first message did not come within {FIRST_MESSAGE_SECONDS:.0f} seconds: subscribe")
    message = _parsed(reading.result() or b"", call)
    if message.WhichOneof("message") != "subscribe":
        raise InvalidInput.at("subscribe", "the first message must be a subscription")
    return message.subscribe


class Subscription:
    """A stream from its first message to its end. Whoever makes it disconnects its `stream` in the end.

    Attributes:
        stream: what ListConsumers knows of it.
    """

    def __init__(self, parts: Parts, context: Context, call: Call, wanted: Wanted) -> None:
        self._parts, self._context, self._call, self._wanted = parts, context, call, wanted
        request = wanted.request
        self._namespace = request.namespace
        self._wish = Wish.of(
            request.filter, include_embeddings=request.include_embeddings, include_late=request.include_late
        )
        self._cursor = 0 if wanted.snapshot else wanted.after
        self._failure: EpistreamError | None = None
        self._drain_delay_seconds: float | None = None
        self._now = asyncio.get_running_loop().time
        self._sent_at = self._now()
        self._told_at = -math.inf
        self._alarmed: frozenset[tuple[str, int]] = frozenset()
        """Whose collapse alarm was on when that was last told."""
        self._opened_us = parts.clock.now_us()
        self._listening: asyncio.Task[None] | None = None
        self._pacing = False
        self._may_say = _SAID_AT_ONCE
        """So many more messages of the client's are read as they come."""
        self._wake = asyncio.Event()
        """Set when there may be something to do: a commit, an acknowledgement that is wrong, the end of the service."""
        self.stream: Final = parts.consumers.connect(self._namespace, request.consumer, self._cursor)

    def committed(self) -> None:
        """There is something new: a change, or an alarm. A stream that is paced sees it when its time has come."""
        if not self._pacing:
            self._wake.set()

    def drain(self) -> None:
        """End the stream as soon as what is being sent is sent."""
        self._drain_delay_seconds = random.uniform(*_DRAIN_DELAY_SECONDS)  # noqa: S311 - spreads clients, hides nothing
        self._wake.set()

    async def run(self) -> None:
        """Push until the service goes down; ended by cancellation when the client is gone, or may no longer.

        Raises:
            InvalidInput: the client sent something wrong.
            Resync: the client was so slow that its revision is no longer retained, and it wants no snapshot then.
            EpistreamError: a bug, found while listening to it.
        """
        self._listening = asyncio.create_task(self._listen())
        await self._write(self._subscribed())
        if self._wanted.snapshot:
            await self._send_snapshot(self._wanted.after, compacted=self._wanted.compacted)
        await self._follow()

    async def _listen(self) -> None:
        """Take acknowledgements until the client sends no more, no faster than it may need to send them.

        Runs as a task that nobody cancels. It ends when the client half-closes, and with the call.
        """
        try:
            while (raw := await read_message(self._context)) is not None:
                _check_later(raw)
                self._take(_parsed(raw, self._call))
                if self._may_say:
                    self._may_say -= 1
                else:
                    await asyncio.sleep(_SAID_SECONDS)
        except EpistreamError as error:
            self._end(error)
        except Exception as error:  # noqa: BLE001 - a bug ends this stream and is logged
            self._end(unexpected(error, "SyncService/Subscribe"))

    def _end(self, error: EpistreamError) -> None:
        """End the stream with an error, as soon as what is being sent is sent."""
        self._failure = error
        self._wake.set()

    def _take(self, message: api.SubscribeRequest) -> None:
        if not self.stream.connected:
            return  # it was cut off, and its client has not heard it yet
        match message.WhichOneof("message"):
            case "acknowledge":
                now_us = self._parts.clock.now_us()
                revision = message.acknowledge.applied_revision
                for committed_us in self._parts.consumers.acknowledge(self.stream, revision, now_us):
                    self._parts.metrics.applied_latency.observe(max(0, now_us - committed_us) / 1e6)
                if self._pacing and not self._is_silent:
                    self._wake.set()
            case "subscribe":
                raise InvalidInput.at("subscribe", "a stream has one subscription: open another stream for another")
            case _:
                pass  # a kind of a later version

    async def _follow(self) -> None:
        while self._drain_delay_seconds is None:
            self._wake.clear()
            if self._failure is not None:
                raise self._failure
            if self._now() >= self._progress_due() or self._alarmed != self._alarms().keys():
                await self._send_progress()
            elif self._parts.feed.head(self._namespace) > self._cursor:
                if await self._push():
                    await self._pace()
            else:
                await self._wait_until(self._progress_due())
        drain = api.Drain(revision=self._cursor)
        drain.retry_delay.FromMilliseconds(int(self._drain_delay_seconds * 1000))
        await self._write(api.SubscribeResponse(drain=drain).SerializeToString())

    async def _push(self) -> bool:
        """Send the next changes, or move the cursor over those that do not match. Whether changes were sent."""
        feed, cursor = self._parts.feed, self._cursor
        batch = feed.recent(self._namespace, cursor, self._wish)
        if batch is None:
            try:
                batch = await self._read(lambda: feed.replay(self._namespace, cursor, self._wish))
            except Resync as error:
                self._parts.metrics.watch_resyncs.labels(error.reason.lower()).inc()
                if error.reason != "COMPACTED" or not self._wanted.request.snapshot_if_compacted:
                    raise
                await self._send_snapshot(feed.head(self._namespace), compacted=True)
                return False
        self._cursor = self.stream.passed_revision = batch.last_revision
        if batch.count:
            self.stream.sent_revision = self.stream.changes_revision = self._cursor
            begun_ns = time.time_ns()
            await self._send_changes(batch)
            if self._parts.traces is not None:
                self._parts.traces.pushed(self._namespace, self._wanted.request.consumer, cursor, batch, begun_ns)
        return batch.count > 0

    async def _pace(self) -> None:
        """Wait before the next changes if the consumer does not say that it has applied what it got.

        Not while it is behind the head: its messages are full then, and it would fall further behind. Nor longer than
        until it is to be told how far the stream is.
        """
        if not self._is_silent or self._parts.feed.head(self._namespace) > self._cursor:
            return
        due = self._now() + random.uniform(*_PACE_SECONDS)  # noqa: S311 - spreads the streams, hides nothing
        self._pacing = True
        self._wake.clear()
        if self._failure is None and self._drain_delay_seconds is None:
            await self._wait_until(min(due, self._progress_due()))
        self._pacing = False

    @property
    def _is_silent(self) -> bool:
        return len(self.stream.unacknowledged) >= _UNANSWERED_MAX

    async def _send_changes(self, batch: Batch) -> None:
        oldest_us = batch.commit_times_us[0]
        live = oldest_us >= self._opened_us
        if live:
            self.stream.unacknowledged.append((batch.last_revision, oldest_us))
        self._may_say += batch.count
        await self._write(raw_pb2.RawSubscribeResponse(changes=batch.body).SerializeToString())
        if live:
            self._parts.metrics.push_latency.observe(max(0, self._parts.clock.now_us() - oldest_us) / 1e6)

    async def _send_snapshot(self, at: int, *, compacted: bool) -> None:
        """Send everything that is in answers at the revision `at`, and go on from there."""
        feed, count, after = self._parts.feed, 0, 0
        begin = api.SnapshotBegin(revision=at, compacted=compacted)
        await self._write(api.SubscribeResponse(snapshot_begin=begin).SerializeToString())
        while after < at and self._drain_delay_seconds is None:
            if self._failure is not None:
                raise self._failure
            chunk = await self._read(partial(feed.snapshot, self._namespace, at, after, self._wish))
            after, count = chunk.last_revision, count + chunk.count
            if chunk.count:
                await self._write(raw_pb2.RawSubscribeResponse(snapshot=chunk.body).SerializeToString())
            elif self._now() >= self._progress_due():
                await self._send_progress()
        if after < at:
            return  # the service goes down: a snapshot that did not end is forgotten
        self._cursor = at
        self.stream.sent_revision = self.stream.passed_revision = self.stream.changes_revision = at
        end = api.SnapshotEnd(revision=at, count=count)
        await self._write(api.SubscribeResponse(snapshot_end=end).SerializeToString())

    async def _send_progress(self) -> None:
        self._told_at = self._now()
        self.stream.sent_revision = max(self.stream.sent_revision, self._cursor)
        progress = api.Progress(revision=self._cursor, head_revision=self._parts.feed.head(self._namespace))
        progress.time.FromMicroseconds(self._parts.clock.now_us())
        alarms = self._alarms()
        self._alarmed = frozenset(alarms)
        newest = sorted(alarms.values(), key=lambda alarm: (-alarm.since_revision, alarm.producer, alarm.modality))
        progress.alarms.extend(newest[:_ALARMS_MAX])
        await self._write(api.SubscribeResponse(progress=progress).SerializeToString())

    def _alarms(self) -> Mapping[tuple[str, int], pb.CollapseAlarm]:
        return self._parts.feed.alarms(self._namespace)

    def _progress_due(self) -> float:
        """When to say how far the stream is: after silence, or once the cursor has moved on without a message."""
        silent_since = self._told_at if self._cursor > self.stream.sent_revision else self._sent_at
        return silent_since + self._wanted.interval_seconds

    def _subscribed(self) -> bytes:
        subscribed = api.Subscribed(
            epoch=self._parts.epoch,
            head_revision=self._parts.feed.head(self._namespace),
            after_revision=self._wanted.after,
            dimension=self._wanted.dimension,
        )
        return api.SubscribeResponse(subscribed=subscribed).SerializeToString()

    async def _write(self, message: bytes) -> None:
        await self._context.write(message)
        self._sent_at = self._now()

    async def _read(self, read: Callable[[], _T]) -> _T:
        """What `read` gives, which a thread runs. While that lasts, the client is told that its stream lives."""
        reading = asyncio.get_running_loop().run_in_executor(self._parts.readers, read)
        try:
            while not reading.done():
                await asyncio.wait({reading}, timeout=max(0.0, self._progress_due() - self._now()))
                if not reading.done():
                    await self._send_progress()
        finally:
            reading.cancel()
        return reading.result()

    async def _wait_until(self, due: float) -> None:
        try:
            async with asyncio.timeout_at(due):
                await self._wake.wait()
        except TimeoutError:
            pass


def _check_later(raw: bytes) -> None:
    """Raises InvalidInput, TOO_LARGE, for a message after the first that is larger than any of use."""
    if len(raw) > _SAID_BYTES_MAX:
        text = f"the message has {len(raw):,} bytes, after the first one {_SAID_BYTES_MAX:,} may be sent"
        raise InvalidInput(text, reason="TOO_LARGE")


def _parsed(raw: bytes, call: Call) -> api.SubscribeRequest:
    call.caller.allowance.check_size(len(raw))
    try:
        return api.SubscribeRequest.FromString(raw)
    except DecodeError as error:
        raise undecodable("SubscribeRequest") from error
