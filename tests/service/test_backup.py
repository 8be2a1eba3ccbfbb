"""A backup as the service sends it: of one moment, in turn, and to its end or with a word."""

import asyncio
import contextlib
import hashlib
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import psutil
import pytest

from epistream.clients.backup import back_up
from epistream.indexer import store as stores
from epistream.indexer.restore import restore
from epistream.services import admin, copier
from epistream.services.calls import Calls
from epistream.services.metrics import Metrics
from epistream.services.security.audit import Audit
from epistream.services.security.guard import Guard
from epistream.services.server import Server
from epistream.v1 import admin_service_pb2 as api
from epistream.v1 import backup_pb2
from epistream.wire.errors import Broken, Unavailable
from tests.support.backups import (
    LARGE_BYTES,
    LARGE_ITEMS,
    begun,
    dumped,
    in_turn,
    names_in,
    produce,
    submissions_in,
    taken,
)
from tests.support.rpc import assert_turned_away, client_of, failure_of, submission
from tests.support.service import RunningService, running_service
from tests.support.waits import until


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


# The stream


async def test_the_stream_is_a_header_then_the_file_then_its_digest(large_service: RunningService) -> None:
    async with client_of(large_service.address) as client:
        messages = await taken(client.admin.Backup(api.BackupRequest()))
    assert [m.WhichOneof("message") for m in (messages[0], messages[-1])] == ["header", "trailer"]
    pieces = [m.data for m in messages[1:-1]]
    assert all(0 < len(piece) <= 1024 * 1024 for piece in pieces)
    assert messages[-1].trailer.data_bytes == sum(map(len, pieces)) > LARGE_ITEMS * LARGE_BYTES
    assert messages[-1].trailer.sha256 == hashlib.sha256(b"".join(pieces)).digest()
    assert ("large", LARGE_ITEMS) in {(n.name, n.head_revision) for n in messages[0].header.namespaces}
    assert large_service.metric("epistream_backup_last_success_timestamp_seconds") == pytest.approx(
        messages[0].header.create_time.ToMicroseconds() / 1e6
    )
    assert large_service.metric("epistream_backup_duration_seconds") > 0


async def test_one_backup_at_a_time_and_one_that_is_given_up_makes_room(large_service: RunningService) -> None:
    async with client_of(large_service.address) as client:
        first = await begun(client)
        await assert_turned_away(taken(client.admin.Backup(api.BackupRequest())), "OVERLOADED")
        first.cancel()
        assert (await taken(await begun(client)))[-1].HasField("trailer")
    await until(lambda: not copiers(large_service))


def copiers(service: RunningService) -> list[psutil.Process]:
    """The processes that copy for a service."""
    return [c for c in psutil.Process(service.pid).children() if copier.__name__ in c.cmdline()]


async def test_a_client_that_does_not_read_holds_up_neither_memory_nor_the_writer(
    large_service: RunningService,
) -> None:
    process = psutil.Process(large_service.pid)
    async with client_of(large_service.address) as client:
        await client.make_namespace("more")
        await client.submit_many("more", range(300))  # what a service takes once, with its first submissions
        before = process.memory_info().rss
        call = await begun(client)
        for start in range(300, 1000, 100):
            await client.submit(*(submission("more", n) for n in range(start, start + 100)))
        assert process.memory_info().rss - before < LARGE_ITEMS * LARGE_BYTES / 2
        writer = apsw.Connection(str(large_service.folder / stores.FILE))
        busy, frames, written_back = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").get
        writer.close()
        assert (busy, frames, written_back) == (0, 0, 0), "no reader keeps the WAL from being written back"
        call.cancel()


async def test_a_service_that_goes_down_ends_the_stream_and_says_so(large_store: Path) -> None:
    with running_service(large_store) as service:
        async with client_of(service.address) as client:
            call = await begun(client)
            service.signal(signal.SIGTERM)
            error = await failure_of(taken(call))
        assert isinstance(error, Unavailable)
        assert error.reason == "DRAINING"
        assert await asyncio.to_thread(service.wait) == 0


async def test_a_copier_that_is_killed_fails_its_backup_and_no_other(
    large_service: RunningService, tmp_path: Path
) -> None:
    async with client_of(large_service.address) as client:
        call = await begun(client)
        [process] = copiers(large_service)
        process.kill()
        assert isinstance(await failure_of(taken(call)), Broken)
    await in_turn(lambda: back_up(large_service.address, tmp_path / "b"))
    assert (tmp_path / "b").stat().st_size > LARGE_ITEMS * LARGE_BYTES
    assert "the copier ended with -9" in large_service.logged()


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


async def test_a_client_that_takes_nothing_loses_its_turn(large_store: Path) -> None:
    async with serving(large_store, stalled_seconds=0.3) as address, client_of(address) as client:
        call = await begun(client)
        async with client_of(address) as other:
            assert (await taken(await begun(other)))[-1].HasField("trailer")
        error = await failure_of(taken(call))
    assert isinstance(error, Unavailable)
    assert error.reason == "DEADLINE"


async def test_a_damaged_journal_is_told_and_not_backed_up(large_store: Path, tmp_path: Path) -> None:
    shutil.copytree(large_store, tmp_path / "data")
    store = stores.Store(tmp_path / "data")
    store.writer.execute("UPDATE journal SET digest = zeroblob(32) WHERE sequence = ?", (LARGE_ITEMS,))
    store.close()
    async with serving(tmp_path / "data", stalled_seconds=60) as address:
        with pytest.raises(Broken, match=f"journal entry {LARGE_ITEMS} is not what was written") as caught:
            await back_up(address, tmp_path / "b")
    assert caught.value.reason == "CORRUPT"
    assert names_in(tmp_path) == ["data"]
