"""Serves the metrics over HTTP or HTTPS, to whoever may read them, on threads of its own."""

import logging
import socket
import threading
from collections.abc import Callable, Iterable
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
_SECONDS_MAX: Final = 10.0
"""How long a client may keep silent in its handshake, in its request, and in taking the answer."""
_THREADS_MAX: Final = 16
"""How many are served at one time."""


class MetricsServer:
    """Serves until stopped.

    Attributes:
        address: where, as HOST:PORT, with the port that was bound.
    """

    def __init__(
        self, registry: CollectorRegistry, address: str, *, tls: Tls | None, admits: Callable[[str | None], bool]
    ) -> None:
        """Bind and serve.

        Args:
            registry: the metrics.
            address: HOST:PORT.
            tls: for HTTPS; None serves in plaintext.
            admits: whether who shows this bearer token, or None, may read them. Called on the server's threads.

        Raises:
            Unavailable: the address cannot be bound.
        """
        host, port = split_address(address)
        try:
            self._server = _Server(host, port, tls)
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


def _guarded(registry: CollectorRegistry, admits: Callable[[str | None], bool]) -> Any:
    metrics = make_wsgi_app(registry)

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        shown = environ.get("HTTP_AUTHORIZATION", "")
        token = shown[len(_BEARER) :].strip() if shown[: len(_BEARER)].lower() == _BEARER else None
        if admits(token):
            served: Iterable[bytes] = metrics(environ, start_response)
            return served
        start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain")])
        return [b"A bearer token is needed whose role has the verb monitor.\n"]

    return answer


class _Handler(WSGIRequestHandler):
    timeout = _SECONDS_MAX

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the library calls it
        _LOG.debug(format, *args)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, tls: Tls | None) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._tls = tls
        self._slots = threading.BoundedSemaphore(_THREADS_MAX)
        self._context = tls.https_context() if tls is not None else None
        super().__init__((host, port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._tls is not None and self._context is not None:
            self._tls.refresh()
            # The handshake comes with the first read, on the request's own thread: nobody waits for a slow client.
            connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """On a thread of its own, of which there are some; who comes when all are busy is not served."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as the library calls it
        _LOG.debug("A request for the metrics from %s failed", client_address, exc_info=True)
