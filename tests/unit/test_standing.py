"""What stands beside the catalog: human knowledge is what people said and what its tests verified, in every life."""

import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from epistream.indexer.backup import Backup
from epistream.indexer.gain import Gains
from epistream.indexer.restore import restore
from epistream.indexer.store import Store
from epistream.v1 import knowledge_pb2 as pb
from tests.support.collapsing import DIMENSION
from tests.support.knowing import NAMESPACE, START_US
from tests.support.rehearsing import Life, decided, rehearsed
from tests.support.verified_life import ANCHORED, beyond_people, code, gains_of, known, lived

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verified") / "store"
    lived(folder).engine.close()
    return folder


def test_what_its_tests_let_in_counts_as_what_people_said(tmp_path: Path) -> None:
    life = lived(tmp_path)
    expected, changes = Gains(DIMENSION), []
    with life.engine.store.reader() as catalog:
        for row in catalog.index_rows(life.engine.namespaces.configs[NAMESPACE].number, 0):
            changes.append(pb.Change.FromString(row.change))
            vector = np.frombuffer(row.embedding, "<f4")
            expected.observe(vector, anchored=ANCHORED[changes[-1].item_id])

    assert [change.item_id for change in changes] == list(ANCHORED)
    assert gains_of(life.engine) == expected.to_bytes()
    assert [change.verified_by for change in changes] == ["", "executor", "", "executor", ""]
    # Tests that pass make no other origin of it, so it takes up the real share.
    origins = [change.knowledge.origin for change in changes]
    assert origins == [pb.ORIGIN_EXPERT, pb.ORIGIN_SYNTHETIC, pb.ORIGIN_EXPERT, *[pb.ORIGIN_SYNTHETIC] * 2]
    # Beyond what people said and tests verified the same again tells less; beyond what nobody vouches for, all.
    assert beyond_people(life.engine, 1) < beyond_people(life.engine, 5) - 0.2
    life.engine.close()


def test_another_life_process_and_store_know_the_same(store: Path, tmp_path: Path) -> None:
    without_files = Path(shutil.copytree(store, tmp_path / "without"))
    shutil.rmtree(without_files / "index")
    file, restored = tmp_path / "backup", tmp_path / "restored"
    with closing(Store(store)) as opened:
        made = Backup(opened.readers, "1.2.3", START_US)
        file.write_bytes(b"".join(made.data()) + made.sha256())
    restore(file, restored)
    command = [sys.executable, "-m", "tests.support.verified_life", str(store)]
    process = subprocess.run(command, capture_output=True, check=True, cwd=ROOT, text=True)

    told = [known(store), known(without_files), known(restored), process.stdout.strip()]

    assert len(set(told)) == 1


def test_a_rehearsal_verifies_what_was_verified(store: Path, tmp_path: Path) -> None:
    result = rehearsed(store, tmp_path)

    assert (result.differences, result.left_out, result.other_figures) == ([], {}, 0)
    assert decided(tmp_path) == decided(store)
    assert known(tmp_path) == known(store)


def test_a_file_of_another_store_is_not_taken_for_its_own(store: Path, tmp_path: Path) -> None:
    other, mixed = Life(tmp_path / "other"), Path(shutil.copytree(store, tmp_path / "mixed"))
    other.say(code("other", 6, pb.ORIGIN_EXPERT))
    other.engine.close()
    (file,) = (mixed / "index").glob("*.gains")
    before = file.read_bytes()

    shutil.copy(tmp_path / "other/index" / file.name, file)

    assert file.read_bytes() != before
    assert known(mixed) == known(store)
