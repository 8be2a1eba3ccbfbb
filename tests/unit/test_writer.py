"""The writer thread: what waits is committed together, in order, within a bound; an error reaches whom it concerns."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager

import pytest

from epistream.indexer.model import Decoded, Embedded, Malformed, Record
from epistream.services.writer import GROUP_SUBMISSIONS_MAX, Prepared, Writer
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken, InvalidInput, Unavailable

PATIENCE_SECONDS = 10.0


class Commits:
    """Stands for the pipeline's `commit`: remembers the groups, and can be held up or made to fail."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.atomic: list[bool] = []
        self.errors: list[Exception] = []
        self.entered = threading.Semaphore(0)
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, prepared: Sequence[Prepared], *, atomic: bool = False) -> list[pb.Receipt]:
        self.entered.release()
        assert self.may_go_on.wait(PATIENCE_SECONDS)
        self.groups.append([name(one) for one in prepared])
        self.atomic.append(atomic)
        if "poison" in self.groups[-1]:
            raise KeyError("secret")
        if self.errors:
            raise self.errors.pop(0)
        return [pb.Receipt(submission_id=name(one)) for one in prepared]


def batch(*names: str) -> list[Prepared]:
    return [Malformed(Record(n.encode(), 0), pb.REASON_MALFORMED, (), submission_id=n) for n in names]


def ranking(id: str, items: int) -> list[Prepared]:  # noqa: A002 - as in the contract
    feedback = pb.Feedback(judged=[pb.Judged(item_id="a", place=1)] * items)
    submission = pb.Submission(submission_id=id, feedback=feedback)
    return [Embedded(Decoded(Record(b"", 0), submission, b"", "", b""), None)]


def name(one: Prepared) -> str:
    return one.submission_id if isinstance(one, Malformed) else one.decoded.submission.submission_id


def ids(receipts: list[pb.Receipt]) -> list[str]:
    return [receipt.submission_id for receipt in receipts]


@contextmanager
def running(commits: Commits, failed: list[Broken] | None = None, waiting_bytes_max: int = 1 << 20) -> Iterator[Writer]:
    failures = failed if failed is not None else []
    writer = Writer(commits, committed=lambda *_: None, failed=failures.append, waiting_bytes_max=waiting_bytes_max)
    writer.start()
    try:
        yield writer
    finally:
        commits.may_go_on.set()
        writer.stop()


@contextmanager
def held_up(commits: Commits, writer: Writer) -> Iterator[None]:
    """The writer thread is in a commit and stays there."""
    commits.may_go_on.clear()
    writer.submit_batch(batch("held"))
    assert commits.entered.acquire(timeout=PATIENCE_SECONDS)
    yield
    commits.may_go_on.set()


def test_a_batch_gets_its_own_receipts_in_order() -> None:
    with running(Commits()) as writer:
        first, second = writer.submit_batch(batch("a", "b")), writer.submit_batch(batch("c"))
        assert ids(first.result(PATIENCE_SECONDS)) == ["a", "b"]
        assert ids(second.result(PATIENCE_SECONDS)) == ["c"]


def test_batches_that_wait_are_committed_together() -> None:
    commits = Commits()
    with running(commits) as writer:
        with held_up(commits, writer):
            waiting = [writer.submit_batch(batch(n)) for n in "abc"]
        assert [ids(f.result(PATIENCE_SECONDS)) for f in waiting] == [["a"], ["b"], ["c"]]
    assert commits.groups == [["held"], ["a", "b", "c"]]


def test_what_is_ahead_waits_for_the_commit_that_runs_and_the_others_have_every_second_turn() -> None:
    commits = Commits()
    with running(commits, waiting_bytes_max=1 << 30) as writer:
        with held_up(commits, writer):
            waiting = [writer.submit_batch(batch(*["x"] * 1500)) for _ in range(2)]
            waiting += [writer.submit_batch(batch(*["a"] * 1500), ahead=True) for _ in range(2)]
        for future in waiting:
            future.result(PATIENCE_SECONDS)
    assert [group[0] for group in commits.groups] == ["held", "a", "x", "a", "x"]


def test_what_is_ahead_has_room_where_the_others_have_none() -> None:
    commits = Commits()
    with running(commits, waiting_bytes_max=10_000) as writer:
        with held_up(commits, writer):
            writer.submit_batch(batch(*"fills"))
            with pytest.raises(Unavailable, match="too much waits"):
                writer.submit_batch(batch("no"))
            correction = writer.submit_batch(batch("correction"), ahead=True, wait=True)
        assert ids(correction.result(PATIENCE_SECONDS)) == ["correction"]
        assert writer.submit_batch(batch("last")).result(PATIENCE_SECONDS)
    assert writer.waiting_bytes == (0, 0)
    assert commits.groups == [["held"], ["correction"], [*"fills"], ["last"]]


def test_a_call_may_go_ahead_too() -> None:
    commits = Commits()
    with running(commits) as writer:
        with held_up(commits, writer):
            writer.submit_batch(batch("flood"))
            decision = writer.run(lambda: list(commits.groups), ahead=True)
        assert decision.result(PATIENCE_SECONDS) == [["held"]]


def test_a_group_has_a_bound() -> None:
    commits = Commits()
    with running(commits, waiting_bytes_max=1 << 30) as writer:
        with held_up(commits, writer):
            waiting = [writer.submit_batch(batch(*["x"] * 900)) for _ in range(3)]
        for future in waiting:
            future.result(PATIENCE_SECONDS)
    assert [len(group) for group in commits.groups] == [1, 1800, 900]
    assert all(len(group) <= GROUP_SUBMISSIONS_MAX for group in commits.groups)


def test_an_atomic_batch_is_committed_alone_and_its_refusal_is_its_own() -> None:
    commits = Commits()
    with running(commits) as writer:
        with held_up(commits, writer):
            before = writer.submit_batch(batch("before"))
            atomic = writer.submit_batch(batch("atomic"), atomic=True)
            after = writer.submit_batch(batch("after"))
        before.result(PATIENCE_SECONDS)
        atomic.result(PATIENCE_SECONDS)
        after.result(PATIENCE_SECONDS)
        assert commits.groups == [["held"], ["before"], ["atomic"], ["after"]]
        assert commits.atomic == [False, False, True, False]
        commits.errors = [InvalidInput("submissions[0] is wrong")]
        with pytest.raises(InvalidInput):
            writer.submit_batch(batch("x"), atomic=True).result(PATIENCE_SECONDS)
        assert ids(writer.submit_batch(batch("y")).result(PATIENCE_SECONDS)) == ["y"]


def test_calls_run_on_the_same_thread_in_their_turn() -> None:
    commits = Commits()
    order: list[str] = []
    with running(commits) as writer:
        with held_up(commits, writer):
            before = writer.submit_batch(batch("before"))
            call = writer.run(lambda: order.append(f"{threading.current_thread().name} {commits.groups[-1]}"))
            after = writer.submit_batch(batch("after"))
        call.result(PATIENCE_SECONDS)
        before.result(PATIENCE_SECONDS)
        after.result(PATIENCE_SECONDS)
    assert order == ["writer ['before']"]
    assert commits.groups == [["held"], ["before"], ["after"]]


def test_what_does_not_fit_is_turned_away_with_a_delay_or_waits() -> None:
    commits = Commits()
    with running(commits, waiting_bytes_max=10_000) as writer:
        with held_up(commits, writer):
            fits = writer.submit_batch(batch("fits"))
            with pytest.raises(Unavailable) as refused:
                writer.submit_batch(batch("no"))
            assert refused.value.reason == "OVERLOADED"
            assert refused.value.retry_delay_seconds > 0
            waits = threading.Thread(target=lambda: writer.submit_batch(batch("waits"), wait=True))
            waits.start()
        waits.join(PATIENCE_SECONDS)
        assert not waits.is_alive()
        fits.result(PATIENCE_SECONDS)
    assert [name for group in commits.groups for name in group] == ["held", "fits", "waits"]


def test_one_batch_larger_than_the_bound_is_taken_when_nothing_waits() -> None:
    with running(Commits(), waiting_bytes_max=10) as writer:
        assert ids(writer.submit_batch(batch("large")).result(PATIENCE_SECONDS)) == ["large"]


def test_a_cancelled_batch_is_not_written() -> None:
    commits = Commits()
    with running(commits) as writer:
        with held_up(commits, writer):
            cancelled = writer.submit_batch(batch("cancelled"))
            kept = writer.submit_batch(batch("kept"))
            assert cancelled.cancel()
        kept.result(PATIENCE_SECONDS)
        with pytest.raises(CancelledError):
            cancelled.result(PATIENCE_SECONDS)
    assert commits.groups == [["held"], ["kept"]]


def test_a_cancelled_batch_leaves_the_queue_at_once() -> None:
    commits = Commits()
    with running(commits, waiting_bytes_max=10_000) as writer, held_up(commits, writer):
        before = writer.waiting_bytes
        assert writer.submit_batch(batch("cancelled")).cancel()
        assert writer.waiting_bytes == before
        kept = writer.submit_batch(batch("kept"))
        with pytest.raises(Unavailable):
            writer.submit_batch(batch("one more"))
    kept.result(PATIENCE_SECONDS)
    assert commits.groups == [["held"], ["kept"]]
    assert writer.waiting_bytes == (0, 0)


def test_a_bug_fails_its_group_without_telling_of_the_inside_and_the_next_goes_on() -> None:
    commits, failed = Commits(), list[Broken]()
    with running(commits, failed) as writer:
        commits.errors = [KeyError("secret")]
        with pytest.raises(Broken) as broken:
            writer.submit_batch(batch("x")).result(PATIENCE_SECONDS)
        assert "secret" not in broken.value.message
        assert ids(writer.submit_batch(batch("y")).result(PATIENCE_SECONDS)) == ["y"]
    assert failed == []


def test_a_bug_met_by_one_batch_fails_no_other_of_its_group() -> None:
    commits = Commits()
    with running(commits) as writer:
        with held_up(commits, writer):
            waiting = [writer.submit_batch(batch(n)) for n in ("a", "poison", "b")]
        assert ids(waiting[0].result(PATIENCE_SECONDS)) == ["a"]
        with pytest.raises(Broken):
            waiting[1].result(PATIENCE_SECONDS)
        assert ids(waiting[2].result(PATIENCE_SECONDS)) == ["b"]


def test_short_memory_passes_and_is_no_bug() -> None:
    commits = Commits()
    with running(commits) as writer:
        with held_up(commits, writer):
            commits.errors = [MemoryError(), MemoryError()]  # of the group, then of its first batch alone
            waiting = [writer.submit_batch(batch(n)) for n in "ab"]
            commits.errors.insert(0, InvalidInput("the one that is held up"))
        with pytest.raises(Unavailable, match="memory is short") as refused:
            waiting[0].result(PATIENCE_SECONDS)
        assert refused.value.reason == "OVERLOADED"
        assert ids(waiting[1].result(PATIENCE_SECONDS)) == ["b"]
        assert ids(writer.submit_batch(batch("a")).result(PATIENCE_SECONDS)) == ["a"]


def test_after_the_disk_refused_nothing_is_written_any_more() -> None:
    commits, failed = Commits(), list[Broken]()
    with running(commits, failed) as writer:
        with held_up(commits, writer):
            commits.errors = [Broken("the disk refused")]
            waiting = writer.submit_batch(batch("a"))
        with pytest.raises(Broken, match="the disk refused"):
            waiting.result(PATIENCE_SECONDS)
        with pytest.raises(Broken, match="the disk refused"):
            writer.submit_batch(batch("b"))
        with pytest.raises(Broken, match="the disk refused"):
            writer.run(lambda: None)
    assert [error.message for error in failed] == ["the disk refused"]
    assert commits.groups == [["held"]]


def test_stopping_finishes_what_waits_and_takes_nothing_more() -> None:
    commits = Commits()
    with running(commits) as writer:
        with held_up(commits, writer):
            waiting = writer.submit_batch(batch("waits"))
            stopping = threading.Thread(target=writer.stop)
            stopping.start()
        stopping.join(PATIENCE_SECONDS)
        assert ids(waiting.result(0)) == ["waits"]
        with pytest.raises(Unavailable) as refused:
            writer.submit_batch(batch("late"))
        assert refused.value.reason == "DRAINING"


def test_long_rankings_make_a_group_full_and_weigh_what_they_take() -> None:
    commits = Commits()
    with running(commits, waiting_bytes_max=1 << 30) as writer:
        with held_up(commits, writer):
            sent = [writer.submit_batch(ranking(str(number), 100_000)) for number in range(4)]
        for one in sent:
            one.result(PATIENCE_SECONDS)

    assert commits.groups == [["held"], ["0", "1"], ["2", "3"]]
    with running(commits, waiting_bytes_max=15_000_000) as writer, held_up(commits, writer):
        writer.submit_batch(ranking("5", 100_000))
        with pytest.raises(Unavailable):
            writer.submit_batch(ranking("6", 100_000), wait=False)
