"""Tables: CSV, which may be compressed with gzip, and Parquet. The place in the file is the number of rows before."""

import csv
import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TextIO

from epistream.clients.sources.formats.piece import Piece, needed, opened, reading

BATCH_ROWS: Final = 64
"""Rows with images are large."""
FIELD_CHARACTERS_MAX: Final = 16 * 1024 * 1024


def csv_rows(path: Path, start: int) -> Iterator[Piece]:
    """The rows below the first, which names the columns. A row with other columns is a piece with an error."""
    csv.field_size_limit(FIELD_CHARACTERS_MAX)
    with (
        reading(path, csv.Error),
        opened(path) as (file, read),
        io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="") as text,
    ):
        lines = _Lines(text)
        rows = csv.reader(lines)
        columns = next(rows, [])
        for number in itertools.count(1):
            if lines.ended:  # what has come since is for the next import, which begins with the whole row
                return
            wrong = ""
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                row, wrong = [], f"expected a row of CSV: {error}"
            if number > start and (row or wrong):
                piece = Piece(None, number, wrong) if wrong else _row(columns, row, number)
                whole = not lines.ended
                yield replace(piece, next=number if whole else number - 1, read=read(), whole=whole)


class _Lines:
    """The lines of a text as csv's reader takes them, as many as a row has."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self.ended = False
        """Whether the text has ended within a row: before a line end, or between quotation marks."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline()
        self.ended = not line.endswith(("\n", "\r"))
        if not line:
            raise StopIteration
        return line


def parquet_rows(path: Path, start: int) -> Iterator[Piece]:
    """The rows; groups of rows that lie before the start are not read."""
    pyarrow, parquet = needed("pyarrow", "Parquet"), needed("pyarrow.parquet", "Parquet")
    with reading(path, pyarrow.ArrowException, ValueError), parquet.ParquetFile(path) as file:
        schema = _in_microseconds(pyarrow, file.schema_arrow)
        number, size = 0, path.stat().st_size
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if number + rows <= start:
                number += rows
                continue
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group]):
                for value in batch.cast(schema, safe=False).to_pylist():
                    number += 1
                    if number > start:
                        yield Piece(value, number, read=size * number // file.metadata.num_rows)


def _in_microseconds(pyarrow: Any, schema: Any) -> Any:
    """The schema with times that Python can say: of nanoseconds it knows nothing."""
    timestamp, is_time = pyarrow.timestamp, pyarrow.types.is_timestamp
    return pyarrow.schema(
        [field.with_type(timestamp("us", field.type.tz)) if is_time(field.type) else field for field in schema]
    )


def _row(columns: list[str], row: list[str], number: int) -> Piece:
    if len(row) == len(columns):
        return Piece(dict(zip(columns, row, strict=True)), number)
    raw = json.dumps(row).encode()
    return Piece(None, number, f"expected {len(columns)} columns, found {len(row)}", raw)
