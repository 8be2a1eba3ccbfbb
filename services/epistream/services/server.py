"""The gRPC server: the six services, health and reflection, on one address."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from epistream.services.calls import Handler
from epistream.wire.errors import Unavailable

_FLUSH_SECONDS: Final = 0.5
"""What is sent last gets this long to leave. `stop` takes this long while somebody watches the health service."""
_GRACE_SECONDS_MAX: Final = 60
"""When a connection's age is over, its client is told to make another; what is open then has this long to end."""

_WATCHES_MAX: Final = 100
"""How many may follow the health at one time."""
_PROBES_MAX: Final = 200
_PROBE_BYTES_MAX: Final = 4096
"""Of a request at the port that is for probes alone."""

_OPTIONS: Final = (
    # Otherwise a second service binds the same port without an error, and the kernel deals out the connections.
    ("grpc.so_reuseport", 0),
    # A client that is gone without a word is noticed after 25 seconds, not after two hours.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A token that is too long is refused as every other that is not valid: by default gRPC does it from 8 KiB on.
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 24 * 1024),
    # Clients may ping every ten seconds, with calls or without. By default every five minutes is too often.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 9_000),
    # Of a request that is not read 64 KiB are taken in; of one that is read, all. With a window that grows with the
    # pace of the connection it would be megabytes, of callers that are refused too.
    ("grpc.http2.bdp_probe", 0),
)


class Server:
    """Serves until stopped.

    Attributes:
        address: where, as HOST:PORT, with the port that was bound.
        health_address: where the health service is alone; empty for nowhere.
    """

    def __init__(
        self,
        address: str,
        services: Mapping[str, Mapping[str, Handler]],
        *,
        max_message_bytes: int,
        calls_max: int | None = None,
        credentials: grpc.ServerCredentials | None = None,
        connection_seconds: int | None = None,
        health_address: str = "",
        reflects: bool = True,
    ) -> None:
        """Bind, but do not answer yet. Call it on the event loop.

        Args:
            address: HOST:PORT; with port 0 a free one is taken.
            services: the handlers of each service's methods, by the service's full name.
            max_message_bytes: the largest message that is taken.
            calls_max: how many calls and streams may be open, those of health and those that nobody knows yet among
                them; gRPC turns away more. None for no bound.
            credentials: for TLS; None serves in plaintext.
            connection_seconds: how long a connection may live, give or take a tenth. Calls and streams that are open
                then have as long again, but a minute at most, before they are cut off. None for no bound.
            health_address: where the health service is served alone, in plaintext, as Kubernetes' probes need it;
                empty for nowhere.
            reflects: whether clients may ask for the protos.

        Raises:
            Unavailable: an address cannot be bound.
        """
        self._names = tuple(services)
        options = (*_OPTIONS, ("grpc.max_receive_message_length", max_message_bytes), *_age(connection_seconds))
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=calls_max)
        for name, handlers in services.items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, dict(handlers)),))
        self._health = _Health(("", *services))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if reflects:
            names = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self.address: Final = _bound(self._server, address, credentials)
        self._probed: grpc.aio.Server | None = None
        self.health_address = ""
        if health_address:
            self._probed = grpc.aio.server(
                options=(*_OPTIONS, ("grpc.max_receive_message_length", _PROBE_BYTES_MAX)),
                maximum_concurrent_rpcs=_PROBES_MAX,
            )
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._probed)
            self.health_address = _bound(self._probed, health_address, None)

    async def start(self) -> None:
        """Answer. Every service is healthy from the start: only text needs the encoder, and what needs it says so."""
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        if self._probed is not None:
            await self._probed.start()

    async def not_serving(self) -> None:
        """Tell whoever asks that the service is not healthy any more."""
        await self._health.enter_graceful_shutdown()

    async def stop(self) -> None:
        """Take no more connections and cut off what is open."""
        await self._server.stop(_FLUSH_SECONDS)
        if self._probed is not None:
            await self._probed.stop(None)


class _Health(health.aio.HealthServicer):  # type: ignore[misc] # the library has no types
    """Anybody may ask it, so it knows only the names that are served, and lets only some follow."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = frozenset(names)
        self._watching = 0

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        """Whether a service answers."""
        await self._require_known(request.service, context)
        return await super().Check(request, context)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - the contract's name
        """The same, and again when it changes."""
        await self._require_known(request.service, context)
        if self._watching >= _WATCHES_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_WATCHES_MAX} follow the health already")
        self._watching += 1
        try:
            await super().Watch(request, context)
        finally:
            self._watching -= 1

    async def _require_known(self, name: str, context: Any) -> None:
        if name not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no service of this name is served")


def _age(seconds: int | None) -> tuple[tuple[str, int], ...]:
    if seconds is None:
        return ()
    grace_seconds = min(seconds, _GRACE_SECONDS_MAX)
    return (
        ("grpc.max_connection_age_ms", seconds * 1000),
        ("grpc.max_connection_age_grace_ms", grace_seconds * 1000),
    )


def _bound(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> str:
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise Unavailable(f"{address} cannot be bound: is another service running there? ({error})") from error
    return f"{address.rpartition(':')[0]}:{port}"
