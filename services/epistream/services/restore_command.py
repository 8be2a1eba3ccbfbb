"""`restore`, for people and for programs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from epistream.indexer import restore as restoring

_WORDS: Final = {
    "verify": "verifying the file",
    "write": "writing the store",
    "check": "checking the store",
    "place": "putting it in its place",
}


def restore_command(file: Path, folder: Path, *, checked: bool, as_json: bool) -> None:
    """Restore, with a bar on a terminal, and print what there is now. Raises as `epistream.indexer.restore.restore`."""
    with _progress() as progress:
        restored = restoring.restore(file, folder, checked=checked, progress=progress)
    if as_json:
        print(json.dumps(_description(restored, folder)))
        return
    console = Console(highlight=False, soft_wrap=True)
    for line in _told(restored, folder):
        console.print(line, markup=False)


@contextmanager
def _progress() -> Iterator[restoring.Progress]:
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks = {what: bar.add_task(words, total=None, visible=False) for what, words in _WORDS.items()}
        yield lambda what, done, of: bar.update(tasks[what], completed=done, total=of, visible=True)


def _description(restored: restoring.Restored, folder: Path) -> dict[str, object]:
    return {
        "folder": str(folder),
        "epoch": restored.epoch,
        "header": MessageToDict(restored.header, preserving_proto_field_name=True),
        "positions": [
            {"topic": topic, "partition": partition, "next_offset": place.offset}
            for (topic, partition), place in sorted(restored.positions.items())
        ],
        "acknowledged": {
            "sequence": restored.acknowledged.sequence,
            "dead_letter": restored.acknowledged.dead_letter,
        },
    }


def _told(restored: restoring.Restored, folder: Path) -> Iterator[str]:
    header = restored.header
    yield f"{folder}: restored as of {header.create_time.ToJsonString()}, {header.journal_entries:,} journal entries"
    yield f"epoch {restored.epoch} (the backup was of {header.epoch})"
    for namespace in header.namespaces:
        yield f"  {namespace.name} at revision {namespace.head_revision}"
    for (topic, partition), place in sorted(restored.positions.items()):
        yield f"  {topic}/{partition} is read from offset {place.offset} on"
    yield (
        "Start a service on it. Subscribers of the old epoch are told to take a snapshot; Kafka is read again from"
        " these offsets. What came in over gRPC since then must be submitted again: docs/backup.md"
    )
