"""The entry point of `epistream`: turns errors into exit codes, and says which packages are missing."""

import sys
from typing import Final

from epistream.wire.errors import EpistreamError

_OWN_PACKAGES: Final = frozenset({"typer", "rich", "click"})


def main() -> None:
    """Runs the command line that the process was started with, and ends the process."""
    try:
        _run()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _OWN_PACKAGES:
            raise
        sys.exit("The command line needs typer and rich: pip install 'epistream[cli]'")


def _run() -> None:
    from epistream.clients.cli.app import app
    from epistream.clients.cli.exits import exit_code, explain

    try:
        app(prog_name="epistream")
    except EpistreamError as error:
        explain(error)
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()
