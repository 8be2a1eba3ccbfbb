"""The command line: in this process, which is quick, or as a process of its own."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from epistream.clients.cli.main import main
from epistream.clients.cli.services import COMMANDS

COMMAND: Final = (sys.executable, "-m", "epistream.clients.cli.main")
SECONDS_MAX: Final = 60.0
_Message = TypeVar("_Message", bound=Message)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    def messages(self, kind: type[_Message]) -> list[_Message]:
        """The lines of its output, each read as protobuf's JSON form of a message."""
        return [json_format.Parse(line, kind()) for line in self.out.splitlines()]


def epistream(*arguments: str, stdin: bytes = b"", **environment: str) -> Ran:
    """Runs `epistream` in this process, with these arguments, this input and these variables."""
    # Those become another program, which would end the tests, with the exit code 0.
    assert not arguments or arguments[0] not in COMMANDS, "use epistream_process"
    out, err = io.StringIO(), io.StringIO()
    with (
        _as_if_started(arguments, stdin, environment),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        else:
            code = 0
    return Ran(code, out.getvalue(), err.getvalue())


def epistream_process(*arguments: str, **environment: str) -> Ran:
    """Runs `epistream` as a process: for what becomes another program."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without Epistream's settings and the user's own file, wide enough for tables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EPISTREAM_")}
    return {**kept, "COLUMNS": "200", "XDG_CONFIG_HOME": os.devnull, **more}


@contextlib.contextmanager
def _as_if_started(arguments: tuple[str, ...], stdin: bytes, environment: Mapping[str, str]) -> Iterator[None]:
    before = sys.argv, sys.stdin, dict(os.environ)
    try:
        sys.argv, sys.stdin = ["epistream", *arguments], io.TextIOWrapper(io.BytesIO(stdin))
        os.environ.clear()
        os.environ.update(clean_environment(environment))
        yield
    finally:
        sys.argv, sys.stdin = before[:2]
        os.environ.clear()
        os.environ.update(before[2])
