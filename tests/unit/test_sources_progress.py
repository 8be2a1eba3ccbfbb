"""How far an import is, by what was read of the files: every format tells it."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.formats import files
from epistream.clients.sources.formats.files import FORMATS, Format, files_of, read
from tests.support import sources
from tests.support.sources import Records

MANY: Final = 300
WORDS: Final = random.Random(7)


def long_text() -> str:
    """Two thousand characters that hardly get shorter when they are compressed."""
    return WORDS.randbytes(1000).hex()


def texts() -> Records:
    return [{"text": long_text()} for _ in range(MANY)]


def pages() -> Records:
    return [{**EXAMPLES["common-crawl"], "text": long_text()} for _ in range(MANY)]


def episodes() -> Records:
    features = EXAMPLES["rt-1"]["features"]
    return [{"features": {**features, "steps/observation/image": [WORDS.randbytes(1000)]}} for _ in range(MANY)]


def problems() -> Records:
    return [{**EXAMPLES["codecontests"], "description": long_text()} for _ in range(MANY)]


def folders() -> Records:
    return [{**EXAMPLES["apps"], "problem_id": f"{i:04}"} for i in range(MANY)]


def episode_files(path: Path, _: Records) -> None:
    path.mkdir()
    for number in range(10):
        sources.hdf5(path / f"episode_{number}.hdf5", [EXAMPLES["mobile-aloha"]])


WRITTEN: Final[list[tuple[Format, str, Callable[[Path, Records], None], Callable[[], Any]]]] = [
    (files.JSON_LINES, "x.jsonl", sources.json_lines, texts),
    (files.JSON_LINES, "x.jsonl.gz", sources.json_lines, texts),
    (files.JSON, "x.json", sources.json_array, texts),
    (files.JSON, "x.json.gz", sources.json_array, texts),
    (files.TEXT, "x.txt", sources.text_lines, texts),
    (files.TEXT, "x.txt.gz", sources.text_lines, texts),
    (files.CSV, "x.csv", sources.csv_table, texts),
    (files.CSV, "x.csv.gz", sources.csv_table, texts),
    (files.PARQUET, "x.parquet", sources.parquet, texts),
    (files.WET, "x.wet", sources.wet, pages),
    (files.WET, "x.wet.gz", sources.wet, pages),
    (files.HDF5, "episodes", episode_files, list),
    (files.RLDS, "x.tfrecord", sources.rlds, episodes),
    (files.CONTEST_PROBLEMS, "x.tfrecord", sources.contest_problems, problems),
    (files.PROBLEM_FOLDERS, "train", sources.problem_folders, folders),
]


def test_no_format_is_left_out() -> None:
    assert {kind for kind, *_ in WRITTEN} == set(FORMATS)


@pytest.mark.parametrize(
    ("kind", "name", "write", "records"), WRITTEN, ids=lambda each: str(getattr(each, "name", each))
)
def test_what_was_read_grows_with_the_records_and_ends_with_the_file(
    kind: Format, name: str, write: Callable[[Path, Records], None], records: Callable[[], Any], tmp_path: Path
) -> None:
    write(tmp_path / name, records())
    found = files_of(tmp_path / name, [kind])
    total = sum(file.size for file in found)
    done = [one.done for one in read(found)]
    assert all(before <= after for before, after in pairwise(done))
    assert 0.3 * total < done[len(done) // 2] < 0.8 * total, "half of the records are about half of the file"
    assert 0.99 * total < done[-1] <= total


def test_files_follow_each_other(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl"):
        sources.json_lines(tmp_path / name, texts())
    found = files_of(tmp_path, [files.JSON_LINES])
    whole = list(read(found))
    sizes = [file.size for file in found]
    assert whole[MANY - 1].done == sizes[0]
    assert whole[-1].done == sum(sizes)
    assert next(read(found, whole[2 * MANY - 1].position)).done > sizes[0] + sizes[1], "also where reading goes on"
