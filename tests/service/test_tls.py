"""TLS on a live server: certificates of the service and of clients, their rotation, and the port of the probes."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import Denied
from tests.support.certificates import Authority, SecretVolume, put
from tests.support.rpc import (
    PATIENCE_SECONDS,
    Client,
    Subscription,
    client_of,
    failure_of,
    rpc_failure_of,
    submission,
)
from tests.support.security import client_with, hash_of
from tests.support.service import RunningService, running_service
from tests.support.waits import until

ACCESS: Final = f"""
[roles.all]
verbs = ["read", "write", "watch", "admin", "monitor"]
namespaces = ["*"]

[principals.root]
roles = ["all"]
token_hashes = ["{hash_of("root")}"]
certificates = ["root.example"]
"""
LISTING: Final = ns_pb.ListNamespacesRequest()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def secured(authority: Authority, folder: Path, *, mutual: bool = False, **more: str) -> Iterator[RunningService]:
    (folder / "access.toml").write_text(ACCESS)
    flags = authority.service_flags(mutual=mutual) | {"access_file": str(folder / "access.toml")} | more
    with running_service(folder / "data", flags, health_address="127.0.0.1:0") as service:
        yield service


@pytest.fixture
def service(authority: Authority, tmp_path: Path) -> Iterator[RunningService]:
    yield from secured(authority, tmp_path)


@pytest.fixture
def mutual(authority: Authority, tmp_path: Path) -> Iterator[RunningService]:
    yield from secured(authority, tmp_path, mutual=True)


@pytest.fixture
def short_lived(authority: Authority, tmp_path: Path) -> Iterator[RunningService]:
    """A service where a connection lives for a second."""
    yield from secured(authority, tmp_path, mutual=True, max_connection_age_seconds="1")


def served_serial(address: str, authority: Authority) -> int:
    """Which certificate a new connection is shown."""
    host, _, port = address.rpartition(":")
    pem = ssl.get_server_certificate((host, int(port)), ca_certs=str(authority.ca_file), timeout=10)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


async def test_a_certificate_rotated_under_load_drops_no_stream(authority: Authority, service: RunningService) -> None:
    first = served_serial(service.address, authority)
    async with client_with(service.address, authority.channel_credentials(), "root") as client:
        await client.make_namespace("a")
        async with client.subscribe("a", head=True) as stream:
            await stream.next_of("subscribed")
            for number in range(1, 31):
                if number % 10 == 0:
                    authority.renew()
                await client.submit(submission("a", number))
                # New connections all along, as a fleet of clients makes them.
                async with client_with(service.address, authority.channel_credentials(), "root") as other:
                    await other.namespaces.ListNamespaces(LISTING)
            revisions = [change.revision for change in await stream.changes(30)]
    assert revisions == list(range(1, 31))
    newest = served_serial(service.metrics_address, authority)
    assert newest != first
    await until(lambda: served_serial(service.address, authority) == newest, "the new certificate")
    # A key without its certificate: what was before is served on, until both are there.
    before, key = served_serial(service.address, authority), authority.key_file.read_bytes()
    certificate = authority.cert_file.read_bytes()
    authority.renew()
    put(authority.cert_file, certificate)
    assert served_serial(service.address, authority) == before
    complained = 'epistream_security_errors_total{part="tls_files"}'
    await until(lambda: complained in service.metrics_page(ca=authority.ca_pem, token="root"), "the complaint")
    put(authority.key_file, key)
    assert served_serial(service.address, authority) == before
    authority.renew()
    await until(lambda: served_serial(service.address, authority) != before, "the new certificate")


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
    (tmp_path / "access.toml").write_text(ACCESS)
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
