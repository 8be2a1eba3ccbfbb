"""Alarms are a matter of the journal: other processes, views made anew and restored stores know the same."""

import subprocess
import sys
from pathlib import Path

from epistream.indexer import store as stores
from epistream.indexer.backup import Backup
from epistream.indexer.engine import Engine
from epistream.indexer.restore import restore
from epistream.v1 import knowledge_pb2 as pb
from tests.support.collapsing import ALL_KINDS, EVERY, collapsed, kinds, opened, raised, said
from tests.support.comparing import without_times
from tests.support.knowing import START_US, watch

ROOT = Path(__file__).parents[2]


def test_another_process_finds_the_alarms_and_what_is_due(tmp_path: Path) -> None:
    engine = opened(tmp_path / "store")
    collapsed(engine)
    window = engine.collapse_watch.next()
    assert window is not None
    engine.collapse_watch.record(window, engine.collapse_watch.compare(window))
    unrecorded = engine.collapse_watch.next()
    assert unrecorded is not None
    lost = engine.collapse_watch.compare(unrecorded)
    engine.close()

    engine = opened(tmp_path / "store")

    assert without_times(watch(engine)[0]) == without_times(lost)
    assert "gpt" in raised(engine)
    engine.close()


def test_views_made_anew_and_a_restored_store_have_the_same_alarms(tmp_path: Path) -> None:
    engine = opened(tmp_path / "store")
    collapsed(engine)
    watch(engine)
    dump = list(engine.store.logical_dump())
    assert stores.check(engine.store) == []
    folder = restored(engine, tmp_path)
    stores.rebuild(engine.store)
    assert list(engine.store.logical_dump()) == dump
    engine.close()

    engine = opened(folder)
    assert list(engine.store.logical_dump()) == dump
    assert "gpt" in raised(engine)
    assert watch(engine) == []
    engine.close()


def restored(engine: Engine, folder: Path) -> Path:
    """Another store with all that this one has."""
    made = Backup(engine.store.readers, "1.2.3", START_US)
    file = folder / "backup"
    file.write_bytes(b"".join(made.data()) + made.sha256())
    restore(file, folder / "restored")
    return folder / "restored"


def test_windows_compared_again_by_another_process_in_a_restored_store_have_the_same_bits(tmp_path: Path) -> None:
    engine = opened(tmp_path / "store")
    collapsed(engine)
    said(engine, kinds(ALL_KINDS, 4 * EVERY, 3), "All kinds again")
    kept = watch(engine)
    said(engine, kinds(ALL_KINDS, 3 * EVERY, 4), "Later", "llama")
    folder = restored(engine, tmp_path)
    engine.close()

    done = subprocess.run(
        [sys.executable, "-m", "tests.support.comparing", str(folder)], capture_output=True, check=True, cwd=ROOT
    )

    again = [pb.CollapseAlarm.FromString(bytes.fromhex(line)) for line in done.stdout.decode().split()]
    assert len(kept) > 8
    assert again == list(map(without_times, kept))
