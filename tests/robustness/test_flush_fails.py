"""Files beside SQLite's that the disk does not flush: it is told, nothing wrong has their name, the next is right.

Flushes of SQLite's own files: test_faulty_disk.py.
"""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from epistream.clients.backup import back_up
from epistream.indexer import store as stores
from epistream.indexer.index import ExactIndex, Searchable, load_snapshot, save_snapshot
from epistream.indexer.restore import restore
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken
from tests.support.backups import dumped, names_in
from tests.support.knowing import DIMENSION, NAMESPACE, commit, open_engine, submission
from tests.support.rpc import client_of
from tests.support.rpc import submission as sent
from tests.support.service import RunningService, running_service

FailAt = Callable[[int], None]


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> FailAt:
    """Has one flush of this process fail, the first for 1; it tells when there was none."""
    flush = os.fsync

    def arm(number: int) -> None:
        left = number

        def flush_or_not(descriptor: int) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            flush(descriptor)

        monkeypatch.setattr(os, "fsync", flush_or_not)

    return arm


def facts(start: int) -> list[pb.Submission]:
    return [submission(f"Fact {n}.", id=f"s-{n}") for n in range(start, start + 10)]


FILE, FOLDER = 1, 2
"""Which flush it is, of those of a file that is written beside its place and renamed."""


@pytest.mark.parametrize("flush", [FILE, FOLDER])
def test_a_snapshot_that_is_not_flushed_is_told_and_what_is_there_is_whole(
    tmp_path: Path, fail_at: FailAt, flush: int
) -> None:
    engine, folder = open_engine(tmp_path / "data"), tmp_path / "index"
    searchable = engine.namespaces.state(NAMESPACE).searchable
    commit(engine, *facts(0))
    before = save_snapshot(searchable, folder, epoch=engine.epoch, namespace=1).read_bytes()
    commit(engine, *facts(10))
    fail_at(flush)
    with pytest.raises(Broken, match="could not be written"):
        save_snapshot(searchable, folder, epoch=engine.epoch, namespace=1)
    assert names_in(folder) == ["1.index"]
    assert ((folder / "1.index").read_bytes() == before) == (flush == FILE)
    for last_revision in (10 if flush == FILE else 20, 20):
        loaded = load_snapshot(folder, ExactIndex(DIMENSION), epoch=engine.epoch, namespace=1, head_revision=20)
        assert isinstance(loaded, Searchable)
        assert loaded.last_revision == last_revision
        save_snapshot(searchable, folder, epoch=engine.epoch, namespace=1)
    engine.close()


def test_a_store_whose_index_was_not_flushed_at_its_end_opens_with_all_that_it_had(
    tmp_path: Path, fail_at: FailAt, caplog: pytest.LogCaptureFixture
) -> None:
    engine = open_engine(tmp_path)
    commit(engine, *facts(0))
    fail_at(FILE)
    engine.close()
    assert "The index will be made from the journal at the next start" in caplog.text
    engine = open_engine(tmp_path)
    assert engine.namespaces.state(NAMESPACE).searchable.last_revision == 10
    engine.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("service") / "data") as service:
        yield service


@pytest.mark.parametrize("flush", [FILE, FOLDER])
async def test_a_backup_that_is_not_flushed_is_told_and_what_has_its_name_is_whole(
    service: RunningService, tmp_path: Path, fail_at: FailAt, flush: int
) -> None:
    async with client_of(service.address) as client:
        await client.make_namespace("facts")
        await client.submit(sent("facts", 1))
    file = tmp_path / "b"
    await back_up(service.address, file)
    before = file.read_bytes()
    fail_at(flush)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        await back_up(service.address, file)
    assert names_in(tmp_path) == ["b"]
    assert (file.read_bytes() == before) == (flush == FILE)
    restore(file, tmp_path / "first")
    await back_up(service.address, file)
    restore(file, tmp_path / "next")
    assert dumped(tmp_path / "first") == dumped(tmp_path / "next") != []


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("flush", [1, 2, 3])
async def test_a_store_that_is_not_flushed_is_not_restored_and_the_next_try_does_it(
    service: RunningService, tmp_path: Path, fail_at: FailAt, flush: int, there: bool
) -> None:
    """Into a folder that is made, and into one that is there."""
    folder = tmp_path / "new"
    if there:
        folder.mkdir()
    await back_up(service.address, tmp_path / "b")
    fail_at(flush)
    with pytest.raises(Broken, match="could not be restored"):
        restore(tmp_path / "b", folder)
    assert not (folder / stores.FILE).exists()
    restore(tmp_path / "b", folder)
    assert names_in(folder) == ["lock", stores.FILE]
