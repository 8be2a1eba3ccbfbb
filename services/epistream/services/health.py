"""Health as `grpc.health.v1` has it: whether the process lives, and whether each of its services does its work."""

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2  # type: ignore[import-untyped]

from epistream.indexer.store import Store
from epistream.services.calls import Context, Handler, read_message, when_taken
from epistream.services.errors import abort, grpc_status, undecodable
from epistream.services.server import OPTIONS, bound
from epistream.services.writer import Writer
from epistream.wire.errors import EpistreamError, InvalidInput, NotFound, Unavailable

_WATCHES_MAX: Final = 100
"""How many may follow the health at one time."""
_UNHEARD_MAX: Final = 100
"""How many calls may be open whose request has not come."""
_UNHEARD_SECONDS: Final = 2.0
"""So long one is waited for."""
_UNTAKEN_MAX: Final = 100
"""How many answers may be untaken at a port that is not for health alone, since their calls are among those of all."""
_PROBE_OPTIONS: Final = (
    *OPTIONS,
    ("grpc.max_receive_message_length", 4096),
    # At the port for probes alone no question is turned away, so what one connection may have open is bounded, and how
    # long it lives: who follows for longer makes another.
    ("grpc.max_concurrent_streams", 20),
    ("grpc.max_connection_age_ms", 60_000),
    ("grpc.max_connection_age_grace_ms", 5_000),
)
_LOOK_SECONDS: Final = 1.0
_ROOM_BYTES: Final = 64 * 1024 * 1024
"""So much free makes a full disk one with room again: as much as may wait to be written. Where a page is free and the
next commit is not, health would otherwise change with each."""
_ROOM_SHARE: Final = 0.05
"""Or this share of the disk, of a small one."""


class Health:
    """What whoever asks is told, at the port of its own and at every other that it is added to.

    Attributes:
        address: where it is served alone, as HOST:PORT; empty for nowhere.
        servicer: answers a server's calls.
    """

    def __init__(self, names: Sequence[str], address: str) -> None:
        """Bind, but do not answer yet. Call it on the event loop.

        Args:
            names: the services.
            address: where it is served alone, in plaintext, as Kubernetes' probes need it; empty for nowhere.

        Raises:
            Unavailable: the address cannot be bound.
        """
        self._names = tuple(names)
        self.servicer = _Servicer(("", *names))
        self._probed: grpc.aio.Server | None = None
        self.address = ""
        if address:
            self._probed = grpc.aio.server(options=_PROBE_OPTIONS)
            self._add_to(self._probed, None)
            self.address = bound(self._probed, address, None)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Have another server answer the same, too."""
        self._add_to(server, _UNTAKEN_MAX)

    def _add_to(self, server: grpc.aio.Server, untaken_max: int | None) -> None:
        handler = grpc.method_handlers_generic_handler(health.SERVICE_NAME, self.servicer.handlers(untaken_max))
        server.add_generic_rpc_handlers((handler,))

    async def start(self) -> None:
        """Answer: the process lives, and no service does its work yet."""
        self.tell("", serving=True)
        if self._probed is not None:
            await self._probed.start()

    def serving(self) -> None:
        """Tell that every service does its work: only text needs the encoder, and what needs it says so."""
        for name in self._names:
            self.tell(name, serving=True)

    def tell(self, name: str, *, serving: bool) -> None:
        """Tell whether one service does its work. Of no effect once all are told that none does."""
        self.servicer.tell(name, serving=serving)

    def not_serving(self) -> None:
        """Tell that none does any more, for good."""
        self.servicer.end()

    async def stop(self) -> None:
        """Answer no more at the port of its own."""
        if self._probed is not None:
            await self._probed.stop(None)


async def follow_space(health_: Health, name: str, store: Store, writer: Writer) -> None:
    """Tell that a service does not do its work while the store finds no space. Does not return.

    Who heeds that writes nothing more, so space is looked for here, too; and a page that was found is not enough.
    """
    told = False
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if store.full:
            with contextlib.suppress(EpistreamError):  # there is none yet, or the service goes down
                await asyncio.wrap_future(writer.run(store.look_for_space))
        full = store.full or (told and not await asyncio.to_thread(_has_room, store.path.parent))
        if full is not told:
            told = full
            health_.tell(name, serving=not told)


def _has_room(folder: Path) -> bool:
    disk = shutil.disk_usage(folder)
    return disk.free >= min(_ROOM_BYTES, _ROOM_SHARE * disk.total)


class _Servicer:
    """Anybody may ask it, so it knows only the names that are served, lets only some follow, and waits for nobody long.

    The library's own servicer waits for a request that never comes, and writes to who follows and does not read under
    the lock that a change needs.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._serving = dict.fromkeys(names, False)
        self._changed = asyncio.Event()
        """Set at the next change, and another then takes its place."""
        self._ended = False
        self._watching = 0
        self._unheard: dict[asyncio.Future[None], None] = {}
        """What ends the waiting for a request, the oldest first."""

    def handlers(self, untaken_max: int | None) -> dict[str, Handler]:
        """The service's methods at one port. All are streams of requests, which nobody waits for but we.

        Args:
            untaken_max: how many answers may be on their way to clients that do not take them; None for any number.
        """
        untaken = 0

        async def sent(answer: Awaitable[bytes], context: Context) -> bytes:
            nonlocal untaken
            found = await answer
            if untaken_max is not None and untaken >= untaken_max:
                many = f"{untaken_max} answers have not been taken: try again"
                await abort(context, grpc_status(Unavailable(many, reason="OVERLOADED")))
            untaken += 1
            when_taken(taken)
            return found

        def taken() -> None:
            nonlocal untaken
            untaken -= 1

        async def check(_requests: object, context: Context) -> bytes:
            return await sent(self._check(context), context)

        async def list_all(_requests: object, context: Context) -> bytes:
            return await sent(self._list(context), context)

        return {
            "Check": grpc.stream_unary_rpc_method_handler(check),
            "List": grpc.stream_unary_rpc_method_handler(list_all),
            "Watch": grpc.stream_stream_rpc_method_handler(self._watch),
        }

    def tell(self, name: str, *, serving: bool) -> None:
        """Have a service serve, or not; of no effect after the end."""
        if not self._ended:
            self._serving[name] = serving
            self._wake()

    def end(self) -> None:
        """None serves any more."""
        self._ended = True
        self._serving = dict.fromkeys(self._serving, False)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _check(self, context: Context) -> bytes:
        """Whether a service answers."""
        name = await self._asked(context)
        return _encoded(serving=self._serving[name])

    async def _list(self, context: Context) -> bytes:
        """Whether each answers."""
        await self._heard(context)
        statuses = {name: _response(serving=serving) for name, serving in self._serving.items()}
        encoded: bytes = health_pb2.HealthListResponse(statuses=statuses).SerializeToString()
        return encoded

    async def _watch(self, _requests: object, context: Context) -> None:
        """Whether a service answers, and again when it changes."""
        name = await self._asked(context)
        if self._watching >= _WATCHES_MAX:
            many = f"{_WATCHES_MAX} follow the health already: ask with Check, or try again"
            await abort(context, grpc_status(Unavailable(many, reason="OVERLOADED")))
        self._watching += 1
        try:
            told: bool | None = None
            while True:
                changed, serving = self._changed, self._serving[name]
                if serving is not told:
                    told = serving
                    await context.write(_encoded(serving=serving))
                await changed.wait()
        finally:
            self._watching -= 1

    async def _asked(self, context: Context) -> str:
        """The service that is asked about."""
        raw = await self._heard(context)
        try:
            name: str = health_pb2.HealthCheckRequest.FromString(raw).service
        except DecodeError:
            await abort(context, grpc_status(undecodable("request of grpc.health.v1.Health")))
        if name not in self._serving:
            await abort(context, grpc_status(NotFound("no service of this name is served")))
        return name

    async def _heard(self, context: Context) -> bytes:
        """The request of a call. Where too many do not come, the one that was waited for longest is given up."""
        reading = asyncio.create_task(read_message(context))
        with self._waiting() as given_up:
            ends: set[asyncio.Future[Any]] = {reading, given_up}
            await asyncio.wait(ends, timeout=_UNHEARD_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            late = "no request came, or not in time: try again"
            await abort(context, grpc_status(Unavailable(late, reason="DEADLINE")))
        raw = reading.result()
        if raw is None:
            await abort(context, grpc_status(InvalidInput("no request came, or a larger one than is read")))
        return raw

    @contextlib.contextmanager
    def _waiting(self) -> Iterator["asyncio.Future[None]"]:
        given_up = asyncio.get_running_loop().create_future()
        if len(self._unheard) >= _UNHEARD_MAX:
            oldest = next(iter(self._unheard))
            del self._unheard[oldest]
            oldest.set_result(None)
        self._unheard[given_up] = None
        try:
            yield given_up
        finally:
            self._unheard.pop(given_up, None)


def _response(*, serving: bool) -> Any:
    states = health_pb2.HealthCheckResponse
    return states(status=states.SERVING if serving else states.NOT_SERVING)


def _encoded(*, serving: bool) -> bytes:
    encoded: bytes = _response(serving=serving).SerializeToString()
    return encoded
