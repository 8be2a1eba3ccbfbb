"""Certificates renewed while the service runs: who is connected notices nothing, who connects sees the new one."""

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import pytest
from cryptography import x509

from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.certificates import Authority, SecretVolume, put
from tests.support.rpc import Subscription, revisions, submission
from tests.support.secured import ROOT_ACCESS, over_tls, sample
from tests.support.security import client_with
from tests.support.service import RunningService, running_service
from tests.support.waits import until

LISTING: Final = ns_pb.ListNamespacesRequest()
ROTATIONS: Final = 5
SUBSCRIBERS: Final = 4
RECEIPTS_BETWEEN: Final = 40
"""How much is taken in, at least, between one renewal and the next."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture(params=[False, True], ids=["tls", "mutual"])
def service(authority: Authority, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunningService]:
    yield from over_tls(authority, tmp_path, mutual=request.param)


async def served_serial(address: str, authority: Authority) -> int:
    """Which certificate a new connection is shown."""
    return await asyncio.to_thread(_served_serial, address, authority)


async def renewed(address: str, authority: Authority, before: int) -> int:
    """The certificate after `before`, once it is shown."""
    found = [before]

    async def is_another() -> bool:
        found[0] = await served_serial(address, authority)
        return found[0] != before

    await until(is_another, "the new certificate")
    return found[0]


def _served_serial(address: str, authority: Authority) -> int:
    host, _, port = address.rpartition(":")
    files = authority.client("probe", "root.example")
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    context.load_cert_chain(files["tls_cert_file"], files["tls_key_file"])
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"").serial_number


@dataclass
class Load:
    """Who submits, who follows and who connects anew, all at once, each over a connection of its own."""

    connect: Callable[[], Any]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    receipts: list[pb.Receipt] = field(default_factory=list)
    stopping: bool = False

    async def submit(self) -> None:
        """One batch after the other, each a call."""
        async with self.connect() as client:
            while not self.stopping:
                self.receipts += await client.submit(*self._batch())

    async def submit_stream(self) -> None:
        """One batch after the other, in one stream, to its end."""
        async with self.connect() as client:
            stream = client.ingest.SubmitStream()
            while not self.stopping:
                await stream.write(ingest_pb.SubmitStreamRequest(submissions=self._batch()))
                self.receipts += (await stream.read()).receipts
            await stream.done_writing()
            assert await stream.read() == grpc.aio.EOF
            assert await stream.code() == grpc.StatusCode.OK

    async def connect_anew(self) -> None:
        """A new connection for each call, as a fleet of clients makes them."""
        while not self.stopping:
            async with self.connect() as client:
                await client.namespaces.ListNamespaces(LISTING)

    async def go_on(self) -> None:
        """Wait until some more is taken in."""
        enough = len(self.receipts) + RECEIPTS_BETWEEN
        await until(lambda: len(self.receipts) >= enough, "receipts")

    def _batch(self) -> list[pb.Submission]:
        return [submission("a", number) for number in itertools.islice(self.numbers, 2)]


async def follow(stream: Subscription, seen: list[int]) -> None:
    """Read for ever; fails at the end of the stream."""
    while True:
        message = await stream.next()
        seen += revisions(list(message.changes.changes))


async def test_certificates_rotated_under_load_drop_no_stream(authority: Authority, service: RunningService) -> None:
    load = Load(lambda: client_with(service.address, authority.channel_credentials("root.example"), "root"))
    serials = [await served_serial(service.address, authority)]
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(load.connect()) for _ in range(SUBSCRIBERS)]
        await clients[0].make_namespace("a")
        streams = [await stack.enter_async_context(client.subscribe("a", head=True)) for client in clients]
        for stream in streams:
            await stream.next_of("subscribed")
        seen: list[list[int]] = [[] for _ in streams]
        following = [asyncio.create_task(follow(*each)) for each in zip(streams, seen, strict=True)]
        working = [load.submit, load.submit, load.submit, load.submit_stream, load.submit_stream, load.connect_anew]
        async with asyncio.TaskGroup() as group:
            for work in working:
                group.create_task(work())
            for _ in range(ROTATIONS):
                await load.go_on()
                authority.renew()
                serials.append(await renewed(service.address, authority, serials[-1]))
            await load.go_on()
            load.stopping = True
        everything = list(range(1, len(load.receipts) + 1))
        await until(lambda: all(len(each) >= len(everything) for each in seen), "every change")
        assert [task.done() for task in following] == [False] * SUBSCRIBERS, "no stream ended"
        for task in following:
            task.cancel()
    assert {receipt.outcome for receipt in load.receipts} == {pb.OUTCOME_ADMITTED}
    assert sorted(receipt.revision for receipt in load.receipts) == everything
    assert seen == [everything] * SUBSCRIBERS
    assert len({*serials}) == ROTATIONS + 1
    assert await served_serial(service.metrics_address, authority) == serials[-1]


async def test_a_key_without_its_certificate_is_not_served(authority: Authority, service: RunningService) -> None:
    """What was before is served on, until both are there."""
    before, key = await served_serial(service.address, authority), authority.key_file.read_bytes()
    certificate = authority.cert_file.read_bytes()
    authority.renew()
    put(authority.cert_file, certificate)
    assert await served_serial(service.address, authority) == before
    complained = 'epistream_security_errors_total{part="tls_files"}'
    await until(
        lambda: sample(service.metrics_page(ca=authority.ca_pem, token="root"), complained) > 0, "the complaint"
    )
    put(authority.key_file, key)
    assert await served_serial(service.address, authority) == before
    authority.renew()
    await renewed(service.address, authority, before)


def secret_of(authority: Authority) -> dict[str, bytes]:
    """What a Secret has in it: a new certificate of the service, its key, and who signs those of clients."""
    authority.renew()
    pair = {"tls.crt": authority.cert_file.read_bytes(), "tls.key": authority.key_file.read_bytes()}
    return pair | {"ca.crt": authority.ca_pem}


async def test_a_secret_that_the_kubelet_switches_over_takes_effect_and_drops_no_stream(
    authority: Authority, tmp_path: Path
) -> None:
    volume, other = SecretVolume(tmp_path / "tls"), Authority(tmp_path / "other")
    volume.put(secret_of(authority))
    names = {"tls_cert_file": "tls.crt", "tls_key_file": "tls.key", "tls_client_ca_file": "ca.crt"}
    flags = {flag: str(tmp_path / "tls" / name) for flag, name in names.items()}
    (tmp_path / "access.toml").write_text(ROOT_ACCESS)
    old, new = (each.channel_credentials("root.example") for each in (authority, other))
    with running_service(tmp_path / "data", flags, access_file=str(tmp_path / "access.toml")) as service:
        async with client_with(service.address, old) as client:
            await client.make_namespace("a")
            async with client.subscribe("a", head=True) as stream:
                await stream.next_of("subscribed")
                volume.put(secret_of(other))

                async def takes(credentials: grpc.ChannelCredentials) -> bool:
                    async with client_with(service.address, credentials) as fresh:
                        call = fresh.namespaces.ListNamespaces(LISTING, timeout=20)
                        return await call.code() == grpc.StatusCode.OK

                await until(lambda: takes(new), "the new pair and the new CA")
                assert not await takes(old)
                await client.submit(submission("a", 1))
                assert [change.revision for change in await stream.changes(1)] == [1]
