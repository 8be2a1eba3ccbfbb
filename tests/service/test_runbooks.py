"""The commands of docs/runbooks.md and docs/operations.md: what they look for is served, what they run is there."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from epistream.clients.cli.services import COMMANDS as OF_THE_SERVICE
from epistream.services.__main__ import commands
from tests.support.cli import epistream
from tests.support.service import running_service

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = "\n".join((DOCS / name).read_text() for name in ("runbooks.md", "operations.md"))
LINES = [
    line.split("  #")[0].strip()
    for block in re.findall(r"^```\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
OF_THE_METRICS = "curl -s http://127.0.0.1:9464/metrics | "
GREPS = sorted({line.removeprefix(OF_THE_METRICS) for line in LINES if line.startswith(OF_THE_METRICS)})
INLINE = re.findall(r"`(epistream [^`]+)`", TEXT)
COMMANDS = sorted({line for line in (*LINES, *INLINE) if line.startswith("epistream ")})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service(tmp_path_factory.mktemp("runbooks") / "data", kafka="127.0.0.1:1") as service:
        yield service.metrics_page()
        service.kill()  # nothing of it is kept, and saying good-bye to no Kafka takes a while


@pytest.mark.parametrize("command", GREPS)
def test_what_is_looked_for_is_served(page: str, command: str) -> None:
    # A second grep narrows it to what only a service in trouble has.
    *program, pattern = shlex.split(command.split(" | ", maxsplit=1)[0])
    assert program[0] == "grep"
    for one in alternatives(pattern):
        # Of what has no samples in a good hour only the description is there: the name alone is looked for.
        alternative = one.removeprefix("^").partition(".*")[0]
        found = subprocess.run([*program, alternative], input=page, capture_output=True, text=True, check=False)
        assert found.returncode == 0, f"nothing is found by: {' '.join(program)} {alternative}"


def alternatives(pattern: str) -> list[str]:
    """Each of `a|b`, and of `x_(a|b)_y` what each of a and b makes of it."""
    inner = re.search(r"\(([^()]*)\)", pattern)
    if inner is not None:
        made = (f"{pattern[: inner.start()]}{one}{pattern[inner.end() :]}" for one in inner[1].split("|"))
        return [each for one in made for each in alternatives(one)]
    return pattern.split("|")


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_run_is_there(command: str) -> None:
    _, *arguments = shlex.split(command)
    if arguments[0] in OF_THE_SERVICE:
        done = CliRunner().invoke(commands(), [*arguments, "--help"])
        code, said = done.exit_code, done.output
    else:
        ran = epistream(*arguments, "--help")
        code, said = ran.code, ran.out + ran.err
    assert code == 0, said
    assert "Usage" in said


def test_there_are_some_of_each() -> None:
    assert len(GREPS) > 5
    assert len(COMMANDS) > 5
