"""Records that belong together: those that follow each other with the same value in one field are one."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from epistream.clients.sources.formats.piece import CannotRead, Piece, Reader
from epistream.clients.sources.record import Json

ROWS_MAX: Final = 100
"""A longer group is read as several."""


def together(read: Reader, field: str) -> Reader:
    """A reader that makes `{"rows": […]}` of each group of two or more; any other record stays as it is."""

    def pieces(path: Path, start: int) -> Iterator[Piece]:
        held: list[Piece] = []
        try:
            for piece in read(path, start):
                if held and (len(held) == ROWS_MAX or not _alike(held[-1].value, piece.value, field)):
                    yield _one(held)
                    held = []
                held.append(piece)
        except CannotRead:
            if held:
                yield _one(held)
            raise
        if held:
            yield _one(held)

    return pieces


def _alike(one: Json, other: Json, field: str) -> bool:
    both = isinstance(one, Mapping) and isinstance(other, Mapping)
    return both and one.get(field) is not None and one[field] == other.get(field)


def _one(held: list[Piece]) -> Piece:
    if len(held) == 1:
        return held[0]
    rows = [piece.value for piece in held]
    return Piece({"rows": rows}, held[-1].next, raw=b"".join(piece.raw for piece in held), read=held[-1].read)
