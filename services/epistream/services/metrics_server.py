"""Serves the metrics over HTTP or HTTPS, to whoever may read them, on threads of its own."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import ip_address
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from epistream.services.security.tls import Tls
from epistream.services.settings import split_address
from epistream.wire.errors import Unavailable

_LOG: Final = logging.getLogger(__name__)
_BEARER: Final = "bearer "
_PEER: Final = "epistream.peer"
"""The client's address in a request's environ, in the form in which gRPC says it."""
_SILENT_SECONDS: Final = 10.0
"""How long a client may keep silent in its handshake, in its request, and in taking the answer."""
REQUEST_SECONDS: Final = 30.0
"""How long all of it may take, so that nobody holds a thread with a byte now and then."""
THREADS_MAX: Final = 16
"""How many are served at one time."""


class MetricsServer:
    """Serves until stopped.

    Attributes:
        address: where, as HOST:PORT, with the port that was bound.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        address: str,
        *,
        tls: Tls | None,
        admits: Callable[[str | None, str], bool],
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        """Bind and serve.

        Args:
            registry: the metrics.
            address: HOST:PORT.
            tls: for HTTPS; None serves in plaintext.
            admits: whether who shows this bearer token, or None, may read them; and from where, as gRPC says it. Called
                on the server's threads.
            request_seconds: after how long a client is cut off, from its connection to the end of the answer.

        Raises:
            Unavailable: the address cannot be bound.
        """
        host, port = split_address(address)
        try:
            self._server = _Server(host, port, tls, request_seconds)
        except OSError as error:
            raise Unavailable(f"{address} cannot be bound for the metrics: {error}") from error
        self._server.set_app(_guarded(registry, admits))
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()
        bound = self._server.server_port
        self.address: Final = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"

    def stop(self) -> None:
        """Stop serving. Blocks until the thread has ended."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _guarded(registry: CollectorRegistry, admits: Callable[[str | None, str], bool]) -> Any:
    metrics = make_wsgi_app(registry)

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        shown = environ.get("HTTP_AUTHORIZATION", "")
        token = shown[len(_BEARER) :].strip() if shown[: len(_BEARER)].lower() == _BEARER else None
        if admits(token, environ[_PEER]):
            served: Iterable[bytes] = metrics(environ, start_response)
            return served
        start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain")])
        return [b"A bearer token is needed whose role has the verb monitor in all namespaces (*).\n"]

    return answer


class _Handler(WSGIRequestHandler):
    timeout = _SILENT_SECONDS

    def get_environ(self) -> dict[str, Any]:
        host, port = self.client_address[:2]
        at = ip_address(str(host).partition("%")[0])
        at = getattr(at, "ipv4_mapped", None) or at  # of a socket that takes both kinds
        peer = f"ipv4:{at}:{port}" if at.version == 4 else f"ipv6:%5B{at}%5D:{port}"
        return {**super().get_environ(), _PEER: peer}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the library calls it
        _LOG.debug(format, *args)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, tls: Tls | None, request_seconds: float) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._tls, self._request_seconds = tls, request_seconds
        self._slots = threading.BoundedSemaphore(THREADS_MAX)
        self._open: dict[socket.socket, float] = {}
        """Until when each client may take."""
        self._changing = threading.Lock()
        super().__init__((host, port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._tls is not None:
            self._tls.refresh()
            # The handshake comes with the first read, on the request's own thread: nobody waits for a slow client.
            context = self._tls.https_context()
            connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def service_actions(self) -> None:
        """Cut off who takes too long. Called on the accepting thread, twice a second at least."""
        now = time.monotonic()
        with self._changing:
            for connection in [each for each, until in self._open.items() if until <= now]:
                with suppress(OSError):
                    # That of TLS would take away what the connection's thread is reading with.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        """On a thread of its own, of which there are some; who comes when all are busy is not served."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        with self._changing:
            self._open[request] = time.monotonic() + self._request_seconds
        try:
            super().process_request(request, client_address)
        except BaseException:  # there is no thread, which would have done it: the system has no more, or no memory
            self._slots.release()
            raise

    def shutdown_request(self, request: Any) -> None:
        """The end of a request: its number is another connection's from here on."""
        with self._changing:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as the library calls it
        _LOG.debug("A request for the metrics from %s failed", client_address, exc_info=True)
