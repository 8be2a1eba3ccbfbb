"""The tables of docs/sources.md, made from the code.

`python -m tests.support.sources_reference` writes them anew; a test says when that is due.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

from epistream.clients.sources import judgements, mapping
from epistream.clients.sources.describe import COLUMNS, origin_name, row
from epistream.clients.sources.formats.files import FORMATS
from epistream.clients.sources.table import WORKS
from epistream.clients.sources.work import STAGES, Work
from epistream.indexer.signals import CELLS, Cell
from epistream.v1 import knowledge_pb2 as pb

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "sources.md"
BEGIN: Final = "<!-- From here on made by `python -m tests.support.sources_reference`. -->\n"


def reference() -> str:
    """What stands below the line BEGIN."""
    return "\n".join([*_mapping(), *_formats(), *_works(), *_cells()]).rstrip() + "\n"


def examples(module: ModuleType) -> list[str]:
    """The pieces of mapping files that a module's docstring shows."""
    return [textwrap.dedent(one) for one in re.findall(r"(?:^ {4}.*\n)+", module.__doc__ or "", re.MULTILINE)]


def _explained(module: ModuleType) -> Iterator[str]:
    """A module's docstring, but for the first line of that of mapping files, which is a heading here."""
    for paragraph in (module.__doc__ or "").strip().split("\n\n"):
        if paragraph.startswith("    "):
            yield f"```yaml\n{textwrap.dedent(paragraph)}\n```\n"
        else:
            yield " ".join(paragraph.split()) + "\n"


def _mapping() -> Iterator[str]:
    yield "## Everything else: a mapping file\n"
    command = "epistream import --mapping notes.yaml notes.csv -n clinic"
    yield f"`{command}` reads any format of the table below by this file:\n"
    _, *explained = _explained(mapping)
    yield from [*explained, *_explained(judgements)]
    yield "It may say: " + ", ".join(f"`{key}`" for key in mapping.KEYS) + "."
    yield "`media` is a list of " + ", ".join(f"`{key}`" for key in mapping.MEDIA_KEYS) + ";"
    yield "`feedback` one of " + ", ".join(f"`{key}`" for key in judgements.KEYS) + ";"
    yield "`derived_from` a list of templates; `tests` has `language`, `setup`, `check`, `entry_point`, and `asserts`,"
    yield "one a line.\n"


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
    yield ""


def _cells() -> Iterator[str]:
    yield "## The cells\n"
    yield "Each work is in the cell of its stage and its modality. Most signals look at items of the cell's origin,"
    yield "those of judgements at all feedback; [signals.md](signals.md#the-cells) says it of each. So where the main"
    yield "item of a work has another origin, which stands beside its name then, it counts in that origin's cell.\n"
    yield _row(("cell", "origin", "modality", "bottleneck", "works", "signals"))
    yield _row(["---"] * 6)
    for cell in CELLS:
        works = [_named(work, cell) for work in WORKS if (work.stage, work.modality) == (cell.stage, cell.modality)]
        origin = pb.Origin.Name(cell.origin).removeprefix("ORIGIN_")
        modality = pb.Modality.Name(cell.modality).removeprefix("MODALITY_")
        signals = ", ".join(f"`{signal.name}`" for signal in cell.signals)
        yield _row([cell.name, origin, modality, cell.bottleneck, ", ".join(works), signals])


def _named(work: Work, cell: Cell) -> str:
    return f"`{work.name}`" if work.origin == cell.origin else f"`{work.name}` ({origin_name(work)})"


def _row(cells: "list[str] | tuple[str, ...]") -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    above = DOCUMENT.read_text().partition(BEGIN)[0]
    DOCUMENT.write_text(above + BEGIN + "\n" + reference())
