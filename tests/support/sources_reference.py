"""The tables of docs/sources.md, made from the code.

`python -m tests.support.sources_reference` writes them anew; a test says when that is due.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from epistream.clients.sources import mapping
from epistream.clients.sources.describe import COLUMNS, row
from epistream.clients.sources.formats.files import FORMATS
from epistream.clients.sources.table import WORKS
from epistream.clients.sources.work import STAGES

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "sources.md"
BEGIN: Final = "<!-- From here on made by `python -m tests.support.sources_reference`. -->\n"


def reference() -> str:
    """What stands below the line BEGIN."""
    return "\n".join([*_mapping(), *_formats(), *_works()]).rstrip() + "\n"


def example_mapping() -> str:
    """The mapping file that the module of mapping files shows."""
    lines = (mapping.__doc__ or "").splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines if line.startswith("    "))


def _mapping() -> Iterator[str]:
    yield "## Everything else: a mapping file\n"
    command = "epistream import --mapping notes.yaml notes.csv -n clinic"
    yield f"`{command}` reads any format of the table below by this file:\n"
    yield f"```yaml\n{example_mapping()}\n```\n"
    told = (mapping.__doc__ or "").rpartition("\n\n")[2]
    yield " ".join(told.split()) + "\n"
    yield "It may say: " + ", ".join(f"`{key}`" for key in mapping.KEYS) + "."
    yield "`media` is a list of `uri`, `role` and `media_type`, `derived_from` a list of templates; `tests` has"
    yield "`language`, `setup`, `check`, `entry_point`, and `asserts`, one a line.\n"


def _formats() -> Iterator[str]:
    yield "## The formats\n"
    yield "All are read as a stream. Where a path is a folder, its files are read in the order of their names.\n"
    yield "| format | files | a place in it |"
    yield "|---|---|---|"
    for kind in FORMATS:
        place = "the byte where the next record begins" if kind.in_bytes else "the number of records before"
        yield f"| {kind.name} | {kind.files or 'a folder for each record'} | {place} |"
    yield ""


def _works() -> Iterator[str]:
    yield "## The works\n"
    yield "Stages: " + "; ".join(f"{stage}, {meaning}" for stage, meaning in STAGES.items()) + ".\n"
    yield _row(COLUMNS)
    yield _row(["---"] * len(COLUMNS))
    for work in WORKS:
        name, *others = row(work)
        yield _row([f"`{name}`", *others])


def _row(cells: "list[str] | tuple[str, ...]") -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    above = DOCUMENT.read_text().partition(BEGIN)[0]
    DOCUMENT.write_text(above + BEGIN + "\n" + reference())
