"""What the intake does when something goes wrong between Kafka and the store. A real backlog, progress and writer."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from epistream.indexer.model import Arrived, Decoded, Embedded, Malformed, Position, Record, record_of
from epistream.services.kafka.backlog import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, MORE_RECORDS_MAX, Backlog
from epistream.services.kafka.progress import Progress
from epistream.services.kafka.taker import ATTEMPTS, Taken, Taker
from epistream.services.writer import Prepared, Writer
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken, Unavailable
from tests.support.waits import wait_until

TOPIC = "facts"


class Told(Progress):
    """Progress, and the offsets that it was told, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets: list[int] = []

    def durable(self, records: Iterable[Record]) -> None:
        told = list(records)
        self.offsets += [one.position.offset for one in told if one.position is not None]
        super().durable(told)


@dataclass
class Bench:
    """A taker over stages that a test can make fail, and what came of its records."""

    prepare: Callable[[Sequence[Record]], object] = lambda _: None
    commit: Callable[[Sequence[Prepared]], object] = lambda _: None
    committed: list[Prepared] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    retried: list[str] = field(default_factory=list)
    given_up: int = 0
    failures: list[Broken] = field(default_factory=list)
    backlog: Backlog = field(default_factory=Backlog)
    progress: Told = field(default_factory=Told)

    @contextmanager
    def running(self) -> Iterator["Bench"]:
        self.progress.begin((TOPIC, 0), 0, 0)
        writer = Writer(self._commit, committed=lambda *_: None, failed=self.failures.append)
        taken = Taken(self.retried.append, self._count, self.failures.append)
        taker = Taker(self.backlog, self._prepare, writer.submit_batch, self.progress, taken)
        writer.start()
        taker.start()
        try:
            yield self
        finally:
            assert taker.stop(10)
            writer.stop()

    def put(self, *values: bytes) -> None:
        """Records with these values, at the next offsets."""
        start = self.progress._states[TOPIC, 0].handed_on
        records = [Record(value, 0, position=Position(TOPIC, 0, start + i)) for i, value in enumerate(values)]
        self.progress.handed_on((TOPIC, 0), start + len(records))
        self.backlog.put(records)

    def await_done(self, offset: int) -> None:
        wait_until(lambda: self.progress.done()[TOPIC, 0] == offset, f"offset {offset}")

    def values(self) -> list[bytes | None]:
        return [record_of(one).value for one in self.committed]

    def dead(self) -> list[Malformed]:
        return [one for one in self.committed if isinstance(one, Malformed)]

    def _prepare(self, records: Sequence[Arrived]) -> list[Prepared]:
        arrived = [record_of(one) for one in records]
        self.prepare(arrived)
        return [Embedded(Decoded(r, pb.Submission(submission_id="s"), b"", "", b""), None) for r in arrived]

    def _commit(self, prepared: Sequence[Prepared], *, atomic: bool = False) -> list[pb.Receipt]:
        assert not atomic
        self.commit(prepared)
        self.committed += prepared
        self.batches.append(len(prepared))
        return [pb.Receipt()] * len(prepared)

    def _count(self) -> None:
        self.given_up += 1


def fail_on(value: bytes, error: Exception) -> Callable[[Sequence[Record]], None]:
    def prepare(records: Sequence[Record]) -> None:
        if any(record.value == value for record in records):
            raise error

    return prepare


def test_what_comes_while_a_batch_is_committed_is_taken_together() -> None:
    with Bench().running() as bench:
        bench.put(*[b"%d" % n for n in range(3 * BATCH_RECORDS_MAX)])
        bench.await_done(3 * BATCH_RECORDS_MAX)
    assert bench.values() == [b"%d" % n for n in range(3 * BATCH_RECORDS_MAX)]
    assert max(bench.batches) <= BATCH_RECORDS_MAX


@contextmanager
def waiting_for_the_disk(bench: Bench) -> Iterator[None]:
    """While the block runs, a batch of the one record `0` is with the writer, and does not become durable."""
    begun, durable = threading.Event(), threading.Event()

    def commit(_: Sequence[Prepared]) -> None:
        begun.set()
        assert durable.wait(10)

    bench.commit = commit
    bench.put(b"0")
    assert begun.wait(10)
    try:
        yield
        assert bench.batches == []
    finally:
        durable.set()


def test_the_next_batch_grows_while_the_disk_keeps_the_writer_waiting() -> None:
    prepared: list[bytes | None] = []
    with Bench(prepare=lambda records: prepared.extend(r.value for r in records)).running() as bench:
        with waiting_for_the_disk(bench):
            bench.put(b"1")
            wait_until(lambda: prepared[1:] == [b"1"], "the first of the next batch is prepared")
            bench.put(b"2")
            wait_until(lambda: prepared[2:] == [b"2"], "what came later is prepared, too")
            bench.put(*[b"%d" % n for n in range(3, BATCH_RECORDS_MAX + 4)])
            wait_until(lambda: len(prepared) == 1 + BATCH_RECORDS_MAX, "the next batch is full")
        bench.await_done(4 + BATCH_RECORDS_MAX)
    assert bench.batches == [1, BATCH_RECORDS_MAX, 3]
    assert bench.values() == [b"%d" % n for n in range(4 + BATCH_RECORDS_MAX)]
    assert bench.progress.offsets == list(range(4 + BATCH_RECORDS_MAX))


def test_a_batch_grows_by_a_few_at_a_time_so_that_it_does_not_wait_for_many_to_be_encoded() -> None:
    steps: list[int] = []
    with Bench(prepare=lambda records: steps.append(len(records))).running() as bench:
        with waiting_for_the_disk(bench):
            bench.put(b"1")
            wait_until(lambda: len(steps) == 2, "the first of the next batch is prepared")
            bench.put(*[b"%d" % n for n in range(2, 3 * MORE_RECORDS_MAX)])
            wait_until(lambda: sum(steps) == 3 * MORE_RECORDS_MAX, "all are prepared")
        bench.await_done(3 * MORE_RECORDS_MAX)
    assert steps == [1, 1, MORE_RECORDS_MAX, MORE_RECORDS_MAX, MORE_RECORDS_MAX - 2]


def test_a_batch_does_not_grow_over_its_bound_in_bytes() -> None:
    large = b"x" * (BATCH_BYTES_MAX // 2)
    prepared: list[bytes | None] = []
    with Bench(prepare=lambda records: prepared.extend(r.value for r in records)).running() as bench:
        with waiting_for_the_disk(bench):
            bench.put(b"1")
            wait_until(lambda: len(prepared) == 2, "the first of the next batch is prepared")
            bench.put(large, large)
            wait_until(lambda: len(prepared) == 3, "as much as fits is prepared")
        bench.await_done(4)
    assert bench.batches == [1, 2, 1]


def test_large_records_make_small_batches() -> None:
    with Bench().running() as bench:
        bench.put(*[b"x" * (BATCH_BYTES_MAX // 2)] * 3, b"y" * (BATCH_BYTES_MAX + 1))
        bench.await_done(4)
    assert bench.batches == [2, 1, 1]


def test_a_record_that_cannot_be_prepared_becomes_a_dead_letter_and_the_others_go_on() -> None:
    with Bench(prepare=fail_on(b"5", ZeroDivisionError("by the encoder"))).running() as bench:
        bench.put(*[b"%d" % n for n in range(10)])
        bench.await_done(10)
    assert bench.values() == [b"%d" % n for n in range(10)]
    [dead] = bench.dead()
    assert dead.record.value == b"5"
    assert dead.reason == pb.REASON_MALFORMED
    assert dead.attempts == ATTEMPTS
    assert f"{ATTEMPTS} times: ZeroDivisionError: by the encoder" in dead.violations[0].description
    assert bench.given_up == 1
    assert not bench.failures


def test_a_record_that_cannot_be_committed_becomes_a_dead_letter_and_the_others_go_on() -> None:
    def commit(prepared: Sequence[Prepared]) -> None:
        if any(isinstance(one, Embedded) and record_of(one).value == b"5" for one in prepared):
            raise KeyError("a bug")

    with Bench(commit=commit).running() as bench:
        bench.put(*[b"%d" % n for n in range(10)])
        bench.await_done(10)
    assert bench.values() == [b"%d" % n for n in range(10)]
    [dead] = bench.dead()
    assert dead.record.value == b"5"
    assert dead.submission_id == "s"
    assert "KeyError: 'a bug'" in dead.violations[0].description
    assert not bench.failures


@pytest.mark.parametrize("error", [Unavailable("loading"), OSError("too many files"), MemoryError()])
def test_a_bad_moment_is_waited_out_and_makes_no_dead_letter(error: Exception) -> None:
    left = [error] * (ATTEMPTS + 2)

    def prepare(_: Sequence[Record]) -> None:
        if left:
            raise left.pop()

    with Bench(prepare=prepare).running() as bench:
        bench.put(b"1")
        bench.await_done(1)
    assert bench.values() == [b"1"]
    assert bench.dead() == []
    assert bench.retried == ["prepare"] * (ATTEMPTS + 2)


@pytest.mark.parametrize("error", [Unavailable("the disk is full"), MemoryError()])
def test_a_bad_moment_of_the_writer_is_waited_out_and_makes_no_dead_letter(error: Exception) -> None:
    left = [error] * (ATTEMPTS + 2)

    def commit(_: Sequence[Prepared]) -> None:
        if left:
            raise left.pop()

    with Bench(commit=commit).running() as bench:
        bench.put(b"1")
        bench.await_done(1)
    assert bench.values() == [b"1"]
    assert bench.dead() == []
    assert bench.retried == ["commit"] * (ATTEMPTS + 2)


def test_a_broken_store_ends_the_intake_and_nothing_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    def commit(prepared: Sequence[Prepared]) -> None:
        if any(record_of(one).value == b"3" for one in prepared):
            raise Broken("the disk is full")

    with Bench(commit=commit).running() as bench:
        for n in range(3):
            bench.put(b"%d" % n)
            bench.await_done(n + 1)
        bench.put(b"3", b"4")
        bench.put(b"5")
        wait_until(lambda: len(bench.failures) == 2, "the failures")  # the writer's and the intake's
        assert bench.progress.done()[TOPIC, 0] == 3
    assert bench.values() == [b"0", b"1", b"2"]
    assert "A lane of the Kafka intake has ended" in caplog.text


def test_a_broken_encoder_ends_the_intake() -> None:
    def prepare(_: Sequence[Record]) -> None:
        raise Broken("the weights are not those")

    with Bench(prepare=prepare).running() as bench:
        bench.put(b"1")
        wait_until(lambda: bench.failures, "the failure")
    assert bench.committed == []


def test_no_batch_is_with_the_writer_while_an_earlier_one_can_still_fail() -> None:
    """Else a position would move past records that are not durable."""
    attempts: list[list[bytes | None]] = []

    def commit(prepared: Sequence[Prepared]) -> None:
        attempts.append([record_of(one).value for one in prepared])
        if len(attempts) < 3:
            raise KeyError("a bug, at first")

    with Bench(commit=commit).running() as bench:
        bench.put(b"0")
        bench.put(b"1")
        bench.await_done(2)
    assert attempts[0][0] == attempts[1][0] == attempts[2][0] == b"0"
    assert bench.values() == [b"0", b"1"]


def test_a_stop_in_a_bad_moment_is_quick_and_takes_nothing_half() -> None:
    def prepare(_: Sequence[Record]) -> None:
        raise Unavailable("for ever")

    with Bench(prepare=prepare).running() as bench:
        bench.put(b"1")
        wait_until(lambda: bench.retried, "an attempt")
    assert bench.committed == []
    assert not bench.failures
