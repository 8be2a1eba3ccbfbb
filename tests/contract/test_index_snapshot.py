"""The snapshot of a namespace's index: the same answers after a restart, or none at all."""

import random
import resource
from pathlib import Path

import numpy as np
import pytest

from epistream.indexer.index import (
    ExactIndex,
    FaissIndex,
    IndexFactory,
    Row,
    Searchable,
    Unusable,
    load_snapshot,
    save_snapshot,
)
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken
from tests.support.versions import random_rows, random_versions, unit_rows


@pytest.fixture(params=[ExactIndex, FaissIndex])
def new_index(request: pytest.FixtureRequest) -> IndexFactory:
    factory: IndexFactory = request.param
    return factory


def tiny(new_index: IndexFactory) -> Searchable:
    searchable = Searchable(new_index(2))
    rows = [Row(1, pb.ORIGIN_EXPERT, pb.MODALITY_TEXT, "ada", {"k": "ü"}), Row(3, pb.ORIGIN_CRAWLED, 1, "eve", {})]
    searchable.append(rows, unit_rows([(1, 0), (1, 1)]), [(1, 4)])
    return searchable


def load(
    folder: Path, new_index: IndexFactory, dimension: int, head_revision: int = 10**9
) -> Searchable | Unusable | None:
    index = new_index(dimension)
    loaded = load_snapshot(folder, index, epoch="e", namespace=7, head_revision=head_revision)
    if not isinstance(loaded, Searchable):
        assert len(index) == 0
    return loaded


def test_a_loaded_snapshot_answers_like_the_original_and_goes_on_like_it(
    new_index: IndexFactory, tmp_path: Path
) -> None:
    rows, vectors = random_versions(3000, seed=20), random_rows(3000, 384, seed=20)
    ends = [(row.revision, row.revision + 60) for row in rows[:2000:5]]
    original = Searchable(new_index(384))
    original.append(rows[:2000], vectors[:2000], ends)
    save_snapshot(original, tmp_path, epoch="e", namespace=7)
    loaded = load(tmp_path, new_index, 384)
    assert isinstance(loaded, Searchable)
    queries = np.concatenate([vectors[::100], random_rows(20, 384, seed=21)])
    for after in range(2):
        assert (len(loaded), loaded.live_count, loaded.last_revision) == (
            len(original),
            original.live_count,
            original.last_revision,
        )
        for as_of in (None, 100, 1500, 3900):
            for wanted in (None, pb.Filter(producers=["ada"], attributes={"lang": "de"})):
                expected = original.search(queries, 10, as_of=as_of, filter=wanted)
                assert loaded.search(queries, 10, as_of=as_of, filter=wanted) == expected
        if after == 0:
            for searchable in (original, loaded):
                searchable.append(rows[2000:], vectors[2000:], [(rows[1].revision, rows[2001].revision)])


def test_a_snapshot_of_one_index_serves_every_other(tmp_path: Path) -> None:
    save_snapshot(tiny(ExactIndex), tmp_path, epoch="e", namespace=7)
    loaded = load(tmp_path, FaissIndex, 2)
    assert isinstance(loaded, Searchable)
    assert loaded.search(unit_rows([(1, 0)]), 5) == tiny(ExactIndex).search(unit_rows([(1, 0)]), 5)


def test_an_empty_namespace_has_a_snapshot_too(new_index: IndexFactory, tmp_path: Path) -> None:
    save_snapshot(Searchable(new_index(2)), tmp_path, epoch="e", namespace=7)
    loaded = load(tmp_path, new_index, 2)
    assert isinstance(loaded, Searchable)
    assert (len(loaded), loaded.last_revision) == (0, 0)


def test_without_a_file_there_is_nothing_to_load(new_index: IndexFactory, tmp_path: Path) -> None:
    assert load(tmp_path, new_index, 2) is None
    save_snapshot(tiny(new_index), tmp_path, epoch="e", namespace=8)
    assert load(tmp_path, new_index, 2) is None


def test_a_change_of_any_byte_is_detected(new_index: IndexFactory, tmp_path: Path) -> None:
    path = save_snapshot(tiny(new_index), tmp_path, epoch="e", namespace=7)
    whole = path.read_bytes()
    for position in range(len(whole)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[position] ^= change
            path.write_bytes(damaged)
            assert isinstance(load(tmp_path, new_index, 2), Unusable), position
    path.write_bytes(whole)
    assert isinstance(load(tmp_path, new_index, 2), Searchable)


def test_a_file_of_any_other_length_is_detected(new_index: IndexFactory, tmp_path: Path) -> None:
    path = save_snapshot(tiny(new_index), tmp_path, epoch="e", namespace=7)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert isinstance(load(tmp_path, new_index, 2), Unusable), length
    for tail in (b"\0", whole[-32:], whole):
        path.write_bytes(whole + tail)
        assert isinstance(load(tmp_path, new_index, 2), Unusable)


def test_damage_anywhere_in_a_large_file_is_detected(new_index: IndexFactory, tmp_path: Path) -> None:
    searchable = Searchable(new_index(384))
    searchable.append(random_versions(4000, seed=22), random_rows(4000, 384, seed=22))
    path = save_snapshot(searchable, tmp_path, epoch="e", namespace=7)
    size = path.stat().st_size
    positions = random.Random(23)
    for _ in range(25):
        position = positions.randrange(size)
        with path.open("r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ (1 << positions.randrange(8))]))
        assert isinstance(load(tmp_path, new_index, 384), Unusable), position
        with path.open("r+b") as file:
            file.seek(position)
            file.write(bytes([byte]))
    assert isinstance(load(tmp_path, new_index, 384), Searchable)


def test_the_snapshot_of_another_store_namespace_dimension_or_future_is_not_used(
    new_index: IndexFactory, tmp_path: Path
) -> None:
    path = save_snapshot(tiny(new_index), tmp_path, epoch="another", namespace=7)
    assert isinstance(load(tmp_path, new_index, 2), Unusable)
    save_snapshot(tiny(new_index), tmp_path, epoch="e", namespace=8).replace(path)
    assert isinstance(load(tmp_path, new_index, 2), Unusable)
    save_snapshot(tiny(new_index), tmp_path, epoch="e", namespace=7)
    assert isinstance(load(tmp_path, new_index, 3), Unusable)
    assert isinstance(load(tmp_path, new_index, 2, head_revision=3), Unusable)
    assert isinstance(load(tmp_path, new_index, 2, head_revision=4), Searchable)


def test_a_snapshot_that_cannot_be_written_leaves_the_one_before(new_index: IndexFactory, tmp_path: Path) -> None:
    searchable = tiny(new_index)
    path = save_snapshot(searchable, tmp_path, epoch="e", namespace=7)
    whole = path.read_bytes()
    searchable.end(3, 9)
    size_limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, size_limits[1]))  # the file fails after 100 bytes
    try:
        with pytest.raises(Broken, match="could not be written"):
            save_snapshot(searchable, tmp_path, epoch="e", namespace=7)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, size_limits)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == whole
    assert save_snapshot(searchable, tmp_path, epoch="e", namespace=7).read_bytes() != whole


def test_a_place_where_nothing_can_be_written_is_told(new_index: IndexFactory, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Broken, match="could not be written"):
        save_snapshot(tiny(new_index), tmp_path / "file", epoch="e", namespace=7)
    (tmp_path / "7.tmp").mkdir()
    with pytest.raises(Broken, match="could not be written"):
        save_snapshot(tiny(new_index), tmp_path, epoch="e", namespace=7)
    assert save_snapshot(tiny(new_index), tmp_path / "new" / "folder", epoch="e", namespace=7).exists()


def test_a_torn_write_beside_the_snapshot_harms_nothing(new_index: IndexFactory, tmp_path: Path) -> None:
    path = save_snapshot(tiny(new_index), tmp_path, epoch="e", namespace=7)
    path.with_suffix(".tmp").write_bytes(path.read_bytes()[:50])
    assert isinstance(load(tmp_path, new_index, 2), Searchable)
    save_snapshot(tiny(new_index), tmp_path, epoch="e", namespace=7)
    assert list(tmp_path.iterdir()) == [path]


def test_an_unreadable_snapshot_is_not_used(new_index: IndexFactory, tmp_path: Path) -> None:
    (tmp_path / "7.index").mkdir()
    assert isinstance(load(tmp_path, new_index, 2), Unusable)
