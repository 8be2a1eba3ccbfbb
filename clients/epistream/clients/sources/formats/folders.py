"""APPS: a folder for each problem, read as the columns of its data card. The place is the number of folders before."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from epistream.clients.sources.formats.piece import Piece, reading
from epistream.clients.sources.record import Json

_FILES: Final = {
    "question": "question.txt",
    "solutions": "solutions.json",
    "input_output": "input_output.json",
    "metadata": "metadata.json",
    "starter_code": "starter_code.py",
}
_MARK: Final = _FILES["question"]


def with_problems(path: Path) -> list[Path]:
    """The folder itself where it is one problem, or one of problems; else those below it: `train` and `test`."""
    return [path] if _folders(path) else sorted({mark.parent.parent for mark in path.rglob(_MARK)})


def problem_folders(path: Path, start: int) -> Iterator[Piece]:
    """The problems in the order of their folders' names."""
    for number, folder in enumerate(_folders(path), 1):
        if number > start:
            with reading(folder):
                record: dict[str, Json] = {"problem_id": folder.name}
                for column, name in _FILES.items():
                    file = folder / name
                    if file.is_file():
                        record[column] = file.read_bytes().decode(errors="surrogateescape")
            yield Piece(record, number, read=number)


def count(path: Path) -> int:
    """How many problems there are."""
    return len(_folders(path))


def _folders(path: Path) -> list[Path]:
    if (path / _MARK).is_file():
        return [path]
    return sorted(folder for folder in path.iterdir() if (folder / _MARK).is_file())
