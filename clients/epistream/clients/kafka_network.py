"""The connections of a kafka-python client of ours: they show what the broker asks for, and say why they fail.

As it is (3.0.12), kafka-python keeps the password of its start, tells of a refused password or certificate only in its
log and says "timed out" in the end, and connects again at once to a broker that has refused it. What a broker says just
before it ends a connection, such as why, it throws away when both come at the same time. Over TLS it copies what is
left to send after each 16 KiB, so that what is sent at once costs its square.
"""

import contextlib
import ssl
from collections.abc import Callable
from typing import Any

from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from epistream.clients.kafka_client import broker_list, is_refusal, translated
from epistream.wire.errors import InvalidInput
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity


def opened(make: Callable[..., Any], bootstrap: str, security: KafkaSecurity = PLAINTEXT, **settings: Any) -> Any:
    """A client of kafka-python. Blocks until it has reached a broker. Whoever gets it closes it.

    Args:
        make: its class.
        bootstrap: `host:port` of a broker, or several with commas between.
        security: what the brokers ask for.
        settings: what else it is made with.

    Raises:
        Unavailable: no broker answers in time, or its certificate is not trusted (reason UNTRUSTED).
        Denied: the broker takes neither the password nor the certificate (reason UNAUTHENTICATED).
        InvalidInput: that is no address, or the security is wrong in itself.
    """
    network = _Network(security)
    try:
        return make(
            bootstrap_servers=broker_list(bootstrap), kafka_client=network, **security.client_settings(), **settings
        )
    except BaseException as error:
        # The network thread that it has begun does not end by itself.
        network.close()
        if isinstance(error, KafkaError):
            raise translated(network.failure() or error, bootstrap, "connecting") from error
        raise


class _Network:
    """What kafka-python makes its connections by."""

    def __init__(self, security: KafkaSecurity) -> None:
        self._security = security
        self._made: list[tuple[KafkaNetClient, _Connections]] = []

    def __call__(self, **settings: Any) -> KafkaNetClient:
        loop = NetworkSelector(**settings)
        connections = _Connections(loop, self._security, settings)
        client = KafkaNetClient(loop, connections)
        self._made.append((client, connections))
        return client

    def failure(self) -> Exception | None:
        """Why the newest connection failed, when it did and that says more than that there is none."""
        failures = (connections.failure for _, connections in self._made)
        return next((failure for failure in failures if isinstance(failure, KafkaError | ssl.SSLError)), None)

    def close(self) -> None:
        for client, _ in self._made:
            client.close()


class _Connections(KafkaConnectionManager):  # type: ignore[misc] # kafka-python has no types
    """The connections to all brokers."""

    def __init__(self, loop: NetworkSelector, security: KafkaSecurity, settings: dict[str, Any]) -> None:
        self._security = security
        self.failure: Exception | None = None
        self._was_let_in = False
        super().__init__(loop, **settings)

    def get_connection(self, node_id: Any, *arguments: Any, **named: Any) -> Any:
        if self.failure is not None and not self._was_let_in and is_refusal(self.failure):
            raise self.failure  # whoever opens a client need not wait to be told
        is_new = node_id not in self._conns
        if is_new and self._security.has_user:
            # A file that is being replaced just now leaves the password as it was.
            with contextlib.suppress(InvalidInput):
                self.config["sasl_plain_password"] = self._security.password()
        # Being connected is not being let in yet: kafka-python would try again at once.
        named["reset_backoff_on_connect"] = False
        connection = super().get_connection(node_id, *arguments, **named)
        if is_new:
            connection.init_future.add_callback(self._let_in, node_id)
            connection.init_future.add_errback(self._refused, node_id)
        return connection

    async def _build_transport(self, *arguments: Any, **named: Any) -> Any:
        transport = await super()._build_transport(*arguments, **named)
        receive, write = transport._sock_recv, transport.write  # noqa: SLF001 - there is no other way in

        def receive_last_words() -> tuple[bytes, Exception | None]:
            received, error = receive()
            return received, None if received else error  # which comes again

        transport._sock_recv = receive_last_words  # noqa: SLF001 - as above
        transport.write = lambda data: write(memoryview(data))  # of which a slice is no copy
        return transport

    def _let_in(self, node_id: Any, _: Any) -> None:
        self.failure, self._was_let_in = None, True
        self.reset_backoff(node_id)

    def _refused(self, node_id: Any, error: Exception) -> None:
        self.failure = error
        self.update_backoff(node_id)
