"""`epistream backup`: a copy of all that a service knows, in a file."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from epistream.clients.cli import options
from epistream.clients.cli.connection import reaching
from epistream.clients.cli.exits import Wrong
from epistream.clients.client_settings import Service

if TYPE_CHECKING:
    from epistream.clients.backup import BackupFile
    from epistream.v1 import backup_pb2

SUFFIX: Final = ".backup"
_PREFIX: Final = "epistream-"


@reaching
def backup(
    *,
    service: Service,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            metavar="FILE|FOLDER/",
            help="The file; or a folder, in which the file is named by the time in UTC.",
        ),
    ],
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep", min=1, help="With a folder: remove the oldest backups there, so that this many are left."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="How many seconds the service may be silent.")
    ] = options.DEFAULT_SECONDS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Copy all that a service knows into a file, while knowledge goes on coming in.

    The file gets its name when all of it has arrived, was verified, and is on
    the disk; until then it is FILE.partial. A file of that name is replaced
    then. `epistream restore` makes a store of it.

    Examples:
      epistream backup --output pharmacy.backup
      epistream backup --output /backups/ --keep 7 --address localhost:7443
    """
    from epistream.clients.backup import back_up

    path, is_in_folder = _file(output)
    if keep is not None and not is_in_folder:
        raise typer.BadParameter(f"--keep needs a folder, and {output} is a file")
    options.reach(service.address)
    try:
        with _progress() as progress:
            copying = back_up(
                service.address, path, credentials=service.credentials, silence_seconds=timeout, progress=progress
            )
            made = asyncio.run(copying)
        removed = _remove_oldest(path.parent, keep) if keep is not None else []
    except OSError as error:
        raise Wrong(f"{error.filename or path} cannot be written: {error.strerror}") from error
    if as_json:
        print(json.dumps(_description(made, removed)))
    else:
        _print(made, removed)


def _file(output: str) -> tuple[Path, bool]:
    """Which file is meant, and whether a folder was given.

    Raises:
        Wrong: there is no such folder.
    """
    path = Path(output)
    if path.is_dir():
        return path / f"{_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%SZ}{SUFFIX}", True
    folder = path if output.endswith("/") else path.parent
    if not folder.is_dir():
        raise Wrong(f"there is no folder {folder}: make it first")
    return path, False


def _remove_oldest(folder: Path, keep: int) -> list[Path]:
    """Remove what is too much of the files that this command named; the time in the name is their age.

    What is left of an interrupted backup goes, too: the service makes one at a time, and this one is whole.
    """
    from epistream.clients.backup import PARTIAL

    whole = sorted(folder.glob(f"{_PREFIX}????????T??????Z{SUFFIX}"))
    removed = [*whole[:-keep], *folder.glob(f"{_PREFIX}????????T??????Z{SUFFIX}{PARTIAL}")]
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


@contextmanager
def _progress() -> "Iterator[Callable[[backup_pb2.BackupHeader, int], None]]":
    """A bar, on a terminal. The size of the store is more than there will be: views are not sent."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from epistream.clients.cli.show import notes

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=notes(), disable=not notes().is_terminal) as bar:
        task = bar.add_task("backup", total=None)
        yield lambda header, size: bar.update(task, total=header.store_bytes, completed=size)


def _description(made: "BackupFile", removed: list[Path]) -> dict[str, object]:
    from google.protobuf.json_format import MessageToDict

    return {
        "file": str(made.path),
        "bytes": made.size_bytes,
        "sha256": made.sha256.hex(),
        "header": MessageToDict(made.header, preserving_proto_field_name=True),
        "removed": [str(path) for path in removed],
    }


def _print(made: "BackupFile", removed: list[Path]) -> None:
    from epistream.clients.cli import show
    from epistream.clients.cli.words import words

    header = made.header
    heads = ", ".join(f"{one.name} at revision {one.head_revision}" for one in header.namespaces) or "no namespaces"
    lines = [
        f"{made.path}: {made.size_bytes:,} bytes, as of {show.when(header.create_time)}",
        f"{heads}; {header.journal_entries:,} journal entries, epoch {header.epoch}",
        *(f"removed {path}" for path in removed),
    ]
    for line in lines:
        show.output().print(words(line), soft_wrap=True)
