"""Grafana's own published types read the dashboards: those of 11 and of 12, each by the compiler of TypeScript.

A field that they do not know, one that they ask for and that is missing, and another kind of value are errors. What npm
downloads, pinned by `tests/grafana`, is kept in `.cache/grafana`. They say nothing of queries, which Prometheus reads
itself: tests/service/test_prometheus.py.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from k8s.components.monitoring.generate import DASHBOARDS, FOLDER

TYPES: Final = Path(__file__).parents[1] / "grafana"
CACHE: Final = Path(__file__).parents[2] / ".cache/grafana"
RELEASES: Final = {11: "./node_modules/grafana-11", 12: "grafana-12"}
"""What is imported of each: 11 does not say where the types of its panels are, 12 hides where they lie."""
STRICTLY: Final = ("--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler")


def run(command: Sequence[str | Path]) -> tuple[int, str]:
    """The exit code of a command in the cache, and what it says."""
    done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=240, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def compiler() -> Path:
    """The compiler, beside the types."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("Grafana's types are read by TypeScript, which npm brings: install Node.js")
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(TYPES / name, CACHE)
    code, said = run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"])
    assert code == 0, said
    return CACHE / "node_modules/.bin/tsc"


def written(board: Any) -> Iterator[str]:
    """A dashboard and its parts as values: of the union of panels and rows a compiler would take fields of both."""
    yield f"export const board: Read<Dashboard> = {json.dumps(board)};"
    for panel in board["panels"]:
        kind, number = panel["type"], panel["id"]
        yield f"export const panel_{number}: Read<{'RowPanel' if kind == 'row' else 'Panel'}> = {json.dumps(panel)};"
        if kind != "row":
            yield f"export const options_{number}: Read<{kind}> = {json.dumps(panel['options'])};"
            custom = panel["fieldConfig"]["defaults"].get("custom", {})
            yield f"export const custom_{number}: Read<GraphFieldConfig> = {json.dumps(custom)};"


def refused(compiler: Path, release: int, board: Any) -> str:
    """What a release's types say against a dashboard; empty for nothing."""
    program = CACHE / "board.ts"
    head = (TYPES / "read.ts").read_text().replace("GRAFANA", RELEASES[release])
    program.write_text("\n".join([head, *written(board)]))
    code, said = run([compiler, *STRICTLY, program])
    assert bool(code) == bool(said)
    return said


@pytest.mark.robustness
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafana_reads_it(compiler: Path, release: int, name: str) -> None:
    board = json.loads((FOLDER / f"{name}.json").read_text())
    assert refused(compiler, release, board) == ""
    board["panels"][1]["unknown"] = 1
    assert "'\"unknown\"' does not exist" in refused(compiler, release, board)
