"""Permissions and proofs that are taken away or run out: what stood on them ends, and what comes back may go on."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from epistream.services import ingest
from epistream.services.compose import Service
from epistream.services.security.audit import Audit
from epistream.services.security.limits import Allowance
from epistream.services.settings import Settings
from epistream.v1 import admin_service_pb2 as admin_pb
from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from epistream.wire.errors import Denied, EpistreamError, Unavailable
from tests.support.certificates import put
from tests.support.every_call import outcome, subscribe
from tests.support.rpc import DIMENSION, SMALL_WINDOW, Client, client_of, failure_of, submission
from tests.support.secured import ACCESS, NAMESPACES, PATIENCE_SECONDS, Secured, metrics, sample
from tests.support.security import Issuer, hash_of
from tests.support.waits import until


async def fails_with(stream: Any) -> EpistreamError:
    return await asyncio.wait_for(stream.failure(), PATIENCE_SECONDS)


async def test_a_permission_that_is_taken_away_ends_the_streams_that_stood_on_it(changing: Secured) -> None:
    access = changing.folder / "access.toml"
    async with (
        changing.client("root") as root,
        changing.client("watch-a") as loser,
        changing.client("watch-b") as keeper,
    ):
        for namespace in NAMESPACES:
            await root.make_namespace(namespace)
        async with loser.subscribe("a", head=True) as lost, keeper.subscribe("b", head=True) as kept:
            await lost.next_of("subscribed")
            await kept.next_of("subscribed")
            # Something wrong changes nothing.
            put(access, "[roles")
            await until(lambda: unusable_access_files(changing))
            await until(lambda: unusable_access_files(changing, beyond=1), "the count that goes on")
            assert changing.service.logged().count("The access file was changed and cannot be used") == 1
            await root.submit(submission("a", 1))
            await lost.changes(1)
            # The role without its verb: the stream ends, a new one cannot be opened, the other goes on.
            put(access, ACCESS.replace('verbs = ["watch"]\nnamespaces = ["a"]', 'verbs = ["read"]\nnamespaces = ["a"]'))
            error = await fails_with(lost)
            assert isinstance(error, Denied)
            assert error.reason == "PERMISSION_DENIED"
            again = loser.subscribe("a", head=True)
            async with again:
                assert isinstance(await fails_with(again), Denied)
            await root.submit(submission("b", 1))
            await kept.changes(1)
            # The token itself.
            put(access, ACCESS.replace(hash_of("watch-b"), hash_of("another")))
            error = await fails_with(kept)
            assert isinstance(error, Denied)
            assert error.reason == "UNAUTHENTICATED"


async def test_a_consumer_that_is_given_to_others_ends_the_streams_in_its_name(changing: Secured) -> None:
    async with changing.client("root") as root, changing.client("ward") as client:
        await root.make_namespace("a")
        async with client.subscribe("a", head=True, consumer="ward-3") as stream:
            await stream.next_of("subscribed")
            put(changing.folder / "access.toml", ACCESS.replace('"ward-*"', '"ward-4"'))
            error = await fails_with(stream)
        assert isinstance(error, Denied)
        assert "as 'ward-3'" in error.message


MORE_THAN_GRPC_HOLDS: Final = 48
"""So many items of a quarter of a megabyte."""


async def test_who_is_cut_off_and_does_not_read_keeps_the_places_until_it_lets_go(changing: Secured) -> None:
    """What it has not read is still held for it, so others of its principal do not get its places meanwhile."""
    put(changing.folder / "access.toml", ACCESS + "[limits]\nstreams = 3\n")
    await until(lambda: "The access file was read again" in changing.service.logged())
    async with changing.client("root") as root:
        await root.make_namespace("a")
        for number in range(MORE_THAN_GRPC_HOLDS):
            await root.submit(submission("a", 100 + number, content=f"{number} " + "x" * 250_000))
        async with changing.client(changing.issuer.token(["lasting"], seconds=10), SMALL_WINDOW) as client:
            unread = [client.subscribe("a", after_revision=0, consumer="unread") for _ in range(3)]
            for stream in unread:
                await stream.call.write(sync_pb.SubscribeRequest(subscribe=stream.wanted))
                await stream.next_of("subscribed")

            async def all_cut_off() -> bool:
                listed = await root.sync.ListConsumers(sync_pb.ListConsumersRequest(namespace="a"))
                return not any(consumer.connected for consumer in listed.consumers)

            await until(all_cut_off)
            async with changing.client(changing.issuer.token(["lasting"])) as again:
                error = await failure_of(subscribe(again, "a"))
                assert isinstance(error, Unavailable)
                assert "you have 3 streams open" in error.message
                unread[0].call.cancel()
                await until(lambda: may_follow(again, "a"))


async def until_audited(secured: Secured, method: str, code: str) -> None:
    await until(lambda: any((line["method"], line["code"]) == (method, code) for line in secured.audit()))


async def lasting_calls(client: Client) -> dict[str, Callable[[], Awaitable[EpistreamError]]]:
    """Calls that are open and say nothing by themselves, of each method that lasts; they give what they end with."""
    unread = client.subscribe("a", after_revision=0, consumer="unread")
    await unread.call.write(sync_pb.SubscribeRequest(subscribe=unread.wanted))
    await unread.next_of("subscribed")
    backup: Any = client.admin.Backup(admin_pb.BackupRequest())
    assert (await backup.read()).HasField("header")
    used, unused = client.ingest.SubmitStream(), client.ingest.SubmitStream()
    await used.write(ingest_pb.SubmitStreamRequest(submissions=[submission("a", 1)]))
    await used.read()
    waiting = client.sync.WaitApplied(
        sync_pb.WaitAppliedRequest(namespace="a", revision=1, consumers=["unread"]), timeout=2 * PATIENCE_SECONDS
    )
    await client.sync.ListConsumers(sync_pb.ListConsumersRequest(namespace="a"))  # the calls before it have begun

    async def all_of_backup() -> None:
        while isinstance(await backup.read(), admin_pb.BackupResponse):
            pass

    return {
        "WaitApplied": lambda: failure_of(waiting),
        "SubmitStream": lambda: failure_of(used.read()),
        "SubmitStream without a batch": lambda: failure_of(unused.read()),
        "Subscribe that is not read": unread.failure,
        "Backup that is not read": lambda: failure_of(all_of_backup()),
    }


@pytest.mark.parametrize(
    ("token", "taken_away", "code", "reason"),
    [
        ("lasting", ('"read", "write", "watch", "admin"', '"read"'), "PERMISSION_DENIED", "PERMISSION_DENIED"),
        ("lasting", (hash_of("lasting"), hash_of("another")), "UNAUTHENTICATED", "UNAUTHENTICATED"),
        ("JWT", ("", ""), "UNAVAILABLE", "CREDENTIALS_EXPIRED"),
    ],
)
async def test_whatever_lasts_is_cut_off_when_what_it_stood_on_is_gone(
    changing: Secured, token: str, taken_away: tuple[str, str], code: str, reason: str
) -> None:
    async with changing.client("root") as root:
        await root.make_namespace("a")
        for number in range(MORE_THAN_GRPC_HOLDS):
            await root.submit(submission("a", 100 + number, content=f"{number} " + "x" * 250_000))
        shown = changing.issuer.token(["lasting"], seconds=10) if token == "JWT" else token
        async with changing.client(shown, SMALL_WINDOW) as client:
            calls = await lasting_calls(client)
            put(changing.folder / "access.toml", ACCESS.replace(*taken_away, 1))
            # Nobody has read on, and yet they have ended.
            for method in ("SyncService/Subscribe", "AdminService/Backup"):
                await until_audited(changing, method, code)
            listed = await root.sync.ListConsumers(sync_pb.ListConsumersRequest(namespace="a"))
            assert [consumer.connected for consumer in listed.consumers] == [False]
            ended = {name: await asyncio.wait_for(call(), PATIENCE_SECONDS) for name, call in calls.items()}
            assert {name: error.reason for name, error in ended.items()} == dict.fromkeys(calls, reason)
    assert changing.service.stop() == 0
    assert "Traceback" not in changing.service.logged()


async def unusable_access_files(secured: Secured, beyond: float = 0) -> bool:
    return sample(await metrics(secured, "root"), 'epistream_security_errors_total{part="access_file"}') > beyond


async def may_follow(client: Client, namespace: str) -> bool:
    return await outcome(client, "SyncService/Subscribe", namespace) == "let in"


async def test_a_stream_ends_when_its_token_runs_out_and_may_come_back_with_a_new_one(changing: Secured) -> None:
    async with changing.client("root") as root:
        await root.make_namespace("a")
    short = changing.client(changing.issuer.token(["watch-a"], seconds=4))
    async with short as client, client.subscribe("a", head=True) as stream:
        await stream.next_of("subscribed")
        error = await fails_with(stream)
        assert isinstance(error, Unavailable)
        assert error.reason == "CREDENTIALS_EXPIRED"
    async with changing.client(changing.issuer.token(["watch-a"])) as client:
        await subscribe(client, "a")


async def test_a_key_file_that_comes_after_the_access_file_that_names_it_is_read(changing: Secured) -> None:
    new = Issuer("two")
    async with changing.client("root") as root:
        await root.make_namespace("a")
    renamed = ACCESS.replace('"keys.json"', '"later.json"').replace(hash_of("watch-b"), hash_of("another"))
    put(changing.folder / "access.toml", renamed)
    await until(lambda: unusable_access_files(changing))
    put(changing.folder / "later.json", json.dumps({"keys": [new.public_key()]}))
    async with changing.client(new.token(["watch-a"])) as client:
        await until(lambda: may_follow(client, "a"))
    async with changing.client("watch-b") as revoked:
        assert await outcome(revoked, "SyncService/Subscribe", "b") == "unknown"


async def test_a_key_that_is_taken_out_of_the_key_file_is_believed_no_more(changing: Secured) -> None:
    new = Issuer("two")
    async with changing.client("root") as root:
        await root.make_namespace("a")
    async with (
        changing.client(changing.issuer.token(["watch-a"])) as client,
        client.subscribe("a", head=True) as stream,
    ):
        await stream.next_of("subscribed")
        put(changing.folder / "keys.json", json.dumps({"keys": [changing.issuer.public_key(), new.public_key()]}))
        async with changing.client(new.token(["watch-a"])) as other:
            await until(lambda: may_follow(other, "a"))
            await subscribe(client, "a")
            put(changing.folder / "keys.json", json.dumps({"keys": [new.public_key()]}))
            error = await fails_with(stream)
            assert error.reason == "UNAUTHENTICATED"
            await subscribe(other, "a")


# In this process, where a test can see what is waited for.


@asynccontextmanager
async def inside(folder: Path, issuer: Issuer) -> AsyncIterator[Client]:
    """A client of a service in this process, with the namespace a. It shows nothing by itself."""
    put(folder / "keys.json", json.dumps({"keys": [issuer.public_key()]}))
    put(folder / "access.toml", ACCESS)
    places = {"folder": folder / "data", "address": "127.0.0.1:0", "metrics_address": "127.0.0.1:0"}
    files = {"access_file": folder / "access.toml", "audit_file": folder / "audit.jsonl"}
    service = Service(Settings.load(encoder="none", **places, **files))
    await service.start()
    try:
        async with client_of(service.address) as client:
            encoder = ns_pb.Encoder(model="none", dimension=DIMENSION)
            wanted = ns_pb.CreateNamespaceRequest(name="a", encoder=encoder)
            await client.namespaces.CreateNamespace(wanted, metadata=showing("root"))
            yield client
    finally:
        await service.stop()


def showing(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


SHORT_SECONDS: Final = 2.0


async def test_who_runs_out_while_a_stream_is_opened_is_not_listed_as_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(_: Audit, line: Mapping[str, object]) -> None:
        if line["code"] == "OPENED":
            time.sleep(SHORT_SECONDS)

    monkeypatch.setattr(Audit, "record", record)
    issuer = Issuer()
    async with inside(tmp_path, issuer) as client:
        call = client.sync.Subscribe(metadata=showing(issuer.token(["watch-a"], seconds=SHORT_SECONDS)))
        wanted = sync_pb.Subscription(namespace="a", consumer="late", head=True)
        await call.write(sync_pb.SubscribeRequest(subscribe=wanted))
        assert (await failure_of(call.read())).reason == "CREDENTIALS_EXPIRED"
        request = sync_pb.ListConsumersRequest(namespace="a")
        listed = await client.sync.ListConsumers(request, metadata=showing("root"))
        assert [(consumer.consumer, consumer.connected) for consumer in listed.consumers] == [("late", False)]


async def test_a_stream_that_waits_for_its_rate_leaves_the_room_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "IN_HAND_BYTES_MAX", 1)  # one request fills it
    waits = asyncio.Event()
    delay_seconds = Allowance.delay_seconds

    def asked(allowance: Allowance) -> float:
        seconds = delay_seconds(allowance)
        if seconds > 0:
            waits.set()
        return seconds

    monkeypatch.setattr(Allowance, "delay_seconds", asked)
    async with inside(tmp_path, Issuer()) as client:
        slowed, other = (client.ingest.SubmitStream(metadata=showing(token)) for token in ("seldom", "root"))
        for number in (1, 2):
            await slowed.write(ingest_pb.SubmitStreamRequest(submissions=[submission("a", number)]))
        first: Any = await asyncio.wait_for(slowed.read(), PATIENCE_SECONDS)
        assert [receipt.submission_id for receipt in first.receipts] == ["s-1"]
        await asyncio.wait_for(waits.wait(), PATIENCE_SECONDS)
        # The second has come and has to wait for a quarter of an hour.
        request = ingest_pb.SubmitRequest(submissions=[submission("a", 3)])
        called = await client.ingest.Submit(request, metadata=showing("root"))
        await other.write(ingest_pb.SubmitStreamRequest(submissions=[submission("a", 4)]))
        streamed: Any = await asyncio.wait_for(other.read(), PATIENCE_SECONDS)
        # Dense: nothing of the one that waits was taken.
        assert [receipt.revision for receipt in (*called.receipts, *streamed.receipts)] == [2, 3]
        slowed.cancel()
        other.cancel()
