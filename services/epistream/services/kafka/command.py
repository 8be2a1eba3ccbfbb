"""`python -m epistream.services kafka up`: a local Kafka with Epistream's topics, until it is told to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console

from epistream.services.kafka.jars import KAFKA_VERSION
from epistream.services.kafka.local import LocalKafka, find_runtime
from epistream.services.kafka.topics import ensure_topics
from epistream.wire.errors import EpistreamError

_POLL_SECONDS: Final = 0.5


def kafka_up(folder: Path, port: int = 0, *, console: Console | None = None) -> int:
    """Starts Kafka, creates the topics, prints the address, and stays until SIGINT or SIGTERM. For the main thread.

    Args:
        folder: for Kafka's data.
        port: where it shall listen; when 0, where it listened the last time, or a free port.
        console: where to print; standard output when None.

    Returns:
        The exit code for the process: 0 after a signal, 1 when Kafka cannot be started or has ended by itself.
    """
    console = console or Console(highlight=False)
    try:
        return _serve(folder, port, console)
    except EpistreamError as error:
        console.print(error.message, style="red", markup=False)
        return 1
    except KeyboardInterrupt:  # before the handlers below are set: while jars are fetched, while Kafka starts
        return 128 + signal.SIGINT


def _serve(folder: Path, port: int, console: Console) -> int:
    with console.status("Looking for Java and the jars") as status:
        fetching = f"Fetching Apache Kafka {KAFKA_VERSION}, 45 MB, this time only"
        runtime = find_runtime(lambda here, total: status.update(f"{fetching}: {here} of {total} jars"))
    console.print(f"Starting Apache Kafka {KAFKA_VERSION} with {runtime.java} in {folder} …", markup=False)
    with LocalKafka(folder, port=port, runtime=runtime) as kafka, _stop_signals() as stop:
        created = ensure_topics(kafka.bootstrap)
        console.print(f"Kafka is ready at {kafka.bootstrap} (process {kafka.pid}, log {kafka.log}).", markup=False)
        console.print(f"Topics created: {', '.join(created)}" if created else "All topics were there.", markup=False)
        console.print("Stop it with Ctrl-C.")
        while not stop.is_set():
            code = kafka.wait(_POLL_SECONDS)
            if code is not None:
                console.print(f"Kafka has ended with code {code}; see {kafka.log}.", style="red", markup=False)
                return 1
        console.print("Stopping Kafka …")
    return 0


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, while the block runs."""
    stop = threading.Event()

    def set_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, set_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
