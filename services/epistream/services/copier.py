"""Copies the store, in a process of its own: beside the writer, whose Python lock it does not ask for.

    python -m epistream.services.copier FOLDER

It says messages of `AdminService.Backup` on its standard output, each after its length in four bytes, little-endian.
A full pipe holds it up, which is how a slow client does. It ends when nobody listens any more. Where the journal is
damaged it says so on its standard error, and ends with CORRUPT.
"""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

from epistream.indexer.backup import Backup
from epistream.indexer.clock import SystemClock
from epistream.indexer.store import Readers
from epistream.v1 import admin_service_pb2 as api
from epistream.wire.errors import Broken

LENGTH_BYTES: Final = 4
CORRUPT: Final = 3
"""The exit code where the journal is damaged."""
NICENESS: Final = 10
"""Knowledge is taken in and pushed first, but on a busy machine a backup still gets a tenth of a core."""


def main(folder: str) -> None:
    """Say all of a backup of the store in `folder`, which a service has open."""
    os.nice(NICENESS)
    backup = Backup(Readers(Path(folder)), version("epistream"), SystemClock().now_us())
    try:
        _say(api.BackupResponse(header=backup.header))
        for piece in backup.data():
            _say(api.BackupResponse(data=piece))
        _say(api.BackupResponse(trailer=api.BackupTrailer(data_bytes=backup.data_bytes, sha256=backup.sha256())))
    except BrokenPipeError:
        os._exit(0)  # nobody listens: nothing to say, nor to flush
    except Broken as error:
        print(error.message, file=sys.stderr)
        sys.exit(CORRUPT)


def _say(message: api.BackupResponse) -> None:
    encoded = message.SerializeToString()
    sys.stdout.buffer.write(len(encoded).to_bytes(LENGTH_BYTES, "little") + encoded)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
