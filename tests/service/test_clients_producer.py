"""Producers over real sockets: whatever goes wrong, every submission has its receipt, in order."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from epistream.clients import Broken, InvalidInput, NotFound, Producer, Unavailable, submission
from epistream.clients.submit_stream import BATCH_SUBMISSIONS_MAX, UNANSWERED_BATCHES_MAX
from epistream.v1 import knowledge_pb2 as pb
from tests.support.proxies import Proxy
from tests.support.scripted_server import ScriptedServer
from tests.support.waits import PATIENCE_SECONDS, until

AWAY = Unavailable("not now", reason="OVERLOADED", retry_delay_seconds=0.01)


def facts(count: int, size: int = 20) -> list[pb.Submission]:
    return [
        submission(
            f"fact {number} " + "x" * size,
            namespace="tests",
            producer="ada",
            origin="EXPERT",
            submission_id=f"s{number}",
        )
        for number in range(count)
    ]


async def source(submissions: list[pb.Submission], pause_every: int = 0) -> AsyncIterator[pb.Submission]:
    for number, one in enumerate(submissions):
        if pause_every and number % pause_every == 0:
            await asyncio.sleep(0.001)
        yield one


def ids(things: list[pb.Receipt] | list[pb.Submission]) -> list[str]:
    return [thing.submission_id for thing in things]


async def test_every_submission_has_its_receipt_in_order() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        sent = facts(2500)
        assert ids(await producer.submit(*sent)) == ids(sent)
        assert [len(batch) for batch in server.batches] == [1000, 1000, 500]
        assert await producer.submit() == []


async def test_an_atomic_submission_is_one_call() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        await producer.submit(*facts(1500), atomic=True)
        assert [len(batch) for batch in server.batches] == [1500]


async def test_a_call_is_repeated_while_the_service_is_unavailable() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        server.failures.extend([AWAY, AWAY])
        (receipt,) = await producer.submit(*facts(1))
        assert receipt.outcome == pb.OUTCOME_ADMITTED


async def test_a_call_that_took_effect_but_was_not_answered_is_not_taken_twice() -> None:
    """The connection is cut after the service took the submission and before its answer has arrived."""
    async with ScriptedServer() as server, Proxy(server.port) as proxy, Producer(proxy.address) as producer:
        await producer.submit(*facts(1))
        server.answering.clear()
        submitting = asyncio.create_task(producer.submit(*facts(2)))
        await until(lambda: len(server.batches) == 2)
        proxy.cut()
        server.answering.set()
        receipts = await submitting
        assert [receipt.earlier for receipt in receipts] == [True, True]
        assert len(server.receipts) == 2


async def test_unavailability_is_raised_when_the_time_is_over() -> None:
    async with ScriptedServer() as server, Producer(server.address, timeout_seconds=0.3) as producer:
        server.failures.extend(
            [Unavailable("the encoder loads", reason="ENCODER_LOADING", retry_delay_seconds=0.05)] * 99
        )
        with pytest.raises(Unavailable, match="encoder loads") as caught:
            await producer.submit(*facts(1))
        assert caught.value.reason == "ENCODER_LOADING"
        assert caught.value.__cause__ is not None
        assert len(server.failures) < 98


async def test_a_service_that_is_not_there_is_said() -> None:
    async with ScriptedServer() as server:
        address = server.address
    async with Producer(address, timeout_seconds=0.3) as producer:
        with pytest.raises(Unavailable, match=r"cannot be reached.*Check the address"):
            await producer.submit(*facts(1))


async def test_an_answer_that_does_not_come_is_not_waited_for_longer_than_asked() -> None:
    async with ScriptedServer() as server, Producer(server.address, timeout_seconds=0.3) as producer:
        server.answering.clear()
        with pytest.raises(Unavailable, match="No answer in time"):
            await producer.submit(*facts(1))
        server.answering.set()


async def test_what_is_wrong_is_raised_at_once() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        server.failures.append(InvalidInput.at("submissions[0].content", "expected text"))
        with pytest.raises(InvalidInput) as caught:
            await producer.submit(*facts(1))
        assert caught.value.violations[0].field == "submissions[0].content"
        assert server.batches == []


async def test_a_retraction_is_an_act_of_its_own_unless_it_is_named() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        first = await producer.retract("tests", "limit", producer="ada", origin="EXPERT")
        second = await producer.retract("tests", "limit", producer="ada", origin="EXPERT")
        assert first.submission_id != second.submission_id
        named = [
            await producer.retract(
                "tests", "limit", producer="ada", origin="EXPERT", submission_id="r1", expected_version=3
            )
            for _ in range(2)
        ]
        assert [receipt.earlier for receipt in named] == [False, True]
        assert named[0].item_id == "limit"


async def test_a_stream_answers_every_submission_in_order_and_sends_large_batches() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        sent = facts(20_000)
        assert ids([receipt async for receipt in producer.stream(source(sent))]) == ids(sent)
        assert len(server.batches) <= 25
        assert max(map(len, server.batches)) == BATCH_SUBMISSIONS_MAX


async def test_a_slow_source_waits_for_nothing() -> None:
    """Each submission is answered before the next one is made."""
    async with ScriptedServer() as server, Producer(server.address) as producer:
        answered = asyncio.Event()

        async def slow() -> AsyncIterator[pb.Submission]:
            for one in facts(5):
                answered.clear()
                yield one
                await answered.wait()

        async with asyncio.timeout(20):
            async for _ in producer.stream(slow()):
                answered.set()
        assert [len(batch) for batch in server.batches] == [1] * 5


async def test_batches_are_limited_by_their_size_too() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        sent = facts(40, size=200_000)
        assert ids([receipt async for receipt in producer.stream(source(sent))]) == ids(sent)
        assert max(map(len, server.batches)) == 3


@pytest.mark.parametrize("seed", range(3))
async def test_a_stream_that_is_cut_at_any_byte_answers_every_submission_once(seed: int) -> None:
    rng = random.Random(seed)
    async with ScriptedServer() as server, Proxy(server.port) as proxy, Producer(proxy.address) as producer:
        proxy.budget = lambda: rng.randrange(1, 15_000) if proxy.connections <= 12 else None
        sent = facts(4000)
        receipts = [receipt async for receipt in producer.stream(source(sent, pause_every=50))]
        assert ids(receipts) == ids(sent)
        assert len(server.receipts) == 4000
        assert proxy.connections > 5


async def test_a_stream_goes_on_when_batches_fail_for_now() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        server.failures.extend([AWAY] * 3)
        sent = facts(3000)
        receipts = [receipt async for receipt in producer.stream(source(sent, pause_every=100))]
        assert ids(receipts) == ids(sent)


async def test_who_takes_receipts_may_take_time() -> None:
    """Longer than an answer may take, and while there is an answer to be read."""
    async with ScriptedServer() as server, Producer(server.address) as producer:
        sent, go_on = facts(2), asyncio.Event()

        async def slow() -> AsyncIterator[pb.Submission]:
            yield sent[0]
            await go_on.wait()
            yield sent[1]

        receipts = producer.stream(slow(), answer_seconds_max=1.0)
        assert (await anext(receipts)).submission_id == "s0"
        go_on.set()
        await asyncio.sleep(1.1)
        assert [receipt.submission_id async for receipt in receipts] == ["s1"]
        assert len(server.batches) == 2, "nothing was sent again"


async def test_receipts_that_are_not_taken_slow_the_source_down() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        server.answering.clear()
        made = 0

        async def endless() -> AsyncIterator[pb.Submission]:
            nonlocal made
            for one in facts(30_000):
                made += 1
                yield one

        receipts = producer.stream(endless())
        first = asyncio.create_task(anext(receipts))
        await until(lambda: len(server.batches) == 1)
        await asyncio.sleep(0.1)
        assert made <= (UNANSWERED_BATCHES_MAX + 2) * BATCH_SUBMISSIONS_MAX
        server.answering.set()
        await first
        await receipts.aclose()


async def test_a_stream_that_is_not_answered_is_given_up_and_repeated_and_raised_in_the_end() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        server.answering.clear()
        with pytest.raises(Unavailable, match="No word from the service"):
            async for _ in producer.stream(source(facts(3)), answer_seconds_max=0.3):
                pass
        server.answering.set()


async def test_a_stream_to_a_service_that_is_away_is_raised_in_the_end() -> None:
    async with ScriptedServer() as server:
        address = server.address
    async with Producer(address) as producer:
        with pytest.raises(Unavailable):
            async for _ in producer.stream(source(facts(3)), answer_seconds_max=0.3):
                pass


async def test_an_idle_stream_survives_a_restart_of_the_service() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        sent = facts(2)
        go_on = asyncio.Event()

        async def slow() -> AsyncIterator[pb.Submission]:
            yield sent[0]
            await go_on.wait()
            yield sent[1]

        receipts = producer.stream(slow(), answer_seconds_max=5.0)
        assert (await anext(receipts)).submission_id == "s0"
        await server.stop()
        await asyncio.sleep(0.2)
        await server.start()
        go_on.set()
        assert (await anext(receipts)).submission_id == "s1"
        await receipts.aclose()


async def test_what_a_stream_cannot_mend_is_raised() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        server.failures.append(NotFound("There is no such method.", reason="NOT_FOUND"))
        with pytest.raises(NotFound, match="no such method"):
            async for _ in producer.stream(source(facts(3))):
                pass


async def test_an_error_of_the_source_is_raised_after_the_receipts_of_what_it_gave() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:

        async def failing() -> AsyncIterator[pb.Submission]:
            for one in facts(3):
                yield one
            raise OSError("the disk is gone")

        received = []
        with pytest.raises(OSError, match="disk is gone"):  # noqa: PT012 -- raised by the loop
            async for receipt in producer.stream(failing()):
                received.append(receipt)  # noqa: PERF401 -- what came before the error counts
        assert ids(received) == ["s0", "s1", "s2"]


async def test_a_source_that_was_cancelled_by_itself_ends_the_stream() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:

        async def cancelled() -> AsyncIterator[pb.Submission]:
            yield facts(1)[0]
            raise asyncio.CancelledError

        received = []
        with pytest.raises(asyncio.CancelledError):  # noqa: PT012 -- raised by the loop
            async with asyncio.timeout(PATIENCE_SECONDS):
                async for receipt in producer.stream(cancelled()):
                    received.append(receipt)  # noqa: PERF401 -- what came before the end counts
        assert ids(received) == ["s0"]


async def test_a_stream_without_submissions_has_no_receipts() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        assert [receipt async for receipt in producer.stream(source([]))] == []


async def test_a_stream_that_is_left_early_leaves_nothing_running() -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        before = len(asyncio.all_tasks())
        receipts = producer.stream(source(facts(5000)))
        await anext(receipts)
        await receipts.aclose()
        await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_receipts_that_do_not_fit_the_submissions_are_a_defect_of_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with ScriptedServer() as server, Producer(server.address) as producer:
        monkeypatch.setattr(server, "_take", lambda submissions: [pb.Receipt()] * (len(submissions) - 1))
        with pytest.raises(Broken, match="3 submissions with 2 receipts"):
            await producer.submit(*facts(3))
        with pytest.raises(Broken, match="2 receipts where 3 were due"):
            async for _ in producer.stream(source(facts(3))):
                pass
