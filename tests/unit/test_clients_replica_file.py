"""A replica's file: whole states only, whatever happens to the process."""

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from epistream.clients.cursor import Position
from epistream.clients.items import Items
from epistream.clients.replica_file import FORMAT, Held, ReplicaFile
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken, Conflict, InvalidInput, Unavailable
from tests.support.histories import DIMENSION, random_history, state_after

EVERYTHING = pb.Filter()


@contextmanager
def opened(path: Path, namespace: str = "tests", only: pb.Filter = EVERYTHING) -> Iterator[ReplicaFile]:
    with closing(ReplicaFile(path, namespace, only)) as file:
        yield file


def as_after_a_kill(path: Path) -> Path:
    """A copy of what is on the disk now, with a file of its own name."""
    copy = path.with_name(f"copy-{len(list(path.parent.iterdir()))}.replica")
    shutil.copy(path, copy)
    log = Path(f"{path}-wal")
    if log.exists():
        shutil.copy(log, f"{copy}-wal")
    return copy


def held_by(path: Path) -> Held:
    with opened(path) as file:
        return file.load()


def everything(items: Items) -> dict[str, pb.Change | None]:
    return {item_id: items.get(item_id) for item_id in items.ids()}


def copies(changes: list[pb.Change]) -> list[pb.Change]:
    return [pb.Change.FromString(change.SerializeToString()) for change in changes]


def snapshot(file: ReplicaFile, history: list[pb.Change], revision: int, epoch: str = "e") -> Items:
    """Takes a snapshot of the history after `revision` into the file."""
    items = Items(DIMENSION)
    file.begin_snapshot()
    wanted = {change.revision for change in state_after(history, revision).values()}
    plan = items.plan(copies([change for change in history if change.revision in wanted]))
    file.stage(plan)
    items.apply(plan)
    file.end_snapshot(Position(epoch, revision), DIMENSION)
    return items


def test_a_new_file_holds_no_state(tmp_path: Path) -> None:
    held = held_by(tmp_path / "r")
    assert (held.position, len(held.items), held.queries) == (None, 0, {})


def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    with opened(tmp_path / "r") as file:
        settings = [file._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]  # 2: FULL


def test_every_batch_is_whole_or_not_there_after_a_kill(tmp_path: Path) -> None:
    """The file is copied between batches, as a killed process leaves it, and each copy is the state of its revision."""
    history = random_history(210, seed=1)
    with opened(tmp_path / "r") as file:
        items = snapshot(file, history, 70)
        killed = [as_after_a_kill(tmp_path / "r")]
        for start in range(70, 210, 7):
            plan = items.plan(copies(history[start : start + 7]))
            file.apply(plan, Position("e", start + 7))
            items.apply(plan)
            killed.append(as_after_a_kill(tmp_path / "r"))
    revisions = []
    for copy in killed:
        held = held_by(copy)
        assert held.position is not None
        assert everything(held.items) == state_after(history, held.position.revision)
        revisions.append(held.position.revision)
    assert revisions == list(range(70, 211, 7))


def test_a_kill_inside_a_snapshot_leaves_the_old_state(tmp_path: Path) -> None:
    history = random_history(100, seed=2)
    with opened(tmp_path / "r") as file:
        snapshot(file, history, 40)
        new = Items(DIMENSION)
        file.begin_snapshot()
        file.stage(new.plan(copies(history[60:80])))
        copy = as_after_a_kill(tmp_path / "r")
    with opened(copy) as file:
        held = file.load()
        assert file._db.execute("SELECT count(*) FROM staged").fetchone() == (0,), "it would only take up room"
    assert held.position == Position("e", 40)
    assert everything(held.items) == state_after(history, 40)


def test_a_snapshot_replaces_everything_and_what_was_staged_before_is_forgotten(tmp_path: Path) -> None:
    history = random_history(100, seed=3)
    with opened(tmp_path / "r") as file:
        snapshot(file, history, 100)
        file.stage(Items(DIMENSION).plan(copies(history[:20])))
        snapshot(file, history, 30, epoch="new")
    held = held_by(tmp_path / "r")
    assert held.position == Position("new", 30)
    assert everything(held.items) == state_after(history, 30)


def test_a_file_that_was_reopened_is_the_same_to_search_and_to_go_on_with(tmp_path: Path) -> None:
    history = random_history(300, seed=4, items=30)
    with opened(tmp_path / "r") as file:
        items = snapshot(file, history, 100)
    for start in range(100, 300, 50):
        with opened(tmp_path / "r") as file:
            held = file.load()
            plan = items.plan(copies(history[start : start + 50]))
            items.apply(plan)
            file.apply(held.items.plan(copies(history[start : start + 50])), Position("e", start + 50))
    held = held_by(tmp_path / "r")
    assert everything(held.items) == everything(items) == state_after(history, 300)
    query = np.arange(1, DIMENSION + 1, dtype=np.float32)
    assert held.items.search(query, 10) == items.search(query, 10)


def test_the_rows_of_removed_items_are_used_again_after_a_restart(tmp_path: Path) -> None:
    history = random_history(100, seed=4, items=30)
    with opened(tmp_path / "r") as file:
        items = snapshot(file, history, 100)
        plan = items.plan([pb.Change(revision=101, item_id=i, kind=pb.CHANGE_KIND_RETRACTED) for i in items.ids()[3:6]])
        file.apply(plan, Position("e", 101))
    held = held_by(tmp_path / "r")
    new = held.items.plan([pb.Change(revision=102 + n, item_id=f"new-{n}") for n in range(4)])
    assert sorted(row.row for row in new.kept) == [*(row for row, _ in plan.removed), len(items)]


def test_a_second_replica_on_the_same_file_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "r") as file:
        file.load()
        with pytest.raises(Conflict, match="in use"):
            ReplicaFile(tmp_path / "r", "tests", EVERYTHING)
    held_by(tmp_path / "r")


def test_a_file_of_another_namespace_is_refused_and_left_alone(tmp_path: Path) -> None:
    history = random_history(20, seed=5)
    with opened(tmp_path / "r") as file:
        snapshot(file, history, 20)
    with pytest.raises(InvalidInput, match="replica of tests, not of others"):
        ReplicaFile(tmp_path / "r", "others", EVERYTHING)
    assert held_by(tmp_path / "r").position == Position("e", 20)


def test_with_another_filter_nothing_of_the_old_state_is_left(tmp_path: Path) -> None:
    with opened(tmp_path / "r") as file:
        snapshot(file, random_history(20, seed=5), 20)
    with opened(tmp_path / "r", only=pb.Filter(producers=["ada"])) as file:
        held = file.load()
    assert (held.position, len(held.items)) == (None, 0)


def test_files_of_somebody_else_are_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but longer than the hundred bytes of the header of one" * 10)
    with closing(sqlite3.connect(tmp_path / "other.db")) as db:
        db.execute("CREATE TABLE theirs (x)")
    for path in (text, tmp_path / "other.db"):
        before = path.read_bytes()
        with pytest.raises(InvalidInput, match=r"name another one|not an SQLite file"):
            ReplicaFile(path, "tests", EVERYTHING)
        assert path.read_bytes() == before


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    held_by(tmp_path / "r")
    with closing(sqlite3.connect(tmp_path / "r")) as db:
        db.execute(f"PRAGMA user_version = {FORMAT + 1}")
    with pytest.raises(InvalidInput, match=f"format {FORMAT + 1}, this version reads {FORMAT}"):
        ReplicaFile(tmp_path / "r", "tests", EVERYTHING)


def test_an_earlier_format_is_filled_anew_if_it_is_of_this_namespace(tmp_path: Path) -> None:
    with opened(tmp_path / "r") as file:
        snapshot(file, random_history(20, seed=6), 20)
    with closing(sqlite3.connect(tmp_path / "r")) as db:
        db.execute("PRAGMA user_version = 1")
    with pytest.raises(InvalidInput, match="is a replica of tests, not of other"):
        ReplicaFile(tmp_path / "r", "other", EVERYTHING)
    held = held_by(tmp_path / "r")
    assert (held.position, len(held.items)) == (None, 0)
    with opened(tmp_path / "r") as file:
        items = snapshot(file, random_history(20, seed=6), 20)
    assert everything(held_by(tmp_path / "r").items) == everything(items)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="Check the disk and the folder"):
        ReplicaFile(tmp_path / "nowhere" / "r", "tests", EVERYTHING)


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    history = random_history(200, seed=6)
    with opened(tmp_path / "r") as file:
        snapshot(file, history, 200)
    content = bytearray((tmp_path / "r").read_bytes())
    content[16384 * 2 :] = bytes(len(content) - 16384 * 2)
    (tmp_path / "r").write_bytes(content)
    with pytest.raises(Broken, match="damaged"):
        held_by(tmp_path / "r")


@pytest.mark.parametrize("seed", range(3))
def test_damage_anywhere_is_said_or_does_no_harm(tmp_path: Path, seed: int) -> None:
    """What is held afterwards is what was, or nothing."""
    history = random_history(400, seed=6, items=150)
    with opened(tmp_path / "r") as file:
        items = snapshot(file, history, 200)
        for start in range(200, 400, 50):
            plan = items.plan(copies(history[start : start + 50]))
            file.apply(plan, Position("e", start + 50))
            items.apply(plan)
        file.remember("a text", bytes(range(200)), "e", None)
    right = everything(items)
    whole, chance, said = (tmp_path / "r").read_bytes(), random.Random(seed), 0
    for number in range(60):
        content = bytearray(whole)
        start = chance.randrange(len(content))
        end = start + chance.choice((1, 100, 16384))
        content[start:end] = chance.randbytes(len(content[start:end]))
        (tmp_path / f"r-{number}").write_bytes(content)
        try:
            held = held_by(tmp_path / f"r-{number}")
        except (Broken, InvalidInput) as error:
            assert "Delete it" in str(error) or "name another one" in str(error)  # noqa: PT017 - or it does no harm
            said += 1
        else:
            assert (held.position, everything(held.items)) in ((Position("e", 400), right), (None, {}))
            assert held.queries in ({"a text": bytes(range(200))}, {})
    assert said > 5


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE item SET change = zeroblob(length(change)) WHERE row = 1",
        "UPDATE item SET embedding = zeroblob(length(embedding)) WHERE row = 1",
        "UPDATE item SET embedding = NULL WHERE row = 1",
        "UPDATE item SET item_id = item_id || 'x' WHERE row = 1",
        "UPDATE item SET revision = revision + 1 WHERE row = 1",
        "UPDATE item SET revision = 'x' WHERE row = 1",
        "UPDATE item SET revision = -1 WHERE row = 1",
        "UPDATE item SET embedding = x'00' WHERE row = 1",
        "UPDATE item SET row = 1 << 40 WHERE row = 1",
        "DELETE FROM item WHERE row = 1",
        "UPDATE replica SET revision = revision + 1",
        "UPDATE replica SET epoch = 'f'",
        "UPDATE replica SET items = items + 1",
        "UPDATE query SET vector = zeroblob(length(vector))",
        "DELETE FROM replica",
    ],
)
def test_a_file_that_sqlite_finds_nothing_wrong_with_is_checked(tmp_path: Path, damage: str) -> None:
    with opened(tmp_path / "r") as file:
        snapshot(file, random_history(100, seed=6), 100)
        file.remember("a text", b"vector", "e", None)
    with closing(sqlite3.connect(tmp_path / "r", isolation_level=None)) as db:
        assert db.execute(damage).rowcount == 1
    with pytest.raises(Broken, match=r"damaged .*Delete it"):
        held_by(tmp_path / "r")


def test_a_text_that_is_none_is_said(tmp_path: Path) -> None:
    with opened(tmp_path / "r") as file:
        snapshot(file, random_history(20, seed=6), 20)
        file._db.execute("UPDATE item SET item_id = CAST(x'ff' AS TEXT) WHERE row = 1")
    with pytest.raises(Broken, match="damaged"):
        held_by(tmp_path / "r")


def test_a_full_disk_is_said_and_the_state_before_stays(tmp_path: Path) -> None:
    history = random_history(200, seed=7)
    with opened(tmp_path / "r") as file:
        items = snapshot(file, history, 100)
        file._db.execute("PRAGMA max_page_count = 1")  # SQLite's own way to have no room left
        big = copies(history[100:200])
        for change in big:
            change.knowledge.content *= 1000
        plan = items.plan(big)
        with pytest.raises(Unavailable, match="There is no space") as told:
            file.apply(plan, Position("e", 200))
        assert told.value.reason == "DISK_FULL"
        assert held_by(as_after_a_kill(tmp_path / "r")).position == Position("e", 100)
        file._db.execute("PRAGMA max_page_count = 100000")
        file.apply(plan, Position("e", 200))
    assert held_by(tmp_path / "r").position == Position("e", 200)


def test_the_vectors_of_texts_are_kept_until_the_epoch_changes(tmp_path: Path) -> None:
    history = random_history(20, seed=8)
    with opened(tmp_path / "r") as file:
        snapshot(file, history, 20)
        for number in range(3):
            file.remember(f"question {number}", bytes([number]), "e", None)
        file.remember("question 3", b"\3", "e", "question 0")
        file.remember("too late", b"\4", "an epoch before", None)
    assert held_by(tmp_path / "r").queries == {f"question {n}": bytes([n]) for n in (1, 2, 3)}
    with opened(tmp_path / "r") as file:
        snapshot(file, history, 20)
        assert len(file.load().queries) == 3
        snapshot(file, history, 20, epoch="new")
        assert file.load().queries == {}
