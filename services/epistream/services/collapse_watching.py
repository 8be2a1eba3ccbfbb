"""Runs the collapse watch beside the writer: a thread that compares what is due and hands the result to the writer.

A window of 250 takes 40 ms of a core and a transaction, and a flood of synthetic knowledge makes many due each second.
So the thread rests nine times as long as it has worked: it takes a tenth of a core at most, falls behind, and catches
up.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from epistream.indexer.engine import Engine
from epistream.services.errors import unexpected
from epistream.services.metrics import Metrics
from epistream.services.writer import Writer
from epistream.wire.errors import EpistreamError, Unavailable

_LOG: Final = logging.getLogger(__name__)

_REST: Final = 9.0
"""How long it rests after a window, in times of what the window took."""
_REST_SECONDS_MIN: Final = 0.1
"""And at least so long after each look, so that commits that follow one another share one."""
_RETRY_SECONDS: Final = 1.0
"""After the writer took nothing: the disk is full."""
_AGAIN_SECONDS: Final = 60.0
"""After a defect, or damage: it goes on with the same window, which may fail again."""


class CollapseWatching:
    """The thread, and what ends it."""

    def __init__(self, engine: Engine, writer: Writer, metrics: Metrics) -> None:
        """Nothing runs before `start`."""
        self._watch, self._subscribe = engine.collapse_watch, engine.feed.subscribe_to_commits
        self._writer, self._metrics = writer, metrics
        self._unsubscribe: Callable[[], None] = lambda: None
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._wake.set()
        """At the start: what a process before did not get to is due."""
        self._thread = threading.Thread(target=self._work, name="collapse-watch")

    def start(self) -> None:
        """Start the thread. Does not block."""
        self._unsubscribe = self._subscribe(self._wake.set)
        self._thread.start()

    def stop(self) -> None:
        """Finish the window at hand, and end. Blocks until then. Stop the writer after it."""
        self._unsubscribe()
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def _work(self) -> None:
        while self._wake.wait() and not self._stopping.is_set():
            self._wake.clear()
            begun = time.monotonic()
            rest = self._rest_after_one()
            self._stopping.wait(max(_REST_SECONDS_MIN, _REST * (time.monotonic() - begun), rest))

    def _rest_after_one(self) -> float:
        """Look at one window, if one is due. How long to rest at least then, seconds."""
        try:
            if self._look():
                self._wake.set()
        except Unavailable as error:
            _LOG.warning("A window of the collapse watch cannot be kept now: %s", error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the service goes on without the watch
            known = error if isinstance(error, EpistreamError) else unexpected(error, "the collapse watch")
            _LOG.error("The collapse watch stands still: %s", known)
            self._metrics.collapse_failures.inc()
            self._wake.set()
            return _AGAIN_SECONDS
        else:
            return 0.0
        self._wake.set()
        return _RETRY_SECONDS

    def _look(self) -> bool:
        """Compare a window that is due and have it kept. Whether one was due."""
        window = self._watch.next()
        if window is None:
            return False
        begun = time.monotonic()
        alarm = self._watch.compare(window)
        if self._writer.run(lambda: self._watch.record(window, alarm)).result():
            self._metrics.watched(alarm, time.monotonic() - begun)
        return True
