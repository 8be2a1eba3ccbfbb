"""Files of the published formats: read as a stream, resumed at any record, and refused where they are damaged."""

import gzip
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.formats import documents, files, tables
from epistream.clients.sources.formats.files import Position, files_of, read
from epistream.clients.sources.formats.lines import LINE_BYTES_MAX
from epistream.clients.sources.formats.piece import CannotRead, NeedsExtra
from epistream.clients.sources.formats.tables import FIELD_CHARACTERS_MAX
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME, WORKS
from tests.support import sources

MANY = 7


def several(name: str) -> list[Any]:
    """Some records of a work, each of them another."""
    record = EXAMPLES[name]
    if name == "apps":
        return [{**record, "problem_id": f"{i:04}"} for i in range(MANY)]
    if name == "rt-1":
        return [{"features": {**record["features"], "steps/reward": [0.0, float(i)]}} for i in range(MANY)]
    key = next(key for key, value in record.items() if isinstance(value, str))
    return [{**record, key: f"{record[key]} {i}"} for i in range(MANY)]


@pytest.mark.parametrize("name", [work.name for work in WORKS if work.name not in {"mobile-aloha", "common-crawl"}])
def test_reading_can_go_on_after_any_record(name: str, tmp_path: Path) -> None:
    file, write = sources.PUBLISHED[name]
    write(tmp_path / file, several(name))
    found = files_of(tmp_path / file, BY_NAME[name].formats)
    all_of_it = list(read(found))
    assert len(all_of_it) == MANY
    assert all(before.piece.value != after.piece.value for before, after in pairwise(all_of_it))
    for number, one in enumerate(all_of_it, 1):
        assert list(read(found, one.position)) == all_of_it[number:]


def as_row(name: str) -> Any:
    """The example of a work as JSON says it: without the bytes of its images, and without `file`, a column of none."""
    return {key: value for key, value in EXAMPLES[name].items() if key != "file" and "b'" not in str(value)}


@pytest.mark.parametrize("kind", ["Parquet", "JSON Lines"])
@pytest.mark.parametrize("name", [work.name for work in WORKS if files.PARQUET.name in str(work.formats)])
def test_the_rows_of_a_work_are_read_as_data_sets_are_handed_on(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("rows.parquet" if kind == "Parquet" else "rows.jsonl")
    write = sources.parquet if kind == "Parquet" else sources.json_lines
    write(path, [as_row(name)])
    found = list(read(files_of(path, BY_NAME[name].formats)))
    (piece,) = (one.piece for one in found)
    expected = {**as_row(name), **({"file": path.name} if "file" in piece.value else {})}
    assert submissions(BY_NAME[name], piece.value) == submissions(BY_NAME[name], expected)


@pytest.mark.parametrize("ending", ["wet", "wet.gz"])
def test_pages_are_read_and_reading_can_go_on(ending: str, tmp_path: Path) -> None:
    example = EXAMPLES["common-crawl"]
    path = tmp_path / f"CC.warc.{ending}"
    sources.wet(path, [{**example, "text": f"Lake {i} is 12 km long, überall.\n"} for i in range(MANY)])
    found = files_of(path, [files.WET])
    all_of_it = list(read(found))
    assert [one.piece.value["text"] for one in all_of_it] == [
        f"Lake {i} is 12 km long, überall.\n" for i in range(MANY)
    ]
    for number, one in enumerate(all_of_it, 1):
        assert list(read(found, one.position)) == all_of_it[number:]


def test_an_episode_is_one_record_of_its_file(tmp_path: Path) -> None:
    for number in (7, 8):
        (tmp_path / "shrimp").mkdir(exist_ok=True)
        sources.hdf5(tmp_path / "shrimp" / f"episode_{number}.hdf5", [EXAMPLES["mobile-aloha"]])
    found = files_of(tmp_path, [files.HDF5])
    first, second = read(found)
    assert [one.piece.value["file"] for one in (first, second)] == ["shrimp/episode_7.hdf5", "shrimp/episode_8.hdf5"]
    assert list(read(found, first.position)) == [second]
    assert list(read(found, second.position)) == []


def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name, text in (("b.jsonl", "2"), ("a.jsonl", "1"), ("more/c.jsonl.gz", "3"), ("README.md", "4")):
        sources.json_lines(tmp_path / name, [{"text": text}])
    found = files_of(tmp_path, [files.JSON_LINES])
    assert [one.position.file for one in read(found)] == ["a.jsonl", "b.jsonl", "more/c.jsonl.gz"]
    after = Position("b.jsonl", (tmp_path / "b.jsonl").stat().st_size)
    assert [one.piece.value for one in read(found, after)] == [{"text": "3"}]
    with pytest.raises(CannotRead, match=r"no gone\.jsonl any more"):
        list(read(found, Position("gone.jsonl", 0)))


@pytest.mark.parametrize("folder", ["", "APPS/"], ids=["by itself", "as it is unpacked"])
def test_both_halves_of_apps_are_read_and_their_problems_are_told_apart(folder: str, tmp_path: Path) -> None:
    for half in ("test", "train"):
        sources.problem_folders(tmp_path / folder / half, [{**EXAMPLES["apps"], "question": f"Of {half}."}])
    (tmp_path / "README").mkdir()
    found = files_of(tmp_path, BY_NAME["apps"].formats)
    both = list(read(found))
    assert [one.position for one in both] == [Position(f"{folder}test", 1), Position(f"{folder}train", 1)]
    assert list(read(found, both[0].position)) == both[1:]
    ids = [made.item_id for one in both for made in submissions(BY_NAME["apps"], one.piece.value)]
    assert len(set(ids)) == 2


def test_a_line_that_is_no_json_does_not_end_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n{"a": \n\xff\n' + b"[" * 100_000 + b"\n" + b"9" * 5000 + b'\n{"a": 2}')
    found = [one.piece for one in read(files_of(path, [files.JSON_LINES]))]
    assert [one.value for one in found if not one.error] == [{"a": 1}, {"a": 2}]
    assert [one.error.partition(":")[0] for one in found if one.error] == [
        "expected JSON",
        "expected UTF-8, found byte 0xff at 0",
        "expected JSON, found too many objects and arrays in each other",
        "expected JSON, found a number that is too long",
    ]
    assert found[1].raw == b'{"a": \n'


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'"' + b"x" * (2 * LINE_BYTES_MAX) + b'"\n{"a": 2}\n')
    long, after = (one.piece for one in read(files_of(path, [files.JSON_LINES])))
    assert long.error == f"expected a line of at most {LINE_BYTES_MAX} bytes"
    assert after.value == {"a": 2}


def test_json_is_an_array_or_an_object_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(' [{"a": 1.5}, 7, "x", {"a": [null]}]')
    assert [one.piece.value for one in read(files_of(path, [files.JSON]))] == [
        {"a": 1.5},
        7,
        {"text": "x"},
        {"a": [None]},
    ]
    path.write_text('{"v1": {"a": 1}, "v2": {"a": 2}}')
    assert [one.piece.value for one in read(files_of(path, [files.JSON]))] == [
        {"key": "v1", "value": {"a": 1}},
        {"key": "v2", "value": {"a": 2}},
    ]
    path.write_text("")
    with pytest.raises(CannotRead, match="expected a JSON array or object, found nothing"):
        list(read(files_of(path, [files.JSON])))


def test_a_row_with_other_columns_is_told_and_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'a,b\n1,2\n3\n"4\n5",6\n\xff,7\n')
    found = [one.piece for one in read(files_of(path, [files.CSV]))]
    assert [one.value for one in found] == [
        {"a": "1", "b": "2"},
        None,
        {"a": "4\n5", "b": "6"},
        {"a": "\udcff", "b": "7"},
    ]
    assert found[1].error == "expected 2 columns, found 1"


def test_a_row_that_is_no_csv_is_told_once_and_a_header_that_is_none_ends_the_file(tmp_path: Path) -> None:
    path, too_long = tmp_path / "x.csv", "x" * (FIELD_CHARACTERS_MAX + 1)
    path.write_text(f"a\n1\n{too_long}\n3\n")
    found = files_of(path, [files.CSV])
    first, wrong, last = read(found)
    assert (first.piece.value, last.piece.value) == ({"a": "1"}, {"a": "3"})
    assert wrong.piece.error.startswith("expected a row of CSV: field larger than field limit")
    assert list(read(found, wrong.position)) == [last]
    assert list(read(found, last.position)) == []
    path.write_text(f"{too_long}\n1\n")
    with pytest.raises(CannotRead, match=r"x\.csv cannot be read: field larger than field limit"):
        list(read(found))


HALVES = {
    "a value": ("x.csv", files.CSV, 'a,b\n1,2\n3,"fo', 'ur"\n5,6\n', {"a": "3", "b": "four"}),
    "a line": ("x.csv", files.CSV, 'a,b\n1,2\n3,"4\n', 'and more"\n5,6\n', {"a": "3", "b": "4\nand more"}),
    "a number": ("x.csv", files.CSV, "a,b\n1,2\n\n3,4", "4\n5,6\n", {"a": "3", "b": "44"}),
    "a row": ("x.csv", files.CSV, "a,b\n1,2\n3", ",4\n5,6\n", {"a": "3", "b": "4"}),
    "a text": ("x.jsonl", files.JSON_LINES, '{"a": "1"}\n{"a": "thr', 'ee"}\n{"a": "5"}\n', {"a": "three"}),
    "a line end": ("x.jsonl", files.JSON_LINES, '{"a": "1"}\n{"a": "3"}', '\n{"a": "5"}\n', {"a": "3"}),
}


@pytest.mark.parametrize("half", HALVES)
def test_reading_begins_again_with_what_may_be_half_of_a_record(half: str, tmp_path: Path) -> None:
    name, kind, written, rest, whole = HALVES[half]
    path = tmp_path / name
    path.write_text(written)
    found = files_of(path, [kind])
    first, last = read(found)
    assert (first.piece.whole, last.piece.whole) == (True, False)
    assert last.done == path.stat().st_size
    assert list(read(found, last.position)) == [last], "until there is more"
    path.write_text(written + rest)
    again, after = read(found, last.position)
    assert (again.piece.value, again.piece.whole) == (whole, True)
    assert after.piece.value["a"] == "5"
    assert list(read(found, again.position)) == [after]


@pytest.mark.parametrize("half", HALVES)
def test_what_comes_while_a_file_is_read_is_no_record_of_its_own(half: str, tmp_path: Path) -> None:
    name, kind, written, rest, _ = HALVES[half]
    path = tmp_path / name
    path.write_text(written)
    reading = read(files_of(path, [kind]))
    found = [next(reading), next(reading)]
    with path.open("a") as file:
        file.write(rest)
    found += reading
    assert [one.piece.whole for one in found] == [True, False]


def test_a_group_with_half_of_a_record_begins_again_with_its_first(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"of": 1, "a": 0}\n{"of": 2, "a": 1}\n{"of": 2, "a": 2}')
    found = files_of(path, [files.grouping(files.JSON_LINES, "of")])
    alone, group = read(found)
    assert group.piece.value == {"rows": [{"of": 2, "a": 1}, {"of": 2, "a": 2}]}
    assert group.position == alone.position
    with path.open("a") as file:
        file.write('\n{"of": 2, "a": 3}\n')
    (grown,) = read(found, group.position)
    assert [row["a"] for row in grown.piece.value["rows"]] == [1, 2, 3]


def test_groups_of_rows_before_the_start_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": list(range(MANY))}), path, row_group_size=2)
    damaged = bytearray(path.read_bytes())
    with pq.ParquetFile(path) as file:
        column = file.metadata.row_group(0).column(0)
        start = column.dictionary_page_offset or column.data_page_offset
        damaged[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(damaged)
    found = files_of(path, [files.PARQUET])
    assert [one.piece.value["a"] for one in read(found, Position("x.parquet", 2))] == [2, 3, 4, 5, 6]
    with pytest.raises(CannotRead):
        list(read(found))


def test_times_in_nanoseconds_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    times = pa.array([1_675_397_106_123_456_789, None], pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"created_at": times}), path)
    first, second = (one.piece.value["created_at"] for one in read(files_of(path, [files.PARQUET])))
    assert (first.isoformat(), second) == ("2023-02-03T04:05:06.123456+00:00", None)


DAMAGED = {
    "x.jsonl.gz": (files.JSON_LINES, gzip.compress(b'{"a": 1}\n' * 9)[:-9]),
    "x.json": (files.JSON, b'[{"a": 1}, {"a": '),
    "y.json": (files.JSON, b"7"),
    "z.json": (files.JSON, b""),
    "x.parquet": (files.PARQUET, b"PAR1nothingPAR1"),
    "x.warc.wet": (files.WET, b"HELLO\r\n\r\n"),
    "x.hdf5": (files.HDF5, b"\x89HDF\r\n\x1a\nnothing"),
}


def test_a_row_that_never_ends_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROW_CHARACTERS_MAX", 100)
    path = tmp_path / "x.csv"
    long, lines = "," * 1000, '"a\nb",' * 17
    path.write_text(f"a,b\n1,2\n{long}\n3,4\n{lines}\n5,6\n{long}")

    found = [one.piece for one in read(files_of(path, [files.CSV]))]

    too_long = "expected a row of CSV: it has more than 100 characters"
    assert [found[0].value, found[1].error, found[2].value, found[3].error] == [
        {"a": "1", "b": "2"},
        too_long,
        {"a": "3", "b": "4"},
        too_long,
    ]
    assert {"a": "5", "b": "6"} in [one.value for one in found[4:]]
    assert (found[-1].error, found[-1].whole) == (too_long, False)


@pytest.mark.parametrize("named", [False, True])
def test_a_record_that_never_ends_or_has_no_bottom_is_not_read_into_memory(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "RECORD_BYTES_MAX", 200_000)
    records = ["1", "[" * 2000 + "]" * 2000, '{"a": [2]}', f"[{'[],' * 200_000}[]]", '"b"']
    path = tmp_path / "x.json.gz"
    text = ",".join(f'"{place}": {one}' if named else one for place, one in enumerate(records))
    path.write_bytes(gzip.compress((f"{{{text}}}" if named else f"[{text}]").encode()))

    found = [one.piece for one in read(files_of(path, [files.JSON]))]

    values = [1, None, {"a": [2]}, None, "b" if named else {"text": "b"}]
    keyed = [{"key": str(place), "value": value} for place, value in enumerate(values)]
    expected = keyed if named else values
    assert [one.value for one in found] == [
        None if one.error else value for one, value in zip(found, expected, strict=True)
    ]
    assert [one.error for one in found] == [
        "",
        "expected JSON, found too many objects and arrays in each other",
        "",
        "expected a record of at most 200000 bytes",
        "",
    ]


def test_a_text_of_json_that_never_ends_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "RECORD_BYTES_MAX", 200_000)
    path = tmp_path / "x.json"
    path.write_text('["' + "a" * 500_000)

    with pytest.raises(CannotRead, match=r"x\.json cannot be read: expected a record of at most 200000 bytes"):
        list(read(files_of(path, [files.JSON])))


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_told_by_its_name(name: str, tmp_path: Path) -> None:
    kind, content = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CannotRead, match=name):
        list(read(files_of(tmp_path / name, [kind])))


def test_a_file_of_no_known_name_is_refused_with_the_names_that_are_known(tmp_path: Path) -> None:
    path = tmp_path / "code_contests_train.riegeli-00000-of-00128"
    path.touch()
    with pytest.raises(CannotRead, match="Riegeli files cannot be read"):
        files_of(path, BY_NAME["codecontests"].formats)
    with pytest.raises(CannotRead, match=r"expected JSON Lines \(\.jsonl or \.ndjson, also \.gz\)"):
        files_of(tmp_path, BY_NAME["c4"].formats)
    with pytest.raises(CannotRead, match="there is no such file"):
        files_of(tmp_path / "gone", BY_NAME["c4"].formats)


def test_a_missing_library_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(NeedsExtra, match=r'needs pyarrow: pip install "epistream\[sources\]"'):
        list(read(files_of(path, [files.PARQUET])))


def test_a_pickle_in_a_file_is_nothing_but_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    touched = tmp_path / "touched"
    pickle = f"cos\nsystem\n(S'touch {touched}'\ntR.".encode()
    pq.write_table(pa.table({"a": [pickle]}), path)
    (one,) = read(files_of(path, [files.PARQUET]))
    assert one.piece.value == {"a": pickle}
    assert not touched.exists()


def test_a_json_document_is_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("w") as file:
        file.write("[")
        file.writelines(f"{json.dumps({'a': i})}," for i in range(10_000))
        file.write("oops")
    stream = read(files_of(path, [files.JSON]))
    assert next(stream).piece.value == {"a": 0}
    assert sum(1 for _ in zip(range(5000), stream, strict=False)) == 5000
    with pytest.raises(CannotRead):
        list(stream)
