"""How every benchmark reports: a table for people, and one JSON object as the last line for programs."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure."""

    name: str
    value: float
    unit: str
    target: str = ""
    """What was asked for, such as `>= 2500`; empty for a figure that is only told."""
    ok: bool = True
    """Whether the target is met."""


def at_least(name: str, value: float, unit: str, target: float) -> Figure:
    """A figure that should not be below its target."""
    return Figure(name, value, unit, f">= {target:g}", value >= target)


def below(name: str, value: float, unit: str, target: float) -> Figure:
    """A figure that should be below its target."""
    return Figure(name, value, unit, f"< {target:g}", value < target)


def equal(name: str, value: float, unit: str, target: float) -> Figure:
    """A figure that should be exactly its target."""
    return Figure(name, value, unit, f"= {target:g}", value == target)


def of_each_turn(
    ratios: Sequence[float], bound: Callable[[str, float, str, float], Figure], target: float
) -> list[Figure]:
    """Of two ways that were measured in turns, how many times the first the second was; `bound` is on the median."""
    return [
        bound("of each turn, the second of the first: median", statistics.median(ratios), "times", target),
        Figure("least", min(ratios), "times"),
        Figure("most", max(ratios), "times"),
    ]


def report(bench: str, figures: Sequence[Figure]) -> Literal[0, 1]:
    """Print the figures. Returns the exit code: 1 when a target was missed."""
    table = Table(title=f"{bench} ({os.cpu_count()} cores, Python {platform.python_version()})")
    for column, justify in (("figure", "left"), ("value", "right"), ("unit", "left"), ("target", "left"), ("", "left")):
        table.add_column(column, justify="right" if justify == "right" else "left")
    for figure in figures:
        verdict = "" if not figure.target else "[green]met" if figure.ok else "[red]missed"
        table.add_row(figure.name, _shown(figure.value), figure.unit, figure.target, verdict)
    Console(width=110).print(table)
    print(json.dumps({"bench": bench, "figures": [asdict(figure) for figure in figures]}))
    return 0 if all(figure.ok for figure in figures) else 1


def _shown(value: float) -> str:
    """Four digits, or all before the point where there are more."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
