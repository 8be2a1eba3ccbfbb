"""What surrounds every call, in one place: admission, deadline, errors as statuses, metrics, and the end of it all.

Nothing here runs for each message of a stream.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from epistream.services.errors import grpc_status, undecodable, unexpected
from epistream.services.metrics import Metrics
from epistream.wire.errors import EpistreamError, InvalidInput, Unavailable

_Request = TypeVar("_Request")
Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"

_RETRY_DELAY_SECONDS: Final = 0.5
_QUIET_SECONDS: Final = 0.1
_QUIET_TRIALS: Final = 5
"""Going down, the service waits this long, so often at most, until no call comes any more."""


async def read_message(context: Context) -> bytes | None:
    """The next message of a client's stream; None when there are no more, or the call has ended.

    Run it as a task and do not cancel it: a cancelled read leaks in grpc.aio (grpc issue 43360). It ends with the call.
    """
    try:
        message: object = await context.read()
    except grpc.aio.UsageError:
        return None
    return message if isinstance(message, bytes) else None


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a call must have been answered."""

    at_seconds: float
    """By `time.monotonic`."""

    def remaining_seconds(self) -> float:
        """How long there is; not below zero."""
        return max(0.0, self.at_seconds - time.monotonic())


class Calls:
    """Every call that is open. Used on the event loop's thread only."""

    def __init__(self, metrics: Metrics, *, calls_max: int, unary_seconds: float, answer_bytes_max: int) -> None:
        """Set the bounds.

        Args:
            metrics: where calls are counted.
            calls_max: how many unary calls and submitting streams may be open; subscriptions have a bound of their own.
            unary_seconds: the deadline of a unary call that brings none.
            answer_bytes_max: the largest answer that is sent.
        """
        self._metrics, self._calls_max = metrics, calls_max
        self._unary_seconds, self._answer_bytes_max = unary_seconds, answer_bytes_max
        self._open = 0
        self._bounded = 0
        self._turned_away = 0
        self._none_open = asyncio.Event()
        self._none_open.set()
        self.draining = asyncio.Event()
        """Set when the service goes down: no call begins any more, and streams are to end."""

    async def drained(self, seconds: float) -> bool:
        """Begin no more calls, and wait until the open ones have ended; false when some have not after `seconds`."""
        self.draining.set()
        try:
            async with asyncio.timeout(seconds):
                await self._none_open.wait()
        except TimeoutError:
            return False
        # Calls that gRPC has taken but not yet handed over are answered too, with UNAVAILABLE; it would cancel them.
        for _ in range(_QUIET_TRIALS):
            before = self._turned_away
            await asyncio.sleep(_QUIET_SECONDS)
            if self._turned_away == before:
                break
        return True

    def unary(
        self,
        method: str,
        parse: Callable[[bytes], _Request],
        answer: Callable[[_Request, Deadline], Awaitable[bytes]],
    ) -> Handler:
        """Serve a unary method.

        Args:
            method: its name, such as `KnowledgeService/Get`.
            parse: makes the request of its bytes; may raise DecodeError.
            answer: makes the encoded response; may raise EpistreamError.
        """

        async def serve(raw: bytes, context: Context) -> bytes:
            async with self._around(method, context, bounded=True):
                response = await self._in_time(context, answer, _parsed(method, parse, raw))
                if len(response) > self._answer_bytes_max:
                    raise InvalidInput(
                        f"the answer has {len(response):,} bytes, at most {self._answer_bytes_max:,} are sent:"
                        " ask for less at a time",
                        reason="TOO_LARGE",
                    )
            return response

        return grpc.unary_unary_rpc_method_handler(serve)

    def stream(self, method: str, converse: Callable[[Context], Awaitable[None]], *, bounded: bool) -> Handler:
        """Serve a method with streams both ways.

        Args:
            method: its name, such as `SyncService/Subscribe`.
            converse: reads from and writes to the context until the stream is to end; may raise EpistreamError.
            bounded: whether it counts for the bound.
        """

        async def serve(_requests: object, context: Context) -> None:
            async with self._around(method, context, bounded=bounded):
                await converse(context)

        return grpc.stream_stream_rpc_method_handler(serve)

    def answer_stream(
        self,
        method: str,
        parse: Callable[[bytes], _Request],
        send: Callable[[_Request, Context], Awaitable[None]],
    ) -> Handler:
        """Serve a method with one request and a stream of answers. It does not count for the bound.

        Args:
            method: its name, such as `AdminService/Backup`.
            parse: makes the request of its bytes; may raise DecodeError.
            send: writes encoded answers to the context until there are no more; may raise EpistreamError. It ends by
                itself when `draining` is set.
        """

        async def serve(raw: bytes, context: Context) -> None:
            async with self._around(method, context, bounded=False):
                await send(_parsed(method, parse, raw), context)

        return grpc.unary_stream_rpc_method_handler(serve)

    @asynccontextmanager
    async def _around(self, method: str, context: Context, *, bounded: bool) -> AsyncIterator[None]:
        begun = time.monotonic()
        code = "CANCELLED"
        try:
            with self._admitted(bounded=bounded):
                yield
            code = "OK"
        except Exception as error:  # noqa: BLE001 - the border: nothing of the inside goes further
            ours = error if isinstance(error, EpistreamError) else unexpected(error, method)
            status = grpc_status(ours)
            code = status.code.name
            await context.abort_with_status(status)
        finally:
            self._metrics.grpc_requests.labels(method, code).inc()
            if bounded:
                self._metrics.grpc_request_duration.labels(method).observe(time.monotonic() - begun)

    @contextmanager
    def _admitted(self, *, bounded: bool) -> Iterator[None]:
        if self.draining.is_set():
            self._turned_away += 1
            raise Unavailable(
                "the service is going down: try again", reason="DRAINING", retry_delay_seconds=_RETRY_DELAY_SECONDS
            )
        if bounded and self._bounded >= self._calls_max:
            raise Unavailable(
                f"{self._calls_max} calls are open, and no more are taken: try again",
                reason="OVERLOADED",
                retry_delay_seconds=_RETRY_DELAY_SECONDS,
            )
        self._open += 1
        self._bounded += bounded
        self._none_open.clear()
        try:
            yield
        finally:
            self._open -= 1
            self._bounded -= bounded
            if not self._open:
                self._none_open.set()

    async def _in_time(
        self, context: Context, answer: Callable[[_Request, Deadline], Awaitable[bytes]], request: _Request
    ) -> bytes:
        remaining: float | None = context.time_remaining()  # None for a call without a deadline
        seconds = self._unary_seconds if remaining is None else remaining
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await answer(request, Deadline(time.monotonic() + seconds))
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise Unavailable(f"not answered within {seconds:.1f} seconds: try again", reason="DEADLINE") from error


def _parsed(method: str, parse: Callable[[bytes], _Request], raw: bytes) -> _Request:
    try:
        return parse(raw)
    except DecodeError as error:
        raise undecodable(f"request of {method}") from error
