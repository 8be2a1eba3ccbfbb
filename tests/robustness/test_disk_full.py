"""A disk that fills up wherever it likes: what is told is what is so, and the next transaction that has space works."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.indexer.feed import Feed
from epistream.indexer.index import Searchable, load_snapshot, save_snapshot
from epistream.indexer.index.exact import ExactIndex
from epistream.indexer.standing import Standing
from epistream.indexer.store import Store
from epistream.wire.errors import Broken, Unavailable
from tests.support.knowing import DIMENSION, NAMESPACE, commit, open_engine, submission
from tests.support.small_disk import SmallDisk, small_disk

WAL_FRAME_BYTES = 512 + 24
FRAMES_OF_FIRST_INDEX_PAGE = 4062
"""The index of the WAL, in shared memory, grows after so many frames (sqlite.org/walformat.html)."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 12 << 20) as disk:
        yield disk


@pytest.fixture
def engine(disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """One with small pages and a WAL that is not written back by itself."""
    monkeypatch.setattr(stores, "PAGE_BYTES", 512)
    monkeypatch.setattr(stores, "CHECKPOINT_PAGES", 1_000_000)
    engine = open_engine(disk.folder / "data")
    yield engine
    disk.clear()
    assert stores.check(engine.store) == []
    engine.close()


class Writing:
    """Writes one fact after the other; knows what was taken."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.taken = engine, 0

    def one(self) -> None:
        [receipt] = commit(self.engine, submission(f"Fact {self.taken}.", id=f"s-{self.taken}"))
        assert (receipt.revision, receipt.earlier) == (self.taken + 1, False), "what was refused was not taken"
        self.taken += 1

    def until_refused(self) -> Unavailable:
        error: Unavailable | None = None
        while error is None:
            try:
                self.one()
            except Unavailable as refused:
                error = refused
        assert error.reason == "DISK_FULL"
        assert self.engine.feed.head(NAMESPACE) == self.taken
        assert self.engine.store.full
        return error


def test_wherever_the_space_ends_the_next_write_with_space_works(disk: SmallDisk, engine: Engine) -> None:
    writing = Writing(engine)
    for left in range(0, 80 * 1024, 5 * 1024):
        disk.fill(but_bytes=left)
        writing.until_refused()
        writing.until_refused()
        with engine.store.reader() as at:
            assert at.counts(1).head == writing.taken
        disk.clear()
        writing.one()
        assert not engine.store.full
    assert writing.taken > 30


def test_no_space_for_the_index_of_the_wal_is_a_full_disk_too(disk: SmallDisk, engine: Engine) -> None:
    """SQLite finds this out after the WAL is on the disk. It undoes the transaction; the next one writes over it."""
    writing, wal = Writing(engine), disk.folder / "data" / "store.sqlite-wal"
    # A fact takes 8 to 33 frames, so that 8 to 41 are left now, and it takes 16 to 74 until the index has to grow by
    # 32 KiB: there is space for these frames, and then for no more than 31 KiB.
    while wal.stat().st_size < (FRAMES_OF_FIRST_INDEX_PAGE - 41) * WAL_FRAME_BYTES:
        writing.one()
    disk.fill(but_bytes=40 * 1024)
    for _ in range(2):
        cause = writing.until_refused().__cause__
        assert isinstance(cause, apsw.IOError)
        assert getattr(cause, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE
    disk.clear()
    writing.one()


def test_a_store_on_a_full_disk_is_closed_and_opened_and_none_is_made(disk: SmallDisk) -> None:
    engine = open_engine(disk.folder / "data")
    commit(engine, *(submission(f"Fact {n}.", id=f"s-{n}") for n in range(50)))
    disk.fill()
    engine.close()
    disk.fill()
    engine = Engine(disk.folder / "data")
    assert engine.feed.head(NAMESPACE) == 50
    with pytest.raises(Unavailable):
        commit(engine, *(submission(f"Fact {n}.", id=f"s-{n}") for n in range(50, 90)))
    engine.close()
    with pytest.raises(Unavailable, match="there is no space") as refused:
        Store(disk.folder / "another")
    assert refused.value.reason == "DISK_FULL"
    disk.clear()
    engine = open_engine(disk.folder / "data")
    assert engine.feed.head(NAMESPACE) == 50
    assert stores.check(engine.store) == []
    engine.close()


def test_a_snapshot_without_space_leaves_the_one_before(disk: SmallDisk) -> None:
    engine = open_engine(disk.folder / "data")
    commit(engine, *(submission(f"Fact {n}.", id=f"s-{n}") for n in range(50)))
    searchable: Searchable = engine.namespaces.state(NAMESPACE).searchable
    folder = disk.folder / "index"
    saved = save_snapshot(searchable, folder, epoch=engine.epoch, namespace=1).read_bytes()
    commit(engine, *(submission(f"Fact {n}.", id=f"s-{n}") for n in range(50, 90)))
    for left in (0, 4096):
        disk.fill(but_bytes=left)
        with pytest.raises(Broken, match="disk full"):
            save_snapshot(searchable, folder, epoch=engine.epoch, namespace=1)
        assert [(file.name, file.read_bytes()) for file in folder.iterdir()] == [("1.index", saved)]
    disk.clear()
    loaded = load_snapshot(folder, ExactIndex(DIMENSION), epoch=engine.epoch, namespace=1, head_revision=90)
    assert isinstance(loaded, Searchable)
    assert loaded.last_revision == 50
    engine.close()


@pytest.mark.parametrize(
    ("step", "error"),
    [((Feed, "publish"), Unavailable("there is no space", reason="DISK_FULL")), ((Standing, "observe"), MemoryError())],
)
def test_what_cannot_be_shown_stops_the_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str], error: Exception
) -> None:
    """It is durable; were more committed now, memory would never learn of it."""
    engine = open_engine(tmp_path)

    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(*step, fails)
        with pytest.raises(Broken, match="start the service anew"):
            commit(engine, submission("Fact.", id="1"))
    engine.close()
    engine = open_engine(tmp_path)
    assert engine.feed.head(NAMESPACE) == 1
    engine.close()
