"""`epistream up`, `kafka`, `access`, `redrive`, `restore`, `fsck`, `rehearse`, `verify`, `execute`: the service.

This process becomes `python -m epistream.services …`, so that the clients need nothing of the service.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Final, NoReturn

from epistream.clients.cli.exits import Wrong

COMMANDS: Final[Mapping[str, str]] = {
    "up": "Run a service: `epistream up --help` lists its settings.",
    "kafka": "Run a local Apache Kafka: `epistream kafka up`.",
    "access": "Who may do what: make tokens, check access files.",
    "redrive": "Send dead letters again; with --dry-run, tell why each was refused.",
    "restore": "Make a store from a backup: `epistream restore FILE --folder FOLDER`.",
    "fsck": "Verify a store, or rebuild its views from the journal.",
    "rehearse": "Decide a journal again under another policy, and tell what differs: `epistream rehearse FOLDER`.",
    "verify": "Run the tests of code in a sandbox: `epistream verify FILE`.",
    "execute": "Run the tests of a namespace's code as it comes, and submit what came of it.",
}
"""What is passed on, and what each does."""

_NEEDED: Final = ("apsw", "faiss", "grpc_health", "kafka", "prometheus_client", "pydantic_settings")
"""Packages of the extra `server`."""


def become(command: str, arguments: Sequence[str]) -> NoReturn:
    """Becomes the service's command line, with the same arguments.

    Raises:
        Wrong: what the service needs is not installed.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise Wrong(
            f"`epistream {command}` needs the packages of the service: pip install 'epistream[server]'"
            f" (missing: {', '.join(missing)})"
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "epistream.services", command, *arguments])  # noqa: S606 -- no shell is wanted
