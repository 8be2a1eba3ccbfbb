"""One endless exchange of submissions for receipts, over as many gRPC streams as it takes.

    source ─► queue ─► batch ─► unanswered ─► write        the writer: a task of each stream
                                    │
                receipts ◄──────────┴─────── read          the reader: whoever takes the receipts

A batch stays unanswered until its receipts are read. When a stream breaks, the next one begins with what is unanswered;
the service knows the submissions that it has already taken by their producer and id.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from typing import Final, TypeAlias

from epistream.clients.channel import Backoff, Connection, Conversation, task_is_cancelled
from epistream.v1 import ingest_service_pb2 as ingest
from epistream.v1 import ingest_service_pb2_grpc as rpc
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken, EpistreamError, Unavailable

BATCH_SUBMISSIONS_MAX: Final = 1000
"""The service takes no more at a time."""
BATCH_BYTES_ENOUGH: Final = 512 << 10
"""A batch that has this much is sent.

With a last submission of 1 MiB it stays well below gRPC's default limit of 4 MiB.
"""
UNANSWERED_BATCHES_MAX: Final = 8
QUEUED_SUBMISSIONS_MAX: Final = BATCH_SUBMISSIONS_MAX
ANSWER_SECONDS_MAX: Final = 60.0
"""How long a batch may wait for its receipts.

A service that encodes on a small machine needs seconds for a large batch.
"""

_Conversation: TypeAlias = Conversation[ingest.SubmitStreamRequest, ingest.SubmitStreamResponse]
_log: Final = logging.getLogger(__name__)


class SubmitStream:
    """The exchange. Used once, by one task."""

    def __init__(
        self, connection: Connection, submissions: AsyncIterable[pb.Submission], answer_seconds_max: float
    ) -> None:
        """Sends `submissions`; gives up when nothing was answered for `answer_seconds_max`."""
        self._connection = connection
        self._submissions = submissions
        self._answer_seconds_max = answer_seconds_max
        self._now = asyncio.get_running_loop().time
        self._queue: asyncio.Queue[pb.Submission | None] = asyncio.Queue(QUEUED_SUBMISSIONS_MAX)
        self._source_ended = False
        self._unanswered: deque[list[pb.Submission]] = deque()
        self._answered = asyncio.Event()
        self._due_time = 0.0
        self._reading = False
        """Whether an answer is being read."""
        self._backoff = Backoff()
        self._shown = connection.files()

    async def receipts(self) -> AsyncGenerator[pb.Receipt, None]:
        """Yields a receipt for each submission, in order. Raises as `Producer.stream` says."""
        feeder = asyncio.create_task(self._feed())
        try:
            while not self._finished():
                try:
                    async with contextlib.aclosing(self._one_stream()) as answers:
                        async for receipts in answers:
                            for receipt in receipts:
                                yield receipt
                except EpistreamError as error:
                    passing = self._connection.passing(error, self._shown)
                    if passing is None:
                        raise
                    await self._wait_after(passing)
            await feeder
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)

    def _finished(self) -> bool:
        return self._source_ended and not self._unanswered

    async def _feed(self) -> None:
        failure: BaseException | None = None
        try:
            async for submission in self._submissions:
                await self._queue.put(submission)
        except asyncio.CancelledError as error:
            if task_is_cancelled():
                raise
            failure = error  # the source's own
        except Exception as error:  # noqa: BLE001 -- raised below, after the end is announced
            failure = error
        await self._queue.put(None)
        if failure is not None:
            raise failure

    async def _one_stream(self) -> AsyncGenerator[Sequence[pb.Receipt], None]:
        """The receipts of each batch, until all are answered. Raises `Unavailable` when the stream ends before."""
        self._shown = self._connection.files()
        stub = rpc.IngestServiceStub(self._connection.channel)
        conversation: _Conversation = Conversation(stub.SubmitStream(wait_for_ready=self._connection.proven))
        writer = asyncio.create_task(self._write(conversation))
        try:
            while (answer := await self._read(conversation)) is not None:
                yield self._take(answer.receipts)
                self._due_time = self._now() + self._answer_seconds_max
            if not self._finished():
                raise Unavailable("The service ended the stream.", retry_delay_seconds=0.0)
        finally:
            conversation.cancel()
            writer.cancel()
            await asyncio.wait({writer})

    async def _read(self, conversation: _Conversation) -> ingest.SubmitStreamResponse | None:
        """The next answer, None at the end. Raises as `Conversation.read`."""
        self._reading = True
        self._expect_answer(conversation)
        answer = await conversation.read()
        self._reading = False
        conversation.relax()  # between reads it is who takes the receipts that takes its time
        return answer

    def _take(self, receipts: Sequence[pb.Receipt]) -> Sequence[pb.Receipt]:
        due = len(self._unanswered[0]) if self._unanswered else 0
        if len(receipts) != due:
            raise Broken(f"The service sent {len(receipts)} receipts where {due} were due.")
        self._unanswered.popleft()
        self._answered.set()
        self._connection.proven = True
        self._backoff.reset()
        return receipts

    def _expect_answer(self, conversation: _Conversation) -> None:
        """Has the stream given up when the oldest batch, or the end after the last one, is overdue while it is read."""
        if self._reading and (self._unanswered or self._source_ended):
            conversation.expect_word_in(max(self._due_time - self._now(), 0.0))
        else:
            conversation.relax()

    async def _write(self, conversation: _Conversation) -> None:
        with contextlib.suppress(EpistreamError):  # the reader hears of it
            self._expect_answer(conversation)
            for batch in tuple(self._unanswered):
                await conversation.write(ingest.SubmitStreamRequest(submissions=batch))
            while batch := await self._next_batch():
                self._expect_answer(conversation)
                await conversation.write(ingest.SubmitStreamRequest(submissions=batch))
            self._expect_answer(conversation)
            await conversation.done_writing()

    async def _next_batch(self) -> list[pb.Submission]:
        """What is at hand, at least one, already among the unanswered.

        Empty at the end. A cancelled call loses nothing.
        """
        while len(self._unanswered) >= UNANSWERED_BATCHES_MAX:
            self._answered.clear()
            await self._answered.wait()
        batch: list[pb.Submission] = []
        size = 0
        submission = None if self._source_ended else await self._queue.get()
        while submission is not None:
            batch.append(submission)
            size += submission.ByteSize()
            if size >= BATCH_BYTES_ENOUGH or len(batch) == BATCH_SUBMISSIONS_MAX or self._queue.empty():
                break
            submission = self._queue.get_nowait()
        self._source_ended = submission is None
        if not self._unanswered:
            self._due_time = self._now() + self._answer_seconds_max
        if batch:
            self._unanswered.append(batch)
        return batch

    async def _wait_after(self, error: Unavailable) -> None:
        renewed = self._connection.renew()
        wait_seconds = error.retry_delay_seconds + self._backoff.next_seconds()
        overdue = self._unanswered and self._now() + wait_seconds > self._due_time
        if overdue or (error.reason == "TLS" and not renewed):
            raise error
        _log.warning("%d batches go out again in %.3f s: %s", len(self._unanswered), wait_seconds, error.message)
        await asyncio.sleep(wait_seconds)
