"""The servicer of `epistream.v1.IngestService`.

Requests are read as raw bytes, so that each submission keeps the bytes that its producer sent, and one that cannot be
decoded spoils no other. What people say has room and threads of its own (docs/decisions/0022): a flood of what models
make keeps no correction waiting.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

from google.protobuf.message import DecodeError

from epistream.indexer.clock import Clock
from epistream.indexer.model import Malformed, Record
from epistream.services.calls import Call, Calls, Context, Handler
from epistream.services.errors import undecodable
from epistream.services.security.limits import Allowance, Room
from epistream.services.tracing import Prepare, Trace, Traces, receiving
from epistream.services.turns import Turn, Turns
from epistream.services.writer import Prepared, Writer
from epistream.v1 import ingest_service_pb2 as api
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1.raw_pb2 import RawSubmissionClaims, RawSubmitRequest
from epistream.wire.errors import InvalidInput, Unavailable
from epistream.wire.limits import SUBMISSION_BYTES_MAX
from epistream.wire.origins import PEOPLE

SERVICE: Final = api.DESCRIPTOR.services_by_name["IngestService"].full_name

_T = TypeVar("_T")

IN_HAND_BYTES_MAX: Final = 64 * 1024 * 1024
"""How much of all requests of a lane is worked on at a time. More waits (in a stream) or is turned away (in a call)."""
_QUEUE_SECONDS: Final = 0.02
"""How often a batch of a stream looks whether the writer has room for it."""
_ANSWER_SECONDS: Final = 1.0
"""What is left of a deadline for answering when the encoder was waited for in vain. Loading keeps Python busy."""


@dataclass(frozen=True, slots=True)
class Ways:
    """Where a submission goes, in order."""

    prepare: Prepare
    preparers: Executor
    """For decoding and embedding."""
    threads: int
    """How many of `preparers` a lane may keep busy; there are two."""
    encoder_ready: asyncio.Event
    """Set when the encoder is loaded, or when there is none."""
    writer: Writer
    clock: Clock
    traces: Traces | None = None
    """Follows calls; None follows none."""


class _Lane:
    """What requests of one kind wait for. Each kind has its own."""

    def __init__(self, threads: int, *, ahead: bool) -> None:
        """`ahead`: what people say."""
        self.room = Room(IN_HAND_BYTES_MAX)
        self.threads = asyncio.Semaphore(threads)
        self.ahead: Final = ahead


class IngestServicer:
    """Takes submissions in. Used on the event loop's thread only."""

    def __init__(self, ways: Ways, calls: Calls, *, submissions_max: int) -> None:
        """`submissions_max` bounds a request, and each message of a stream."""
        self._ways, self._calls, self._submissions_max = ways, calls, submissions_max
        self._people, self._others = _Lane(ways.threads, ahead=True), _Lane(ways.threads, ahead=False)

    def handlers(self) -> dict[str, Handler]:
        """The service's methods."""
        begin = Allowance.begin_submitting
        return {
            "Submit": self._calls.unary("IngestService/Submit", bytes, self._submit, begin=begin),
            "SubmitStream": self._calls.stream("IngestService/SubmitStream", self._submit_stream, bounded=True),
            "Retract": self._calls.unary(
                "IngestService/Retract", api.RetractRequest.FromString, self._retract, begin=begin
            ),
        }

    async def _submit(self, raw: bytes, call: Call) -> bytes:
        call.caller.require_somewhere(call.rule)
        allowance = call.caller.allowance
        with allowance.in_hand(len(raw)):
            allowance.admit_submissions()
            allowance.pay(0, len(raw))
            request = self._parsed(raw)
            lane = self._lane(request.submissions)
            with lane.room.taken_at_once(len(raw)):
                allowance.pay(len(request.submissions), 0)
                call.noted["namespaces"] = call.caller.require_submissions(request.submissions)
                receipts = await self._decided("Submit", request.submissions, call, lane, atomic=request.atomic)
        return api.SubmitResponse(receipts=receipts).SerializeToString()

    async def _retract(self, request: api.RetractRequest, call: Call) -> bytes:
        submission = pb.Submission(
            namespace=request.namespace,
            submission_id=request.submission_id,
            item_id=request.item_id,
            origin=request.origin,
            retraction=True,
        )
        if request.HasField("provenance"):
            submission.provenance.CopyFrom(request.provenance)
        if request.HasField("expected_version"):
            submission.expected_version = request.expected_version
        raw = submission.SerializeToString()
        lane = self._lane([raw])
        call.noted["namespaces"] = call.caller.require_submissions([raw])
        call.caller.allowance.admit_submissions()
        call.caller.allowance.pay(1, len(raw))
        with call.caller.allowance.in_hand(len(raw)), lane.room.taken_at_once(len(raw)):
            [receipt] = await self._decided("Retract", [raw], call, lane, atomic=False)
        call.noted["item"] = receipt.item_id
        return api.RetractResponse(receipt=receipt).SerializeToString()

    async def _decided(
        self, method: str, submissions: Sequence[bytes], call: Call, lane: _Lane, *, atomic: bool
    ) -> list[pb.Receipt]:
        """The receipts of a call's submissions, durable and noted. Cancelled before its turn, nothing is written."""
        with receiving(self._ways.traces, method, call.metadata, len(submissions)) as trace:
            prepared = [_kept(one, call) for one in await self._prepared(submissions, call, trace, lane)]
            deciding = self._ways.writer.submit_batch(prepared, atomic=atomic, ahead=lane.ahead)
            try:
                return await _over(deciding)
            finally:
                call.noted |= _told(deciding)

    async def _submit_stream(self, context: Context, call: Call) -> None:
        turns, lane = Turns(context, self._calls.draining), self._people
        try:
            while (raw := await turns.next_batch()) is not None:
                call.heard = True
                allowance = call.caller.allowance
                allowance.check_size(len(raw))
                # Before there is room for it: who waits for the own rate must not take the room of others meanwhile.
                await self._await_rate(allowance)
                if lane.ahead and not (lane := self._lane_of_batch(raw)).ahead:
                    await turns.settled()  # what goes ahead and is before it must not be written after it
                await _take_room(allowance, lane.room, len(raw))
                given = partial(_give_room, allowance, lane.room, len(raw))
                turns.begin(partial(self._decided_in_turn, raw, call, lane), given)
            await turns.finish()
        finally:
            await turns.close()
        if self._calls.draining.is_set():
            raise Unavailable("the service is going down: go on with the next batch elsewhere", reason="DRAINING")

    async def _await_rate(self, allowance: Allowance) -> None:
        """Wait until submissions may come again, or the service goes down."""
        while (seconds := allowance.delay_seconds()) > 0 and not self._calls.draining.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._calls.draining.wait(), seconds)

    async def _decided_in_turn(self, raw: bytes, call: Call, lane: _Lane, turn: Turn) -> bytes:
        """The receipts of one batch of a stream: prepared beside other batches, written after those before it."""
        try:
            call.caller.allowance.pay(0, len(raw))
            request = self._parsed(raw)
            call.caller.allowance.pay(len(request.submissions), 0)
            call.caller.require_submissions(request.submissions)
            # The metadata came with the stream, which lasts: it says nothing of this batch.
            with receiving(self._ways.traces, "SubmitStream", tuple, len(request.submissions)) as trace:
                prepared = [_kept(one, call) for one in await self._prepared(request.submissions, None, trace, lane)]
                await turn.come()
                deciding = await self._queued(prepared, lane)
                turn.over(queued=True)
                try:
                    receipts = await _over(deciding)
                finally:
                    if told := _told(deciding):
                        call.record(replace(call, noted=told), "BATCH")
        finally:
            turn.over(queued=False)
        return api.SubmitStreamResponse(receipts=receipts).SerializeToString()

    async def _queued(self, prepared: Sequence[Prepared], lane: _Lane) -> "Future[list[pb.Receipt]]":
        """Queue a batch of a stream, waiting for room: a stream is slowed down, not turned away."""
        while True:
            try:
                return self._ways.writer.submit_batch(prepared, ahead=lane.ahead)
            except Unavailable as error:
                if error.reason != "OVERLOADED":
                    raise
            await asyncio.sleep(_QUEUE_SECONDS)

    def _lane_of_batch(self, raw: bytes) -> _Lane:
        """The lane of a batch of a stream whose batches were people's so far. From the first other on it has no more.

        So a stream is written in its order, and what waits for its turn there takes no room of others' corrections.
        """
        try:
            return self._lane(self._parsed(raw).submissions)
        except InvalidInput:  # it is refused in its turn
            return self._others

    def _lane(self, submissions: Sequence[bytes]) -> _Lane:
        """People's where all of it is theirs that can be decoded."""
        origins = {origin for one in submissions if (origin := _origin(one)) is not None}
        return self._people if origins and origins <= PEOPLE else self._others

    def _parsed(self, raw: bytes) -> RawSubmitRequest:
        """The submissions of a request, each as its bytes.

        Raises:
            InvalidInput: the bytes are no request; or it has none or too many.
        """
        try:
            request = RawSubmitRequest.FromString(raw)
        except DecodeError as error:
            raise undecodable("SubmitRequest") from error
        count = len(request.submissions)
        if not 1 <= count <= self._submissions_max:
            raise InvalidInput.at("submissions", f"{count} submissions, must be 1 to {self._submissions_max}")
        return request

    async def _prepared(
        self, submissions: Sequence[bytes], call: Call | None, trace: Trace | None, lane: _Lane
    ) -> list[Prepared]:
        """Have the pipeline prepare. Where the encoder is needed and still loading, wait within the call's deadline.

        Raises:
            Unavailable: ENCODER_LOADING, and not ready in time.
        """
        now_us = self._ways.clock.now_us()
        records = [Record(submission, now_us) for submission in submissions]
        if trace is not None:
            records = [*map(trace.follow, records)]
        prepare = partial(self._ways.prepare, records, wait=False)
        try:
            return await self._in_preparer(prepare, lane)
        except Unavailable as error:
            if error.reason != "ENCODER_LOADING":
                raise
            seconds = call.remaining_seconds() - _ANSWER_SECONDS if call is not None else None
            limit = asyncio.timeout(seconds)
            try:
                async with limit:
                    await self._ways.encoder_ready.wait()
            except TimeoutError:
                raise error from None
        return await self._in_preparer(prepare, lane)

    async def _in_preparer(self, work: Callable[[], _T], lane: _Lane) -> _T:
        # The pool would keep what waits in it, and what is cancelled there too, until a thread comes to it.
        async with lane.threads:
            return await _over(self._ways.preparers.submit(work))


def _kept(one: Prepared, call: Call) -> Prepared:
    """What was prepared; one that will be refused as it is kept (docs/decisions/0015).

    What was cut stays too large: it would else say what its sender was not asked about, should it be sent again.

    Raises:
        Denied: it would be a dead letter under names that are not the caller's to use.
    """
    if not isinstance(one, Malformed):
        return one
    call.caller.require_names(one.namespace, one.producer)
    return replace(one, record=replace(one.record, value=(one.record.value or b"")[: SUBMISSION_BYTES_MAX + 1]))


def _origin(submission: bytes) -> int | None:
    """As whom it speaks; None when it cannot be decoded."""
    try:
        return RawSubmissionClaims.FromString(submission).origin
    except DecodeError:
        return None


async def _take_room(allowance: Allowance, room: Room, size: int) -> None:
    await allowance.take_room(size)
    try:
        await room.take(size)
    except BaseException:
        allowance.give_room(size)
        raise


def _give_room(allowance: Allowance, room: Room, size: int) -> None:
    allowance.give_room(size)
    room.give(size)


async def _over(doing: "Future[_T]") -> _T:
    """What a thread makes, once it is over.

    Who is cancelled meanwhile waits too, unless it can be cancelled as well: the thread holds its bytes, and with them
    its room.
    """
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    doing.add_done_callback(lambda _: loop.call_soon_threadsafe(over.set))
    cancelled = False
    while not doing.done():
        try:
            await over.wait()
        except asyncio.CancelledError:
            cancelled = True
            doing.cancel()
    if cancelled:
        raise asyncio.CancelledError
    return doing.result()


def _told(deciding: "Future[list[pb.Receipt]]") -> dict[str, object]:
    """What the audit log says of a batch: how many had which outcome, and the newest revision of each namespace.

    Nothing of one that was not written.
    """
    if deciding.cancelled() or deciding.exception() is not None:
        return {}
    receipts = deciding.result()
    outcomes = Counter(pb.Outcome.Name(receipt.outcome).removeprefix("OUTCOME_") for receipt in receipts)
    revisions = {receipt.namespace: receipt.revision for receipt in receipts if receipt.revision}
    return {"outcomes": dict(outcomes), "revisions": revisions}
