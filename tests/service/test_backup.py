"""Backups of a running service, by its contract and by the command line, and what a restore makes of them."""

import asyncio
import contextlib
import hashlib
import json
import random
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import grpc
import grpc.aio
import psutil
import pytest

from epistream.clients import KnowledgeClient, Producer, Replica, SyncKnowledgeClient, SyncProducer
from epistream.clients.backup import PARTIAL, back_up
from epistream.clients.channel import translate
from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.indexer.model import Record
from epistream.indexer.restore import Restored, restore
from epistream.services import admin, copier
from epistream.services.calls import Calls
from epistream.services.metrics import Metrics
from epistream.services.restore_command import restore_command
from epistream.services.security.audit import Audit
from epistream.services.security.guard import Guard
from epistream.services.server import Server
from epistream.v1 import admin_service_pb2 as api
from epistream.v1 import backup_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns
from epistream.wire.errors import Broken, Unavailable
from tests.support.cli import COMMAND, clean_environment, epistream, epistream_process
from tests.support.intake import topic_with_dead_letters
from tests.support.kafka import Kafka
from tests.support.proxies import Proxy
from tests.support.rpc import DIMENSION, PATIENCE_SECONDS, Client, client_of, failure_of, submission
from tests.support.service import RunningService, running_service
from tests.support.waits import until, wait_until

Result = TypeVar("Result")

ENCODER: Final = ns.Encoder(model="none", dimension=DIMENSION)
LARGE_BYTES: Final = 200_000
LARGE_ITEMS: Final = 100
"""Together more than gRPC and the pipe keep for a client that does not read."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store of 20 MB."""
    folder = tmp_path_factory.mktemp("large") / "data"
    engine = Engine(folder)
    engine.namespaces.create(ns.CreateNamespaceRequest(name="large", encoder=ENCODER))
    facts = [submission("large", n, content=f"{n} " + "x" * LARGE_BYTES) for n in range(LARGE_ITEMS)]
    engine.pipeline.commit(engine.pipeline.prepare([Record(fact.SerializeToString(), 0) for fact in facts]))
    engine.close()
    return folder


@pytest.fixture(scope="module")
def shared(large: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service over a copy of it, which no test stops. Tests add to the namespace `more` only."""
    folder = tmp_path_factory.mktemp("shared") / "data"
    shutil.copytree(large, folder)
    with running_service(folder) as service:
        yield service


async def taken(call: Any) -> list[api.BackupResponse]:
    """All messages of a backup."""
    messages = []
    while isinstance(message := await asyncio.wait_for(call.read(), PATIENCE_SECONDS), api.BackupResponse):
        messages.append(message)
    return messages


async def in_turn(begin: Callable[[], Awaitable[Result]]) -> Result:
    """What `begin` gives, once no other backup is being made: one that was given up takes a moment to end."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await begin()
            except Unavailable as error:
                if error.reason != "OVERLOADED":
                    raise
            await asyncio.sleep(0.02)


async def begun(client: Client) -> Any:
    """A backup whose header was read, when it is its turn."""

    async def begin() -> Any:
        call: Any = client.admin.Backup(api.BackupRequest())
        try:
            assert (await call.read()).HasField("header")
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error
        return call

    return await in_turn(begin)


def dumped(folder: Path) -> list[str]:
    store = stores.Store(folder)
    try:
        assert stores.check(store) == []
        return list(store.logical_dump())
    finally:
        store.close()


def as_it_was(folder: Path, header: backup_pb2.BackupHeader) -> list[str]:
    """The dump of a store, replayed up to the moment of a backup; without what Kafka was read to."""
    store = stores.Store(folder)
    try:
        with store.transaction() as connection:
            connection.execute("DELETE FROM journal WHERE sequence > ?", (header.journal_entries,))
            connection.execute("DELETE FROM dead_letters WHERE number > ?", (header.dead_letters,))
        stores.rebuild(store)
        return [line for line in store.logical_dump() if not line.startswith("positions:")]
    finally:
        store.close()


# Consistency


async def produce(service: RunningService, who: int, acknowledged: set[str], stop: asyncio.Event) -> None:
    """Atomic batches of five of this producer's own, and now and then one that is refused."""
    rng = random.Random(who)
    async with client_of(service.address) as client:
        for batch in range(10_000):
            if stop.is_set():
                return
            ids = [f"{who}-{batch}-{n}" for n in range(5)]
            sent = [submission("busy", 10_000 * who + 5 * batch + n, submission_id=one) for n, one in enumerate(ids)]
            await client.submit(*sent, atomic=True)
            acknowledged.update(ids)
            if rng.random() < 0.2:
                await client.submit(submission("nowhere", batch, submission_id=f"{who}-{batch}-bad"))


async def test_a_backup_made_during_ingest_holds_all_that_was_acknowledged_before_and_nothing_half(
    tmp_path: Path,
) -> None:
    acknowledged: set[str] = set()
    stop = asyncio.Event()
    with running_service(tmp_path / "data") as service:
        async with client_of(service.address) as client:
            await client.make_namespace("busy")
        producing = [asyncio.create_task(produce(service, who, acknowledged, stop)) for who in range(4)]
        files = []
        for number in range(3):
            await until(lambda: len(acknowledged) > 100 * (number + 1))  # noqa: B023 - called at once
            before = set(acknowledged)
            made = await back_up(service.address, tmp_path / f"{number}.backup")
            files.append((made, before))
        during = len(acknowledged) - len(files[-1][1])
        stop.set()
        await asyncio.gather(*producing)
        assert await asyncio.to_thread(service.stop) == 0
    assert during > 0, "it went on meanwhile"
    for made, before in files:
        folder = tmp_path / made.path.stem
        restored = await asyncio.to_thread(restore, made.path, folder)
        dump = await asyncio.to_thread(dumped, folder)
        there = submissions_in(folder)
        assert there >= before
        whole_batches = {one.rpartition("-")[0] for one in there}
        assert there == {f"{batch}-{n}" for batch in whole_batches for n in range(5)}
        shutil.copytree(tmp_path / "data", tmp_path / "copy")
        assert dump == as_it_was(tmp_path / "copy", restored.header)
        shutil.rmtree(tmp_path / "copy")


def submissions_in(folder: Path) -> set[str]:
    with stores.read_only(folder) as at:
        return {row[0] for row in at.connection.execute("SELECT submission_id FROM submissions")}


# The stream


async def test_the_stream_is_a_header_then_the_file_then_its_digest(shared: RunningService) -> None:
    async with client_of(shared.address) as client:
        messages = await taken(client.admin.Backup(api.BackupRequest()))
    assert [m.WhichOneof("message") for m in (messages[0], messages[-1])] == ["header", "trailer"]
    pieces = [m.data for m in messages[1:-1]]
    assert all(0 < len(piece) <= 1024 * 1024 for piece in pieces)
    assert messages[-1].trailer.data_bytes == sum(map(len, pieces)) > LARGE_ITEMS * LARGE_BYTES
    assert messages[-1].trailer.sha256 == hashlib.sha256(b"".join(pieces)).digest()
    assert ("large", LARGE_ITEMS) in {(n.name, n.head_revision) for n in messages[0].header.namespaces}
    assert shared.metric("epistream_backup_last_success_timestamp_seconds") == pytest.approx(
        messages[0].header.create_time.ToMicroseconds() / 1e6
    )
    assert shared.metric("epistream_backup_duration_seconds") > 0


async def test_one_backup_at_a_time_and_one_that_is_given_up_makes_room(shared: RunningService) -> None:
    async with client_of(shared.address) as client:
        first = await begun(client)
        error = await failure_of(taken(client.admin.Backup(api.BackupRequest())))
        assert isinstance(error, Unavailable)
        assert error.reason == "OVERLOADED"
        first.cancel()
        assert (await taken(await begun(client)))[-1].HasField("trailer")
    await until(lambda: not copiers(shared))


def copiers(service: RunningService) -> list[psutil.Process]:
    """The processes that copy for a service."""
    return [c for c in psutil.Process(service.pid).children() if copier.__name__ in c.cmdline()]


async def test_a_client_that_does_not_read_holds_up_neither_memory_nor_the_writer(shared: RunningService) -> None:
    process = psutil.Process(shared.pid)
    async with client_of(shared.address) as client:
        await client.make_namespace("more")
        await client.submit_many("more", range(300))  # what a service takes once, with its first submissions
        before = process.memory_info().rss
        call = await begun(client)
        for start in range(300, 1000, 100):
            await client.submit(*(submission("more", n) for n in range(start, start + 100)))
        assert process.memory_info().rss - before < LARGE_ITEMS * LARGE_BYTES / 2
        writer = apsw.Connection(str(shared.folder / stores.FILE))
        busy, frames, written_back = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").get
        writer.close()
        assert (busy, frames, written_back) == (0, 0, 0), "no reader keeps the WAL from being written back"
        call.cancel()


async def test_a_service_that_goes_down_ends_the_stream_and_says_so(large: Path) -> None:
    with running_service(large) as service:
        async with client_of(service.address) as client:
            call = await begun(client)
            service.signal(signal.SIGTERM)
            error = await failure_of(taken(call))
        assert isinstance(error, Unavailable)
        assert error.reason == "DRAINING"
        assert await asyncio.to_thread(service.wait) == 0


async def test_a_copier_that_is_killed_fails_its_backup_and_no_other(shared: RunningService, tmp_path: Path) -> None:
    async with client_of(shared.address) as client:
        call = await begun(client)
        [process] = copiers(shared)
        process.kill()
        assert isinstance(await failure_of(taken(call)), Broken)
    await in_turn(lambda: back_up(shared.address, tmp_path / "b"))
    assert (tmp_path / "b").stat().st_size > LARGE_ITEMS * LARGE_BYTES
    assert "the copier ended with -9" in shared.logged()


@contextlib.asynccontextmanager
async def serving(folder: Path, *, stalled_seconds: float) -> AsyncIterator[str]:
    """The admin service alone, in this process; its address."""
    metrics = Metrics()
    guard, audit = Guard(None, metrics.insecure), Audit(None, metrics.insecure)
    calls = Calls(metrics, guard, audit, calls_max=10, unary_seconds=10, answer_bytes_max=1 << 20)
    handlers = admin.AdminServicer(folder, metrics, stalled_seconds=stalled_seconds).handlers(calls)
    server = Server("127.0.0.1:0", {admin.SERVICE: handlers}, max_message_bytes=1 << 20)
    await server.start()
    try:
        yield server.address
    finally:
        await server.stop()


async def test_a_client_that_takes_nothing_loses_its_turn(large: Path) -> None:
    async with serving(large, stalled_seconds=0.3) as address, client_of(address) as client:
        call = await begun(client)
        async with client_of(address) as other:
            assert (await taken(await begun(other)))[-1].HasField("trailer")
        error = await failure_of(taken(call))
    assert isinstance(error, Unavailable)
    assert error.reason == "DEADLINE"


async def test_a_damaged_journal_is_told_and_not_backed_up(large: Path, tmp_path: Path) -> None:
    shutil.copytree(large, tmp_path / "data")
    store = stores.Store(tmp_path / "data")
    store.writer.execute("UPDATE journal SET digest = zeroblob(32) WHERE sequence = ?", (LARGE_ITEMS,))
    store.close()
    async with serving(tmp_path / "data", stalled_seconds=60) as address:
        with pytest.raises(Broken, match=f"journal entry {LARGE_ITEMS} is not what was written") as caught:
            await back_up(address, tmp_path / "b")
    assert caught.value.reason == "CORRUPT"
    assert names_in(tmp_path) == ["data"]


# The client and its file


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Lying(grpc.GenericRpcHandler):
    """A service whose backups are these messages."""

    def __init__(self, *messages: api.BackupResponse) -> None:
        self._messages = messages

    def service(self, _: grpc.HandlerCallDetails) -> Any:
        async def answer(_: bytes, context: Any) -> None:
            for message in self._messages:
                await context.write(message.SerializeToString())

        return grpc.unary_stream_rpc_method_handler(answer)


HEADER: Final = api.BackupResponse(header=backup_pb2.BackupHeader(format=1))
DATA: Final = api.BackupResponse(data=b"data")


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "ended before the backup was whole"),
        ([HEADER, DATA], "ended before the backup was whole"),
        ([HEADER, DATA, api.BackupResponse(trailer=api.BackupTrailer(data_bytes=4, sha256=bytes(32)))], "SHA-256"),
        (
            [HEADER, DATA, api.BackupResponse(trailer=api.BackupTrailer(data_bytes=5, sha256=b""))],
            "SHA-256",
        ),
        ([DATA], "before it said of what"),
    ],
)
async def test_what_is_not_whole_gets_no_name_and_the_one_before_is_kept(
    tmp_path: Path, messages: list[api.BackupResponse], says: str
) -> None:
    (tmp_path / "b").write_bytes(b"of yesterday")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Lying(*messages),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        with pytest.raises(Broken, match=says):
            await back_up(f"127.0.0.1:{port}", tmp_path / "b")
    finally:
        await server.stop(None)
    assert names_in(tmp_path) == ["b"]
    assert (tmp_path / "b").read_bytes() == b"of yesterday"


async def test_a_connection_that_breaks_leaves_nothing(shared: RunningService, tmp_path: Path) -> None:
    async with Proxy(int(shared.address.rpartition(":")[2])) as proxy:
        proxy.budget = lambda: LARGE_ITEMS * LARGE_BYTES // 2
        with pytest.raises(Unavailable):
            await in_turn(lambda: back_up(proxy.address, tmp_path / "b"))
    assert names_in(tmp_path) == []


async def test_a_silent_service_is_given_up(shared: RunningService, tmp_path: Path) -> None:
    async with Proxy(int(shared.address.rpartition(":")[2])) as proxy:
        with pytest.raises(Unavailable, match=r"No word from the service for 2 s"):
            await in_turn(
                lambda: back_up(
                    proxy.address, tmp_path / "b", silence_seconds=2, progress=lambda _header, _size: proxy.swallow()
                )
            )
    assert names_in(tmp_path) == []


async def test_a_killed_client_leaves_a_partial_file_only(shared: RunningService, tmp_path: Path) -> None:
    file, partial = tmp_path / "b", tmp_path / f"b{PARTIAL}"
    async with client_of(shared.address) as other:
        await taken(await begun(other))  # what the tests before have given up has ended
    async with Proxy(int(shared.address.rpartition(":")[2])) as proxy:
        arguments = [*COMMAND, "backup", "--output", str(file), "-a", proxy.address]
        client = await asyncio.create_subprocess_exec(*arguments, env=clean_environment({}))
        await until(lambda: partial.exists() or client.returncode is not None)
        proxy.swallow()
        client.kill()
        assert await client.wait() == -signal.SIGKILL
    assert not file.exists()
    assert partial.exists()
    await in_turn(lambda: back_up(shared.address, file))
    assert names_in(tmp_path) == ["b"]


# The command line


def test_backups_in_a_folder_are_named_by_their_time_and_the_oldest_go(shared: RunningService, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    old = [folder / f"epistream-2026010{n}T000000Z.backup" for n in range(1, 4)]
    others = [folder / "mine.backup", folder / "epistream-before-upgrade.backup"]
    left = folder / f"epistream-20260104T000000Z.backup{PARTIAL}"
    for path in (*old, *others, left):
        path.write_bytes(b"")
    done = epistream("backup", "--output", f"{folder}/", "--keep", "2", "--json", "-a", shared.address)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    made = Path(told["file"])
    assert set(folder.iterdir()) == {made, old[2], *others}
    assert (made.stat().st_size, made.read_bytes()[-32:].hex()) == (told["bytes"], told["sha256"])
    assert told["header"]["namespaces"][0] == {"name": "large", "head_revision": str(LARGE_ITEMS)}
    people = epistream("backup", "--output", str(tmp_path / "b"), "-a", shared.address)
    assert people.code == 0
    assert f"large at revision {LARGE_ITEMS}" in people.out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--output", "{}/nowhere/"], 2, "there is no folder"),
        (["--output", "{}/nowhere/b"], 2, "there is no folder"),
        (["--output", "{}/b", "--keep", "2"], 2, "needs a folder"),
        (["--output", "{}/b", "-a", "127.0.0.1:1"], 3, "No service can be reached"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_asked(
    tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    done = epistream("backup", *(argument.format(tmp_path) for argument in arguments))
    assert (done.code, list(tmp_path.iterdir())) == (code, [])
    assert says in done.err


def test_a_backup_is_restored_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = tmp_path / "b", tmp_path / "new"
    with running_service(tmp_path / "data") as service, SyncProducer(service.address) as producer:
        assert (
            epistream(
                "namespaces",
                "create",
                "small",
                "--encoder",
                "none",
                "--dimension",
                str(DIMENSION),
                "-a",
                service.address,
            ).code
            == 0
        )
        producer.submit(*(submission("small", n) for n in range(20)))
        assert epistream("backup", "--output", str(file), "-a", service.address).code == 0
    people = epistream_process("restore", str(file), "--folder", str(folder))
    assert people.code == 0, people.err
    assert "small at revision 20" in people.out
    again = epistream_process("restore", str(file), "--folder", str(folder))
    assert again.code == 2
    assert "which is never overwritten" in again.err
    restore_command(file, tmp_path / "other", checked=False, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["epoch"] != told["header"]["epoch"]
    assert told["positions"] == []
    assert dumped(tmp_path / "other") == dumped(folder)


# After a restore


def restored_in_place(service: RunningService, file: Path) -> Restored:
    """Put a restored store in the place of the service's, which is stopped; the one before is lost."""
    shutil.rmtree(service.folder)
    return restore(file, service.folder)


async def test_a_replica_of_the_time_after_the_backup_ends_with_just_what_was_restored(tmp_path: Path) -> None:
    def fact(number: int, text: str) -> pb.Submission:
        return submission("facts", number, content=text, submission_id=f"{number} {text}")

    with running_service(tmp_path / "data") as service:
        async with KnowledgeClient(service.address) as client, Producer(service.address) as producer:
            await client.create_namespace("facts", encoder=ENCODER)
            await producer.submit(*(fact(n, f"Fact {n}.") for n in range(30)))
            made = await back_up(service.address, tmp_path / "b")
            await producer.retract("facts", "item-3", producer="tests", origin="EXPERT")
            await producer.submit(*(fact(n, f"Fact {n} is another.") for n in range(5, 10)))
            await producer.submit(*(fact(n, f"Fact {n}.") for n in range(30, 40)))
            async with Replica.open(tmp_path / "r", service.address, "facts", "model") as replica:
                await replica.wait_for(46)
                assert replica.get("item-35") is not None
                # The replica follows while the store is replaced, as in the field.
                await asyncio.to_thread(service.stop)
                restored = await asyncio.to_thread(restored_in_place, service, made.path)
                await asyncio.to_thread(service.start)
                await until(lambda: replica.epoch == restored.epoch)
                assert replica.revision == 30
                assert replica.counts.resyncs == 1
                contents = {item: content_of(replica, item) for item in replica.item_ids()}
                assert contents == {f"item-{n}": f"Fact {n}." for n in range(30)}
                # Revisions are given anew, to other changes.
                await producer.submit(*(fact(n, f"Fact {n} is new.") for n in range(50, 60)))
                await replica.wait_for(40)
                assert content_of(replica, "item-55") == "Fact 55 is new."
                assert replica.get("item-35") is None
                assert replica.counts.resyncs == 1


def content_of(replica: Replica, item: str) -> str:
    change = replica.get(item)
    assert change is not None
    return change.knowledge.content


def test_kafka_is_read_again_from_the_backup_on(kafka: Kafka, tmp_path: Path) -> None:
    topic = topic_with_dead_letters(kafka)

    def send(numbers: range) -> None:
        kafka.produce(topic, [submission("facts", n).SerializeToString() for n in numbers])

    with running_service(tmp_path / "data", kafka=kafka.bootstrap, kafka_topics=topic) as running:

        def head() -> float:
            return running.metric('epistream_store_revision{namespace="facts"}')

        with SyncKnowledgeClient(running.address) as client, SyncProducer(running.address) as producer:
            client.create_namespace("facts", encoder=ENCODER)
            send(range(60))
            wait_until(lambda: head() == 60, "all are taken in")
            made = asyncio.run(back_up(running.address, tmp_path / "b"))
            send(range(60, 100))
            producer.submit(submission("facts", 999))
            wait_until(lambda: head() == 101, "all are taken in")
        running.kill()
        restored = restored_in_place(running, made.path)
        assert restored.positions == {(topic, 0): 60}
        running.start()
        wait_until(lambda: head() == 100, "what came since then is taken in again")
        assert running.stop() == 0
    assert submissions_in(running.folder) == {f"s-{n}" for n in range(100)}, "what came over gRPC since then is gone"
    assert len(dumped(running.folder)) > 0
