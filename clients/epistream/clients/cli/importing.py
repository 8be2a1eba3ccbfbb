"""`epistream import`: the records of published works, over gRPC, with a receipt for each submission."""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from epistream.clients.cli import options
from epistream.clients.cli.connection import reaching
from epistream.clients.cli.exits import ExitCode, Wrong, receipt_code, worst
from epistream.clients.cli.sources import work_of
from epistream.clients.client_settings import Service

if TYPE_CHECKING:
    from rich.progress import Progress

    from epistream.clients.sources.importing import Job, Prepared, State
    from epistream.clients.sources.work import Work
    from epistream.v1 import knowledge_pb2 as pb

SAVE_SECONDS: Final = 1.0
"""How often the state is written. What was acknowledged since is sent again after a kill, and changes nothing."""
UNREADABLE_FIRST_MAX: Final = 100
"""When so many records can be read, and nothing can be made of any of them, the source or the mapping is another's."""
TOLD_MAX: Final = 10
"""So many records that could not be read, and so many refusals, are told one by one."""

_Arguments = Annotated[
    list[str],
    typer.Argument(
        metavar="[SOURCE] PATH",
        help="A work of `epistream sources list`, unless there is a --mapping; and its file, or a folder of its files.",
    ),
]


@reaching
def import_records(
    arguments: _Arguments,
    *,
    service: Service,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", envvar="EPISTREAM_NAMESPACE", help="The namespace to import into.")
    ] = "",
    mapping: Annotated[
        Path | None,
        typer.Option("--mapping", metavar="FILE", help="A YAML file that says how other records become submissions."),
    ] = None,
    producer: Annotated[
        str,
        typer.Option(
            "--producer", "-p", help="Who says so, where a record names nobody; the work itself if not given."
        ),
    ] = "",
    media_base: Annotated[
        str, typer.Option("--media-base", metavar="URI", help="What to put before relative paths of images and videos.")
    ] = "",
    extra: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=TEXT", help="A field for records that lack it. May be repeated."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after so many records.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the submissions as JSON and send nothing.")] = False,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="FILE", help="Where to keep how far it is; beside PATH if not given."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Begin with the first record, whatever the state says.")
    ] = False,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
) -> None:
    """Import the records of a published work, or any others by a mapping file.

    An import that was interrupted goes on where everything before was
    acknowledged. Importing again changes nothing. Records that are not as
    their format says are kept by the service as dead letters, with the reason.

    Examples:
      epistream import humaneval HumanEval.jsonl.gz -n code
      epistream import c4 shards/ -n web --limit 1000 --dry-run
      epistream import mobile-aloha episodes/ -n robots --set task="wipe the table"
      epistream import --mapping notes.yaml notes.csv -n clinic
    """
    from epistream.clients.sources import importing

    job, path = _job(arguments, namespace, mapping, producer, media_base, options.pairs(extra), dry_run=dry_run)
    if dry_run:
        raise typer.Exit(_print(importing.prepared(job), limit))
    place = state or importing.state_path(path, job.work)
    known = None if again else importing.State.load(place, job)
    session = _Session(job, place, known, limit)
    raise typer.Exit(asyncio.run(session.run(service, timeout)))


def _job(
    arguments: list[str],
    namespace: str,
    mapping: Path | None,
    producer: str,
    media_base: str,
    extra: dict[str, str],
    *,
    dry_run: bool,
) -> "tuple[Job, Path]":
    """What is to be imported, and its path."""
    from epistream.clients.sources.formats.files import files_of
    from epistream.clients.sources.importing import Job

    work, path = _named(arguments, mapping)
    if not namespace and not dry_run:
        raise typer.BadParameter("a namespace is needed: --namespace, or EPISTREAM_NAMESPACE")
    files = tuple(files_of(path, work.formats, work.first))
    job = Job(work=work, files=files, namespace=namespace, producer=producer, media_base=media_base, extra=extra)
    return job, path


def _named(arguments: list[str], mapping: Path | None) -> "tuple[Work, Path]":
    expected = 1 if mapping is not None else 2
    if len(arguments) != expected:
        raise typer.BadParameter(
            f"expected {'PATH alone with --mapping' if mapping else 'SOURCE and PATH'}, found {len(arguments)} words"
        )
    if mapping is None:
        return work_of(arguments[0]), Path(arguments[1])
    from epistream.clients.sources.mapping import load

    return load(mapping), Path(arguments[0])


def _print(records: "Iterator[Prepared]", limit: int | None) -> ExitCode:
    """Prints what would be sent; the exit code."""
    import itertools

    from epistream.clients.cli.show import note, print_json

    code = ExitCode.DONE
    for record in itertools.islice(records, limit):
        print_json(record.submissions)
        if record.unreadable:
            note(f"{_where(record)}: {record.unreadable}", style="red")
            code = ExitCode.USAGE
    return code


class _Session:
    """Records out, receipts in."""

    def __init__(self, job: "Job", state_path: Path, known: "State | None", limit: int | None) -> None:
        self._job = job
        self._state_path = state_path
        self._state = known
        self._limit = limit
        self._bar = _progress()
        self._task = self._bar.add_task("Importing", total=job.size)
        self._sent: deque[tuple[Prepared, int]] = deque()
        """Records that are not acknowledged, each with the number of its receipts to come."""
        self._read_all = False
        """Whether there are no more records to send."""
        self._records = 0
        self._total = known.records if known else 0
        """Records of this run, and of those before that are not read again."""
        self._unreadable = 0
        self._told = 0
        self._counts: Counter[tuple[str, str]] = Counter()
        self._codes: set[ExitCode] = set()
        self._saved_at = time.monotonic()

    async def run(self, service: Service, timeout_seconds: float) -> ExitCode:
        """Imports all; the exit code. What was acknowledged is kept, however it ends."""
        from epistream.clients.cli.show import note
        from epistream.clients.producer import Producer

        address = options.reach(service.address)
        try:
            with self._bar:
                async with Producer(
                    address, credentials=service.credentials, timeout_seconds=timeout_seconds
                ) as producer:
                    receipts = producer.stream(self._submissions(), answer_seconds_max=max(timeout_seconds, 1.0))
                    async with contextlib.aclosing(receipts):
                        async for receipt in receipts:
                            self._take(receipt)
                self._pass_finished()
                if self._read_all:
                    self._bar.update(self._task, completed=self._job.size)
        except asyncio.CancelledError:
            note("Interrupted. The same command goes on from here.", style="yellow")
            raise
        finally:
            self._save()
            self._summarise()
        return worst(self._codes)

    async def _submissions(self) -> "AsyncIterator[pb.Submission]":
        from epistream.clients.sources.importing import prepared

        records = prepared(self._job, self._state.position if self._state else None)
        number = readable = 0
        while self._limit is None or number < self._limit:
            if number == UNREADABLE_FIRST_MAX and not readable:
                raise Wrong(f"Nothing could be made of the first {number} records. Are they of another source?")
            record = await asyncio.to_thread(next, records, None)
            if record is None:
                self._read_all = True
                return
            number += 1
            readable += not record.unreadable
            self._sent.append((record, len(record.submissions)))
            if record.unreadable:
                self._tell(f"{_where(record)}: {record.unreadable}")
            for submission in record.submissions:
                yield submission

    def _take(self, receipt: "pb.Receipt") -> None:
        """A receipt belongs to the first record that still waits for some."""
        from epistream.clients.cli import show

        self._pass_finished()
        record, missing = self._sent[0]
        self._sent[0] = record, missing - 1
        outcome, reason = show.outcome_name(receipt.outcome), show.reason_name(receipt.reason)
        self._counts[outcome, reason] += 1
        self._codes.add(ExitCode.USAGE if record.unreadable else receipt_code(receipt))
        if receipt_code(receipt) is ExitCode.REFUSED and not record.unreadable:
            self._tell(f"{_where(record)}: {show.receipt_text(receipt)}")
        self._pass_finished()
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self._save()

    def _pass_finished(self) -> None:
        """Moves the state past the records that wait for nothing more."""
        from epistream.clients.sources.importing import reached

        while self._sent and self._sent[0][1] == 0:
            record, _ = self._sent.popleft()
            self._records += 1
            self._unreadable += bool(record.unreadable)
            self._total += 1
            self._state = reached(self._job, record, self._total - (not record.whole), self._state)
            self._bar.update(self._task, completed=record.done, description=f"{self._records} records")

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if self._state is not None:
            self._state.save(self._state_path)

    def _tell(self, text: str) -> None:
        from epistream.clients.cli.show import note

        self._told += 1
        if self._told <= TOLD_MAX:
            note(text, style="red")
        elif self._told == TOLD_MAX + 1:
            note("More are dead letters: `epistream redrive --folder DATA --dry-run`, by the service.", style="red")

    def _summarise(self) -> None:
        from rich.table import Table

        from epistream.clients.cli.show import output
        from epistream.clients.cli.words import words

        told = f"{self._job.work.name}: {self._records} records, {self._unreadable} of them unreadable"
        told += f"; {self._total} so far"
        output().print(words(told), soft_wrap=True)
        if not self._counts:
            return
        table = Table(show_edge=False, pad_edge=False)
        for column in ("outcome", "reason"):
            table.add_column(column)
        table.add_column("submissions", justify="right")
        for (outcome, reason), count in sorted(self._counts.items()):
            table.add_row(outcome, reason, str(count))
        output().print(table)


def _where(record: "Prepared") -> str:
    return f"{record.position.file}, before {record.position.offset}"


def _progress() -> "Progress":
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from epistream.clients.cli.show import notes

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=notes(), disable=not notes().is_terminal)
