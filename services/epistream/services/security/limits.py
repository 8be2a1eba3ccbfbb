"""How much one principal may use: rates, bytes at one time, streams. Used on the event loop's thread only."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from epistream.services.security.access import Limits, Principal
from epistream.wire.errors import InvalidInput, Unavailable

_REMEMBERED: Final = 10_000
"""Principals whose use is known. Those of JWTs have no end; the one that was idle longest is forgotten first."""
_ROOM_DELAY_SECONDS: Final = 0.2
_STREAMS_DELAY_SECONDS: Final = 5.0
_ARRIVING_MAX: Final = 32
"""Requests of one principal that take long to come: at 16 MiB each half a gibibyte."""
_ARRIVING_DELAY_SECONDS: Final = 1.0
_UNTAKEN_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of answers to one principal that it has not taken yet: gRPC keeps them, and their calls, though we have answered."""
_UNTAKEN_MAX: Final = 1024
"""How many such answers there may be, of one whose `calls` have no bound,"""
_UNTAKEN_SPARE: Final = 16
"""and how many more than its `calls`: that an answer was taken is heard a moment later."""
_UNREAD_AT_ONCE: Final = 5
_UNREAD_PER_SECOND: Final = 0.1
_UNREAD_OWED_MAX: Final = 2
"""Requests that are not read to their end: too large, which gRPC refuses by their first bytes, or broken off; which of
the two it does not tell. Nobody owes for more: a proxy that goes down breaks off many at once, and all that come
through it are one principal."""


class Bucket:
    """A token bucket; unless its size is said, of one second's worth, or of 1 at least.

    What is larger than the bucket is let through when it is full, and paid off afterwards: what must be sent whole can
    be sent, and the rate holds over time.
    """

    def __init__(self, per_second: float, now: Callable[[], float], size: float | None = None) -> None:
        """Starts full. `now` gives seconds."""
        self._per_second, self._now = per_second, now
        self._size = max(1.0, per_second) if size is None else size
        self._level, self._at = self._size, now()

    def delay_seconds(self) -> float:
        """How long until something may be taken; 0 when it may now."""
        self._fill()
        return max(0.0, (1.0 - self._level) / self._per_second)

    def take(self, count: float, owed_max: float = math.inf) -> None:
        """Take, into debt if need be, but not further than `owed_max`: ask `delay_seconds` before."""
        self._fill()
        self._level = max(self._level - count, min(self._level, -owed_max))

    def _fill(self) -> None:
        now = self._now()
        self._level = min(self._size, self._level + (now - self._at) * self._per_second)
        self._at = now


class Room:
    """A bound on the bytes that are worked on. One request larger than the bound has room when it is alone."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._taken = 0
        self._freed = asyncio.Event()

    @contextmanager
    def taken_at_once(self, size: int) -> Iterator[None]:
        """Take room, and give it back in the end. Raises Unavailable when there is none."""
        if not self._has(size):
            raise Unavailable(
                "too much is being worked on: send less at a time, or try again",
                reason="OVERLOADED",
                retry_delay_seconds=_ROOM_DELAY_SECONDS,
            )
        self._taken += size
        try:
            yield
        finally:
            self.give(size)

    async def take(self, size: int) -> None:
        """Wait for room and take it."""
        while not self._has(size):
            self._freed.clear()
            await self._freed.wait()
        self._taken += size

    def give(self, size: int) -> None:
        """Give room back."""
        self._taken -= size
        self._freed.set()

    @property
    def empty(self) -> bool:
        """Whether nothing is worked on."""
        return not self._taken

    def _has(self, size: int) -> bool:
        return not self._taken or self._taken + size <= self._bytes_max


class Allowance:
    """What one principal has used of its limits."""

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        """`now` gives seconds."""
        self.limits: Final = limits
        self._calls = _bucket(limits.calls_per_second, now)
        self._submissions = _bucket(limits.submissions_per_second, now)
        self._bytes = _bucket(limits.bytes_per_second, now)
        self._unread = Bucket(_UNREAD_PER_SECOND, now, _UNREAD_AT_ONCE)
        self._room = Room(limits.in_hand_bytes) if limits.in_hand_bytes is not None else None
        self._untaken_max = _UNTAKEN_MAX if limits.calls is None else limits.calls + _UNTAKEN_SPARE
        self._streams = self._open_calls = self._arriving = self._untaken = self._untaken_bytes = 0

    @property
    def idle(self) -> bool:
        """Whether nothing of it is in use, and nothing owed."""
        if self.delay_seconds() > 0 or (self._calls is not None and self._calls.delay_seconds() > 0):
            return False
        if self._unread.delay_seconds() > 0:
            return False
        if self._streams or self._open_calls or self._untaken:
            return False
        return self._room is None or self._room.empty

    def begin_call(self) -> None:
        """Count a call. Raises Unavailable, RATE_LIMITED."""
        wait = self._unread.delay_seconds()
        if wait > 0:
            raise Unavailable(
                "too many requests of yours were too large to be read, or broken off:"
                f" wait {wait:.0f} s, and send less at a time",
                reason="RATE_LIMITED",
                retry_delay_seconds=wait,
            )
        if self._calls is not None:
            _refuse_delay("calls", self.limits.calls_per_second, self._calls.delay_seconds())
            self._calls.take(1)

    def begin_submitting(self) -> None:
        """The same for a call with submissions, which is refused before they are read when none may come now."""
        self.begin_call()
        self.admit_submissions()

    def unread(self) -> None:
        """A request was too large to be read, or broken off: after a few of them no call begins for some seconds."""
        self._unread.take(1, _UNREAD_OWED_MAX)

    def check_size(self, size: int) -> None:
        """Raises InvalidInput, TOO_LARGE, for a message of so many bytes."""
        most = self.limits.message_bytes
        if most is not None and size > most:
            raise InvalidInput(
                f"the message has {size:,} bytes, you may send {most:,}: send less at a time", reason="TOO_LARGE"
            )

    def admit_submissions(self) -> None:
        """Raises Unavailable, RATE_LIMITED, unless submissions may come now. What comes is paid with `pay`."""
        for bucket, what, most in self._ingest():
            _refuse_delay(what, most, bucket.delay_seconds())

    def delay_seconds(self) -> float:
        """How long until submissions may come: a stream waits, and is not turned away."""
        return max((bucket.delay_seconds() for bucket, _, _ in self._ingest()), default=0.0)

    def pay(self, count: int, size: int) -> None:
        """Count submissions, and bytes, into debt if need be."""
        if self._submissions is not None:
            self._submissions.take(count)
        if self._bytes is not None:
            self._bytes.take(size)

    @contextmanager
    def in_hand(self, size: int) -> Iterator[None]:
        """Work on a request of so many bytes. Raises Unavailable, OVERLOADED."""
        if self._room is None:
            yield
        else:
            with self._room.taken_at_once(size):
                yield

    async def take_room(self, size: int) -> None:
        """The same for a message of a stream, which waits. Give it back with `give_room`."""
        if self._room is not None:
            await self._room.take(size)

    def give_room(self, size: int) -> None:
        """Give back what `take_room` took."""
        if self._room is not None:
            self._room.give(size)

    def check_untaken(self, size: int = 0) -> None:
        """Raises Unavailable, OVERLOADED, while too many answers are not taken for one more, of so many bytes."""
        full = self._untaken_bytes and self._untaken_bytes + size >= _UNTAKEN_BYTES_MAX
        if full or self._untaken >= self._untaken_max:
            raise Unavailable(
                f"you have not taken {self._untaken} answers with {self._untaken_bytes:,} bytes: read them first",
                reason="OVERLOADED",
                retry_delay_seconds=_ROOM_DELAY_SECONDS,
            )

    def answered(self, size: int) -> None:
        """An answer of so many bytes is on its way. Raises as `check_untaken`. End it with `taken`."""
        self.check_untaken(size)
        self._untaken += 1
        self._untaken_bytes += size

    def taken(self, size: int) -> None:
        """The client has taken the answer, or is gone."""
        self._untaken -= 1
        self._untaken_bytes -= size

    @contextmanager
    def call(self) -> Iterator[None]:
        """Have a unary call open. Raises Unavailable, OVERLOADED."""
        most = self.limits.calls
        if most is not None and self._open_calls >= most:
            raise Unavailable(
                f"you have {most} calls open, and may have no more: wait for one to end",
                reason="OVERLOADED",
                retry_delay_seconds=_ROOM_DELAY_SECONDS,
            )
        self._open_calls += 1
        try:
            yield
        finally:
            self._open_calls -= 1

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Have a request on its way that takes long to come: up to all of it is in memory. Raises Unavailable."""
        if self._arriving >= _ARRIVING_MAX:
            raise Unavailable(
                f"{_ARRIVING_MAX} requests of yours are on their way and take long: send less at a time",
                reason="OVERLOADED",
                retry_delay_seconds=_ARRIVING_DELAY_SECONDS,
            )
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Have a stream open. Raises Unavailable, OVERLOADED."""
        most = self.limits.streams
        if most is not None and self._streams >= most:
            raise Unavailable(
                f"you have {most} streams open, and may have no more: end one first",
                reason="OVERLOADED",
                retry_delay_seconds=_STREAMS_DELAY_SECONDS,
            )
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def _ingest(self) -> list[tuple[Bucket, str, float | None]]:
        both = (
            (self._submissions, "submissions", self.limits.submissions_per_second),
            (self._bytes, "bytes", self.limits.bytes_per_second),
        )
        return [(bucket, what, most) for bucket, what, most in both if bucket is not None]


class Allowances:
    """The allowance of each principal."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` gives seconds."""
        self._now = now
        self._known: OrderedDict[str, Allowance] = OrderedDict()

    def of(self, principal: Principal) -> Allowance:
        """What a principal has used, anew when its limits have changed."""
        known = self._known.get(principal.name)
        if known is None or known.limits != principal.limits:
            known = self._known[principal.name] = Allowance(principal.limits, self._now)
            self._forget(keep=known)
        self._known.move_to_end(principal.name)
        return known

    def _forget(self, keep: Allowance) -> None:
        if len(self._known) > _REMEMBERED:
            others = ((name, one) for name, one in self._known.items() if one is not keep)
            idle = next((name for name, allowance in others if allowance.idle), None)
            if idle is not None:
                del self._known[idle]


def _bucket(per_second: float | None, now: Callable[[], float]) -> Bucket | None:
    return Bucket(per_second, now) if per_second is not None else None


def _refuse_delay(what: str, most: float | None, delay_seconds: float) -> None:
    if delay_seconds > 0:
        raise Unavailable(
            f"you may send {most:g} {what} a second: wait {delay_seconds:.2f} seconds",
            reason="RATE_LIMITED",
            retry_delay_seconds=delay_seconds,
        )
