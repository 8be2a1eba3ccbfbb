"""A file that was replaced under its name is not gone on with (epistream.clients.sources.landmark)."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.formats import files
from epistream.clients.sources.formats.files import Format, Position, Read, files_of, grouping, read
from epistream.clients.sources.formats.piece import CannotRead
from epistream.clients.sources.importing import Job, State, prepared, reached
from epistream.clients.sources.landmark import BYTES_MIN, Landmark, Trail, check
from epistream.clients.sources.table import BY_NAME
from tests.support import sources
from tests.support.sources import Records

PASSED: Final = 7
ROWS: Final = grouping(files.JSON_LINES, "prompt")


def texts(count: int, words: str) -> Records:
    return [{"text": f"{words} {i}", "prompt": f"p{i // 3}"} for i in range(count)]


def pages(count: int, words: str) -> Records:
    return [{**EXAMPLES["common-crawl"], "text": f"{words} {i}"} for i in range(count)]


def episodes(count: int, words: str) -> Records:
    return [{"features": {"words": [f"{words} {i}".encode()]}} for i in range(count)]


FORMATS: Final[list[tuple[Format, str, Callable[[Path, Records], None], Callable[[int, str], Any]]]] = [
    (files.JSON_LINES, "x.jsonl", sources.json_lines, texts),
    (files.JSON_LINES, "x.jsonl.gz", sources.json_lines, texts),
    (ROWS, "rows.jsonl", sources.json_lines, texts),
    (files.JSON, "x.json", sources.json_array, texts),
    (files.TEXT, "x.txt", sources.text_lines, texts),
    (files.CSV, "x.csv", sources.csv_table, texts),
    (files.CSV, "x.csv.gz", sources.csv_table, texts),
    (files.PARQUET, "x.parquet", sources.parquet, texts),
    (files.WET, "x.wet.gz", sources.wet, pages),
    (files.RLDS, "x.tfrecord", sources.rlds, episodes),
]


def passed(reads: Iterable[Read]) -> tuple[Position, Landmark]:
    """The place behind all of them, and what stands before it."""
    trail = Trail()
    for last in reads:
        trail.add(last)
    landmark = trail.landmark()
    assert landmark is not None
    return last.position, landmark


@pytest.mark.parametrize(("kind", "name", "write", "records"), FORMATS, ids=[name for _, name, _, _ in FORMATS])
def test_a_file_is_known_again_by_what_stands_before_the_place(
    kind: Format,
    name: str,
    write: Callable[[Path, Records], None],
    records: Callable[[int, str], Any],
    tmp_path: Path,
) -> None:
    path = tmp_path / name
    write(path, records(PASSED, "words"))
    found = files_of(path, [kind])
    place, landmark = passed(read(found))
    check(found, place, landmark)
    write(path, records(PASSED + 1, "words"))
    check(found, place, landmark)
    for other in (records(PASSED, "wards"), records(PASSED - 1, "words"), records(PASSED, "words")[1:]):
        write(path, other)
        with pytest.raises(
            CannotRead, match="is another file than was imported, or has become shorter: something else stands before "
        ):
            check(found, place, landmark)


def test_a_group_that_has_grown_is_known_by_its_first_row(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    sources.json_lines(path, texts(7, "a"))
    reads = list(read(files_of(path, [ROWS])))
    assert [len(one.piece.parts) for one in reads] == [3, 3, 0]
    place, landmark = passed(reads)
    sources.json_lines(path, texts(9, "a"))
    check(files_of(path, [ROWS]), place, landmark)


def test_short_records_are_compared_with_those_before_them(tmp_path: Path) -> None:
    """The last record of many a file says `yes`."""
    path = tmp_path / "x.txt"
    path.write_text("a" * 100 + "\n" + "yes\n" * 50)
    found = files_of(path, [files.TEXT])
    place, landmark = passed(read(found))
    assert landmark.begin == 0
    path.write_text("b" * 100 + "\n" + "yes\n" * 50)
    with pytest.raises(CannotRead, match="another file"):
        check(found, place, landmark)


def test_no_more_is_read_again_than_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text(("x" * 99 + "\n") * 1000)
    place, landmark = passed(read(files_of(path, [files.TEXT])))
    assert BYTES_MIN <= place.offset - landmark.begin < BYTES_MIN + 100


def c4(path: Path) -> Job:
    return Job(work=BY_NAME["c4"], files=tuple(files_of(path, BY_NAME["c4"].formats)), namespace="web")


def imported(job: Job, start: State | None = None) -> State:
    state = start
    for record in prepared(job, start.position if start else None):
        state = reached(job, record, (state.records if state else 0) + record.whole, state)
    assert state is not None
    return state


def test_an_import_of_a_replaced_file_is_refused(tmp_path: Path) -> None:
    path, place = tmp_path / "c4.jsonl", tmp_path / "state"
    sources.json_lines(path, [{**EXAMPLES["c4"], "text": f"Pears of {year}."} for year in (2001, 2002)])
    imported(c4(path)).save(place)
    assert State.load(place, c4(path)) is not None
    sources.json_lines(path, [{**EXAMPLES["c4"], "text": f"Plums of {year}."} for year in (2001, 2002, 2003)])
    with pytest.raises(CannotRead, match="Begin anew with --again"):
        State.load(place, c4(path))


def test_what_stood_before_half_of_a_record_is_kept_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "c4.jsonl"
    line = json.dumps(EXAMPLES["c4"]) + "\n"
    path.write_text(line + line[:9])
    first = imported(c4(path))
    again = imported(c4(path), first)
    assert again == first
    assert again.position == Position("c4.jsonl", len(line))
    assert again.before == first.before is not None


def test_a_file_of_which_nothing_was_passed_has_no_landmark_of_the_file_before(tmp_path: Path) -> None:
    line = json.dumps(EXAMPLES["c4"]) + "\n"
    (tmp_path / "a.jsonl").write_text(line)
    (tmp_path / "b.jsonl").write_text(line[:9])
    state = imported(c4(tmp_path))
    assert (state.position, state.before) == (Position("b.jsonl", 0), None)


def test_a_state_of_an_earlier_version_goes_on_as_before(tmp_path: Path) -> None:
    path, place = tmp_path / "c4.jsonl", tmp_path / "state"
    sources.json_lines(path, [EXAMPLES["c4"]])
    State(c4(path).identity, Position("c4.jsonl", 1), 1).save(place)
    assert "before" not in json.loads(place.read_text())
    loaded = State.load(place, c4(path))
    assert loaded is not None
    assert loaded.before is None


@pytest.mark.parametrize("before", [5, {}, {"begin": "x", "digest": "y"}])
def test_a_landmark_that_is_none_is_no_state(before: object, tmp_path: Path) -> None:
    path, place = tmp_path / "c4.jsonl", tmp_path / "state"
    sources.json_lines(path, [EXAMPLES["c4"]])
    State(c4(path).identity, Position("c4.jsonl", 1), 1, Landmark(0, "x")).save(place)
    place.write_text(json.dumps({**json.loads(place.read_text()), "before": before}))
    with pytest.raises(CannotRead, match="is no state of an import"):
        State.load(place, c4(path))


def test_a_file_that_is_gone_is_told_as_that(tmp_path: Path) -> None:
    sources.json_lines(tmp_path / "b.jsonl", [EXAMPLES["c4"]])
    with pytest.raises(CannotRead, match=r"There is no a\.jsonl any more"):
        check(files_of(tmp_path, [files.JSON_LINES]), Position("a.jsonl", 5), Landmark(0, "x"))
