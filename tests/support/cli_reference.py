"""The commands' part of docs/cli.md, made from the command line itself.

`python -m tests.support.cli_reference` writes it anew; a test says when that is due.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from epistream.clients.cli.app import app
from epistream.clients.cli.connection import PANEL

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "cli.md"
BEGIN: Final = "<!-- From here on made by `python -m tests.support.cli_reference`. -->\n"


def commands() -> dict[str, Any]:
    """All commands by their words, such as `namespaces list`, in the order of the help."""
    found: dict[str, Any] = {}
    for name, command in _group(typer.main.get_command(app)).items():
        parts = _group(command)
        by_itself = not parts or command.invoke_without_command
        found |= {name: command} if by_itself else {}
        found |= {f"{name} {part}": each for part, each in parts.items()}
    return found


def reference() -> str:
    """What stands below the line BEGIN."""
    lines = [line for name, command in commands().items() for line in _section(name, command)]
    return "\n".join([*_connection(), *lines]).rstrip() + "\n"


def examples() -> list[str]:
    """The example lines of all helps."""
    return [line.strip() for command in commands().values() for line in _parts(command)[1]]


def _group(command: Any) -> dict[str, Any]:
    return getattr(command, "commands", {})


def _parts(command: Any) -> tuple[list[str], list[str]]:
    """The help's paragraphs, and the lines of its examples."""
    text, _, shown = command.help.partition("\n\nExample")
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return paragraphs, [line for line in shown.splitlines()[1:] if line.strip()]


def _section(name: str, command: Any) -> Iterator[str]:
    paragraphs, shown = _parts(command)
    arguments = " ".join(
        p.metavar if p.required else f"[{p.metavar}]" for p in command.params if p.param_type_name == "argument"
    )
    yield f"### `epistream {name}{' ' if arguments else ''}{arguments}`\n"
    yield from (f"{paragraph}\n" for paragraph in paragraphs)
    if shown:
        yield from ("```", *(line.strip() for line in shown), "```\n")
    shared = [p for p in command.params if _is_shared(p)]
    if rows := [_row(p) for p in command.params if p not in shared]:
        yield from ("| argument or option | meaning | default |", "|---|---|---|", *rows, "")
    if shared:
        yield "And those of [the connection](#the-connection).\n"


def _connection() -> Iterator[str]:
    """What all commands have that reach a service, once."""
    shared = [[_row(p) for p in command.params if _is_shared(p)] for command in commands().values()]
    rows = next(filter(None, shared))
    if any(others and others != rows for others in shared):
        raise AssertionError("the options of the connection are the same for every command that has them")
    yield "### The connection\n"
    yield "Options of every command that reaches a service.\n"
    yield from ("| option | meaning | default |", "|---|---|---|", *rows, "")


def _is_shared(parameter: Any) -> bool:
    return getattr(parameter, "rich_help_panel", None) == PANEL


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{parameter.metavar}`".replace("|", "\\|")
    else:
        name = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
    meaning = parameter.help.replace("|", "\\|")
    return f"| {name} | {meaning} | {_default(parameter)} |"


def _default(parameter: Any) -> str:
    variable = f"`{parameter.envvar}`" if getattr(parameter, "envvar", None) else ""
    if parameter.required:
        return f"{variable}, else required" if variable else "required"
    value = parameter.default
    shown = "" if value in (None, "", False) else f"`{value}`"
    return ", else ".join(part for part in (variable, shown) if part)


if __name__ == "__main__":
    above = DOCUMENT.read_text().partition(BEGIN)[0]
    DOCUMENT.write_text(above + BEGIN + "\n" + reference())
