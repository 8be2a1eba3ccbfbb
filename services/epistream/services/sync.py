"""The servicer of `epistream.v1.SyncService`."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Final

from epistream.indexer import filters
from epistream.indexer.namespaces import Namespaces
from epistream.services.calls import Call, Calls, Context, Handler
from epistream.services.subscription import Parts, Subscription, Wanted, first_message
from epistream.v1 import sync_service_pb2 as api
from epistream.wire.errors import InvalidInput, Resync, State, Unavailable

SERVICE: Final = api.DESCRIPTOR.services_by_name["SyncService"].full_name

CONSUMER_CHARACTERS_MAX: Final = 200
PROGRESS_SECONDS_MIN: Final = 0.1
PROGRESS_SECONDS_MAX: Final = 60.0


class SyncServicer:
    """Pushes changes, and knows how far the consumers are. Used on the event loop's thread only."""

    def __init__(
        self, parts: Parts, namespaces: Namespaces, *, streams_max: int, progress_interval_seconds: float
    ) -> None:
        """`streams_max` bounds the subscriptions; `progress_interval_seconds` is for those that do not say."""
        self._parts, self._namespaces = parts, namespaces
        self._streams_max, self._progress_interval_seconds = streams_max, progress_interval_seconds
        self._subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)
        """By namespace."""
        self._seen: dict[str, tuple[int, frozenset[tuple[str, int]]]] = {}
        """Of each namespace the head, and whose alarms were on, when its subscriptions were last woken."""
        self._streams = 0
        """Of this method, from their beginning until gRPC has let go of them."""
        self._draining = False
        self._waking = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Have commits wake the subscriptions. Call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._unsubscribe = self._parts.feed.subscribe_to_commits(self._committed)

    def drain(self) -> None:
        """Tell every subscription that the service goes down, and end it."""
        self._draining = True
        for subscription in chain.from_iterable(self._subscriptions.values()):
            subscription.drain()

    def stop(self) -> None:
        """Be woken no more."""
        self._unsubscribe()

    def handlers(self, calls: Calls) -> dict[str, Handler]:
        """The service's methods."""
        return {
            "Subscribe": calls.stream("SyncService/Subscribe", self._subscribe, bounded=False),
            "ListConsumers": calls.unary(
                "SyncService/ListConsumers", api.ListConsumersRequest.FromString, self._list_consumers
            ),
            "WaitApplied": calls.unary(
                "SyncService/WaitApplied", api.WaitAppliedRequest.FromString, self._wait_applied
            ),
        }

    def _committed(self) -> None:
        """One wake-up for all subscriptions, whatever their number; called on the writer thread.

        Commits that come before the event loop gets to it share one: what finds `_waking` set was committed before the
        loop clears it, and is seen by the subscriptions then.
        """
        if self._loop is not None and not self._waking:
            self._waking = True
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        """Wake the subscriptions of namespaces that have moved: a thousand idle ones elsewhere cost nothing."""
        self._waking = False
        for namespace, subscriptions in self._subscriptions.items():
            seen = self._parts.feed.head(namespace), frozenset(self._parts.feed.alarms(namespace))
            if self._seen.get(namespace) != seen:
                self._seen[namespace] = seen
                for subscription in subscriptions:
                    subscription.committed()

    async def _subscribe(self, context: Context, call: Call) -> None:
        if self._streams >= self._streams_max:
            raise Unavailable(
                f"{self._streams_max} subscriptions are open, and no more are taken: try again",
                reason="OVERLOADED",
                retry_delay_seconds=5.0,
            )
        self._streams += 1
        call.held.callback(self._let_go)
        request = await first_message(context, call)
        call.heard = True
        call.note(request.namespace)
        may = partial(call.caller.require_subscription, request.namespace, request.consumer)
        may()
        wanted = self._checked(request)
        call.noted |= {"consumer": request.consumer, "afterRevision": wanted.after}
        with self._opened(context, call, wanted) as subscription:
            call.record(call, "OPENED")
            async with call.caller.standing(may):
                await subscription.run()

    def _let_go(self) -> None:
        self._streams -= 1

    @contextmanager
    def _opened(self, context: Context, call: Call, wanted: Wanted) -> Iterator[Subscription]:
        """A subscription that is counted, listed, woken and drained while it is open."""
        subscription = Subscription(self._parts, context, call, wanted)
        beside = self._subscriptions[wanted.request.namespace]
        beside.add(subscription)
        self._parts.metrics.watch_streams.inc()
        try:
            if self._draining:
                subscription.drain()
            yield subscription
        finally:
            beside.discard(subscription)
            self._parts.metrics.watch_streams.dec()
            self._parts.consumers.disconnect(subscription.stream)

    def _checked(self, request: api.Subscription) -> Wanted:
        """What a subscription wants.

        Raises:
            InvalidInput: a field is wrong.
            NotFound: there is no such namespace.
            Resync: it cannot start where it asks to.
        """
        state = self._namespaces.state(_required_namespace(request.namespace))
        start = _checked_start(request)
        filters.check(request.filter, "subscribe.filter")
        compacted = False
        if start == "after_revision":
            try:
                self._parts.feed.check_start(request.namespace, request.after_revision, request.epoch)
            except Resync as error:
                self._parts.metrics.watch_resyncs.labels(error.reason.lower()).inc()
                compacted = error.reason == "COMPACTED" and request.snapshot_if_compacted
                if not compacted:
                    raise
        resumed = start == "after_revision" and not compacted
        return Wanted(
            request=request,
            dimension=state.config.encoder.dimension,
            after=request.after_revision if resumed else self._parts.feed.head(request.namespace),
            snapshot=start == "snapshot" or compacted,
            compacted=compacted,
            interval_seconds=self._interval_seconds(request),
        )

    def _interval_seconds(self, request: api.Subscription) -> float:
        if not request.HasField("progress_interval"):
            return self._progress_interval_seconds
        seconds = request.progress_interval.seconds + request.progress_interval.nanos / 1e9
        if not PROGRESS_SECONDS_MIN <= seconds <= PROGRESS_SECONDS_MAX:
            raise InvalidInput.at(
                "subscribe.progress_interval",
                f"{seconds:g} seconds, must be {PROGRESS_SECONDS_MIN:g} to {PROGRESS_SECONDS_MAX:g}",
            )
        return seconds

    async def _list_consumers(self, request: api.ListConsumersRequest, _: Call) -> bytes:
        head = self._parts.feed.head(_required_namespace(request.namespace))
        answer = api.ListConsumersResponse(head_revision=head)
        for stream in self._parts.consumers.of(request.namespace):
            status = answer.consumers.add(
                consumer=stream.consumer,
                stream=stream.number,
                connected=stream.connected,
                sent_revision=stream.sent_revision,
                applied_revision=stream.applied_revision,
                lag_revisions=stream.lag(head),
            )
            if stream.acknowledged_us:
                status.acknowledged_time.FromMicroseconds(stream.acknowledged_us)
        return answer.SerializeToString()

    async def _wait_applied(self, request: api.WaitAppliedRequest, call: Call) -> bytes:
        feed = self._parts.feed
        head = feed.head(_required_namespace(request.namespace))
        if not request.revision:
            raise InvalidInput.at("revision", "must be set: 1 or more")
        if request.revision > head:
            raise Resync(
                f"revision {request.revision} is beyond the head, which is {head}",
                reason="FUTURE_REVISION",
                state=State(self._parts.epoch, head, feed.floor(request.namespace)),
            )
        # A little before the deadline, so that the answer that names those who are behind arrives in time.
        remaining = call.remaining_seconds()
        seconds = remaining - min(0.25, remaining / 10)
        async with call.caller.standing(partial(call.ask, request)):
            applied = await self._parts.consumers.applied(
                request.namespace, request.revision, request.consumers, seconds
            )
        return api.WaitAppliedResponse(applied=applied).SerializeToString()


def _required_namespace(name: str) -> str:
    if not name:
        raise InvalidInput.at("namespace", "must be set")
    return name


def _checked_start(request: api.Subscription) -> str:
    """Which of the three starts is asked for. Raises InvalidInput."""
    if not 1 <= len(request.consumer) <= CONSUMER_CHARACTERS_MAX:
        raise InvalidInput.at(
            "subscribe.consumer", f"{len(request.consumer)} characters, must be 1 to {CONSUMER_CHARACTERS_MAX}"
        )
    match request.WhichOneof("start"):
        case "after_revision":
            return "after_revision"
        case "head" if request.head:
            return "head"
        case "snapshot" if request.snapshot:
            return "snapshot"
        case None:
            raise InvalidInput.at("subscribe.start", "one of after_revision, head and snapshot must be set")
        case name:
            raise InvalidInput.at(f"subscribe.{name}", "must be true when set")
