"""What a reader reads, piece by piece, and how it fails."""

import contextlib
import gzip
import importlib
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from epistream.clients.sources.record import Json, plain
from epistream.wire.errors import EpistreamError

RECORD_BYTES_MAX: Final = 64 * 1024 * 1024
"""A record that is longer is not read into memory."""


_DAMAGE: Final[tuple[type[Exception], ...]] = (OSError, EOFError, zlib.error, UnicodeError)


@dataclass(frozen=True, slots=True)
class Piece:
    """A record, or what could not be read as one."""

    value: Json
    """The record; None when there is an error."""
    next: int
    """Where in the file reading goes on after it, in the reader's own unit; before it where it is not `whole`."""
    error: str = ""
    """What was expected and what was found."""
    raw: bytes = b""
    """The bytes of the record, where the reader has them."""
    read: int = field(default=0, compare=False)
    """How much of the file was read by then, of `files.File.size`. Libraries read ahead, so it may run before."""
    parts: "tuple[Piece, ...]" = ()
    """Of several rows that belong together, each by itself: `{"rows": […]}` holds their values in this order."""
    whole: bool = True
    """False where the file ends before a line end: it may be half of a record that is still written."""

    def as_read(self) -> bytes:
        """The record as it was read: its bytes, or as JSON where the format's library keeps those to itself."""
        if self.raw:
            return self.raw
        try:
            return json.dumps(plain(self.value), ensure_ascii=False).encode(errors="replace")
        except (ValueError, RecursionError):  # thousands of digits, or of objects in each other
            return b""


Reader: TypeAlias = Callable[[Path, int], Iterator[Piece]]
"""The pieces of a file from a place on. Raises CannotRead when nothing more of it can be read, NeedsExtra when a
library is not there."""


class CannotRead(EpistreamError):
    """A file is not there, or is damaged in a way that leaves no way to the next record."""

    default_reason = "USAGE"


class NeedsExtra(EpistreamError):
    """A format needs a library that is not installed."""

    default_reason = "USAGE"


def needed(library: str, what: str) -> Any:
    """The module of a library of the extra `sources`.

    Raises:
        NeedsExtra: it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        package = library.partition(".")[0]
        raise NeedsExtra(f'Reading {what} needs {package}: pip install "epistream[sources]"') from error


@contextlib.contextmanager
def reading(path: Path, *damage: type[Exception]) -> Iterator[None]:
    """Turns what the system, gzip, or a library with the errors `damage` says of a file into CannotRead."""
    try:
        yield
    except (*_DAMAGE, *damage) as error:
        raise CannotRead(f"{path} cannot be read: {error}") from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """The file, decompressed where its name ends with `.gz`, and what tells how many of the bytes on disk were read."""
    with path.open("rb") as file:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(fileobj=file) as decompressed:
                yield decompressed, file.tell  # type: ignore[misc] # it is one
        else:
            yield file, file.tell
