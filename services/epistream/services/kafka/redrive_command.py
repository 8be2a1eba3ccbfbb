"""`redrive`, for people and for programs."""

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Final

from rich.console import Console

from epistream.clients.cli.exits import ExitCode, exit_code, explain, worst
from epistream.clients.credentials import Credentials
from epistream.services.kafka.redrive import Counts, Letter, redrive, redrive_store, untold
from epistream.wire.errors import EpistreamError
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity
from epistream.wire.printable import printable

_OUTCOMES: Final = {"REFUSED": ExitCode.REFUSED, "HELD": ExitCode.HELD}


def redrive_command(
    bootstrap: str | None,
    topics: Sequence[str],
    folder: Path | None,
    target: str | None,
    *,
    credentials: Credentials | None = None,
    reason: str | None = None,
    limit: int | None = None,
    everything: bool = False,
    dry_run: bool = False,
    as_json: bool = False,
    security: KafkaSecurity = PLAINTEXT,
    console: Console | None = None,
) -> int:
    """Redrive the letters in Kafka's topics when `bootstrap` is given, and those of a store when `folder` is.

    Args:
        bootstrap: Kafka's address.
        topics: topics of dead letters.
        folder: the store's.
        target: the running service that takes the letters of the store.
        credentials: what to show to that service, and how to know it.
        reason: only letters with this reason, in any case, such as `unknown_namespace`.
        limit: at most so many of each topic, and of the store.
        everything: those of Kafka's that were redriven before, too.
        dry_run: send nothing; tell of each letter that would be sent why it was refused.
        as_json: print one JSON object.
        security: what Kafka asks for.
        console: where to print; standard output when None.

    Returns:
        The exit code for the process, as of every command: of those of the store, what became of them.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    reason = reason.upper() if reason else None
    counts: dict[str, Counts] = {}
    told = functools.partial(_print_letter, console) if dry_run and not as_json else untold
    try:
        if bootstrap is not None:
            counts |= redrive(
                bootstrap,
                topics,
                reason=reason,
                limit=limit,
                everything=everything,
                dry_run=dry_run,
                told=told,
                security=security,
            )
        if folder is not None and target is not None:
            counts["store"] = redrive_store(
                folder, target, credentials=credentials, reason=reason, limit=limit, dry_run=dry_run, told=told
            )
    except EpistreamError as error:
        explain(error)
        return exit_code(error)
    _print_json(counts, console) if as_json else _print(counts, console, dry_run=dry_run)
    return worst(_OUTCOMES.get(outcome, ExitCode.DONE) for count in counts.values() for outcome in count.outcomes)


def _print_json(counts: Mapping[str, Counts], console: Console) -> None:
    # Not by `asdict`, which makes of a Counter one of its pairs.
    plain = {name: {f.name: getattr(count, f.name) for f in fields(count)} for name, count in counts.items()}
    console.print_json(json.dumps(plain), indent=None)


def _print(counts: Mapping[str, Counts], console: Console, *, dry_run: bool) -> None:
    done = "would be redriven" if dry_run else "redriven"
    for name, count in counts.items():
        text = f"{name}: {count.redriven} {done}"
        if dry_run and count.reasons:
            text += f" ({printable(_counted(count.reasons))})"
        text += f", {count.left} left"
        if count.strange:
            text += f", {count.strange} that are no dead letters of Epistream"
        if count.outcomes:
            text += f" ({_counted(count.outcomes)})"
        console.print(text, markup=False)


def _print_letter(console: Console, letter: Letter) -> None:
    of = f", of {letter.submission}" if letter.submission else ""
    said = f"{letter.place}{of}: {letter.reason or 'no reason is said'}"
    console.print(printable(f"{said}: {letter.error}" if letter.error else said), markup=False)


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counter.items()))
