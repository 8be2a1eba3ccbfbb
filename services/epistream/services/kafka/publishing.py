"""Keeps a publisher running, in a process of its own, and takes in what it tells.

Python runs one thread at a time, and a message costs kafka-python 40 microseconds of that: two messages a record, sent
from this process, would take a fifth of what the commits need (docs/decisions/0011-publisher-process.md).
"""

import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Final

from epistream.indexer.positions import Cursor
from epistream.services.kafka import publisher
from epistream.services.kafka.child import Child
from epistream.services.kafka.metrics import KafkaMetrics

_LOG: Final = logging.getLogger(__name__)

_STOP_SECONDS: Final = 10.0
_RESTART_SECONDS: Final = 1.0


class Publishing:
    """A publisher's process, and a thread that follows what it tells."""

    def __init__(
        self,
        bootstrap: str,
        folder: Path,
        acknowledge: Callable[[Cursor], None],
        subscribe: Callable[[Callable[[], None]], Callable[[], None]],
        metrics: KafkaMetrics,
        *,
        submission_topics: Sequence[str] = (),
    ) -> None:
        """Nothing runs before `start`, and Kafka need not be there.

        Args:
            bootstrap: `host:port` of a broker, or several with commas between.
            folder: the store's, which this process has open.
            acknowledge: keeps, durably, up to where Kafka has everything; may block.
            subscribe: `Feed.subscribe_to_commits`.
            metrics: what is counted.
            submission_topics: the topics whose dead letters are told. They and the others are made where missing; none
                when empty.
        """
        self._command = [
            sys.executable,
            "-P",  # nothing is imported from the folder that it runs in
            "-m",
            publisher.__name__,
            str(folder.resolve()),
            bootstrap,
            *submission_topics,
        ]
        self._folder, self._acknowledge, self._subscribe, self._metrics = folder, acknowledge, subscribe, metrics
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-publish", daemon=True)

    def start(self) -> None:
        """Start the thread, and by it the process."""
        self._thread.start()

    def stop(self, timeout_seconds: float = _STOP_SECONDS) -> None:
        """Have the page at hand finished, keep what was acknowledged, end. Blocks until then, or the time is over.

        Stop the writer after it.
        """
        with self._lock:
            self._stopping.set()
            child = self._child
            if child is not None:
                child.input.close()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive() and child is not None:
            _LOG.warning("The Kafka publisher did not end in time; it is killed")
            child.kill()
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        unsubscribe = self._subscribe(self._wake)
        try:
            while not self._stopping.is_set():
                self._run_once()
        finally:
            unsubscribe()

    def _run_once(self) -> None:
        """One process, from its start to its end."""
        child = Child(self._command, folder=self._folder, environment=os.environ)
        os.set_blocking(child.input.fileno(), False)
        with self._lock:
            self._child = child
            if self._stopping.is_set():
                child.input.close()
        with child.output as lines:
            self._follow(lines)
        child.wait(_STOP_SECONDS)
        with self._lock:
            self._child = None
            child.input.close()
        if not self._stopping.is_set():
            _LOG.error("The Kafka publisher has ended with code %s; starting it anew", child.exit_code)
            self._metrics.publishing_failed()
            self._stopping.wait(_RESTART_SECONDS)

    def _wake(self) -> None:
        """Tell the process that something was committed. Never waits: a full pipe has told it already."""
        with self._lock:
            if self._child is not None and not self._child.input.closed:
                with contextlib.suppress(BlockingIOError, BrokenPipeError):
                    os.write(self._child.input.fileno(), b"\n")

    def _follow(self, lines: IO[bytes]) -> None:
        """Take in what the process tells, until it ends."""
        for line in lines:
            try:
                self._take(json.loads(line))
            except Exception as error:  # noqa: BLE001 - whatever it is, what is told next is still taken in
                _LOG.error("What the Kafka publisher tells cannot be taken in: %r", line, exc_info=error)

    def _take(self, told: dict[str, Any]) -> None:
        match told:
            case {"published": counts}:
                for topic, count in counts.items():
                    self._metrics.published(topic, count)
            case {"acknowledged": [sequence, dead_letter]}:
                self._acknowledge(Cursor(sequence, dead_letter))
            case {"unpublishable": topic}:
                self._metrics.unpublishable(topic)
            case {"failed": True}:
                self._metrics.publishing_failed()
            case {"log": [level, text]}:
                logging.getLogger(publisher.__name__).log(level, "%s", text)
            case _:
                raise ValueError(f"unknown: {told}")
