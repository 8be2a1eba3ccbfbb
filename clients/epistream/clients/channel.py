"""Channels to a service, calls on them, and gRPC's errors as ours.

Everything here runs in the event loop that made the channel.
"""

import asyncio
import functools
import logging
import random
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_status import rpc_status

from epistream.clients import tracing
from epistream.clients.credentials import Credentials, FilesState, ForChannel
from epistream.clients.failures import failure
from epistream.wire.errors import Broken, Denied, EpistreamError, InvalidInput, Unavailable
from epistream.wire.status import from_status

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

CALL_TIMEOUT_SECONDS: Final = 30.0
"""How long a call may take in all, its repetitions included, when the caller says nothing."""
MESSAGE_BYTES_MAX: Final = 64 << 20
"""The longest answer taken.

The service pushes about 1 MiB at a time; a search for 1,000 long items with their vectors is longer.
"""

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # By default a second attempt comes after 1 s and the wait grows to 120 s: too slow for knowledge within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Despite its name this is how long one attempt may take. It bounds the wait on an address that swallows packets,
    # and must leave time for a handshake over a slow network: with 100 ms a service that is 600 ms away could never be
    # reached.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    # Each channel has connections of its own, so that a new channel is a new connection.
    ("grpc.use_local_subchannel_pool", 1),
    # A peer that vanished without a word is noticed after 25 s. Pings go out during calls only, so that an idle channel
    # costs a service nothing.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # The window grows with the bandwidth-delay product. Without the probe it is 64 KiB: a consumer 50 ms away would
    # catch up at 1.3 MB/s. The price is that up to 4 MiB are on their way to a consumer that does not read; lag is
    # measured by acknowledgements, not by what was written.
    ("grpc.http2.bdp_probe", 1),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # The size of a message is limited by the service, which says so in words.
    ("grpc.max_send_message_length", -1),
)

BALANCED: Final = ("grpc.lb_policy_name", "round_robin")
"""Calls go to all that a name stands for, in turns; without it all go to the first that answers."""

_log: Final = logging.getLogger(__name__)


def connect(target: str, *, credentials: Credentials | grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """A channel to `target` (`host:port`), which connects when it is first used and again whenever it must.

    With `dns:///host:port`, or several addresses as `ipv4:one:port,other:port`, each call goes to the next of them.
    The name is looked up again when a connection ends (`max_connection_age_seconds` of the service).
    Does not wait for the network. Without `credentials` nothing is encrypted. Call it inside the event loop that will
    use the channel, and close it in the end.

    Raises:
        InvalidInput: the credentials cannot be used, as `Credentials.for_channel` says.
    """
    if isinstance(credentials, Credentials):
        return _channel(target, credentials.for_channel(target))
    return _channel(target, ForChannel(credentials))


def blocking_channel(target: str, credentials: Credentials | None = None) -> grpc.Channel:
    """As `connect`, for a program without an event loop."""
    _keep_engine()
    parts = credentials.for_channel(target) if credentials is not None else ForChannel()
    options = options_for(target, parts)
    if parts.credentials is None:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, parts.credentials, options=options)


def _channel(target: str, parts: ForChannel) -> grpc.aio.Channel:
    _keep_engine()
    options = options_for(target, parts)
    if parts.credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, parts.credentials, options=options)


def options_for(target: str, parts: ForChannel) -> tuple[tuple[str, int | str], ...]:
    """What a channel to `target` is made with."""
    balanced = (BALANCED,) if target.startswith(("dns:", "ipv4:", "ipv6:")) else ()
    return (*OPTIONS, *balanced, *parts.options)


@functools.cache
def _keep_engine() -> grpc.Channel:
    """Has gRPC keep its threads for as long as this process lives, by a channel that never connects.

    With the last channel gRPC would end them, holding Python's lock until they have ended; and one that lets go of a
    token needs that lock: both would wait for ever (https://github.com/grpc/grpc/pull/42247).
    """
    return grpc.insecure_channel("ipv4:127.0.0.1:1")


class Connected:
    """What talks over a connection, and lets go of it in the end, of `async with` too."""

    _connection: "Connection"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the channel if it was made here."""
        await self._connection.aclose()


class Connection:
    """A client's way to its service: a channel that is made here, and can be made anew, or one of the caller's."""

    LEAVING_SECONDS_MAX: Final = 30.0
    """How long the calls on a channel that is left may still take."""

    def __init__(self, target: str | grpc.aio.Channel, credentials: Credentials | None = None) -> None:
        """Does not wait for the network. Raises `InvalidInput` as `connect`, and for a channel with credentials."""
        if not isinstance(target, str) and credentials is not None:
            raise InvalidInput.at("credentials", "expected with a target HOST:PORT; a channel has credentials already")
        self._target = target
        self._credentials = credentials
        self._tls_files = self._state_of_tls()
        self._parts = ForChannel()
        self.proven = False
        """Whether a call on this channel was answered. While none was, streams do not wait for a connection, so that
        they hear why there is none."""
        self._leaving: set[asyncio.Task[None]] = set()
        if isinstance(target, str):
            self._parts = credentials.for_channel(target) if credentials is not None else self._parts
            self._channel = _channel(target, self._parts)
        else:
            self._channel = target

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel to use now."""
        return self._channel

    def files(self) -> FilesState:
        """The state of the credentials' files now."""
        return self._credentials.files() if self._credentials is not None else ()

    def _state_of_tls(self) -> FilesState:
        return self._credentials.tls_files() if self._credentials is not None else ()

    def passing(self, error: EpistreamError, shown: FilesState) -> Unavailable | None:
        """`error`, where another attempt is worth it; None where it is not.

        It is when the service is not available, and when it did not know who asks and the files that say it are no
        longer those that were `shown`.
        """
        if isinstance(error, Denied) and error.reason == "UNAUTHENTICATED" and self.files() != shown:
            return Unavailable(error.message, reason=error.reason, retry_delay_seconds=0.0)
        return error if isinstance(error, Unavailable) else None

    def renew(self) -> bool:
        """Goes over to a new channel if the files for TLS are not those that this one was made with.

        For when a call has failed: a channel makes its connections with the certificates that it began with. Returns
        whether there is a new channel; calls on the old one are ended when they take too long.
        """
        if not self._read_again():
            return False
        left, self._channel = self._channel, _channel(str(self._target), self._parts)
        self.proven = False
        leaving = asyncio.get_running_loop().create_task(left.close(self.LEAVING_SECONDS_MAX))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        return True

    async def replace(self) -> None:
        """Goes over to a new channel, unless it is the caller's, and ends the calls on the old one."""
        if isinstance(self._target, str):
            self._read_again()
            self.proven = False
            await self._channel.close()
            self._channel = _channel(self._target, self._parts)

    async def aclose(self) -> None:
        """Closes the channel, unless it is the caller's, when calls on channels that were left have ended."""
        if isinstance(self._target, str):
            await asyncio.gather(*self._leaving)
            await self._channel.close()

    def _read_again(self) -> bool:
        """Whether there is something new to make a channel of."""
        files = self._state_of_tls()
        if files == self._tls_files or self._credentials is None or not isinstance(self._target, str):
            return False
        try:
            self._parts = self._credentials.for_channel(self._target)
        except InvalidInput as error:  # whoever replaces the files may not be done
            _log.warning("going on with the credentials read before: %s", error.message)
            return False
        self._tls_files = files
        return True


def translate(error: grpc.RpcError) -> EpistreamError:
    """The error of ours that `error` tells of. Raise it `from error`.

    Takes the traceback out of `error`: its frames hold the call, and the call holds the connection, so that whoever
    keeps our error would keep the connection open too.
    """
    error = error.with_traceback(None)
    if not isinstance(error, grpc.aio.AioRpcError):
        return Broken(f"gRPC failed: {error}")
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # details of somebody in between that do not fit the code
        status = None
    if status is not None:
        return from_status(status)
    return failure(error.code(), error.details() or "no details")


class Backoff:
    """Waits with full jitter: each is drawn evenly between zero and a bound that doubles from 50 ms to 1 s.

    Many clients that lost the same service come back spread out and not in step.
    """

    FIRST_SECONDS: Final = 0.05
    LAST_SECONDS: Final = 1.0

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        """Takes its chances from `draw`, which gives numbers from 0 to 1."""
        self._draw = draw
        self._bound_seconds = self.FIRST_SECONDS

    def next_seconds(self) -> float:
        """How long to wait before the next attempt."""
        bound_seconds = self._bound_seconds
        self._bound_seconds = min(2 * bound_seconds, self.LAST_SECONDS)
        return self._draw() * bound_seconds

    def reset(self) -> None:
        """Begin with short waits again: an attempt was good."""
        self._bound_seconds = self.FIRST_SECONDS


async def call(
    connection: Connection,
    method: "Callable[[], grpc.aio.UnaryUnaryMultiCallable[Request, Response]]",
    request: Request,
    seconds: float,
) -> Response:
    """The answer of an idempotent method: while the service is unavailable it is asked again, for `seconds` in all.

    `method` gives it as the `connection` has it at that moment. Where TLS cannot be agreed on it is asked again only
    with newer certificates, where it is not known who asks only with a newer token. The caller's trace goes with it.

    Raises:
        EpistreamError: the last failure.
    """
    now = asyncio.get_running_loop().time
    deadline = now() + seconds
    backoff = Backoff()
    earlier: Unavailable | None = None
    parent = tracing.traceparent()
    metadata = ((tracing.HEADER, parent),) if parent is not None else None
    while True:
        shown, channel = connection.files(), connection.channel
        try:
            return await method()(request, timeout=max(deadline - now(), 0.0), metadata=metadata)
        except asyncio.CancelledError as error:
            if task_is_cancelled():
                raise
            earlier = Unavailable("The connection was closed.", retry_delay_seconds=0.0)
            if connection.channel is channel:
                raise earlier from error.with_traceback(None)  # as in `translate`
            continue  # it was left for another one, which has to answer within the same time
        except grpc.aio.AioRpcError as error:
            told = translate(error)
            failed = connection.passing(told, shown)
            if failed is None:
                raise told from error
            renewed = connection.renew()
            if failed.reason == "DEADLINE" and earlier is not None:
                failed = earlier  # says more than that the time is over
            earlier = failed
            wait_seconds = failed.retry_delay_seconds + backoff.next_seconds()
            if now() + wait_seconds >= deadline or (failed.reason == "TLS" and not renewed):
                raise failed from error
        await asyncio.sleep(wait_seconds)


async def pages(
    connection: Connection,
    method: "Callable[[], grpc.aio.UnaryUnaryMultiCallable[Request, Response]]",
    request: Request,
    seconds: float,
) -> AsyncIterator[Response]:
    """All pages of an answer, one after the other, each as `call` has it. `request` is changed, to ask for the next."""
    asked: Any = request
    while True:
        page: Any = await call(connection, method, request, seconds)
        yield page
        if not page.next_page_token:
            return
        asked.page_token = page.next_page_token


class Conversation(Generic[Request, Response]):
    """One bidirectional call that is given up when the service is silent for too long.

    A silent call is cancelled, which ends the pending read; no read is ever cancelled itself, since grpc.aio leaks
    memory then (grpc issue 43360).
    """

    def __init__(self, call: "grpc.aio.StreamStreamCall[Request, Response]") -> None:
        # No method keeps it in a local variable: frames live as long as the tracebacks of the errors raised in them.
        self._call: grpc.aio.StreamStreamCall[Request, Response] | None = call
        self._alarm: asyncio.TimerHandle | None = None
        self._silence_seconds: float | None = None

    def expect_word_in(self, seconds: float) -> None:
        """Give the call up unless `relax` or this is called again within `seconds`."""
        self.relax()
        self._alarm = asyncio.get_running_loop().call_later(seconds, self._give_up, seconds)

    def relax(self) -> None:
        """Expect nothing."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    async def read(self) -> Response | None:
        """The next message; None after the last one.

        Raises:
            EpistreamError: the call failed; `Unavailable` with the reason DEADLINE when it was given up.
        """
        if self._call is None:
            raise self._why_cancelled()
        try:
            message: Any = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error
        except asyncio.CancelledError as error:
            if task_is_cancelled():
                raise
            raise self._why_cancelled() from error.with_traceback(None)  # as in `translate`
        return None if message is grpc.aio.EOF else message

    async def write(self, request: Request) -> None:
        """Send a message. At most one write at a time. Raises as `read` does."""
        if self._call is None:
            raise self._why_cancelled()
        try:
            await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error
        except asyncio.InvalidStateError as error:
            raise Unavailable("The stream has ended.", retry_delay_seconds=0.0) from error
        except asyncio.CancelledError as error:
            if task_is_cancelled():
                raise
            raise self._why_cancelled() from error.with_traceback(None)  # as in `translate`

    async def done_writing(self) -> None:
        """Say that nothing more will be written. Raises as `read` does."""
        if self._call is None:
            raise self._why_cancelled()
        try:
            await self._call.done_writing()
        except asyncio.CancelledError as error:
            if task_is_cancelled():
                raise
            raise self._why_cancelled() from error.with_traceback(None)  # as in `translate`

    def cancel(self) -> None:
        """End the call and forget it: a pending read or write, and any later one, is `Unavailable`."""
        self.relax()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _give_up(self, seconds: float) -> None:
        self._silence_seconds = seconds
        self.cancel()

    def _why_cancelled(self) -> Unavailable:
        if self._silence_seconds is None:
            return Unavailable("The stream was closed.", retry_delay_seconds=0.0)
        text = f"No word from the service for {self._silence_seconds:g} s. Check the address and that the service runs."
        return Unavailable(text, reason="DEADLINE", retry_delay_seconds=0.0)


def task_is_cancelled() -> bool:
    """Tells the cancellation of the running task from that of a call, which grpc.aio reports by the same exception."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
