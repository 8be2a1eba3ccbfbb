"""Who consumes what, and how far each is. Kept in memory; used on the event loop's thread, except for `behind`."""

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from epistream.wire.errors import InvalidInput, Unavailable

DISCONNECTED_MAX: Final = 1000
"""How many streams of a namespace are remembered after they have ended, the newest: about a kilobyte each."""
UNACKNOWLEDGED_MAX: Final = 1024
"""How many sent messages of a stream are remembered until they are acknowledged, the newest."""


@dataclass(slots=True, eq=False)
class Stream:
    """One subscription of a consumer."""

    namespace: str
    consumer: str
    number: int
    """Numbers the streams of the namespace since the service started."""
    sent_revision: int
    """Everything that matches up to here was sent, or was the consumer's before."""
    passed_revision: int
    """Everything up to here was sent or does not match; unlike `sent_revision` the consumer need not know it yet."""
    changes_revision: int
    """The newest change that was sent is not beyond this."""
    connected: bool = True
    applied_revision: int = 0
    acknowledged_us: int = 0
    """When it last acknowledged, microseconds by the service's clock; 0 when it never did."""
    unacknowledged: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=UNACKNOWLEDGED_MAX))
    """Of messages whose changes were committed while the stream was open: the last revision, and when the oldest change
    was committed, microseconds."""

    def lag(self, head_revision: int) -> int:
        """How many revisions it is behind."""
        return max(0, head_revision - (self.applied_revision if self.acknowledged_us else self.sent_revision))

    @property
    def done_revision(self) -> int:
        """Up to here nothing is missing: it was applied or does not match; sent, of one that does not acknowledge."""
        waits = self.acknowledged_us and self.applied_revision < self.changes_revision
        return self.applied_revision if waits else self.passed_revision


@dataclass(frozen=True, slots=True)
class Behind:
    """How far the consumers of a namespace are behind."""

    lag_revisions: int
    """Of the open subscription that is furthest behind, from its newest revision to the head."""
    slow_consumers: int
    """How many consumers have an open subscription that lacks what is old enough to be there."""


@dataclass(slots=True)
class _Followers:
    """The streams of one namespace, and who waits until they have applied something."""

    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    connected: set[Stream] = field(default_factory=set)
    disconnected: deque[Stream] = field(default_factory=lambda: deque(maxlen=DISCONNECTED_MAX))
    opened: defaultdict[str, set[Stream]] = field(default_factory=lambda: defaultdict(set))
    """Those that are connected, by consumer."""
    applied: dict[str, int] = field(default_factory=dict)
    """By consumer: up to where all its open streams have applied, or if none is open, its newest."""
    moved: set[str] = field(default_factory=set)
    """Consumers with open streams for which nobody waited when they moved: `applied` is of before."""
    waiting: defaultdict[str, dict[asyncio.Future[None], int]] = field(default_factory=lambda: defaultdict(dict))
    """By consumer: who waits for it, each with the revision."""

    def open(self, stream: Stream) -> None:
        """A stream has opened."""
        self.connected.add(stream)
        self.opened[stream.consumer].add(stream)
        self.move(stream.consumer)

    def end(self, stream: Stream) -> None:
        """A stream has ended. The one that ended first may be forgotten for it."""
        self.connected.discard(stream)
        self.opened[stream.consumer].discard(stream)
        if not self.opened[stream.consumer]:
            del self.opened[stream.consumer]
        forgotten = self.disconnected[0] if len(self.disconnected) == self.disconnected.maxlen else stream
        self.disconnected.append(stream)
        for consumer in {stream.consumer, forgotten.consumer}:
            self._look(consumer)

    def move(self, consumer: str) -> None:
        """A stream of a consumer is not where it was."""
        if consumer in self.waiting:
            self._look(consumer)
        else:
            self.moved.add(consumer)

    def has_applied(self, consumer: str, revision: int) -> bool:
        """Whether a consumer has applied a revision."""
        if consumer in self.moved:
            self._look(consumer)
        return self.applied.get(consumer, 0) >= revision

    def lacking(self, consumers: Iterable[str], revision: int) -> list[str]:
        """Which of the consumers have not applied a revision, sorted."""
        return sorted(consumer for consumer in consumers if not self.has_applied(consumer, revision))

    async def reach(self, consumer: str, revision: int) -> None:
        """Wait until a consumer has applied a revision that it has not."""
        reached = asyncio.get_running_loop().create_future()
        waiting = self.waiting[consumer]
        waiting[reached] = revision
        try:
            await reached
        finally:
            del waiting[reached]
            if not waiting:
                del self.waiting[consumer]

    def _look(self, consumer: str) -> None:
        """See how far a consumer is, and wake who waits for no more than that."""
        self.moved.discard(consumer)
        judged = self.opened.get(consumer) or self._newest(consumer)
        if not judged:
            self.applied.pop(consumer, None)
            return
        applied = self.applied[consumer] = min(stream.applied_revision for stream in judged)
        for reached, revision in self.waiting.get(consumer, {}).items():
            if revision <= applied and not reached.done():
                reached.set_result(None)

    def _newest(self, consumer: str) -> list[Stream]:
        """The newest stream of a consumer that is remembered; none where none is."""
        return sorted((s for s in self.disconnected if s.consumer == consumer), key=lambda s: s.number)[-1:]


class Consumers:
    """Every stream that is open, and the newest of those that were."""

    def __init__(self) -> None:
        self._followers = defaultdict[str, _Followers](_Followers)

    def connect(self, namespace: str, consumer: str, after_revision: int) -> Stream:
        """A stream has opened that begins after a revision."""
        followers = self._followers[namespace]
        number = next(followers.numbers)
        stream = Stream(namespace, consumer, number, after_revision, after_revision, after_revision)
        followers.open(stream)
        return stream

    def disconnect(self, stream: Stream) -> None:
        """A stream has ended."""
        stream.connected = False
        stream.unacknowledged.clear()
        self._followers[stream.namespace].end(stream)

    def acknowledge(self, stream: Stream, revision: int, now_us: int) -> list[int]:
        """A consumer has applied everything up to `revision`.

        Returns:
            When the messages that are acknowledged by it were committed, microseconds.

        Raises:
            InvalidInput: it was not sent that far, or said more before.
        """
        if revision > stream.sent_revision:
            raise InvalidInput.at(
                "acknowledge.applied_revision", f"{revision} is beyond what was sent, which is {stream.sent_revision}"
            )
        if revision < stream.applied_revision:
            raise InvalidInput.at(
                "acknowledge.applied_revision", f"{revision} is before {stream.applied_revision}, acknowledged earlier"
            )
        stream.applied_revision, stream.acknowledged_us = revision, now_us
        committed_us = []
        while stream.unacknowledged and stream.unacknowledged[0][0] <= revision:
            committed_us.append(stream.unacknowledged.popleft()[1])
        self._followers[stream.namespace].move(stream.consumer)
        return committed_us

    def of(self, namespace: str) -> list[Stream]:
        """The streams of a namespace, by consumer and number."""
        followers = self._followers[namespace]
        return sorted((*followers.connected, *followers.disconnected), key=lambda s: (s.consumer, s.number))

    def behind(self, namespace: str, head_revision: int, old_revision: int) -> Behind:
        """How far the open streams of a namespace are behind.

        Any thread: the streams are copied in one step.

        Args:
            namespace: the namespace.
            head_revision: its head.
            old_revision: whoever does not have this yet is slow.
        """
        followers = self._followers.get(namespace)
        done = [(s.done_revision, s.consumer) for s in tuple(followers.connected)] if followers is not None else []
        return Behind(
            lag_revisions=max((max(0, head_revision - revision) for revision, _ in done), default=0),
            slow_consumers=len({consumer for revision, consumer in done if revision < old_revision}),
        )

    async def applied(self, namespace: str, revision: int, names: Iterable[str], seconds: float) -> list[str]:
        """Wait until consumers have applied a revision; returns their names.

        A consumer has applied what all its open streams have, or if none is open, its newest.

        Args:
            namespace: the namespace.
            revision: the revision, 1 or more.
            names: these; when empty, all that are connected now.
            seconds: how long to wait.

        Raises:
            Unavailable: DEADLINE, naming those that have not.
        """
        followers = self._followers[namespace]
        wanted = set(names) or {stream.consumer for stream in followers.connected}
        try:
            async with asyncio.timeout(seconds):
                # Looked at again: one that had applied it may have opened a stream since then that has not.
                while lacking := followers.lacking(wanted, revision):
                    for consumer in lacking:
                        if not followers.has_applied(consumer, revision):
                            await followers.reach(consumer, revision)
        except TimeoutError as error:
            if lacking := followers.lacking(wanted, revision):
                behind = ", ".join(lacking)
                raise Unavailable(f"revision {revision} is not yet applied by {behind}", reason="DEADLINE") from error
        return sorted(wanted)
