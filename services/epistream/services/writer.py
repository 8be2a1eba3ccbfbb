"""The one thread that writes.

It owns the store's writing connection: every commit, every namespace change and every acknowledgement of the outbox
runs here. What people say, and what they decide of reviews, has a lane of its own, so that it does not wait for all
that waits (docs/decisions/0022); each lane keeps its order. Batches that wait are committed together, so that callers
share one fsync.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from epistream.indexer import disk
from epistream.indexer.model import Embedded, Malformed, record_of
from epistream.services.errors import unexpected
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken, EpistreamError, Unavailable

_LOG: Final = logging.getLogger(__name__)
_T = TypeVar("_T")

Prepared: TypeAlias = Embedded | Malformed

GROUP_SUBMISSIONS_MAX: Final = 2000
"""The most submissions that are committed together, so that a commit stays short, and so does the wait of the next."""
WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""How much may wait to be written, in each lane."""
_SUBMISSION_OVERHEAD_BYTES: Final = 4096
"""What a submission takes in memory beside its bytes: its message, its vector, its futures."""
_JUDGED_BYTES: Final = 100
"""What each item takes that a rater judges in it."""
_JUDGED_OF_SUBMISSION: Final = 128
"""So many of these take as long to commit as a submission: 2 µs each (measured)."""
_RETRY_DELAY_SECONDS: Final = 0.2


class Commit(Protocol):
    """`Pipeline.commit`."""

    def __call__(self, prepared: Sequence[Prepared], *, atomic: bool = False) -> list[pb.Receipt]:
        """Decide and write, durably; one receipt each, in order."""


class Committed(Protocol):
    """Told after each commit, on the writer thread."""

    def __call__(self, prepared: Sequence[Prepared], receipts: Sequence[pb.Receipt], seconds: float) -> None:
        """`seconds` is how long the commit took."""


@dataclass(slots=True, eq=False)
class _Batch:
    prepared: Sequence[Prepared]
    atomic: bool
    weight_bytes: int
    future: "Future[list[pb.Receipt]]" = field(default_factory=Future)


@dataclass(slots=True, eq=False)
class _Call:
    call: Callable[[], Any]
    future: "Future[Any]" = field(default_factory=Future)
    weight_bytes: int = 0


@dataclass(slots=True, eq=False)
class _Lane:
    """Jobs that are done in the order in which they came."""

    jobs: "deque[_Batch | _Call]" = field(default_factory=deque)
    waiting_bytes: int = 0
    """Of those, and of the ones that are done now."""


class Writer:
    """Two queues with a bound, and the thread that empties them, in turns where both have something.

    Attributes:
        waiting_bytes_max: how much may wait in each.
    """

    def __init__(
        self,
        commit: Commit,
        *,
        committed: Committed,
        failed: Callable[[Broken], None],
        waiting_bytes_max: int = WAITING_BYTES_MAX,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            commit: `Pipeline.commit`; called on the writer thread only.
            committed: called after each commit.
            failed: called once, on the writer thread, when the store can no longer be written. From then on every job
                fails with that error: what is on the disk is unknown until the store is opened anew.
            waiting_bytes_max: how much may wait in each lane. A single larger batch is taken when nothing else waits.
        """
        self._commit = commit
        self._committed = committed
        self._failed = failed
        self.waiting_bytes_max: Final = waiting_bytes_max
        self._changed = threading.Condition()
        self._ahead, self._others = _Lane(), _Lane()
        self._last = self._others
        """Whose turn it was."""
        self._stopping = False
        self._failure: Broken | None = None
        # A service that could not start ends all the same. What is in the middle of a commit then was not acknowledged.
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more jobs, finish those that wait, end the thread. Blocks until then."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def submit_batch(
        self, prepared: Sequence[Prepared], *, atomic: bool = False, wait: bool = False, ahead: bool = False
    ) -> "Future[list[pb.Receipt]]":
        """Have a batch committed. The future gives one receipt each, in order, when they are durable.

        What is cancelled before its turn is not written, and is let go of at once.

        Args:
            prepared: what `Pipeline.prepare` returned.
            atomic: all or nothing; it is committed on its own.
            wait: block while too much waits, instead of raising. The only case in which this blocks.
            ahead: it need not keep its place behind what waits without.

        Raises:
            Unavailable: OVERLOADED, too much waits; DRAINING, the writer stops.
            Broken: the store can no longer be written.
        """
        weight = sum(_weight_bytes(one) for one in prepared)
        batch = _Batch(prepared, atomic, weight)
        lane = self._ahead if ahead else self._others
        with self._changed:
            while lane.jobs and lane.waiting_bytes + weight > self.waiting_bytes_max and not self._closed:
                if not wait:
                    raise Unavailable(
                        "too much waits to be written: send less at a time, or try again",
                        reason="OVERLOADED",
                        retry_delay_seconds=_RETRY_DELAY_SECONDS,
                    )
                self._changed.wait()
            self._put(batch, lane)
        batch.future.add_done_callback(self._let_go)
        return batch.future

    def run(self, call: Callable[[], _T], *, ahead: bool = False) -> "Future[_T]":
        """Have `call` run on the writer thread, after what waits now in its lane. Its error is the future's.

        Args:
            call: what to run.
            ahead: as of a batch.

        Raises:
            Unavailable: DRAINING, the writer stops.
            Broken: the store can no longer be written.
        """
        job = _Call(call)
        with self._changed:
            self._put(job, self._ahead if ahead else self._others)
        return job.future

    @property
    def waiting_bytes(self) -> tuple[int, int]:
        """How much waits to be written, or is being written: of what goes ahead, and of all else. Any thread."""
        return self._ahead.waiting_bytes, self._others.waiting_bytes

    @property
    def _closed(self) -> bool:
        return self._stopping or self._failure is not None

    def _put(self, job: _Batch | _Call, lane: _Lane) -> None:
        if self._failure is not None:
            raise self._failure
        if self._stopping:
            raise Unavailable("the service is going down: try again", reason="DRAINING")
        lane.jobs.append(job)
        lane.waiting_bytes += job.weight_bytes
        self._changed.notify_all()

    def _let_go(self, future: "Future[list[pb.Receipt]]") -> None:
        """Take a batch that was cancelled out of the queue; any other is not there any more."""
        if not future.cancelled():
            return
        with self._changed:
            for lane in (self._ahead, self._others):
                for job in [job for job in lane.jobs if job.future is future]:
                    lane.jobs.remove(job)
                    lane.waiting_bytes -= job.weight_bytes
            self._changed.notify_all()

    def _work(self) -> None:
        while group := self._take():
            live = [job for job in group if job.future.set_running_or_notify_cancel()]
            if self._failure is not None:
                _fail(live, self._failure)
            elif live:
                self._do(live)
            with self._changed:
                self._last.waiting_bytes -= sum(job.weight_bytes for job in group)
                self._changed.notify_all()

    def _take(self) -> list[_Batch | _Call]:
        """The next call, the next atomic batch, or all the batches of a lane up to the bound; empty at the end."""
        with self._changed:
            while not (self._ahead.jobs or self._others.jobs):
                if self._stopping:
                    return []
                self._changed.wait()
            lanes = [self._ahead, self._others] if self._last is self._others else [self._others, self._ahead]
            self._last = next(lane for lane in lanes if lane.jobs)
            jobs = self._last.jobs
            group = [jobs.popleft()]
            size = _joinable(group[0])
            while size and jobs and (more := _joinable(jobs[0])) and size + more <= GROUP_SUBMISSIONS_MAX:
                group.append(jobs.popleft())
                size += more
            return group

    def _do(self, group: list[_Batch | _Call]) -> None:
        """Do running jobs; whatever happens, their futures have a result or an error then."""
        try:
            match group:
                case [_Call(call, future)]:
                    future.set_result(call())
                case _:
                    self._commit_batches([job for job in group if isinstance(job, _Batch)])
        except Broken as error:
            _LOG.critical("The store can no longer be written; the service stops: %s", error)
            self._failure = error
            _fail(group, error)
            self._failed(error)
        except EpistreamError as error:
            _fail(group, error)
        except Exception as error:  # noqa: BLE001 - a bug fails its job and is logged, it does not end the thread
            if len(group) == 1:
                _fail(group, _known(error))
                return
            _LOG.warning("%d batches could not be committed together; each is tried alone", len(group), exc_info=error)
            for job in group:
                if self._failure is None:
                    self._do([job])
                else:
                    _fail([job], self._failure)

    def _commit_batches(self, batches: list[_Batch]) -> None:
        prepared = [one for batch in batches for one in batch.prepared]
        begun = time.monotonic()
        receipts = self._commit(prepared, atomic=batches[0].atomic)
        self._committed(prepared, receipts, time.monotonic() - begun)
        start = 0
        for batch in batches:
            end = start + len(batch.prepared)
            batch.future.set_result(receipts[start:end])
            start = end


def _known(error: Exception) -> EpistreamError:
    """What callers hear of an error that is none of ours: short memory passes, anything else is a bug."""
    if not isinstance(error, MemoryError):
        return unexpected(error, "the writer")
    _LOG.warning("Memory is short; a job is not done", exc_info=error)
    return disk.short_memory()


def _joinable(job: _Batch | _Call) -> int:
    """How many submissions a job adds to a group; 0 for one that must be alone.

    A long ranking counts as many as it takes as long as.
    """
    if not isinstance(job, _Batch) or job.atomic:
        return 0
    return len(job.prepared) + sum(map(_judged, job.prepared)) // _JUDGED_OF_SUBMISSION or 1


def _weight_bytes(one: Prepared) -> int:
    return len(record_of(one).value or b"") + _JUDGED_BYTES * _judged(one) + _SUBMISSION_OVERHEAD_BYTES


def _judged(one: Prepared) -> int:
    """How many items a rater judges in it."""
    return len(one.decoded.submission.feedback.judged) if isinstance(one, Embedded) else 0


def _fail(jobs: Sequence[_Batch | _Call], error: Exception) -> None:
    for job in jobs:
        job.future.set_exception(error)
