"""The gRPC server: the six services, health and reflection, on one address."""

from collections.abc import Callable, Mapping
from typing import Final

import grpc
import grpc.aio
from grpc_health.v1 import health  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from epistream.services.calls import Handler
from epistream.wire.errors import Unavailable

_FLUSH_SECONDS: Final = 0.5
"""What is sent last gets this long to leave. `stop` takes this long while somebody watches the health service."""
_GRACE_SECONDS_MAX: Final = 60
"""When a connection's age is over, its client is told to make another; what is open then has this long to end."""

OPTIONS: Final = (
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
    # Of a request that is not read no more is taken in than Server's window; of one that is read, all, unless it is
    # larger than a message may be, which is seen by its first bytes. With a window that grows with the pace of the
    # connection it would be megabytes, of callers that are refused too.
    ("grpc.http2.bdp_probe", 0),
)


class Server:
    """Serves until stopped.

    Attributes:
        address: where, as HOST:PORT, with the port that was bound.
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
        window_bytes: int = 64 * 1024,
        healthy: Callable[[grpc.aio.Server], None] | None = None,
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
            window_bytes: how much of a call is taken in before it is read, and so in one round trip; 64 KiB at least.
            healthy: adds the health service; None where nobody asks for it.
            reflects: whether clients may ask for the protos.

        Raises:
            Unavailable: the address cannot be bound.
        """
        options = (
            *OPTIONS,
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.http2.lookahead_bytes", window_bytes),
            *_age(connection_seconds),
        )
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=calls_max)
        for name, handlers in services.items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, dict(handlers)),))
        if healthy is not None:
            healthy(self._server)
        if reflects:
            names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self.address: Final = bound(self._server, address, credentials)

    async def start(self) -> None:
        """Answer."""
        await self._server.start()

    async def stop(self) -> None:
        """Take no more connections and cut off what is open."""
        await self._server.stop(_FLUSH_SECONDS)


def _age(seconds: int | None) -> tuple[tuple[str, int], ...]:
    if seconds is None:
        return ()
    grace_seconds = min(seconds, _GRACE_SECONDS_MAX)
    return (
        ("grpc.max_connection_age_ms", seconds * 1000),
        ("grpc.max_connection_age_grace_ms", grace_seconds * 1000),
    )


def bound(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> str:
    """Bind a server, in plaintext without credentials. Returns HOST:PORT, with the port that was bound.

    Raises:
        Unavailable: it cannot be bound.
    """
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise Unavailable(f"{address} cannot be bound: is another service running there? ({error})") from error
    return f"{address.rpartition(':')[0]}:{port}"
