"""Whatever the disk does, what was acknowledged is there; the store stops or refuses, and comes back whole."""

import random
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.wire.errors import Broken, Unavailable
from tests.support.faulty_disk import FILE, WAL, Fault, FaultyDisk, faulty_disk
from tests.support.knowing import NAMESPACE, commit, open_engine, submission
from tests.support.power_loss import power_losses

WRITES_OF_A_COMMIT = 16
"""Of one fact: eight frames, each a head and a page."""
PAGES_OF_A_CHECKPOINT = 6
"""So many are written back after each commit, or some more."""


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    with faulty_disk() as disk:
        yield disk


def a_fact(number: int) -> pb.Submission:
    return submission(f"Fact {number}.", id=f"s-{number}", item=f"i-{number}")


def heads_after_power_loss(disk: FaultyDisk, folder: Path, times: int) -> set[int]:
    """Lose the power right now, so often; the head that is found then. What is found must be whole."""
    heads = set()
    for time in range(times):
        survived = folder.with_name(f"survived-{disk.operations}-{time}")
        disk.leave(folder, survived, random.Random(time))
        engine = Engine(survived)
        assert stores.check(engine.store) == []
        heads.add(engine.feed.head(NAMESPACE))
        engine.close()
    return heads


def test_what_was_acknowledged_survives_losses_of_power(tmp_path: Path) -> None:
    seen = power_losses(tmp_path, 12, seed=1)
    assert seen.faults == []
    assert (seen.rounds, seen.acknowledged > 300) == (12, True)


def test_a_disk_that_does_not_flush_is_noticed_by_these_rounds(tmp_path: Path) -> None:
    seen = power_losses(tmp_path, 3, seed=1, lying=True)
    assert seen.faults


@pytest.mark.parametrize("short", [False, True])
def test_a_write_without_space_is_undone_wherever_it_happens(tmp_path: Path, disk: FaultyDisk, short: bool) -> None:
    folder = tmp_path / "data"
    engine = open_engine(folder)
    for writes in range(WRITES_OF_A_COMMIT):
        disk.fail(Fault("write", WAL, apsw.SQLITE_FULL, short=short), after=writes)
        with pytest.raises(Unavailable, match="there is no space"):
            commit(engine, a_fact(writes))
        disk.mend()
        assert engine.feed.head(NAMESPACE) == writes
        assert heads_after_power_loss(disk, folder, 1) == {writes}
        [receipt] = commit(engine, a_fact(writes))
        assert (receipt.revision, receipt.earlier) == (writes + 1, False)
    assert stores.check(engine.store) == []
    engine.close()


@pytest.mark.parametrize(
    ("fault", "heads"),
    [
        (Fault("write", WAL, apsw.SQLITE_IOERR_WRITE), {1}),
        (Fault("write", WAL, apsw.SQLITE_IOERR_WRITE, short=True), {1}),
        (Fault("flush", WAL, apsw.SQLITE_IOERR_FSYNC), {1, 2}),
    ],
)
def test_what_the_disk_refuses_breaks_the_store_until_it_is_opened_anew(
    tmp_path: Path, disk: FaultyDisk, fault: Fault, heads: set[int]
) -> None:
    """After a failed flush what was written may be on the disk or not; before one it is not."""
    engine = open_engine(tmp_path / "data")
    commit(engine, a_fact(0))
    disk.fail(fault)
    with pytest.raises(Broken, match="cannot be read or written"):
        commit(engine, a_fact(1))
    disk.mend()
    assert heads_after_power_loss(disk, tmp_path / "data", 8) <= heads
    disk.hush()
    engine.store.close()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("write", FILE, apsw.SQLITE_FULL),
        Fault("write", FILE, apsw.SQLITE_IOERR_WRITE),
        Fault("write", FILE, apsw.SQLITE_IOERR_WRITE, short=True),
        Fault("flush", FILE, apsw.SQLITE_IOERR_FSYNC),
    ],
)
def test_a_checkpoint_that_fails_anywhere_loses_nothing(
    tmp_path: Path, disk: FaultyDisk, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit before it is durable, though apsw tells of it here: what matters is what is there then."""
    monkeypatch.setattr(stores, "CHECKPOINT_PAGES", 1)
    folder, last = tmp_path / "data", 0 if fault.operation == "flush" else PAGES_OF_A_CHECKPOINT
    engine, struck = open_engine(folder), 0
    for number in range(last + 1):
        head = engine.feed.head(NAMESPACE)
        disk.fail(fault, after=number)
        try:
            commit(engine, a_fact(number))
        except (Broken, Unavailable):
            struck += 1
        disk.mend()
        assert heads_after_power_loss(disk, folder, 2) <= {head + 1}
        engine.store.close()
        engine = Engine(folder)
        assert engine.feed.head(NAMESPACE) == head + 1
    assert struck > last / 2
    assert stores.check(engine.store) == []
    engine.close()


def test_a_checkpoint_that_the_system_refuses_is_made_up_for_by_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's file may not grow, as on a full disk: SQLite keeps that to itself and the WAL for the next time."""
    monkeypatch.setattr(stores, "CHECKPOINT_PAGES", 10)
    engine = open_engine(tmp_path / "data")
    commit(engine, *map(a_fact, range(1000)))
    engine.close()
    file, wal = tmp_path / "data" / FILE, tmp_path / "data" / WAL
    size = file.stat().st_size
    engine = Engine(tmp_path / "data")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        for number in range(1000, 1006):
            [receipt] = commit(engine, submission("x" * 8000 + str(number), id=f"s-{number}", item=f"i-{number}"))
            assert receipt.revision == number + 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.stat().st_size == size
    assert wal.stat().st_size > 2 * stores.CHECKPOINT_PAGES * stores.PAGE_BYTES
    shutil.copytree(tmp_path / "data", tmp_path / "killed")
    for folder in ("killed", "data"):
        if folder == "data":
            commit(engine, a_fact(1006))
            assert file.stat().st_size > size
            engine.close()
        opened = Engine(tmp_path / folder)
        assert opened.feed.head(NAMESPACE) == 1006 + (folder == "data")
        assert stores.check(opened.store) == []
        opened.close()


def test_a_read_that_fails_is_told_and_the_next_one_works(tmp_path: Path, disk: FaultyDisk) -> None:
    open_engine(tmp_path).close()
    engine = Engine(tmp_path)
    commit(engine, *map(a_fact, range(60)))
    engine.close()
    engine = Engine(tmp_path)
    disk.fail(Fault("read", FILE, apsw.SQLITE_IOERR_READ))
    asked = api.HistoryRequest(namespace=NAMESPACE, item_id="i-7")
    with engine.store.readers.reader():  # so that the question takes a connection that has nothing in its cache
        with pytest.raises(Broken, match="cannot be read or written"):
            engine.knowledge.history(asked)
        disk.mend()
        assert len(engine.knowledge.history(asked).changes) == 1
    engine.close()
