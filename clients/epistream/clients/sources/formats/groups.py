"""Records that belong together: those that follow each other with the same value in one field are one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
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
        begin = start
        try:
            for piece in read(path, start):
                if held and (len(held) == ROWS_MAX or not _alike(held[-1].value, piece.value, field)):
                    yield one(held)
                    begin, held = held[-1].next, []
                held.append(piece)
        except CannotRead:
            if held:
                yield one(held)
            raise
        if held:
            last = one(held)
            yield last if last.whole else replace(last, next=begin)  # from its first row, as it is sent again whole

    return pieces


def one(rows: Sequence[Piece]) -> Piece:
    """The record that rows make: one alone stays as it is."""
    if len(rows) == 1:
        return rows[0]
    values, raw = [piece.value for piece in rows], b"".join(piece.raw for piece in rows)
    last = rows[-1]
    return Piece({"rows": values}, last.next, raw=raw, read=last.read, parts=tuple(rows), whole=last.whole)


def _alike(first: Json, second: Json, field: str) -> bool:
    both = isinstance(first, Mapping) and isinstance(second, Mapping)
    return both and first.get(field) is not None and first[field] == second.get(field)
