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
    """The streams of one namespace."""

    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    connected: set[Stream] = field(default_factory=set)
    disconnected: deque[Stream] = field(default_factory=lambda: deque(maxlen=DISCONNECTED_MAX))
    moved: asyncio.Event | None = None
    """There while somebody waits until consumers have applied something."""

    def wake(self) -> None:
        """Whoever waits looks again."""
        if self.moved is not None:
            self.moved.set()
            self.moved = None


class Consumers:
    """Every stream that is open, and the newest of those that were."""

    def __init__(self) -> None:
        self._followers = defaultdict[str, _Followers](_Followers)

    def connect(self, namespace: str, consumer: str, after_revision: int) -> Stream:
        """A stream has opened that begins after a revision."""
        followers = self._followers[namespace]
        number = next(followers.numbers)
        stream = Stream(namespace, consumer, number, after_revision, after_revision, after_revision)
        followers.connected.add(stream)
        return stream

    def disconnect(self, stream: Stream) -> None:
        """A stream has ended."""
        stream.connected = False
        stream.unacknowledged.clear()
        followers = self._followers[stream.namespace]
        followers.connected.discard(stream)
        followers.disconnected.append(stream)
        followers.wake()

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
        self._followers[stream.namespace].wake()
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
            revision: the revision.
            names: these; when empty, all that are connected now.
            seconds: how long to wait.

        Raises:
            Unavailable: DEADLINE, naming those that have not.
        """
        followers = self._followers[namespace]
        wanted = set(names) or {stream.consumer for stream in followers.connected}
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                while not wanted <= self._having_applied(namespace, revision):
                    followers.moved = followers.moved or asyncio.Event()
                    await followers.moved.wait()
        except TimeoutError as error:
            behind = ", ".join(sorted(wanted - self._having_applied(namespace, revision)))
            raise Unavailable(f"revision {revision} is not yet applied by {behind}", reason="DEADLINE") from error
        return sorted(wanted)

    def _having_applied(self, namespace: str, revision: int) -> set[str]:
        streams = defaultdict[str, list[Stream]](list)
        for stream in self.of(namespace):
            streams[stream.consumer].append(stream)
        judged = {name: [s for s in all_ if s.connected] or all_[-1:] for name, all_ in streams.items()}
        return {name for name, all_ in judged.items() if all(s.applied_revision >= revision for s in all_)}
