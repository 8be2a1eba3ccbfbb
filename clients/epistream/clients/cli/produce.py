"""`epistream produce`: knowledge to Kafka, from lines of JSON."""

import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from epistream.clients.cli import options
from epistream.clients.cli.exits import ExitCode, Wrong, exit_code, worst
from epistream.clients.cli.kafka_options import with_kafka_security
from epistream.wire.errors import EpistreamError, InvalidInput
from epistream.wire.kafka_security import KafkaSecurity
from epistream.wire.printable import printable_json

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from epistream.clients.cli.jsonl import Line
    from epistream.clients.kafka_producer import KafkaProducer, Position


@with_kafka_security
def produce(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A file of JSON lines, or - for the standard input.")],
    *,
    kafka: options.KafkaAddress,
    security: KafkaSecurity,
    topic: Annotated[
        str, typer.Option("--topic", help="Send all to this topic, instead of the topic of their origin.")
    ] = "",
    cloud_events: Annotated[
        bool, typer.Option("--cloud-events", help="Add the headers of CloudEvents 1.0, binary mode.")
    ] = False,
    namespace: options.DefaultNamespace = "",
    producer: options.DefaultProducer = "",
    origin: options.DefaultOrigin = None,
    modality: options.DefaultModality = options.ModalityChoice.TEXT,
    source: options.DefaultSource = "",
    generator: options.DefaultGenerator = "",
    licence: options.DefaultLicence = "",
    attribute: options.Labels = None,
    fail_fast: options.FailFast = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print where each record is: topic, partition and offset, one object a line.")
    ] = False,
) -> None:
    """Send submissions to Kafka, and wait until Kafka has them.

    What becomes of each is decided later, and told in the topic
    epistream.outcomes.v1. Lines that are wrong are reported with their
    numbers, and the others go on.

    Examples:
      epistream produce facts.jsonl -k localhost:9092 -n pharmacy -o expert -p dr-ada
      generate-facts | epistream produce - -k localhost:9092 -n pharmacy -o synthetic -p writer --generator gpt-5
    """
    from epistream.clients.cli import jsonl

    defaults = jsonl.Defaults(
        namespace, producer, origin or "", modality, source, generator, licence, options.pairs(attribute)
    )
    size = jsonl.size_of(file)
    with _progress() as bar:
        task = bar.add_task("Sending", total=size)
        lines = jsonl.read_lines(file, defaults, lambda read: bar.update(task, completed=read))
        session = _Session(topic=topic, fail_fast=fail_fast, as_json=as_json, bar=bar, task=task)
        code = session.run(lines, options.reach_kafka(kafka), security, cloud_events=cloud_events)
    raise typer.Exit(code)


class _Session:
    """Lines out, positions in."""

    def __init__(self, *, topic: str, fail_fast: bool, as_json: bool, bar: "Progress", task: "TaskID") -> None:
        self._topic = topic
        self._fail_fast = fail_fast
        self._as_json = as_json
        self._bar = bar
        self._task = task
        self._pending: deque[tuple[int, str, Future[Position]]] = deque()
        self._codes: list[ExitCode] = []
        self._delivered = 0

    def run(self, lines: "Iterator[Line]", kafka: str, security: KafkaSecurity, *, cloud_events: bool) -> ExitCode:
        """Sends all lines; the exit code. What Kafka has is told, however it ends."""
        from epistream.clients.cli.show import note

        try:
            with _connected(kafka, security, cloud_events=cloud_events) as producer:
                for line in lines:
                    self._send(line, producer)
                    while self._pending and self._pending[0][2].done():
                        self._told(*self._pending.popleft())
                    if self._codes and self._fail_fast:
                        break
                while self._pending:
                    self._told(*self._pending.popleft())
        finally:
            for one in self._pending:
                if one[2].done():  # as all are, once the producer is closed
                    self._told(*one)
        note(f"Kafka at {kafka} has {self._delivered} submissions.")
        return worst(self._codes)

    def _send(self, line: "Line", producer: "KafkaProducer") -> None:
        if line.submission is None:
            self._failed(line.number, line.error, ExitCode.USAGE)
            return
        try:
            sent = producer.send(line.submission, topic=self._topic or None)
        except InvalidInput as error:
            self._failed(line.number, error.message, ExitCode.USAGE)
        else:
            self._pending.append((line.number, line.submission.submission_id, sent))

    def _told(self, number: int, submission_id: str, sent: "Future[Position]") -> None:
        try:
            position = sent.result()
        except EpistreamError as error:
            self._failed(number, error.message, exit_code(error))
            return
        self._delivered += 1
        self._bar.update(self._task, description=f"Sent {self._delivered}")
        if self._as_json:
            where = {
                "submission_id": submission_id,
                "topic": position.topic,
                "partition": position.partition,
                "offset": position.offset,
            }
            print(printable_json(json.dumps(where, ensure_ascii=False)))

    def _failed(self, number: int, error: str, code: ExitCode) -> None:
        from epistream.clients.cli.show import note

        note(f"line {number}: {error}", style="red")
        self._codes.append(code)


@contextmanager
def _connected(kafka: str, security: KafkaSecurity, *, cloud_events: bool) -> "Iterator[KafkaProducer]":
    """A producer that is closed in the end. What has failed until then was told line by line, and is not raised."""
    from epistream.clients.kafka_producer import KafkaProducer

    try:
        producer = KafkaProducer(kafka, cloud_events=cloud_events, security=security)
    except ModuleNotFoundError as error:
        raise Wrong("Sending to Kafka needs kafka-python: pip install 'epistream[kafka]'") from error
    except InvalidInput as error:
        raise Wrong(error.message) from error
    try:
        yield producer
    finally:
        with suppress(EpistreamError):
            producer.close()


def _progress() -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

    from epistream.clients.cli.show import notes

    columns = (TextColumn("{task.description}"), BarColumn(), TransferSpeedColumn(), TimeElapsedColumn())
    return Progress(*columns, console=notes(), disable=not notes().is_terminal)
