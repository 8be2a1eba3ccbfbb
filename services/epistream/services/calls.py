"""What surrounds every call, in one place: who makes it, admission, deadline, statuses, metrics, audit.

Nothing here runs for each message of a stream.
"""

import asyncio
import math
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from epistream.services.errors import abort, grpc_status, undecodable, unexpected
from epistream.services.metrics import Metrics
from epistream.services.security.audit import PERMISSION_DENIED, UNAUTHENTICATED, Audit
from epistream.services.security.guard import Caller, Guard
from epistream.services.security.limits import Allowance
from epistream.services.security.rules import RULES, Rule
from epistream.wire.errors import EpistreamError, InvalidInput, Unavailable

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")
Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"

CALL_SECONDS_MAX: Final = 600.0
"""A unary call is answered by then, whatever deadline it brings."""
NOTED_CHARACTERS_MAX: Final = 100
"""Of a namespace in the audit log: a longer one is none, and the log is not to be filled with it."""
_HEAR_SECONDS: Final = 1.0
_ARRIVE_SECONDS: Final = 0.1
_PROMPT_SECONDS: Final = 1.0
"""A request that takes longer to come is one of those of which a principal may have only some."""
_UNHEARD: Final = (UNAUTHENTICATED, "RESOURCE_EXHAUSTED")
"""With what is refused who is not to send anything now."""
_DENIED: Final = (UNAUTHENTICATED, PERMISSION_DENIED)
"""What the audit log has a line of, whatever the call."""
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
    except (grpc.aio.UsageError, grpc.aio.AbortError):
        return None
    return message if isinstance(message, bytes) else None


@dataclass(slots=True)
class Call:
    """One call, while it lasts."""

    rule: Rule
    """What it needs."""
    caller: Caller
    record: Callable[["Call", str], None]
    """Appends a line to the audit log, with a code. A call has one at its end; more are for what lasts."""
    held: ExitStack
    """What is let go of when the client has heard the end, or is gone: until then gRPC keeps what it has not read."""
    metadata: Callable[[], Iterable[tuple[str, str | bytes]] | None] = tuple
    """What the caller sent beside the request."""
    request: bytes = b""
    """Of a call with one request: its encoding, until it is taken."""
    heard: bool = False
    """Whether a message of the client's stream was read."""
    at_seconds: float = math.inf
    """When it must have been answered, by `time.monotonic`."""
    noted: dict[str, object] = field(default_factory=dict)
    """What the audit log says of it beside who, what and how it ended."""

    def remaining_seconds(self) -> float:
        """How long there is to answer; not below zero."""
        return max(0.0, self.at_seconds - time.monotonic())

    def ask(self, request: Any) -> None:
        """Raises Denied unless the caller may do what the rule of the method says is asked by the request."""
        if self.rule.everywhere:
            self.caller.require_everywhere(self.rule)
        elif self.rule.namespace is not None:
            self.require(self.rule.namespace(request))

    def require(self, namespace: str) -> None:
        """Raises Denied unless the caller has a verb of the rule in a namespace."""
        self.note(namespace)
        self.caller.require(self.rule, namespace)

    def taken(self) -> bytes:
        """The request's encoding, which the call then keeps no longer."""
        raw, self.request = self.request, b""
        return raw

    def note(self, namespace: str) -> None:
        """Have the audit log say which namespace the call is about."""
        self.noted["namespace"] = namespace[:NOTED_CHARACTERS_MAX]


@dataclass(frozen=True, slots=True)
class _Kind:
    """How the calls of a method are taken."""

    method: str
    """As in RULES."""
    rule: Rule
    """What it says there."""
    lasts: Callable[[Allowance], AbstractContextManager[None]]
    """Has a call among what the caller has open, as long as it lasts; raises Unavailable if it is one too many."""
    begin: Callable[[Allowance], None] = Allowance.begin_call
    """Counts it, and raises Unavailable when it is one too many for now."""
    bounded: bool = False
    """Whether it counts for the bound."""
    receives: bool = False
    """It has one request, which is read once it is known who calls, and that they may call now."""
    listens: bool = False
    """The client writes a stream, and hears why it is refused."""


class Calls:
    """Every call that is open. Used on the event loop's thread only."""

    def __init__(
        self,
        metrics: Metrics,
        guard: Guard,
        audit: Audit,
        *,
        calls_max: int,
        unary_seconds: float,
        answer_bytes_max: int,
    ) -> None:
        """Set the bounds.

        Args:
            metrics: where calls are counted.
            guard: knows who calls.
            audit: where calls are recorded.
            calls_max: how many unary calls and submitting streams may be open; subscriptions have a bound of their own.
            unary_seconds: the deadline of a unary call that brings none.
            answer_bytes_max: the largest answer that is sent.
        """
        self._metrics, self._guard, self._audit, self._calls_max = metrics, guard, audit, calls_max
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
        answer: Callable[[_Request, Call], Awaitable[bytes]],
        begin: Callable[[Allowance], None] = Allowance.begin_call,
    ) -> Handler:
        """Serve a unary method.

        Args:
            method: its name, such as `KnowledgeService/Get`; it must have a rule.
            parse: makes the request of its bytes; may raise DecodeError.
            answer: makes the encoded response; may raise EpistreamError.
            begin: counts a call of the caller's before its request is read; raises Unavailable when it is one too many.
        """
        kind = _Kind(method, RULES[method], Allowance.call, begin, bounded=True, receives=True)

        async def served(context: Context, call: Call) -> bytes:
            request, allowance = _granted(method, parse, call), call.caller.allowance
            if self._guard.guarded:
                allowance.check_untaken()
            response = await self._in_time(context, answer, request, call)
            if len(response) > self._answer_bytes_max:
                raise InvalidInput(
                    f"the answer has {len(response):,} bytes, at most {self._answer_bytes_max:,} are sent:"
                    " ask for less at a time",
                    reason="TOO_LARGE",
                )
            if self._guard.guarded:
                size = len(response)
                allowance.answered(size)
                when_taken(lambda: allowance.taken(size))
            return response

        async def serve(_request: object, context: Context) -> bytes:
            return await self._around(kind, context, served)

        return grpc.stream_unary_rpc_method_handler(serve)

    def stream(self, method: str, converse: Callable[[Context, Call], Awaitable[None]], *, bounded: bool) -> Handler:
        """Serve a method with streams both ways.

        Args:
            method: its name, such as `SyncService/Subscribe`; it must have a rule. That its caller may do so somewhere
                is asked here, as long as the stream lasts, and where it may is asked by `converse`.
            converse: reads from and writes to the context until the stream is to end; may raise EpistreamError.
            bounded: whether it counts for the bound.
        """
        kind = _Kind(method, RULES[method], Allowance.stream, bounded=bounded, listens=True)

        async def served(context: Context, call: Call) -> None:
            may = partial(call.caller.require_somewhere, kind.rule)
            may()
            async with call.caller.standing(may):
                await converse(context, call)

        async def serve(_requests: object, context: Context) -> None:
            await self._around(kind, context, served)

        return grpc.stream_stream_rpc_method_handler(serve)

    def answer_stream(
        self,
        method: str,
        parse: Callable[[bytes], _Request],
        send: Callable[[_Request, Context], Awaitable[None]],
    ) -> Handler:
        """Serve a method with one request and a stream of answers. It does not count for the bound.

        Args:
            method: its name, such as `AdminService/Backup`; it must have a rule.
            parse: makes the request of its bytes; may raise DecodeError.
            send: writes encoded answers to the context until there are no more; may raise EpistreamError. It ends by
                itself when `draining` is set.
        """
        kind = _Kind(method, RULES[method], Allowance.stream, bounded=False, receives=True)

        async def served(context: Context, call: Call) -> None:
            request = _granted(method, parse, call)
            async with call.caller.standing(partial(call.ask, request)):
                await send(request, context)

        async def serve(_request: object, context: Context) -> None:
            await self._around(kind, context, served)

        return grpc.stream_stream_rpc_method_handler(serve)

    async def _around(  # noqa: RET503 - aborting does not return
        self, kind: _Kind, context: Context, served: Callable[[Context, Call], Awaitable[_Answer]]
    ) -> _Answer:
        """Serve a call with `served`, and do what is done around every call.

        Raises:
            grpc.aio.AbortError: it has ended with the status of an error.
        """
        with ExitStack() as held:
            status = None
            begun = time.monotonic()
            code, audited, call = "CANCELLED", kind.rule.audited, None
            try:
                caller = self._guard.caller_of(context)
                record = partial(self._record, kind.method, context)
                call = Call(kind.rule, caller, record, held, context.invocation_metadata)
                self._require_up()
                kind.begin(caller.allowance)
                held.enter_context(kind.lasts(caller.allowance))
                if kind.bounded:
                    held.enter_context(self._bound())
                if kind.receives:
                    call.request = await self._received(context, caller)
                    begun = time.monotonic()
                with self._admitted():
                    answer = await served(context, call)
            except Exception as error:  # noqa: BLE001 - the border: nothing of the inside goes further
                status = _status_of(error, kind.method)
                code = status.code.name
                audited = audited or code in _DENIED
                _forget(error)
            else:
                code = "OK"
                return answer
            finally:
                if audited:
                    self._record(kind.method, context, call, code)
                self._metrics.grpc_requests.labels(kind.method, code).inc()
                if kind.bounded:
                    self._metrics.grpc_request_duration.labels(kind.method).observe(time.monotonic() - begun)
            # When all is recorded: a client that does not read keeps this waiting.
            if kind.listens and (call is None or not call.heard):
                await _hear(context, reads=code not in _UNHEARD)
            await abort(context, status)

    async def _received(self, context: Context, caller: Caller) -> bytes:
        """The request of a call.

        Of one that is too large gRPC tells the client by itself, and cancels the call as a client does who is gone.

        Raises:
            InvalidInput: TOO_LARGE, or none was sent.
            Unavailable: DEADLINE, it did not come in time; OVERLOADED, too many of the caller's are on their way.
        """
        reading, seconds = asyncio.create_task(read_message(context)), self._seconds(context)
        unread = self._guard.guarded
        try:
            await asyncio.wait({reading}, timeout=min(seconds, _PROMPT_SECONDS))
            if not reading.done() and seconds > _PROMPT_SECONDS:
                with ExitStack() as slow:
                    if unread:
                        unread = False  # where we refuse it, that is not the caller's doing
                        slow.enter_context(caller.allowance.arriving())
                        unread = True
                    await asyncio.wait({reading}, timeout=seconds - _PROMPT_SECONDS)
            if not reading.done():
                raise Unavailable(f"no request came within {seconds:.1f} seconds: try again", reason="DEADLINE")
            raw = reading.result()
            unread = unread and raw is None
        finally:
            if unread:
                caller.allowance.unread()
        if raw is None:
            raise InvalidInput("no request came, or a larger one than is read: send less at a time", reason="TOO_LARGE")
        return raw

    def _record(self, method: str, context: Context, call: Call | None, code: str) -> None:
        if self._audit.kept:
            who = call.caller.name if call is not None else None
            noted = call.noted if call is not None else {}
            self._audit.record({"principal": who, "peer": context.peer(), "method": method, "code": code, **noted})

    @contextmanager
    def _bound(self) -> Iterator[None]:
        """One of so many calls, from before its request is read: what of that has come is in memory."""
        if self._bounded >= self._calls_max:
            raise Unavailable(
                f"{self._calls_max} calls are open, and no more are taken: try again",
                reason="OVERLOADED",
                retry_delay_seconds=_RETRY_DELAY_SECONDS,
            )
        self._bounded += 1
        try:
            yield
        finally:
            self._bounded -= 1

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """One that the service does not go down before."""
        self._require_up()
        self._open += 1
        self._none_open.clear()
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()

    def _require_up(self) -> None:
        if self.draining.is_set():
            self._turned_away += 1
            raise Unavailable(
                "the service is going down: try again", reason="DRAINING", retry_delay_seconds=_RETRY_DELAY_SECONDS
            )

    def _seconds(self, context: Context) -> float:
        """How long a unary call has, from now on."""
        remaining: float | None = context.time_remaining()  # None for a call without a deadline
        return self._unary_seconds if remaining is None else min(remaining, CALL_SECONDS_MAX)

    async def _in_time(
        self,
        context: Context,
        answer: Callable[[_Request, Call], Awaitable[bytes]],
        request: _Request,
        call: Call,
    ) -> bytes:
        seconds = self._seconds(context)
        call.at_seconds = time.monotonic() + seconds
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await answer(request, call)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise Unavailable(f"not answered within {seconds:.1f} seconds: try again", reason="DEADLINE") from error


def when_taken(then: Callable[[], None]) -> None:
    """Call `then` when the client has taken the answer to the call that is served now, or is gone.

    That is when gRPC's task, which serves it, ends. A callback of the context comes at the same time, but is a cycle
    with it: each call would stay until a garbage collection, which then ends thousands while everybody waits.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine of gRPC's runs in one
    task.add_done_callback(lambda _: then())


async def _hear(context: Context, *, reads: bool) -> None:
    """Wait for a client's first message, for a moment, before its stream is refused.

    A client that writes to a stream that has ended hears INTERNAL of its own gRPC, and not why (one in twenty).

    Args:
        context: the stream's.
        reads: whether it is taken, however large it is; else it is let arrive as far as gRPC takes it in by itself.
    """
    if reads:
        await asyncio.wait({asyncio.create_task(read_message(context))}, timeout=_HEAR_SECONDS)
    else:
        await asyncio.sleep(_ARRIVE_SECONDS)


def _status_of(error: Exception, method: str) -> grpc.Status:
    return grpc_status(error if isinstance(error, EpistreamError) else unexpected(error, method))


def _forget(error: BaseException) -> None:
    """Let go of what the frames of an error hold, such as the request, of up to 16 MiB.

    A frame that holds the future which the error came by would keep it, as a cycle, until the next collection.
    """
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__


def _granted(method: str, parse: Callable[[bytes], _Request], call: Call) -> _Request:
    """The request of a call.

    Raises:
        InvalidInput: it is larger than the caller may send, or cannot be decoded.
        Denied: the caller may not do what it asks for.
    """
    raw = call.taken()
    call.caller.allowance.check_size(len(raw))
    try:
        request = parse(raw)
    except DecodeError as error:
        raise undecodable(f"request of {method}") from error
    call.ask(request)
    return request
