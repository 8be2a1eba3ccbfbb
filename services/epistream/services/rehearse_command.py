"""`rehearse`, for people and for programs."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from epistream.clients.cli.words import words
from epistream.indexer.embed import NO_ENCODER
from epistream.indexer.encoder import SentenceTransformerEmbedder
from epistream.indexer.rehearsal import Difference, Outcome, Rehearsal, rehearse
from epistream.indexer.store import FILE, Store, missing
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import InvalidInput

_SHOWN: Final = 20
"""So many differences are listed; `--json` lists all."""


def rehearse_command(folder: Path, namespace: str, changed: ns_pb.Policy, *, encode: bool, as_json: bool) -> None:
    """Rehearse, with a bar on a terminal, and print what differs.

    Raises:
        InvalidInput: the folder holds no store; or as `epistream.indexer.rehearsal.rehearse`, as the others.
        Unavailable: a service has it open.
    """
    if not (folder / FILE).is_file():
        raise InvalidInput.at("folder", missing(folder))
    with (
        closing(Store(folder)) as store,
        tempfile.TemporaryDirectory(prefix="epistream-rehearsal-") as again,
        _embedder(store, namespace, wanted=encode) as embedder,
        _bar() as bar,
    ):
        task = bar.add_task("rehearsing", total=None)
        result = rehearse(
            store.readers,
            namespace,
            changed,
            Path(again),
            embedder=embedder,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )
    if as_json:
        print(json.dumps(_description(result, namespace)))
        return
    console = Console(highlight=False, soft_wrap=True)
    if result.differences:
        console.print(_table(result))
    for line in _told(result):
        console.print(words(line))


@contextmanager
def _embedder(store: Store, namespace: str, *, wanted: bool) -> Iterator[SentenceTransformerEmbedder | None]:
    """The encoder of a namespace, where one is wanted and there is one."""
    with store.reader() as catalog:
        models = {known.name: known.encoder.model for _, known in catalog.namespaces()}
    model = models.get(namespace, NO_ENCODER)
    if not wanted or model == NO_ENCODER:
        yield None
        return
    with closing(SentenceTransformerEmbedder(model)) as embedder:
        yield embedder


def _bar() -> Progress:
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _table(result: Rehearsal) -> Table:
    table = Table("before", "after", "decisions")
    for (before, after), count in sorted(result.outcomes.items(), key=lambda found: (-found[1], found[0])):
        if before != after:
            table.add_row(_named(before), _named(after), f"{count:,}")
    return table


def _told(result: Rehearsal) -> Iterator[str]:
    for difference in result.differences[:_SHOWN]:
        before, after = _named(difference.before), _named(difference.after)
        yield f"  {difference.producer} {difference.submission_id}: {before} -> {after}"
    further = len(result.differences) - _SHOWN
    if further > 0:
        yield f"  and {further:,} more: --json lists all"
    yield f"{len(result.differences):,} of {result.decisions:,} decisions differ"
    if result.other_figures:
        yield f"{result.other_figures:,} are the same by other figures"
    for why, count in sorted(result.left_out.items()):
        yield f"{count:,} not compared: {why}"
    if result.before is not None and result.after is not None:
        for name, before in asdict(result.before).items():
            after = asdict(result.after)[name]
            if after != before:
                yield f"{name}: {before:,} before, {after:,} after"


def _named(outcome: Outcome) -> str:
    return f"{_outcome(outcome)} {_reason(outcome)}"


def _outcome(outcome: Outcome) -> str:
    return pb.Outcome.Name(outcome[0]).removeprefix("OUTCOME_")


def _reason(outcome: Outcome) -> str:
    return pb.Reason.Name(outcome[1]).removeprefix("REASON_")


def _description(result: Rehearsal, namespace: str) -> dict[str, Any]:
    return {
        "namespace": namespace,
        "decisions": result.decisions,
        "outcomes": [
            {"before": _names(before), "after": _names(after), "count": count}
            for (before, after), count in sorted(result.outcomes.items())
        ],
        "differences": [_difference(one) for one in result.differences],
        "other_figures": result.other_figures,
        "left_out": {why.name: count for why, count in sorted(result.left_out.items())},
        "before": asdict(result.before) if result.before is not None else None,
        "after": asdict(result.after) if result.after is not None else None,
    }


def _difference(one: Difference) -> dict[str, Any]:
    return {
        "sequence": one.sequence,
        "producer": one.producer,
        "submission_id": one.submission_id,
        "before": _names(one.before),
        "after": _names(one.after),
    }


def _names(outcome: Outcome) -> dict[str, str]:
    return {"outcome": _outcome(outcome), "reason": _reason(outcome)}
