"""How the file is known again in which an import goes on: by the records before the place, as they were read.

A place is in the unit of its reader: bytes of a file that may be compressed, rows, records. So it is not bytes that are
compared but what the reader makes of them, and a file that has grown, or was compressed anew, is the same file.
"""

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from epistream.clients.sources.formats.files import File, Position, Read, read
from epistream.clients.sources.formats.piece import CannotRead

BYTES_MIN: Final = 4096
"""So many bytes of records are compared, where there are as many: a single one may be in any file."""


@dataclass(frozen=True, slots=True)
class Landmark:
    """What stands before a place in a file."""

    begin: int
    """Where the first of the records begins, in the reader's own unit."""
    digest: str
    """Of all of them up to the place."""


class Trail:
    """The newest records of a file that were passed."""

    def __init__(self) -> None:
        self._file = ""
        self._passed: deque[tuple[int, bytes, int]] = deque()
        """Where each begins, its digest, and its length."""
        self._bytes = 0

    def add(self, one: Read) -> None:
        """Passes a record. One that is not whole is read again, and is not passed."""
        if one.position.file != self._file:
            self._file, self._bytes = one.position.file, 0
            self._passed.clear()
        if not one.piece.whole:
            return
        # Rows that belong together may get another one when their file grows.
        first = one.piece.parts[0] if one.piece.parts else one.piece
        text = first.as_read()
        self._passed.append(
            (one.begin, hashlib.sha256(text + first.error.encode(errors="replace")).digest(), len(text))
        )
        self._bytes += len(text)
        while len(self._passed) > 1 and self._bytes - self._passed[0][2] >= BYTES_MIN:
            self._bytes -= self._passed.popleft()[2]

    def landmark(self) -> Landmark | None:
        """What is before the place where it is now; None where nothing was passed in its file."""
        if not self._passed:
            return None
        digests = b"".join(digest for _, digest, _ in self._passed)
        return Landmark(self._passed[0][0], hashlib.sha256(digests).hexdigest())


def check(files: Sequence[File], place: Position, before: Landmark) -> None:
    """Look whether the landmark still stands before a place.

    Raises:
        CannotRead: it does not: the file is another one, or shorter.
    """
    trail = Trail()
    try:
        for one in read(files, Position(place.file, before.begin)):
            if one.position.file != place.file:
                break
            trail.add(one)
            if one.position.offset >= place.offset:
                break
    except CannotRead as error:
        if all(file.name != place.file for file in files):
            raise
        raise _another(place) from error
    if trail.landmark() != before:
        raise _another(place)


def _another(place: Position) -> CannotRead:
    return CannotRead(
        f"{place.file} is another file than was imported, or has become shorter: something else stands before"
        f" {place.offset}, where the import was to go on. Begin anew with --again"
    )
