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
from epistream.clients.sources.record import Json

BATCH_ROWS: Final = 64
"""Rows with images are large."""
FIELD_CHARACTERS_MAX: Final = 16 * 1024 * 1024
ROW_CHARACTERS_MAX: Final = 64 * 1024 * 1024
"""Of a row of CSV. One of as many commas, which are as many fields, takes 0.6 GiB."""


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
            wrong, lines.taken = "", 0
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
    """The lines of a text as csv's reader takes them, as many as a row has.

    Of a row that is too long the line that makes it so is passed over.
    """

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self.ended = False
        """Whether the text has ended within a row: before a line end, or between quotation marks."""
        self.taken = 0
        """How many characters of a row were taken; who takes the rows sets it back."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = part = self._text.readline(ROW_CHARACTERS_MAX)
        self.taken += len(line)
        while len(part) == ROW_CHARACTERS_MAX and not _has_end(part):
            part = self._text.readline(ROW_CHARACTERS_MAX)
            self.taken += len(part)
        self.ended = not _has_end(part)
        if self.taken > ROW_CHARACTERS_MAX:
            raise csv.Error(f"it has more than {ROW_CHARACTERS_MAX} characters")
        if not line:
            raise StopIteration
        return line


def _has_end(line: str) -> bool:
    return line.endswith(("\n", "\r"))


def parquet_rows(path: Path, start: int) -> Iterator[Piece]:
    """The rows; groups of rows that lie before the start are not read.

    A time that Python cannot say, such as one of the year 10000, is null. A row with text that is no UTF-8 is a piece
    with an error.
    """
    pyarrow, parquet = needed("pyarrow", "Parquet"), needed("pyarrow.parquet", "Parquet")
    with reading(path, pyarrow.ArrowException, ValueError), parquet.ParquetFile(path) as file:
        fields = [field.with_type(_in_microseconds(pyarrow, field.type)) for field in file.schema_arrow]
        schema = pyarrow.schema(fields)
        number, size = 0, path.stat().st_size
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if number + rows <= start:
                number += rows
                continue
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group]):
                for value, wrong in _values(pyarrow, batch.cast(schema, safe=False)):
                    number += 1
                    if number > start:
                        raw = Piece(value, number).as_read() if wrong else b""
                        read = size * number // file.metadata.num_rows
                        yield Piece(None if wrong else value, number, wrong, raw, read)


def _values(pyarrow: Any, batch: Any) -> Iterator[tuple[dict[str, Json], str]]:
    """The rows of a batch, each with what is wrong with it."""
    try:
        values = batch.to_pylist()
    except (ValueError, OverflowError):  # some value of some row: which one, nobody says
        columns = zip(batch.schema.names, batch.columns, strict=True)
        cells = [[_cell(pyarrow, name, scalar) for scalar in column] for name, column in columns]
        for row in zip(*cells, strict=True):
            said = {name: value for name, (value, _) in zip(batch.schema.names, row, strict=True)}
            yield said, next((wrong for _, wrong in row if wrong), "")
    else:
        yield from ((value, "") for value in values)


def _cell(pyarrow: Any, name: str, scalar: Any) -> tuple[Json, str]:
    try:
        return _said(pyarrow.types, scalar), ""
    except UnicodeDecodeError as error:
        return None, f"{name}: expected UTF-8, found byte 0x{error.object[error.start]:02x} at {error.start}"
    except (ValueError, OverflowError) as error:
        return None, f"{name}: expected a value that can be read, found {scalar.type}: {error}"


def _said(types: Any, scalar: Any) -> Json:
    """A value as Python says it, with null for times in it that Python cannot say."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        kind = scalar.type
        if types.is_temporal(kind):
            return None
        if types.is_struct(kind):
            return {name: _said(types, value) for name, value in scalar.items()}
        if types.is_map(kind):
            keys, values = (scalar.values.field(at) for at in (0, 1))
            return [(_said(types, key), _said(types, value)) for key, value in zip(keys, values, strict=True)]
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            return [_said(types, value) for value in scalar.values]
        raise


def _in_microseconds(pyarrow: Any, kind: Any) -> Any:
    """A type with times that Python can say, however deep they are: of nanoseconds it knows nothing."""
    types = pyarrow.types

    def inner(field: Any) -> Any:
        return field.with_type(_in_microseconds(pyarrow, field.type))

    if types.is_timestamp(kind):
        return pyarrow.timestamp(_unit(kind), _zone(pyarrow, kind.tz))
    if types.is_duration(kind):
        return pyarrow.duration(_unit(kind))
    if types.is_time64(kind):
        return pyarrow.time64("us")
    if types.is_struct(kind):
        return pyarrow.struct([inner(kind.field(at)) for at in range(kind.num_fields)])
    if types.is_map(kind):
        return pyarrow.map_(inner(kind.key_field), inner(kind.item_field))
    if types.is_list(kind):
        return pyarrow.list_(inner(kind.value_field))
    if types.is_large_list(kind):
        return pyarrow.large_list(inner(kind.value_field))
    if types.is_fixed_size_list(kind):
        return pyarrow.list_(inner(kind.value_field), kind.list_size)
    return kind


def _unit(kind: Any) -> str:
    """Seconds and milliseconds stay what they are: in microseconds some are too large, and would become other times."""
    return "us" if kind.unit == "ns" else str(kind.unit)


def _zone(pyarrow: Any, name: str | None) -> str | None:
    """A time zone; UTC, in which the same times are counted, for one that this machine does not know."""
    if name is not None:
        try:
            pyarrow.lib.string_to_tzinfo(name)
        except (ValueError, KeyError, OSError):  # of zoneinfo, of pytz, or of Arrow, whose errors are ValueErrors
            return "UTC"
    return name


def _row(columns: list[str], row: list[str], number: int) -> Piece:
    if len(row) == len(columns):
        return Piece(dict(zip(columns, row, strict=True)), number)
    raw = json.dumps(row).encode()
    return Piece(None, number, f"expected {len(columns)} columns, found {len(row)}", raw)
