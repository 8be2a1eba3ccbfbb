"""The thread that takes the records of a lane in: prepares the next batch while the writer commits the one before.

At most one batch is with the writer. A position in Kafka moves on with its batch, so no later batch may be committed
while an earlier one can still fail. While the disk keeps the writer waiting, the next batch grows by what comes in.

What goes wrong, and what is done:
- the record is wrong: the pipeline refuses it, its bytes become a dead letter in the same transaction;
- the moment is wrong (the encoder is loading, memory is short, the disk is full): the same records are tried again, for
  ever;
- the service is wrong, a bug: the batch is halved until the record is found that it fails on. After some attempts that
  record becomes a dead letter, and the others go on;
- the store cannot be written: the intake ends and says so. Nothing is passed over.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Final, Protocol

from epistream.indexer.model import Arrived, Malformed, Record, record_of
from epistream.services.kafka.backlog import BATCH_RECORDS_MAX, Backlog
from epistream.services.kafka.progress import Progress
from epistream.services.writer import Prepared
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken, FieldViolation, Unavailable

_LOG: Final = logging.getLogger(__name__)

ATTEMPTS: Final = 3
"""How often a record that the service fails on is tried, each time alone."""
_LATE_SECONDS: Final = 0.1
"""A commit that has not ended so long after the next batch is prepared waits for the disk. With stalls of 250 ms each
3 s the 99th percentile of freshness is 378 to 450 ms instead of 414 to 476 (measured, four runs each)."""
_RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Preparing(Protocol):
    """`Pipeline.prepare`."""

    def __call__(self, records: Sequence[Arrived]) -> list[Prepared]:
        """Any thread; blocks for the encoder."""


class Submitting(Protocol):
    """`Writer.submit_batch`."""

    def __call__(self, prepared: Sequence[Prepared], *, wait: bool) -> "Future[list[pb.Receipt]]":
        """Have a batch committed; raises Broken itself when the store can no longer be written."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What the taker tells of itself. Called on its thread."""

    retried: Callable[[str], None]
    """A batch is tried again; with the stage, `prepare` or `commit`."""
    given_up: Callable[[], None]
    """A record became a dead letter because the service fails on it."""
    failed: Callable[[Broken], None]
    """The lane has ended for good."""


class _Ending(Exception):
    """The thread was told to stop."""


class Taker:
    """Empties the backlog into the store, in order."""

    def __init__(
        self, backlog: Backlog, prepare: Preparing, submit: Submitting, progress: Progress, taken: Taken
    ) -> None:
        """Nothing runs before `start`."""
        self._backlog, self._prepare, self._submit, self._progress = backlog, prepare, submit, progress
        self._taken = taken
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-take", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Take no more; what is with the writer is waited for. Whether the thread has ended in time."""
        self._stopping.set()
        self._backlog.close()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._take()
        except _Ending:
            pass
        except Broken as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a bug here ends the intake, loudly, and skips nothing
            broken = Broken(f"the Kafka intake failed unexpectedly: {type(error).__name__}: {error}")
            broken.__cause__ = error
            self._fail(broken)

    def _fail(self, error: Broken) -> None:
        _LOG.critical(
            "A lane of the Kafka intake has ended; nothing after its last commit is taken in: %s", error, exc_info=error
        )
        self._stopping.set()
        self._taken.failed(error)

    def _take(self) -> None:
        before: _Submitted | None = None
        while not self._stopping.is_set():
            records = self._backlog.take(wait=before is None)
            prepared = self._prepared(records)
            if before is not None:
                patience = _LATE_SECONDS
                while len(records) < BATCH_RECORDS_MAX and _is_late(before.receipts, patience):
                    more = self._backlog.take(wait=False, beside=records)
                    records += more
                    prepared += self._prepared(more)
                    patience = 0 if more else _LATE_SECONDS
                self._settle(before)
            before = _Submitted(records, prepared, self._begin(prepared)) if prepared else None
        if before is not None:
            self._settle(before)

    def _settle(self, batch: "_Submitted") -> None:
        """Wait until a batch is durable, whatever that takes."""
        try:
            _await(batch.receipts)
        except (Unavailable, _Faulty) as error:
            _LOG.warning("A batch of %d records could not be committed; trying again: %s", len(batch.prepared), error)
            self._taken.retried("commit")
            self._pause(0)
            self._commit(batch.prepared)
        self._progress.durable(map(record_of, batch.records))

    def _prepared(self, records: Sequence[Arrived]) -> list[Prepared]:
        """Every record prepared, in order."""
        if not records:
            return []
        attempt = 0
        while True:
            try:
                return self._prepare(records)
            except Broken:
                raise
            except Exception as error:  # noqa: BLE001 - sorted here
                self._taken.retried("prepare")
                if _is_passing(error):
                    _LOG.warning("%d records cannot be prepared now; trying again: %s", len(records), error)
                elif len(records) > 1:
                    _LOG.warning("A batch of %d records cannot be prepared; halving it: %r", len(records), error)
                    middle = len(records) // 2
                    return [*self._prepared(records[:middle]), *self._prepared(records[middle:])]
                else:
                    attempt += 1
                    if attempt == ATTEMPTS:
                        return [self._give_up(record_of(records[0]), error, pb.Submission())]
            self._pause(attempt)

    def _commit(self, prepared: Sequence[Prepared]) -> None:
        """Have every record committed, in order; returns when all are durable."""
        attempt = waits = 0
        while True:
            try:
                _await(self._begin(prepared))
            except Unavailable:
                self._taken.retried("commit")
                waits += 1
            except _Faulty as error:
                self._taken.retried("commit")
                if len(prepared) > 1:
                    middle = len(prepared) // 2
                    self._commit(prepared[:middle])
                    self._commit(prepared[middle:])
                    return
                attempt += 1
                if attempt == ATTEMPTS:
                    self._commit_as_dead_letter(prepared[0], error)
                    return
            else:
                return
            self._pause(attempt + waits)

    def _commit_as_dead_letter(self, one: Prepared, error: "_Faulty") -> None:
        if isinstance(one, Malformed):
            raise Broken(f"not even a dead letter can be committed: {error}") from error
        self._commit([self._give_up(one.decoded.record, error.__cause__ or error, one.decoded.submission)])

    def _begin(self, prepared: Sequence[Prepared]) -> "Future[list[pb.Receipt]]":
        while True:
            try:
                return self._submit(prepared, wait=True)
            except Unavailable as error:  # the writer takes no more: the service goes down
                if error.reason == "DRAINING":
                    raise _Ending from error
                self._pause(0)

    def _give_up(self, record: Record, error: BaseException, known: pb.Submission) -> Malformed:
        _LOG.error("The service fails on the record at %s; it becomes a dead letter", record.position, exc_info=error)
        self._taken.given_up()
        text = f"the service failed on this record {ATTEMPTS} times: {type(error).__name__}: {error}"
        return Malformed(
            record,
            pb.REASON_MALFORMED,
            (FieldViolation("", text),),
            known.namespace,
            known.provenance.producer,
            known.submission_id,
            ATTEMPTS,
        )

    def _pause(self, attempt: int) -> None:
        if self._stopping.wait(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)]):
            raise _Ending


@dataclass(frozen=True, slots=True)
class _Submitted:
    records: Sequence[Arrived]
    prepared: Sequence[Prepared]
    receipts: "Future[list[pb.Receipt]]"


class _Faulty(Exception):
    """A batch failed in the writer, which goes on: a bug met one of its records. The cause is chained."""


def _is_late(receipts: "Future[list[pb.Receipt]]", patience_seconds: float) -> bool:
    """Whether a commit has not ended after some time more."""
    return not wait([receipts], patience_seconds).done


def _await(receipts: "Future[list[pb.Receipt]]") -> None:
    """Wait until a batch is durable.

    Raises:
        Unavailable: it was not written, this time.
        _Faulty: it was not written. (When the store itself is at fault, nothing can be submitted from then on.)
    """
    try:
        receipts.result()
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001 - every other error of the writer means this
        raise _Faulty(str(error)) from (error.__cause__ or error)


def _is_passing(error: Exception) -> bool:
    """Whether the moment is at fault, not the records."""
    return isinstance(error, (Unavailable, OSError, MemoryError))
