"""TLS on a live server: certificates of the service and of clients, and the port of the probes."""

import asyncio
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import Denied
from tests.support.certificates import Authority
from tests.support.rpc import (
    PATIENCE_SECONDS,
    Client,
    Subscription,
    client_of,
    failure_of,
    rpc_failure_of,
)
from tests.support.secured import over_tls
from tests.support.security import client_with
from tests.support.service import RunningService, running_service
from tests.support.waits import until

LISTING: Final = ns_pb.ListNamespacesRequest()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def service(authority: Authority, tmp_path: Path) -> Iterator[RunningService]:
    yield from over_tls(authority, tmp_path)


@pytest.fixture
def mutual(authority: Authority, tmp_path: Path) -> Iterator[RunningService]:
    yield from over_tls(authority, tmp_path, mutual=True)


@pytest.fixture
def short_lived(authority: Authority, tmp_path: Path) -> Iterator[RunningService]:
    """A service where a connection lives for a second."""
    yield from over_tls(authority, tmp_path, mutual=True, max_connection_age_seconds="1")


async def test_plaintext_and_strangers_certificates_get_nowhere(
    authority: Authority, service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with client_of(service.address) as plain:
        error = await rpc_failure_of(plain.namespaces.ListNamespaces(LISTING, timeout=20))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    async with client_with(service.address, stranger.channel_credentials(), "root") as client:
        error = await rpc_failure_of(client.namespaces.ListNamespaces(LISTING, timeout=20))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
    async with client_with(service.address, authority.channel_credentials(), "root") as client:
        await client.namespaces.ListNamespaces(LISTING)


@pytest.mark.parametrize(
    ("common_name", "alternatives", "known"),
    [
        ("root.example", [], True),
        ("other.example", [], False),
        ("root.example", [x509.DNSName("other.example")], False),
        ("other.example", [x509.DNSName("first.example"), x509.DNSName("root.example")], True),
        ("other.example", [x509.UniformResourceIdentifier("spiffe://example/root")], True),
        ("other.example", [x509.RFC822Name("root@example")], False),
        ("root.example", [x509.RFC822Name("anybody@example")], False),
        ("root.example", [x509.IPAddress(IPv4Address("10.0.0.5"))], False),
        ("other.example", [x509.IPAddress(IPv4Address("10.0.0.5"))], False),
    ],
)
async def test_a_certificate_is_known_by_its_hosts_and_uris_or_where_it_has_no_alternatives_by_its_common_name(
    authority: Authority, mutual: RunningService, common_name: str, alternatives: list[x509.GeneralName], known: bool
) -> None:
    async with client_with(mutual.address, authority.named(common_name, *alternatives)) as client:
        if known:
            await client.namespaces.ListNamespaces(LISTING)
        else:
            assert isinstance(await failure_of(client.namespaces.ListNamespaces(LISTING)), Denied)


async def test_a_client_certificate_is_needed_and_says_who_calls(
    authority: Authority, mutual: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with client_with(mutual.address, authority.channel_credentials()) as nobody:
        error = await rpc_failure_of(nobody.namespaces.ListNamespaces(LISTING, timeout=20))
        assert error.code() == grpc.StatusCode.UNAVAILABLE, "refused in the handshake"
    async with client_with(mutual.address, authority.channel_credentials("root.example")) as root:
        await root.make_namespace("a")
    async with client_with(mutual.address, authority.channel_credentials("other.example")) as other:
        assert isinstance(await failure_of(other.namespaces.ListNamespaces(LISTING)), Denied)
    # A token goes before the certificate, and a wrong one is not made good by it.
    async with client_with(mutual.address, authority.channel_credentials("other.example"), "root") as bearer:
        await bearer.namespaces.ListNamespaces(LISTING)
    async with client_with(mutual.address, authority.channel_credentials("root.example"), "wrong") as bearer:
        assert isinstance(await failure_of(bearer.namespaces.ListNamespaces(LISTING)), Denied)
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    stranger.renew()
    forged = grpc.ssl_channel_credentials(
        authority.ca_pem, stranger.key_file.read_bytes(), stranger.cert_file.read_bytes()
    )
    async with client_with(mutual.address, forged) as client:
        error = await rpc_failure_of(client.namespaces.ListNamespaces(LISTING, timeout=20))
        assert error.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_client_certificate_that_runs_out_is_out_when_its_connection_ends(
    authority: Authority, short_lived: RunningService
) -> None:
    brief = authority.channel_credentials("root.example", seconds=4)
    async with client_with(short_lived.address, brief) as client:
        await client.make_namespace("a")
        async with client.subscribe("a", head=True) as stream:
            await stream.next_of("subscribed")
            async with asyncio.timeout(PATIENCE_SECONDS):
                ended = await rpc_failure_of(read_to_the_end(stream))
                while await client.namespaces.ListNamespaces(LISTING).code() == grpc.StatusCode.OK:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)  # until a connection was made with what has run out
        assert ended.code() == grpc.StatusCode.UNAVAILABLE
        last = await rpc_failure_of(client.namespaces.ListNamespaces(LISTING, timeout=20))
        assert last.code() == grpc.StatusCode.UNAVAILABLE
    async with client_with(short_lived.address, authority.channel_credentials("root.example")) as client:
        await client.namespaces.ListNamespaces(LISTING)


async def read_to_the_end(stream: Subscription) -> None:
    while True:
        await stream.next()


async def test_probes_need_neither_tls_nor_credentials_and_find_health_alone(service: RunningService) -> None:
    async with grpc.aio.insecure_channel(service.health_address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "epistream.v1.KnowledgeService", "epistream.v1.IngestService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        unknown = health.Check(health_pb2.HealthCheckRequest(service="x" * 1000), timeout=20)
        assert (await rpc_failure_of(unknown)).code() == grpc.StatusCode.NOT_FOUND
        large = health.Check(health_pb2.HealthCheckRequest(service="x" * 5000), timeout=20)
        assert (await rpc_failure_of(large)).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        listing = Client(channel).namespaces.ListNamespaces(LISTING, timeout=20)
        assert (await rpc_failure_of(listing)).code() == grpc.StatusCode.UNIMPLEMENTED
        states = []

        async def follow() -> None:
            async for state in health.Watch(health_pb2.HealthCheckRequest(service="")):
                states.append(state.status)  # noqa: PERF401 - looked at while it goes on

        following = asyncio.create_task(follow())
        await until(lambda: states == [health_pb2.HealthCheckResponse.SERVING])
        assert await asyncio.to_thread(service.stop) == 0
        await asyncio.gather(following, return_exceptions=True)
        assert states[1:] == [health_pb2.HealthCheckResponse.NOT_SERVING], "the probes hear of it before the end"


async def test_only_some_may_follow_the_health(authority: Authority, service: RunningService) -> None:
    async with client_with(service.address, authority.channel_credentials()) as client:
        health = health_pb2_grpc.HealthStub(client.channel)
        calls = [health.Watch(health_pb2.HealthCheckRequest(service="")) for _ in range(100)]
        for call in calls:
            assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
        more = health.Watch(health_pb2.HealthCheckRequest(service=""))
        assert (await rpc_failure_of(more.read())).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()
        other = health.Watch(health_pb2.HealthCheckRequest(service="epistream.v1.Nothing"))
        assert (await rpc_failure_of(other.read())).code() == grpc.StatusCode.NOT_FOUND


async def test_reflection_is_off_where_there_is_an_access_file(authority: Authority, service: RunningService) -> None:
    async with client_with(service.address, authority.channel_credentials(), "root") as client:
        method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        call: grpc.aio.StreamStreamCall[bytes, bytes] = client.channel.stream_stream(method)()
        assert (await rpc_failure_of(call.read())).code() == grpc.StatusCode.UNIMPLEMENTED


def test_the_service_says_what_is_in_use(service: RunningService) -> None:
    [line] = [line for line in service.logged().splitlines() if line.startswith("security")]
    assert "loopback only, TLS, certificate until " in line
    assert "access.toml" in line


@pytest.mark.parametrize("mutual_tls", [False, True])
def test_other_machines_are_served_with_tls_and_an_access_file_only(
    authority: Authority, tmp_path: Path, mutual_tls: bool
) -> None:
    tls = authority.service_flags(mutual=mutual_tls)
    for flags, lacks in (({}, "without TLS"), (tls, "without --access-file")):
        with (
            pytest.raises(AssertionError, match=lacks),
            running_service(tmp_path / "data", flags, address="0.0.0.0:0"),
        ):
            pass
