"""The tables of docs/signals.md, made from the code.

`python -m tests.support.signals_reference` writes them anew; a test says when that is due.
"""

import inspect
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from epistream.indexer.signals import CELLS, Cell, Signal

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "signals.md"
BEGIN: Final = "<!-- From here on made by `python -m tests.support.signals_reference`. -->\n"
_FACTS: Final = re.compile(r"Range .*?\. Unit: .*?\.\s+Source: (.*)\.", re.DOTALL)


def reference() -> str:
    """What stands below the line BEGIN."""
    return BEGIN + "\n" + "\n".join([*_overview(), *(line for cell in CELLS for line in _cell(cell))]).rstrip() + "\n"


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
        yield f"**`{signal.name}`** {_meaning(signal)}\n"


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
    above = DOCUMENT.read_text().partition(BEGIN)[0]
    DOCUMENT.write_text(above + reference())
