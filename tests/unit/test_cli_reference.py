"""docs/cli.md says what the command line does."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from epistream.clients.cli.app import app
from epistream.clients.cli.exits import HELP, ExitCode
from tests.support.cli_reference import BEGIN, DOCUMENT, commands, examples, reference

ROOT = Path(__file__).parents[2]


def shown_in(document: str) -> list[str]:
    """The `epistream …` lines of a document's blocks of commands."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("epistream ")]


def test_every_command_and_option_is_described_as_its_help_has_it() -> None:
    assert DOCUMENT.read_text().partition(BEGIN)[2] == "\n" + reference(), "run python -m tests.support.cli_reference"


def test_every_command_of_our_own_shows_an_example() -> None:
    told = {name for name in commands() if any(f"epistream {name}" in line for line in examples())}
    assert set(commands()) - told <= {"up", "kafka", "redrive", "restore", "fsck"}, "those have their help elsewhere"


def test_the_exit_codes_are_those_of_the_help() -> None:
    assert [int(line.split()[0]) for line in HELP.splitlines()[1:]] == list(ExitCode)
    above = DOCUMENT.read_text().partition(BEGIN)[0]
    assert [int(number) for number in re.findall(r"^\| (\d) \|", above, re.MULTILINE)] == list(ExitCode)


@pytest.mark.parametrize("line", [*examples(), *shown_in("README.md"), *shown_in("docs/cli.md")])
def test_every_example_is_a_command_line_that_is_understood(line: str) -> None:
    words = shlex.split(line.rpartition("| ")[2] if " | epistream" in line else line, comments=True)
    assert words[0] == "epistream"
    command = typer.main.get_command(app)
    name, arguments = words[1], words[2:]
    if name in ("up", "kafka", "redrive", "restore", "fsck"):
        return
    found = command.commands[name]  # type: ignore[attr-defined] # it is a group
    if arguments and arguments[0] in getattr(found, "commands", {}):
        found, arguments = found.commands[arguments[0]], arguments[1:]
    found.make_context(name, list(arguments)).close()
