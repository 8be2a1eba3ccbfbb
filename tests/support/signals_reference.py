"""The tables of docs/signals.md, made from the code.

`python -m tests.support.signals_reference` writes them anew; a test says when that is due. The values need the sample
data: without it they stay as they are.
"""

import inspect
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from epistream.indexer.signals import CELLS, Cell, Signal
from tests.support.cells import REALISTIC, realistic
from tests.support.samples import DATA

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "signals.md"
BEGIN: Final = "<!-- From here on made by `python -m tests.support.signals_reference`. -->\n"
VALUES: Final = "<!-- The values, made by `python -m tests.support.signals_reference`. -->\n"
_FACTS: Final = re.compile(r"Range .*?\. Unit: .*?\.\s+Source: (.*)\.", re.DOTALL)


def reference() -> str:
    """What stands below the line BEGIN."""
    return BEGIN + "\n" + "\n".join([*_overview(), *(line for cell in CELLS for line in _cell(cell))]).rstrip() + "\n"


def values() -> str:
    """The table between the lines VALUES and BEGIN: each signal of each cell as computed on its input.

    Takes a minute the first time, for the texts are encoded.
    """
    return "\n".join(["| cell | signal | value | of | input |", "|---|---|---|---|---|", *map(_row, computed())]) + "\n"


def computed() -> Iterator[tuple[str, str, float | None, int, str]]:
    """Of each figure: the cell with its bottleneck, the signal with its producer, the value, of how many, the input."""
    for cell in CELLS:
        source = " ".join((inspect.getdoc(REALISTIC[cell.name]) or "").split())
        for name, told in realistic(cell.name).items():
            for figure in told:
                of = f"`{name}` of `{figure.producer}`" if figure.producer else f"`{name}`"
                yield f"{cell.name}: {cell.bottleneck}", of, figure.value, figure.items, source


def formula(signal: Signal) -> str:
    """The indented lines of the docstring; empty where there are none."""
    lines = (inspect.getdoc(signal.measure) or "").splitlines()
    return "\n".join(line.strip() for line in lines if line.startswith("    "))


def shown(bound: float) -> str:
    """An end of a range."""
    return f"{'-' if bound < 0 else ''}∞" if math.isinf(bound) else f"{bound:g}"


def _overview() -> Iterator[str]:
    yield "## The cells\n"
    yield "| cell | bottleneck | signals |"
    yield "|---|---|---|"
    for cell in CELLS:
        names = ", ".join(f"`{signal.name}`" for signal in cell.signals)
        yield f"| [{cell.name}](#{cell.name.lower().replace(' ', '-')}) | {cell.bottleneck} | {names} |"
    yield ""


def _cell(cell: Cell) -> Iterator[str]:
    yield f"## {cell.name}\n"
    yield f"Bottleneck: {cell.bottleneck}.\n"
    yield "| signal | range | unit | shows the bottleneck when | source |"
    yield "|---|---|---|---|---|"
    for signal in cell.signals:
        facts = f"{shown(signal.low)} to {shown(signal.high)} | {signal.unit} | {signal.worse}"
        yield f"| `{signal.name}` | {facts} | {_source(signal)} |"
    yield ""
    for signal in cell.signals:
        assert formula(signal), f"{signal.name}: the docstring says no formula"
        yield f"**`{signal.name}`** {_meaning(signal)}\n"


def _row(found: tuple[str, str, float | None, int, str]) -> str:
    cell, signal, value, items, of = found
    told = "none" if value is None else f"{value:.3g}"
    return f"| {cell} | {signal} | {told} | {items:,} | {of} |"


def _source(signal: Signal) -> str:
    found = _FACTS.search(inspect.getdoc(signal.measure) or "")
    assert found is not None, f"{signal.name}: the docstring says no range, unit and source"
    return " ".join(found[1].split())


def _meaning(signal: Signal) -> str:
    """The docstring without what the table has; formulas are blocks of code."""
    told = _FACTS.sub("", inspect.getdoc(signal.measure) or "")
    parts = []
    for paragraph in told.split("\n\n"):
        if paragraph.startswith("    "):
            parts.append("```\n" + inspect.cleandoc(paragraph) + "\n```")
        elif text := " ".join(paragraph.split()):
            parts.append(text)
    return "\n\n".join(parts)


if __name__ == "__main__":
    above, _, below = DOCUMENT.read_text().partition(VALUES)
    table = values() if DATA.is_dir() else below.partition(BEGIN)[0].strip() + "\n"
    DOCUMENT.write_text(f"{above}{VALUES}\n{table}\n{reference()}")
