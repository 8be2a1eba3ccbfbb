"""The demonstration: starts what it needs, has the story told, and takes everything down again in order."""

import asyncio
import contextlib
import errno
import logging
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from epistream.clients.cli.exits import ExitCode, Wrong, exit_code, explain
from epistream.clients.cli.options import host_and_port, reach_kafka
from epistream.clients.client_settings import DEFAULT_ADDRESS
from epistream.clients.demo import flood
from epistream.clients.demo.children import Child, ServiceAddresses, kafka_ready, service_ready
from epistream.clients.demo.corpus import Fact, read_corpus
from epistream.clients.demo.flood import Flood
from epistream.clients.demo.publish import Kafka, OverGrpc, OverKafka, Way
from epistream.clients.demo.report import Report
from epistream.clients.demo.story import CONSUMER, NAMESPACE, QUESTION, Story
from epistream.clients.knowledge import KnowledgeClient
from epistream.clients.producer import Producer
from epistream.clients.replica import Replica
from epistream.wire.errors import Broken, EpistreamError, Unavailable

METRICS_ADDRESS: Final = "127.0.0.1:9464"
KAFKA_GROUP: Final = "epistream-demo"
INTERRUPTED: Final = 130
"""The exit code after Ctrl-C before the end, as shells have it."""
_ENCODER_SECONDS: Final = 180.0
_WATCH_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line says."""

    keep: bool
    """Leave the service up afterwards."""
    fresh: bool
    """Use folders and ports of its own."""
    items: int
    """How many facts."""
    kafka: str
    """Kafka's address; empty to start one."""
    data: Path
    """The folder for all data, if not `fresh`."""
    address: str
    """Where the service shall listen, if not `fresh`."""


@dataclass(frozen=True, slots=True)
class KafkaUse:
    """How the service uses Kafka."""

    address: str
    group: str
    """Where it shows how far it is."""
    start: str
    """Where it begins: `earliest` or `latest`."""


def run_demo(options: DemoOptions) -> int:
    """Runs the demonstration; the process's exit code. For the main thread of a process without others."""
    report = Report(Console(highlight=False))
    try:
        return asyncio.run(_run(options, report, read_corpus()))
    except EpistreamError as error:
        explain(error)
        return exit_code(error)


async def _run(options: DemoOptions, report: Report, facts: Sequence[Fact]) -> int:
    """Runs it as a task that a signal cancels; once the service only stays up, a signal ends that."""
    stay = _Stay()
    work = asyncio.create_task(_demonstrate(options, report, facts, stay))
    loop = asyncio.get_running_loop()

    def signalled() -> None:
        if stay.begun:
            stay.over.set()
        elif not work.cancelling():
            work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled)
    try:
        return await work
    except asyncio.CancelledError:
        report.say("Stopped before the end.", style="yellow")
        return INTERRUPTED


class _Stay:
    """Whether the service only stays up, and whether that is over."""

    def __init__(self) -> None:
        self.begun = False
        self.over = asyncio.Event()


async def _demonstrate(options: DemoOptions, report: Report, facts: Sequence[Fact], stay: _Stay) -> int:
    async with contextlib.AsyncExitStack() as stack:
        folder = _folder(options, stack)
        logging.basicConfig(filename=folder / "demo.log", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        report.step("Start")
        kafka = await _start_kafka(options, report, folder, stack)
        service, child = await _start_service(options, report, folder, kafka, stack)
        try:
            story = await _begin(report, folder, service, kafka, stack)
        except EpistreamError:
            report.say(child.output_tail(), style="dim")
            raise
        try:
            await story.tell(facts, options.items)
            flooded = await _begin_flood(folder, service, story, stack)
            await flooded.tell(facts)
        except (EpistreamError, TimeoutError) as error:
            report.check("Every step went through", holds=False, otherwise=str(error) or "no answer in time")
            report.say(child.output_tail(), style="dim")
        code = ExitCode.DONE if report.summary() else ExitCode.REFUSED
        if options.keep:
            await _keep(report, folder, service, kafka, child, stay)
        report.say("Stopping …", style="dim")
    return code


def _folder(options: DemoOptions, stack: contextlib.AsyncExitStack) -> Path:
    if options.fresh:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="epistream-demo-")))
    _require_free(options.address)
    try:
        options.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Wrong(f"{options.data} cannot be made: {error}. Choose another folder with --data.") from error
    return options.data.resolve()


async def _start_kafka(
    options: DemoOptions, report: Report, folder: Path, stack: contextlib.AsyncExitStack
) -> KafkaUse | None:
    """Kafka, as given or started here; None when there is none to be had, which is a failed check if `fresh`."""
    if options.kafka:
        report.say(f"Kafka at {reach_kafka(options.kafka)}, as given.")
        if not options.fresh:
            return KafkaUse(options.kafka, KAFKA_GROUP, "earliest")
        # What others have published there before is none of a fresh store's business.
        return KafkaUse(options.kafka, f"{KAFKA_GROUP}-{uuid.uuid4().hex}", "latest")
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=report.console, transient=True
    ) as bar:
        task = bar.add_task("Starting Apache Kafka", total=None)

        def jars(here: int, total: int) -> None:
            if here < total:
                bar.update(
                    task, description=f"Fetching Apache Kafka, {here} of {total} jars", completed=here, total=total
                )
            else:
                bar.update(task, description="Starting Apache Kafka", total=None)

        command = ["kafka", "up", f"--folder={folder / 'kafka'}", "--port=0"]
        child = Child("Kafka", command, folder / "kafka-command.log")
        stack.push_async_callback(child.stop)
        try:
            address = await kafka_ready(child, jars)
        except Unavailable as error:
            report.say(f"There is no Kafka: {error.message}", style="yellow")
            report.say("Knowledge goes in over gRPC instead.", style="yellow")
            if options.fresh:  # whoever looks at the exit code alone must not take this for all of it
                report.check("Knowledge goes in over Kafka", holds=False, otherwise="there is none")
            return None
    report.say(f"Apache Kafka is ready at {address}.")
    return KafkaUse(address, KAFKA_GROUP, "earliest")


async def _start_service(
    options: DemoOptions, report: Report, folder: Path, kafka: KafkaUse | None, stack: contextlib.AsyncExitStack
) -> tuple[ServiceAddresses, Child]:
    found = folder / "addresses.json"
    arguments = [
        "up",
        f"--folder={folder / 'store'}",
        f"--address={'127.0.0.1:0' if options.fresh else options.address}",
        f"--metrics-address={'127.0.0.1:0' if options.fresh or not _is_free(METRICS_ADDRESS) else METRICS_ADDRESS}",
        f"--addresses-file={found}",
        *(
            [f"--kafka={kafka.address}", f"--kafka-group={kafka.group}", f"--kafka-start={kafka.start}"]
            if kafka
            else []
        ),
    ]
    with report.console.status("Starting the service"):
        child = Child("The service", arguments, folder / "service.log")
        stack.push_async_callback(child.stop)
        service = await service_ready(child, found)
    for name, value in service.description:
        report.say(f"  {name:<10} {value}")
    return service, child


async def _begin(
    report: Report, folder: Path, service: ServiceAddresses, kafka: KafkaUse | None, stack: contextlib.AsyncExitStack
) -> Story:
    """The clients, the namespace, and the replica, which follows until the stack is left."""
    client = await stack.enter_async_context(KnowledgeClient(service.address, timeout_seconds=_ENCODER_SECONDS))
    producer = await stack.enter_async_context(Producer(service.address, timeout_seconds=_ENCODER_SECONDS))
    namespace = await client.create_namespace(NAMESPACE)
    with report.console.status("Loading the encoder"):
        await client.search(NAMESPACE, QUESTION, limit=1)
    encoder = namespace.encoder
    report.say(f"Namespace {NAMESPACE}: encoder {encoder.model} ({encoder.dimension} dimensions), loaded.")
    if namespace.head_revision:
        known = f"{namespace.item_count} items, revision {namespace.head_revision}"
        report.say(f"It was made by an earlier run and goes on: {known}.")
    opened = Replica.open(folder / "demo.replica", service.address, NAMESPACE, CONSUMER)
    replica = await stack.enter_async_context(opened)
    report.say(f"A replica for the model {CONSUMER!r} is open at revision {replica.revision} and follows the service.")
    await replica.wait_current(_ENCODER_SECONDS)
    way: Way = OverGrpc(producer)
    if kafka:
        connected = await asyncio.to_thread(Kafka, kafka.address, kafka.group)
        stack.push_async_callback(asyncio.to_thread, connected.close)
        await asyncio.to_thread(connected.wait_until_followed)
        way = OverKafka(connected, producer, client, NAMESPACE)
    return Story(report, client, producer, way, replica)


async def _begin_flood(
    folder: Path, service: ServiceAddresses, story: Story, stack: contextlib.AsyncExitStack
) -> Flood:
    """The namespace that is flooded, and its replica, which follows until the stack is left."""
    await story.client.create_namespace(flood.NAMESPACE, policy=flood.POLICY)
    opened = Replica.open(folder / "flooded.replica", service.address, flood.NAMESPACE, CONSUMER)
    replica = await stack.enter_async_context(opened)
    return Flood(story.report, story.client, story.producer, replica)


async def _keep(
    report: Report, folder: Path, service: ServiceAddresses, kafka: KafkaUse | None, child: Child, stay: _Stay
) -> None:
    """Prints where everything is and waits for a signal.

    Raises:
        Broken: the service has ended by itself.
    """
    option = "" if service.address == DEFAULT_ADDRESS else f" -a {service.address}"
    report.say("")
    report.say("The service stays up until Ctrl-C.", style="bold")
    for name, value in (
        ("gRPC", service.address),
        ("metrics", f"http://{service.metrics_address}/metrics"),
        ("Kafka", kafka.address if kafka else "none"),
        ("data", str(folder)),
    ):
        report.say(f"  {name:<8} {value}")
    report.say("Try in another terminal:")
    there, epistream = f"-n {NAMESPACE}{option}", own_command()
    for command in (
        f'{epistream} search "{QUESTION}" {there} --limit 3',
        f"{epistream} watch {there}",
        f'{epistream} submit "textwrap.shorten cuts within words." {there} -o synthetic -p me --generator gpt-5',
    ):
        report.say(f"  {command}", style="cyan")
    stay.begun = True
    while not stay.over.is_set():
        if child.exit_code is not None:
            raise Broken(f"The service has ended with code {child.exit_code}. {child.output_tail()}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WATCH_SECONDS):
                await stay.over.wait()


def own_command() -> str:
    """How `epistream` is called here once more: by its name where that finds it, else by its path."""
    path = Path(sys.argv[0]).absolute()
    found = shutil.which("epistream")
    if path.name != "epistream" or (found and Path(found).absolute() == path):
        return "epistream"
    if path.parent == Path.cwd():
        return f"./{path.name}"
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _require_free(address: str) -> None:
    """Raises Wrong: it is no address, it is taken, or nothing can listen there."""
    try:
        _listen(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            text = f"{address} is taken on this machine, perhaps by another `make run`. Stop it, or choose another"
        else:
            text = f"Nothing can listen at {address}: {error}. Choose another"
        raise Wrong(f"{text} address with --address; --fresh takes a free one.") from error


def _is_free(address: str) -> bool:
    try:
        _listen(address)
    except OSError:
        return False
    return True


def _listen(address: str) -> None:
    """Listens there for a moment. Raises Wrong: it is no address. Raises OSError."""
    host, port = host_and_port(address)
    socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
