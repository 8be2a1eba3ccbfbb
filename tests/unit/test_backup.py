"""A backup holds what the store held at its moment, and a restore makes that or nothing."""

import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epistream.indexer import conflicts, positions, views
from epistream.indexer import store as stores
from epistream.indexer.backup import CHUNK_BYTES, DIGEST_BYTES, Backup
from epistream.indexer.engine import Engine
from epistream.indexer.index import FaissIndex, Unusable, load_snapshot
from epistream.indexer.model import Place, Position
from epistream.indexer.outbox import acknowledge
from epistream.indexer.positions import Cursor
from epistream.indexer.restore import UNFINISHED, restore
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.wire.errors import Broken, InvalidInput, Unavailable
from tests.support.fuzzing import examples
from tests.support.knowing import (
    DIMENSION,
    NAMESPACE,
    START_US,
    commit,
    commit_from_kafka,
    commit_in_batches,
    direction,
    open_engine,
    pending,
    record,
    retraction,
    ruling,
    submission,
    watch,
)

ROOT: Final = Path(__file__).parents[2]
TOPIC_ID: Final = "2K8XqzmtR5uYwEPYVZ8x0g"
KILLED_AT: Final = """
import os, signal, sys
from pathlib import Path
from epistream.indexer.restore import restore

stage, nth, file, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
seen = 0

def progress(what, done, of):
    global seen
    seen += what == stage
    if seen > nth:
        os.kill(os.getpid(), signal.SIGKILL)

restore(file, folder, progress=progress)
"""


def write_backup(engine: Engine, file: Path, pieces: Iterator[bytes] | None = None, made: Backup | None = None) -> Path:
    """The file as a client writes it."""
    made = made or Backup(engine.store.readers, "1.2.3", START_US)
    file.write_bytes(b"".join(pieces or made.data()) + made.sha256())
    return file


def filled(folder: Path) -> Engine:
    """An engine with everything in it that a store can hold."""
    engine = open_engine(folder)
    sent = [submission(f"Fact {n}.", id=f"s-{n}", item=f"i-{n % 40}", attributes={"n": str(n)}) for n in range(60)]
    commit_in_batches(engine, sent, 7)
    commit(engine, retraction("i-3", id="gone"), submission("Fact 30.", id="again", producer="bob", item="of-bob"))
    commit(engine, submission("Fact 50 is wrong.", id="held", item="i-10", origin=pb.ORIGIN_SYNTHETIC))
    commit(engine, submission("It came first.", id="orphan", origin=pb.ORIGIN_SYNTHETIC, derived_from=["unheard-of"]))
    commit(
        engine, submission("So a model says.", id="made", origin=pb.ORIGIN_SYNTHETIC, derived_from=["i-1", "of-bob"])
    )
    fill_with_votes(engine)
    fill_with_reviews(engine)
    commit_from_kafka(engine, [submission(f"From Kafka {n}.", id=f"k-{n}") for n in range(5)], 2)
    made = [submission(f"Made {n}.", id=f"m-{n}", origin=pb.ORIGIN_SYNTHETIC, producer="gpt") for n in range(130)]
    commit(engine, *made)
    assert watch(engine)
    letters = [record(pb.Submission(content="of nobody"), Position("facts", 1, n, leader_epoch=3)) for n in range(3)]
    engine.pipeline.commit(engine.pipeline.prepare([*letters, record(pb.Submission(content="over gRPC"))]))
    acknowledge(engine.store, Cursor(30, 2))
    with engine.store.transaction() as connection:
        positions.learn(connection, {("facts", 1): TOPIC_ID})
    return engine


def fill_with_votes(engine: Engine) -> None:
    """Two raters who are at odds."""
    for score in (0, 1):
        judged = pb.Submission(namespace=NAMESPACE, submission_id=f"f-{score}", origin=pb.ORIGIN_EXPERT)
        judged.provenance.producer = "panel"
        judged.feedback.MergeFrom(
            pb.Feedback(
                kind=pb.FEEDBACK_KIND_BINARY,
                judged=[pb.Judged(item_id="i-10", score=score)],
                rater=f"r-{score}",
                rater_type=pb.RATER_TYPE_HUMAN,
            )
        )
        commit(engine, judged)


def fill_with_reviews(engine: Engine) -> None:
    """One that is let in, one that is rejected, one that still waits; a conflict, and a comment on it."""
    made = [submission(f"Of {n} mg.", id=f"w-{n}", item="i-20", origin=pb.ORIGIN_SYNTHETIC) for n in range(3)]
    commit(engine, *made)
    *_, first, second, _ = pending(engine)
    engine.pipeline.release([ruling(engine, first), ruling(engine, second, admits=False)])
    near = direction(1.0, 0.1)
    commit(engine, *(submission(f"At most {n} mg.", id=f"c-{n}", vector=near) for n in (5, 50)))
    with engine.store.reader() as catalog:
        (conflict,) = conflicts.listed(catalog.connection, 1, is_open=True, item_id="", after=0, limit=2)
    engine.pipeline.comment(
        NAMESPACE, journal_pb2.Comment(subject=conflict.conflict, reviewer="dr-ada", text="Of whom?")
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A backup file, and the dump of the store that it is of."""
    folder = tmp_path_factory.mktemp("whole")
    engine = filled(folder / "store")
    file, dump = write_backup(engine, folder / "b"), list(engine.store.logical_dump())
    engine.close()
    return file, dump


def dumped(folder: Path) -> list[str]:
    store = stores.Store(folder)
    try:
        assert stores.check(store) == []
        return list(store.logical_dump())
    finally:
        store.close()


def test_a_restored_store_holds_all_that_the_one_before_held_under_a_new_epoch(
    whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    file, dump = whole
    tables = {line.partition(":")[0] for line in dump}
    assert tables == {"journal", "positions", "dead_letters", *views.TABLES}, "each has rows to lose"
    restored = restore(file, tmp_path / "new")
    assert dumped(tmp_path / "new") == dump
    assert restored.epoch != restored.header.epoch
    assert restored.positions == {("facts", 0): Place(5), ("facts", 1): Place(3, 3, TOPIC_ID)}
    assert restored.acknowledged == Cursor(30, 2)
    with stores.read_only(tmp_path / "new") as at:
        assert at.epoch() == restored.epoch
        assert positions.acknowledged(at.connection) == Cursor(30, 2)
    assert [(n.name, n.head_revision > 60) for n in restored.header.namespaces] == [(NAMESPACE, True)]
    assert (restored.header.service_version, restored.header.dead_letters) == ("1.2.3", 4)


def test_what_is_committed_while_it_is_read_is_not_in_it(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "store")
    large = [submission(f"{n} " + "x" * 50_000, id=f"s-{n}", item=f"i-{n % 50}") for n in range(100)]
    commit_in_batches(engine, large, 10)
    at_the_moment = list(engine.store.logical_dump())
    made = Backup(engine.store.readers, "", START_US)

    def pieces() -> Iterator[bytes]:
        for number, piece in enumerate(made.data()):
            commit(engine, submission(f"Later {number}.", id=f"later-{number}", item=f"i-{number}"))
            commit_from_kafka(engine, [submission(f"Later too {number}.", id=f"k-{number}")], 1)
            assert len(piece) <= CHUNK_BYTES
            yield piece

    file = write_backup(engine, tmp_path / "b", pieces(), made)
    assert engine.feed.head(NAMESPACE) == 100 + 2 * -(-made.data_bytes // CHUNK_BYTES) >= 108
    engine.close()
    restore(file, tmp_path / "new")
    assert dumped(tmp_path / "new") == at_the_moment


@examples(8)
@given(st.lists(st.integers(0, 400_000), min_size=0, max_size=12))
def test_however_large_the_rows_the_pieces_make_one_file(sizes: list[int]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        engine = open_engine(folder / "store")
        commit_in_batches(engine, [submission(f"{n} " + "x" * size, id=f"s-{n}") for n, size in enumerate(sizes)], 5)
        dump = list(engine.store.logical_dump())
        made = Backup(engine.store.readers, "", START_US)
        pieces = list(made.data())
        assert [len(piece) for piece in pieces[:-1]] == [CHUNK_BYTES] * (len(pieces) - 1)
        assert made.data_bytes == sum(map(len, pieces))
        engine.close()
        file = write_backup(engine, folder / "b", iter(pieces), made)
        restore(file, folder / "new", checked=False)
        assert dumped(folder / "new") == dump


def cut_by(count: int) -> Callable[[bytes], bytes]:
    return lambda whole: whole[:-count]


def changed_at(place: float) -> Callable[[bytes], bytes]:
    def change(whole: bytes) -> bytes:
        at = int(place * (len(whole) - 1))
        return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]

    return change


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        *((changed_at(place), "damaged or was cut off") for place in (0.002, 0.1, 0.5, 0.9, 1.0)),
        *((cut_by(count), "damaged or was cut off") for count in (1, DIGEST_BYTES, 5000)),
        (lambda whole: whole + b"\0", "damaged or was cut off"),
        (lambda whole: whole[:25], "damaged or was cut off"),
        (lambda whole: whole[:10], "is not a backup of Epistream"),
        (changed_at(0), "is not a backup of Epistream"),
        (lambda _: b"", "is not a backup of Epistream"),
        (lambda whole: whole.replace(b"backup 1", b"backup 2", 1), "format 2, this version reads format 1"),
        (lambda whole: whole.replace(b"backup 1", b"backup 17", 1), "format 17, this version reads format 1"),
    ],
)
def test_a_file_that_is_not_just_what_was_sent_is_refused_and_nothing_is_made(
    whole: tuple[Path, list[str]], tmp_path: Path, spoil: Callable[[bytes], bytes], says: str
) -> None:
    spoilt = tmp_path / "b"
    spoilt.write_bytes(spoil(whole[0].read_bytes()))
    with pytest.raises(InvalidInput, match=says):
        restore(spoilt, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        restore(tmp_path / "nowhere", tmp_path / "new")


def test_a_store_is_never_overwritten(whole: tuple[Path, list[str]], tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "store")
    commit(engine, submission("Mine.", id="mine"))
    engine.close()
    before = dumped(tmp_path / "store")
    with pytest.raises(InvalidInput, match=r"holds a store \(store.sqlite\), which is never overwritten"):
        restore(whole[0], tmp_path / "store")
    assert dumped(tmp_path / "store") == before
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "store.sqlite-wal").write_bytes(b"of another store")
    with pytest.raises(InvalidInput, match=r"holds a store \(store.sqlite-wal\)"):
        restore(whole[0], tmp_path / "left")


def test_a_folder_in_use_is_left_alone_and_one_with_other_files_keeps_them(
    whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "lost+found").mkdir()
    lock = stores.locked(tmp_path)
    with pytest.raises(Unavailable, match="in use by another process"):
        restore(whole[0], tmp_path)
    lock.close()
    restore(whole[0], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "lost+found", stores.FILE]


def test_a_journal_that_is_damaged_is_not_backed_up(tmp_path: Path) -> None:
    engine = filled(tmp_path / "store")
    engine.store.writer.execute("UPDATE journal SET change = CAST(replace(change, 'Fact 3', 'Lie 33') AS BLOB)")
    with pytest.raises(Broken, match="journal entry 5 is not what was written") as caught:
        list(Backup(engine.store.readers, "", 0).data())
    assert caught.value.reason == "CORRUPT"
    engine.store.writer.execute("DELETE FROM journal WHERE sequence >= 3")
    with pytest.raises(Broken, match="journal entry 3 is not what was written"):
        list(made_before(engine, 10).data())
    engine.close()


def made_before(engine: Engine, entries: int) -> Backup:
    """A backup whose moment was when there were more entries."""
    made = Backup(engine.store.readers, "", 0)
    made.header.journal_entries = entries
    return made


def test_what_was_damaged_when_it_was_copied_is_not_restored(whole: tuple[Path, list[str]], tmp_path: Path) -> None:
    """As a file whose SHA-256 fits, but whose journal does not: of a service that did not look."""
    data = whole[0].read_bytes()[:-DIGEST_BYTES].replace(b"From Kafka 1.", b"From Kafka 7.")
    lying = tmp_path / "b"
    lying.write_bytes(data + hashlib.sha256(data).digest())
    with pytest.raises(Broken, match=r"was damaged already: journal entry .* is not what was written"):
        restore(lying, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    restore(lying, tmp_path / "new", checked=False)
    store = stores.Store(tmp_path / "new")
    assert any("is not what was written" in finding for finding in stores.check(store))
    store.close()


@pytest.mark.parametrize(
    ("stage", "nth"), [("verify", 0), ("write", 0), ("check", 0), ("check", 1), ("place", 0), ("place", 1)]
)
def test_a_restore_that_is_killed_leaves_a_whole_store_or_none(
    whole: tuple[Path, list[str]], tmp_path: Path, stage: str, nth: int
) -> None:
    file, dump = whole
    folder = tmp_path / "new"
    killed = subprocess.run([sys.executable, "-c", KILLED_AT, stage, str(nth), file, folder], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    if (folder / stores.FILE).exists():
        assert (stage, nth) == ("place", 1)
    else:
        assert (folder / UNFINISHED).exists() == (stage != "verify")
        restore(file, folder)
    assert not (folder / UNFINISHED).exists()
    assert dumped(folder) == dump


def test_an_index_file_of_the_store_before_is_not_used(tmp_path: Path) -> None:
    """It could be of revisions that the restored store gives to other changes."""
    before = filled(tmp_path / "store")
    file = write_backup(before, tmp_path / "b")
    head = before.feed.head(NAMESPACE)
    commit(before, submission("Only before.", id="before", item="only-before", vector=direction(1)))
    before.close()
    restored = restore(file, tmp_path / "new")
    shutil.copytree(tmp_path / "store" / "index", tmp_path / "new" / "index")
    loaded = load_snapshot(
        tmp_path / "new" / "index", FaissIndex(DIMENSION), epoch=restored.epoch, namespace=1, head_revision=head + 1
    )
    assert isinstance(loaded, Unusable)
    assert "has epoch" in loaded.reason
    engine = open_engine(tmp_path / "new")
    commit(engine, submission("Only after.", id="after", item="only-after", vector=direction(0, 1)))
    assert engine.feed.head(NAMESPACE) == head + 1
    query = pb.Embedding(float32=direction(1).tobytes())
    found = engine.knowledge.search(api.SearchRequest(namespace=NAMESPACE, vector=query, limit=100)).hits
    assert "only-after" in {hit.change.item_id for hit in found}
    assert "only-before" not in {hit.change.item_id for hit in found}
    engine.close()


def test_a_restored_store_tells_kafka_the_rest_under_its_own_epoch(
    whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    restored = restore(whole[0], tmp_path / "new")
    engine = open_engine(tmp_path / "new")
    told = engine.outbox.pending(None, 1000).messages
    engine.close()
    ours = [dict(m.headers) for m in told if "epistream-sequence" in dict(m.headers)]
    assert {headers["epistream-epoch"] for headers in ours} == {restored.epoch.encode()}
    assert int(ours[0]["epistream-sequence"]) == 31
    numbered = [dict(m.headers) for m in told if "epistream-dead-letter" in dict(m.headers)]
    assert [headers["epistream-epoch"] for headers in numbered] == [restored.epoch.encode()] * 2
