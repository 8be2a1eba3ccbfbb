"""Times in Parquet, which may be such as Python cannot say (epistream.clients.sources.formats.tables)."""

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epistream.clients.sources.formats.files import PARQUET, files_of
from epistream.clients.sources.formats.tables import BATCH_ROWS, parquet_rows
from epistream.clients.sources.importing import Job, prepared
from epistream.clients.sources.mapping import load

YEAR_10000_US: Final = 253_402_300_800_000_000
FIRST: Final = datetime(1970, 1, 1)  # noqa: DTZ001 -- as Parquet has it
NS: Final = pa.timestamp("ns")


def of(numbers: Any, kind: pa.DataType) -> pa.Array:
    """Numbers as they lie in the file."""
    return pa.array(numbers, pa.int64()).cast(kind)


def lists(number: int, kind: pa.DataType) -> pa.Array:
    return pa.array([[number]], pa.list_(pa.int64())).cast(pa.list_(kind))


def values(path: Path, column: pa.Array) -> list[Any]:
    pq.write_table(pa.table({"a": column}), path / "x.parquet")
    pieces = list(parquet_rows(path / "x.parquet", 0))
    assert not any(piece.error for piece in pieces)
    return [piece.value["a"] for piece in pieces]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (of([1_001], NS), datetime(1970, 1, 1, 0, 0, 0, 1)),  # noqa: DTZ001
        (of([1_001], pa.timestamp("ns", "UTC")), datetime(1970, 1, 1, 0, 0, 0, 1, UTC)),
        (of([1_001], pa.duration("ns")), timedelta(microseconds=1)),
        (of([1_001], pa.time64("ns")), time(0, 0, 0, 1)),
        (lists(1, NS), [FIRST]),
        (pa.array([[1]], pa.large_list(pa.int64())).cast(pa.large_list(NS)), [FIRST]),
        (pa.array([[1, 2]], pa.list_(pa.int64(), 2)).cast(pa.list_(NS, 2)), [FIRST, FIRST]),
        (pa.StructArray.from_arrays([lists(1, NS)], ["t"]), {"t": [FIRST]}),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), NS)), [("k", FIRST)]),
        (pa.array([None], pa.struct([("t", NS)])), None),
        (of([0], pa.timestamp("us", "Mars/Olympus_Mons")), datetime(1970, 1, 1, tzinfo=UTC)),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_nanoseconds_are_read_wherever_they_are(column: pa.Array, said: object, tmp_path: Path) -> None:
    assert values(tmp_path, column) == [said]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (of([YEAR_10000_US], pa.timestamp("us")), None),
        (of([YEAR_10000_US], pa.timestamp("us", "UTC")), None),
        (of([2**62], pa.timestamp("ms")), None),
        (of([2**62], pa.duration("s")), None),
        (pa.array([2**31 - 1], pa.int32()).cast(pa.date32()), None),
        (lists(YEAR_10000_US, pa.timestamp("us")), [None]),
        (pa.StructArray.from_arrays([lists(YEAR_10000_US, pa.timestamp("us"))], ["t"]), {"t": [None]}),
        (pa.array([[("k", YEAR_10000_US)]], pa.map_(pa.string(), pa.timestamp("us"))), [("k", None)]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_a_time_that_python_cannot_say_is_null(column: pa.Array, said: object, tmp_path: Path) -> None:
    assert values(tmp_path, column) == [said]


def test_the_rows_beside_it_and_their_fields_are_as_they_are(tmp_path: Path) -> None:
    rows = 2 * BATCH_ROWS
    times = of([0] * 3 + [YEAR_10000_US] + [0] * (rows - 4), pa.timestamp("us"))
    pq.write_table(pa.table({"text": [f"Pear {i}." for i in range(rows)], "until": times}), tmp_path / "x.parquet")
    pieces = list(parquet_rows(tmp_path / "x.parquet", 2))
    assert [piece.next for piece in pieces] == list(range(3, rows + 1))
    assert [piece.value["text"] for piece in pieces] == [f"Pear {i}." for i in range(2, rows)]
    assert [piece.value["until"] for piece in pieces[:3]] == [FIRST, None, FIRST]


def test_a_row_with_text_that_is_no_utf8_is_a_dead_letter_and_the_next_is_read(tmp_path: Path) -> None:
    bytes_ = pa.array([b"P\xff", b"Plums keep for a week."])
    text = pa.Array.from_buffers(pa.string(), 2, bytes_.buffers())
    pq.write_table(pa.table({"text": text, "n": [1, 2]}), tmp_path / "x.parquet")
    (tmp_path / "m.yaml").write_text('work: notes\norigin: EXPERT\nmodality: TEXT\ncontent: "{text}"\n')
    job = Job(work=load(tmp_path / "m.yaml"), files=tuple(files_of(tmp_path / "x.parquet", [PARQUET])), namespace="n")
    wrong, right = prepared(job)
    assert wrong.unreadable == "text: expected UTF-8, found byte 0xff at 1"
    assert wrong.submissions[0].unreadable.record == b'{"text": null, "n": 1}'
    assert right.submissions[0].content == "Plums keep for a week."
