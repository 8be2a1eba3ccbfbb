"""Has the signals measured whenever something was decided: at most once in an interval, by a process of its own."""

import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from epistream.indexer.engine import Engine
from epistream.indexer.signals.collect import mark
from epistream.services import measurer
from epistream.wire.errors import EpistreamError

_LOG: Final = logging.getLogger(__name__)

_SECONDS_MAX: Final = 600.0
"""A measurer that has not ended by then is ended."""


class Measuring:
    """A thread that looks whether something was decided, and starts the measurer. Thread-safe."""

    def __init__(self, engine: Engine, folder: Path, interval_seconds: float) -> None:
        """Nothing runs before `start`.

        Args:
            engine: whose store it is.
            folder: the store's.
            interval_seconds: how long to wait before the first look, and after each.
        """
        self._engine, self._interval_seconds = engine, interval_seconds
        self._program = (sys.executable, "-m", measurer.__name__, str(folder.resolve()))
        self._thread = threading.Thread(target=self._run, name="measuring")
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Begin. Does not block."""
        self._thread.start()

    def stop(self) -> None:
        """End, the measurer, too: what it has not kept by now is measured after the next start. Blocks until then."""
        self._stopping.set()
        with self._starting:
            if self._process is not None:
                self._process.kill()
        self._thread.join()

    def _run(self) -> None:
        measured: dict[int, tuple[int, ...]] = {}
        while not self._stopping.wait(self._interval_seconds):
            try:
                now = self._marks()
                if now != measured and self._measure():
                    measured = now
            except (EpistreamError, OSError) as error:
                _LOG.warning("The signals cannot be measured now: %s", error)

    def _marks(self) -> dict[int, tuple[int, ...]]:
        with self._engine.store.reader() as catalog:
            numbers = [state.config.number for state in self._engine.namespaces.states()]
            return {number: mark(catalog, number) for number in numbers}

    def _measure(self) -> bool:
        """Run the measurer. Whether it measured all that was due; what it did not is tried again at the next look."""
        with self._starting:
            if self._stopping.is_set():
                return False
            self._process = subprocess.Popen(
                self._program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        with self._process:
            try:
                _, told = self._process.communicate(timeout=_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self._process.kill()
                _, told = self._process.communicate()
        if self._process.returncode and not self._stopping.is_set():
            _LOG.warning("The measurer of signals ended with %d: %s", self._process.returncode, told.strip())
        return self._process.returncode == 0
