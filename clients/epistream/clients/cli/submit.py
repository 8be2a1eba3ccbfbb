"""`epistream submit` and `epistream retract`: knowledge in over gRPC, a receipt for each."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from epistream.clients.cli import options
from epistream.clients.cli.connection import reaching
from epistream.clients.cli.exits import ExitCode, Wrong, receipt_code, worst
from epistream.clients.client_settings import Service

if TYPE_CHECKING:
    from datetime import datetime

    from epistream.clients.cli.jsonl import Defaults, Line
    from epistream.v1 import knowledge_pb2 as pb

_FILE_ENDINGS = (".json", ".jsonl", ".ndjson")


_Source = Annotated[
    str,
    typer.Argument(
        metavar="STATEMENT|FILE|-", help="A statement; or a file of JSON lines; or - for the standard input."
    ),
]
_ItemId = Annotated[
    str, typer.Option("--id", help="The item that a statement is about. The same id again makes a new version.")
]
_SubmissionId = Annotated[str, typer.Option("--submission-id", help="Your own id of a statement's submission.")]
_ExpectedVersion = Annotated[
    int | None,
    typer.Option(
        "--expected-version", min=0, help="Refuse a statement unless this is the item's version; 0: it must not exist."
    ),
]
_ValidFrom = Annotated[
    str | None,
    typer.Option(
        "--valid-from",
        metavar="TIME",
        help="From which date (2026-01-31) or time on a statement holds. At most a day ahead. What holds from earlier"
        " on than the item's head does not replace it.",
    ),
]
_AsText = Annotated[bool, typer.Option("--text", help="Take the argument as a statement, whatever it looks like.")]


@reaching
def submit(
    source: _Source,
    *,
    service: Service,
    namespace: options.DefaultNamespace = "",
    producer: options.DefaultProducer = "",
    origin: options.DefaultOrigin = None,
    modality: options.DefaultModality = options.ModalityChoice.TEXT,
    item_id: _ItemId = "",
    submission_id: _SubmissionId = "",
    expected_version: _ExpectedVersion = None,
    valid_from: _ValidFrom = None,
    text: _AsText = False,
    from_source: options.DefaultSource = "",
    generator: options.DefaultGenerator = "",
    licence: options.DefaultLicence = "",
    attribute: options.Labels = None,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    fail_fast: options.FailFast = False,
    as_json: options.Json = False,
) -> None:
    """Submit knowledge over gRPC and print the receipts.

    An argument with white space in it that names no file is a statement.
    Anything else names a file with one submission in JSON a line. Lines that
    are wrong are reported with their numbers, and the others go on.

    Examples:
      epistream submit "The limit is 5 mg." -n pharmacy -o expert -p dr-ada --id limit
      epistream submit "The limit was 4 mg." -n pharmacy -o expert -p dr-ada --id limit --valid-from 2021-01-01
      epistream submit facts.jsonl -n pharmacy -o expert -p dr-ada
      generate-facts | epistream submit - -n pharmacy -o synthetic -p writer --generator gpt-5 --json
    """
    from epistream.clients.cli.jsonl import Defaults

    defaults = Defaults(
        namespace, producer, origin or "", modality, from_source, generator, licence, options.pairs(attribute)
    )
    is_statement = text or _is_statement(source)
    if is_statement:
        made = _statement(source, item_id, submission_id, expected_version, options.moment(valid_from), defaults)
        lines: Iterator[Line] = iter([made])
    elif item_id or submission_id or expected_version is not None or valid_from is not None:
        raise typer.BadParameter(
            "--id, --submission-id, --expected-version and --valid-from are for one statement, not for a file:"
            " its lines say them"
        )
    else:
        lines = _file(source, defaults)
    session = _Session(fail_fast=fail_fast, as_json=as_json, numbered=not is_statement)
    raise typer.Exit(asyncio.run(session.run(service, lines, timeout)))


@reaching
def retract(
    item_id: Annotated[str, typer.Argument(metavar="ITEM", help="The item to take back.")],
    *,
    service: Service,
    namespace: options.Namespace,
    producer: Annotated[str, typer.Option("--producer", "-p", help="Who takes it back.")],
    origin: Annotated[
        options.OriginChoice,
        typer.Option(
            "--origin",
            "-o",
            metavar="ORIGIN",
            case_sensitive=False,
            help="On whose authority: expert, collaborative, crawled or synthetic.",
        ),
    ],
    submission_id: Annotated[
        str, typer.Option("--submission-id", help="Your own id of this act, so that it can be repeated.")
    ] = "",
    expected_version: Annotated[
        int | None, typer.Option("--expected-version", min=0, help="Refuse unless this is the item's version.")
    ] = None,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """Take an item back: from the receipt's revision on it is in no answer.

    Example:
      epistream retract limit -n pharmacy -o expert -p dr-ada
    """
    from epistream.clients.cli import show
    from epistream.clients.producer import Producer

    async def retracted() -> "pb.Receipt":
        address = options.reach(service.address)
        async with Producer(address, credentials=service.credentials, timeout_seconds=timeout) as producing:
            return await producing.retract(
                namespace,
                item_id,
                producer=producer,
                origin=origin.value,
                submission_id=submission_id,
                expected_version=expected_version,
            )

    receipt = asyncio.run(retracted())
    if as_json:
        show.print_json([receipt])
    else:
        show.print_receipt(receipt)
    raise typer.Exit(receipt_code(receipt))


def _is_statement(source: str) -> bool:
    has_space = any(character.isspace() for character in source)
    return has_space and not source.endswith(_FILE_ENDINGS) and not _is_file(source)


def _is_file(source: str) -> bool:
    with contextlib.suppress(OSError):  # a long statement is no possible name
        return Path(source).is_file()
    return False


def _statement(
    text: str,
    item_id: str,
    submission_id: str,
    expected_version: int | None,
    valid_from: "datetime | None",
    defaults: "Defaults",
) -> "Line":
    from epistream.clients.cli.jsonl import Line, complete
    from epistream.v1 import knowledge_pb2 as pb

    made = pb.Submission(content=text, item_id=item_id, submission_id=submission_id, expected_version=expected_version)
    if valid_from is not None:
        made.valid_from.FromDatetime(valid_from)
    return Line(1, complete(made, defaults))


def _file(name: str, defaults: "Defaults") -> "Iterator[Line]":
    """The lines of a file that is there, opened at once."""
    from epistream.clients.cli.jsonl import STANDARD_INPUT, read_lines

    if name != STANDARD_INPUT and not _is_file(name):
        raise Wrong(f"{name} is no file. To submit these words as a statement, add --text.")
    return read_lines(name, defaults)


class _Session:
    """Lines out, receipts in."""

    def __init__(self, *, fail_fast: bool, as_json: bool, numbered: bool) -> None:
        self._fail_fast = fail_fast
        self._as_json = as_json
        self._numbered = numbered
        self._codes: list[ExitCode] = []
        self._sent: deque[int] = deque()
        self._stopped = False

    async def run(self, service: Service, lines: "Iterator[Line]", timeout_seconds: float) -> ExitCode:
        """Submits all lines; the exit code."""
        from epistream.clients.producer import Producer

        counts: dict[str, int] = {}
        address = options.reach(service.address)
        async with Producer(address, credentials=service.credentials, timeout_seconds=timeout_seconds) as producer:
            receipts = producer.stream(self._submissions(lines), answer_seconds_max=max(timeout_seconds, 1.0))
            async with contextlib.aclosing(receipts):
                async for receipt in receipts:
                    self._tell(receipt, self._sent.popleft(), counts)
                    if self._stopped:
                        break
        if self._numbered and not self._as_json:
            _summarise(counts)
        return worst(self._codes)

    async def _submissions(self, lines: "Iterator[Line]") -> "AsyncIterator[pb.Submission]":
        from epistream.clients.cli.jsonl import LINES_AHEAD_MAX
        from epistream.clients.cli.show import note
        from epistream.clients.reading_thread import without_blocking

        async for line in without_blocking(lines, LINES_AHEAD_MAX):
            if line.submission is not None:
                self._sent.append(line.number)
                yield line.submission
                continue
            note(f"line {line.number}: {line.error}", style="red")
            self._codes.append(ExitCode.USAGE)
            if self._fail_fast:
                return

    def _tell(self, receipt: "pb.Receipt", number: int, counts: dict[str, int]) -> None:
        from epistream.clients.cli import show

        code = receipt_code(receipt)
        self._codes.append(code)
        name = show.outcome_name(receipt.outcome)
        counts[name] = counts.get(name, 0) + 1
        label = f"line {number}" if self._numbered else ""
        if self._as_json:
            show.print_json([receipt])
        if code is ExitCode.REFUSED:
            show.note(f"{label}: {show.receipt_text(receipt)}" if label else show.receipt_text(receipt), style="red")
            self._stopped = self._fail_fast
        elif not self._as_json:
            show.print_receipt(receipt, label)


def _summarise(counts: dict[str, int]) -> None:
    from epistream.clients.cli.show import note

    total = sum(counts.values())
    listed = ", ".join(f"{count} {name.lower()}" for name, count in sorted(counts.items()))
    note(f"{total} submitted: {listed}" if counts else "Nothing was submitted.")
