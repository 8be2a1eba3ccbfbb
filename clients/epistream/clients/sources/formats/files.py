"""The formats that are read, the files of a path, and their records as one stream that can be resumed."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from epistream.clients.sources.formats import documents, episodes, folders, groups, lines, tables, tfrecord, web
from epistream.clients.sources.formats.piece import CannotRead, Piece, Reader


@dataclass(frozen=True, slots=True)
class Format:
    """A format of files."""

    name: str
    pattern: str
    """A regular expression that matches the end of its files' names; empty for a folder."""
    read: Reader
    in_bytes: bool = False
    """Whether a place in a file is a byte of it."""
    names_file: bool = False
    """Whether `file`, the name of its file below the path that was given, is a field of each record."""
    also: str = ""
    """As `pattern`, for names that another format of the work has first."""

    @property
    def files(self) -> str:
        """The ends of its files' names, for people, such as `.jsonl`."""
        ends = re.sub(r"\\|\[.*", "", self.pattern)
        return ends.replace("(.gz)?", ", also .gz").replace("(", "").replace(")", "").replace("|", " or .")


JSON_LINES: Final = Format(
    "JSON Lines", r"\.(jsonl|ndjson)(\.gz)?", lines.json_lines, in_bytes=True, also=r"\.json(\.gz)?"
)
JSON: Final = Format("JSON", r"\.json(\.gz)?", documents.json_documents)
TEXT: Final = Format("text", r"\.txt(\.gz)?", lines.text_lines, in_bytes=True, names_file=True)
CSV: Final = Format("CSV", r"\.csv(\.gz)?", tables.csv_rows)
PARQUET: Final = Format("Parquet", r"\.parquet", tables.parquet_rows)
WET: Final = Format("WET", r"\.(wet|warc)(\.gz)?", web.warc_records)
HDF5: Final = Format("HDF5", r"\.(hdf5|h5)", episodes.hdf5_episode, names_file=True)
RLDS: Final = Format("RLDS TFRecord", r"\.tfrecord[^/]*", tfrecord.examples, in_bytes=True, names_file=True)
CONTEST_PROBLEMS: Final = Format("TFRecord of protobuf", r"\.tfrecord[^/]*", tfrecord.contest_problems, in_bytes=True)
PROBLEM_FOLDERS: Final = Format("folders", "", folders.problem_folders)
FORMATS: Final = (JSON_LINES, JSON, TEXT, CSV, PARQUET, WET, HDF5, RLDS, CONTEST_PROBLEMS, PROBLEM_FOLDERS)


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two records."""

    file: str
    """Relative to the path that is read."""
    offset: int
    """In the reader's own unit."""


@dataclass(frozen=True, slots=True)
class Read:
    """A piece, and where to go on after it."""

    piece: Piece
    position: Position
    done: int
    """How much of all files was read by then, of the sum of their sizes."""
    begin: int = field(compare=False)
    """Where reading was in its file before it: from there it is read again."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to read."""

    path: Path
    name: str
    """Relative to the path that was given."""
    format: Format

    @property
    def size(self) -> int:
        """Its bytes as it lies on disk; of folders of problems how many those are."""
        return folders.count(self.path) if self.format == PROBLEM_FOLDERS else self.path.stat().st_size


def files_of(path: Path, formats: Sequence[Format], first: str = "") -> list[File]:
    """The files to read: the path itself, or those in it that are of one of the formats, by their names.

    Args:
        path: a file, or a folder.
        formats: what files may be.
        first: a regular expression of the names of files that come before all others.

    Raises:
        CannotRead: there is none.
    """
    if not path.exists():
        raise CannotRead(f"{path} cannot be read: there is no such file")
    if PROBLEM_FOLDERS in formats and path.is_dir() and (problems := folders.with_problems(path)):
        return [File(folder, folder.relative_to(path).as_posix(), PROBLEM_FOLDERS) for folder in problems]
    inside = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    found = [
        File(file, file.relative_to(path).as_posix() if path.is_dir() else file.name, kind)
        for file in inside
        if (kind := _format(file.name, formats)) is not None
    ]
    if not found:
        raise CannotRead(f"{path} cannot be read: expected {_names(formats)}{_hint(path)}")
    return sorted(found, key=lambda file: not (first and re.search(first, file.name)))


def read(files: Sequence[File], start: Position | None = None) -> Iterator[Read]:
    """The records of some files, one after the other, from a position on. Raises as a Reader does."""
    remaining, before = list(files), 0
    while start is not None and remaining and remaining[0].name != start.file:
        before += remaining.pop(0).size
    if start is not None and not remaining:
        raise CannotRead(
            f"There is no {start.file} any more, where reading was to go on; start again without the state."
        )
    for file in remaining:
        offset = start.offset if start is not None and file.name == start.file else 0
        begin = offset
        for piece in file.format.read(file.path, offset):
            if file.format.names_file and not piece.error:
                piece = replace(piece, value={"file": file.name, **piece.value})  # noqa: PLW2901 -- the same, named
            yield Read(piece, Position(file.name, piece.next), before + piece.read, begin)
            begin = piece.next
        before += file.size


def naming(kind: Format) -> Format:
    """The same, for a work whose files' names say what their records do not."""
    return replace(kind, names_file=True)


def grouping(kind: Format, field: str) -> Format:
    """The same, for a work whose records belong together where they follow each other with the same `field`."""
    return replace(kind, read=groups.together(kind.read, field))


def _format(name: str, formats: Sequence[Format]) -> Format | None:
    for pattern, kind in [*((kind.pattern, kind) for kind in formats), *((kind.also, kind) for kind in formats)]:
        if pattern and re.search(f"(?:{pattern})$", name):
            return kind
    return None


def _names(formats: Sequence[Format]) -> str:
    return " or ".join(f"{kind.name} ({kind.files or 'a folder for each record'})" for kind in formats)


def _hint(path: Path) -> str:
    if ".riegeli" in path.name:
        return (
            ". Riegeli files cannot be read: convert them to TFRecord, or take the Parquet files of the same data set"
        )
    if re.search(r"\.wat(\.gz)?$", path.name):
        return ". WAT files have no text: take the WET file of the same name, .warc.wet.gz"
    return ", by the end of a file's name"
