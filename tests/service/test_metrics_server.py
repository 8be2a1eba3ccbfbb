"""The server of the metrics, with clients that take their time."""

import contextlib
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import CollectorRegistry, Gauge

from epistream.services.metrics_server import THREADS_MAX, MetricsServer
from epistream.services.security.tls import Tls, TlsFiles
from tests.support.certificates import Authority
from tests.support.waits import until

REQUEST_SECONDS: Final = 1.0
DRIP_SECONDS: Final = 0.1
SLOW: Final = {
    "a request": b"GET /metrics HTTP/1.1\r\nX-Slow: ",
    "a handshake": b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb\x03\x03",
}


@contextlib.contextmanager
def serving(tls: Tls | None = None) -> Iterator[MetricsServer]:
    registry = CollectorRegistry()
    Gauge("answered", "It was.", registry=registry).set(7)
    server = MetricsServer(registry, "127.0.0.1:0", tls=tls, admits=lambda *_: True, request_seconds=REQUEST_SECONDS)
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("listens", "asked", "told"),
    [
        ("127.0.0.1:0", "127.0.0.1", r"ipv4:127\.0\.0\.1:\d+"),
        ("[::1]:0", "[::1]", r"ipv6:%5B::1%5D:\d+"),
        ("[::]:0", "127.0.0.1", r"ipv4:127\.0\.0\.1:\d+"),
    ],
)
def test_who_asks_is_told_as_grpc_tells_it(listens: str, asked: str, told: str) -> None:
    peers: list[str] = []

    def admitted(_token: str | None, peer: str) -> bool:
        peers.append(peer)
        return True

    server = MetricsServer(CollectorRegistry(), listens, tls=None, admits=admitted)
    try:
        urllib.request.urlopen(f"http://{asked}:{server.address.rpartition(':')[2]}/metrics").close()
    finally:
        server.stop()
    (peer,) = peers
    assert re.fullmatch(told, peer)


@contextlib.contextmanager
def dripping(address: str, begin: bytes, count: int) -> Iterator[list[socket.socket]]:
    """So many clients that send a beginning, and then a byte now and then, each until it is cut off."""
    host, _, port = address.rpartition(":")
    clients = []
    for _ in range(count):
        clients.append(socket.create_connection((host, int(port))))
        time.sleep(0.02)  # the server has a short queue of those that it has not taken yet
    over = threading.Event()

    def drip(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client.sendall(begin)
            while not over.wait(DRIP_SECONDS):
                client.sendall(b"x")

    threads = [threading.Thread(target=drip, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        over.set()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()


def scraped(server: MetricsServer) -> bool:
    """Whether who asks is answered."""
    try:
        with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=10) as answer:
            return b"answered 7.0" in answer.read()
    except OSError:
        return False


async def test_slow_clients_hold_the_metrics_up_for_a_while_only() -> None:
    with serving() as server, dripping(server.address, SLOW["a request"], THREADS_MAX):
        await until(lambda: not scraped(server))
        await until(lambda: scraped(server))


@contextlib.contextmanager
def no_more_threads() -> Iterator[None]:
    """The system refuses every thread: each would need more address space than there is."""
    before = threading.stack_size(1 << 60)
    try:
        with pytest.raises(RuntimeError):
            threading.Thread(target=print).start()
        yield
    finally:
        threading.stack_size(before)


def test_a_client_for_whom_there_is_no_thread_takes_no_place_of_later_ones() -> None:
    with serving() as server:
        with no_more_threads():
            assert not any(scraped(server) for _ in range(THREADS_MAX))
        assert scraped(server)


@pytest.mark.parametrize("what", SLOW)
def test_a_slow_client_is_cut_off(tmp_path: Path, what: str) -> None:
    authority = Authority(tmp_path)
    authority.renew()
    tls = Tls(TlsFiles(authority.cert_file, authority.key_file), print) if what == "a handshake" else None
    with serving(tls) as server, dripping(server.address, SLOW[what], 1) as [client]:
        client.settimeout(8)  # less than the ten seconds that a client may keep silent
        with contextlib.suppress(ConnectionError):
            while client.recv(1 << 16):
                pass
