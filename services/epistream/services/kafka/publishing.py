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
from epistream.wire.errors import EpistreamError

_LOG: Final = logging.getLogger(__name__)

_STOP_SECONDS: Final = 10.0
_RESTART_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0)


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
        group: str,
        submission_topics: Sequence[str] = (),
    ) -> None:
        """Nothing runs before `start`, and Kafka need not be there.

        Args:
            bootstrap: `host:port` of a broker, or several with commas between.
            folder: the store's, which this process has open.
            acknowledge: keeps, durably, up to where Kafka has everything; may block, and is called again if it raises.
            subscribe: `Feed.subscribe_to_commits`.
            metrics: what is counted.
            group: the name of this service's consumer group, which dead letters tell.
            submission_topics: the topics whose dead letters are told. They and the others are made where missing; none
                when empty.
        """
        self._command = [sys.executable, "-m", publisher.__name__, str(folder.resolve()), bootstrap, group]
        self._command += submission_topics
        self._acknowledge, self._subscribe, self._metrics = acknowledge, subscribe, metrics
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._told: Cursor | None = None
        """Up to where Kafka has everything, until that is kept."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-publish", daemon=True)

    def start(self) -> None:
        """Start the thread, and by it the process."""
        self._thread.start()

    def stop(self, timeout_seconds: float = _STOP_SECONDS) -> None:
        """Have the page at hand finished, keep what was acknowledged, end. Blocks until then, or the time is over.

        Stop the writer after it.
        """
        self._stopping.set()
        self._close_input()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            _LOG.warning("The Kafka publisher did not end in time; it is killed")
            with self._lock:
                child = self._child
            if child is not None:
                child.kill()
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        unsubscribe = self._subscribe(self._wake)
        failures = 0
        try:
            while not self._stopping.is_set():
                published = self._run_once()
                failures = 0 if published else failures + 1
                self._stopping.wait(_RESTART_SECONDS[min(failures, len(_RESTART_SECONDS) - 1)])
        finally:
            unsubscribe()

    def _run_once(self) -> bool:
        """One process, from its start to its end. Whether it told anything that it had done."""
        published = False
        try:
            child = Child(self._command, folder=Path.cwd(), environment=os.environ)
            os.set_blocking(child.input.fileno(), False)
            with self._lock:
                self._child = child
            if self._stopping.is_set():
                self._close_input()
            with child.output as lines:
                published = self._follow(lines)
            child.kill()  # it has ended, or has nothing more to tell
            self._close_input()
            why = f"ended with code {child.exit_code}"
        except Exception as error:  # noqa: BLE001 - the thread lives as long as the service; what fails is tried again
            why = f"could not be started: {error!r}"
        with self._lock:
            self._child = None
        if not self._stopping.is_set():
            _LOG.error("The Kafka publisher %s; starting it anew", why)
            self._metrics.publishing_failed()
        return published

    def _close_input(self) -> None:
        """Have the process end, if there is one."""
        with self._lock, contextlib.suppress(OSError):
            if self._child is not None:
                self._child.input.close()

    def _wake(self) -> None:
        """Tell the process that something was committed. Never waits: a full pipe has told it already."""
        with self._lock:
            if self._child is not None and not self._child.input.closed:
                with contextlib.suppress(BlockingIOError, BrokenPipeError):
                    os.write(self._child.input.fileno(), b"\n")

    def _follow(self, lines: IO[bytes]) -> bool:
        """Take in what the process tells, until it ends. Whether it told that anything was published."""
        published = False
        for line in lines:
            try:
                told = json.loads(line)
                published = published or "published" in told
                self._take(told)
            except Exception as error:  # noqa: BLE001 - whatever it is, what is told next is still taken in
                _LOG.error("What the Kafka publisher tells cannot be taken in: %r", line, exc_info=error)
            self._keep()
        return published

    def _take(self, told: dict[str, Any]) -> None:
        match told:
            case {"published": counts}:
                for topic, count in counts.items():
                    self._metrics.published(topic, count)
            case {"acknowledged": [sequence, dead_letter]}:
                self._told = Cursor(sequence, dead_letter)
            case {"unpublishable": topic}:
                self._metrics.unpublishable(topic)
            case {"failed": True}:
                self._metrics.publishing_failed()
            case {"log": [level, text]}:
                logging.getLogger(publisher.__name__).log(level, "%s", text)
            case _:
                raise ValueError(f"unknown: {told}")

    def _keep(self) -> None:
        """Keep what Kafka has, if that is news; when it cannot be kept, the next line is the next try."""
        if self._told is None:
            return
        try:
            self._acknowledge(self._told)
        except EpistreamError as error:
            _LOG.warning("What Kafka has acknowledged cannot be kept now: %s", error)
        else:
            self._told = None
