"""A service that speaks the contract over a loopback socket, has a history that the test writes, and fails on demand.

Without a script it does what the contract says, in the plainest way. A `Script` says how one stream goes wrong.
"""

# ruff: noqa: N802, ARG002 -- names and signatures are those of the generated servicers

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

import grpc.aio
import numpy as np
from grpc_status import rpc_status

from epistream.v1 import ingest_service_pb2 as ingest
from epistream.v1 import ingest_service_pb2_grpc as ingest_rpc
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge
from epistream.v1 import knowledge_service_pb2_grpc as knowledge_rpc
from epistream.v1 import sync_service_pb2 as sync
from epistream.v1 import sync_service_pb2_grpc as sync_rpc
from epistream.wire.errors import EpistreamError, Resync, State
from epistream.wire.status import to_status
from tests.support.histories import DIMENSION, filtered, state_after

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class Script:
    """How one stream goes wrong. Messages are counted from 1, `subscribed` included."""

    refuse: EpistreamError | None = None
    """Before the first message."""
    break_after: int | None = None
    """So many messages, then fail as a dying process does."""
    end_after: int | None = None
    """So many messages, then end with OK."""
    silent_after: int | None = None
    """So many messages, then nothing, and the stream stays open."""
    drain_after: int | None = None
    """So many messages, then go down in good order."""
    repeat: bool = False
    """Send every batch twice, the second time with the last change of the batch before."""
    skip: frozenset[int] = frozenset()
    """Leave out these revisions."""
    miscount: bool = False
    """Say that a snapshot has one item more than it has."""


@dataclass
class Stream:
    """What the service saw of one stream."""

    subscription: sync.Subscription
    acknowledgements: list[sync.Acknowledgement] = field(default_factory=list)
    ended: bool = False


@dataclass(frozen=True)
class Caller:
    """What a call showed of who made it."""

    authorization: str | None
    certificate_name: str | None
    """The common name in the client's certificate."""


class ScriptedServer(
    sync_rpc.SyncServiceServicer, ingest_rpc.IngestServiceServicer, knowledge_rpc.KnowledgeServiceServicer
):
    """The service. Use it as an async context manager; it may be started again on the same port."""

    def __init__(self, history: Sequence[pb.Change] = (), epoch: str = "epoch-1", dimension: int = DIMENSION) -> None:
        self.history = list(history)
        self.feedback: list[knowledge.RecordedFeedback] = []
        self.epoch = epoch
        self.dimension = dimension
        self.floor = 0
        """Revisions below it are compacted."""
        self.batch = 7
        """Changes a message."""
        self.drain_delay_seconds = 0.05
        self.scripts: deque[Script] = deque()
        """Those of the next streams; a stream without one goes well."""
        self.streams: list[Stream] = []
        self.failures: deque[EpistreamError] = deque()
        """What the next unary calls and batches fail with."""
        self.receipts: dict[tuple[str, str], pb.Receipt] = {}
        self.batches: list[list[str]] = []
        """The submission ids of every batch received."""
        self.answering = asyncio.Event()
        """Cleared to leave batches without an answer."""
        self.answering.set()
        self.query_vector = np.zeros(dimension, "<f4")
        self.queries: list[str] = []
        self.tls: grpc.ServerCredentials | None = None
        """Serve TLS with these from the next start on."""
        self.callers: list[Caller] = []
        """Who made each call."""
        self.refuses: Callable[[Caller], EpistreamError | None] = lambda _: None
        """Why a caller is turned away."""
        self.port = 0
        self._moved = asyncio.Condition()
        self._listeners: set[asyncio.Task[None]] = set()
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        sync_rpc.add_SyncServiceServicer_to_server(self, self._server)
        ingest_rpc.add_IngestServiceServicer_to_server(self, self._server)
        knowledge_rpc.add_KnowledgeServiceServicer_to_server(self, self._server)
        address = f"127.0.0.1:{self.port}"
        if self.tls is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self.tls)
        await self._server.start()

    async def stop(self) -> None:
        """As a dying process: every call fails."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def commit(self, *changes: pb.Change) -> None:
        self.history.extend(changes)
        async with self._moved:
            self._moved.notify_all()

    # SyncService

    async def Subscribe(
        self, request_iterator: AsyncIterator[sync.SubscribeRequest], context: Context
    ) -> AsyncIterator[sync.SubscribeResponse]:
        await self._admit(context)
        script = self.scripts.popleft() if self.scripts else Script()
        stream = Stream((await anext(request_iterator)).subscribe)
        self.streams.append(stream)
        if script.refuse is not None:
            await abort(context, script.refuse)
        listening = asyncio.create_task(self._listen(request_iterator, stream))
        try:
            count = 0
            async for message in self._messages(stream.subscription, script, context):
                yield message
                count += 1
                match count:
                    case script.break_after:
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
                    case script.silent_after:
                        await asyncio.Event().wait()
                    case script.end_after:
                        return
                    case script.drain_after:
                        drain = sync.Drain(revision=last_revision(message))
                        drain.retry_delay.FromMilliseconds(int(self.drain_delay_seconds * 1000))
                        yield sync.SubscribeResponse(drain=drain)
                        return
                    case _:
                        pass
        finally:
            stream.ended = True
            self._listeners.add(listening)  # it ends with the call; what has arrived is still heard

    async def ListConsumers(self, request: sync.ListConsumersRequest, context: Context) -> sync.ListConsumersResponse:
        answer = sync.ListConsumersResponse(head_revision=len(self.history))
        for number, stream in enumerate(self.streams, 1):
            if stream.subscription.namespace == request.namespace:
                answer.consumers.add(consumer=stream.subscription.consumer, stream=number, connected=not stream.ended)
        return answer

    async def WaitApplied(self, request: sync.WaitAppliedRequest, context: Context) -> sync.WaitAppliedResponse:
        return sync.WaitAppliedResponse(applied=request.consumers)

    async def _listen(self, requests: AsyncIterator[sync.SubscribeRequest], stream: Stream) -> None:
        with contextlib.suppress(grpc.aio.BaseError):  # the call has ended
            async for request in requests:
                stream.acknowledgements.append(request.acknowledge)

    async def _messages(
        self, wanted: sync.Subscription, script: Script, context: Context
    ) -> AsyncIterator[sync.SubscribeResponse]:
        head = len(self.history)
        start = wanted.WhichOneof("start")
        compacted = start == "after_revision" and wanted.after_revision + 1 < self.floor
        if start == "after_revision":
            await self._check(wanted, context, compacted=compacted)
        snapshot = start == "snapshot" or compacted
        after = wanted.after_revision if start == "after_revision" and not compacted else head
        yield sync.SubscribeResponse(
            subscribed=sync.Subscribed(
                epoch=self.epoch, head_revision=head, after_revision=after, dimension=self.dimension
            )
        )
        if snapshot:
            for message in self._snapshot(wanted, script, head, compacted=compacted):
                yield message
        async for message in self._changes(wanted, script, after):
            yield message

    async def _check(self, wanted: sync.Subscription, context: Context, *, compacted: bool) -> None:
        state = State(self.epoch, len(self.history), self.floor)
        reason = ""
        if wanted.epoch and wanted.epoch != self.epoch:
            reason = "EPOCH_MISMATCH"
        elif wanted.after_revision > len(self.history):
            reason = "FUTURE_REVISION"
        elif compacted and not wanted.snapshot_if_compacted:
            reason = "COMPACTED"
        if reason:
            await abort(context, Resync(f"refused for {reason}", reason=reason, state=state))

    def _snapshot(
        self, wanted: sync.Subscription, script: Script, head: int, *, compacted: bool
    ) -> Iterator[sync.SubscribeResponse]:
        yield sync.SubscribeResponse(snapshot_begin=sync.SnapshotBegin(revision=head, compacted=compacted))
        revisions = sorted(change.revision for change in state_after(self.history, head, a_filter(wanted)).values())
        for batch in batched(revisions, self.batch):
            items = [self._as_wanted(self.history[revision - 1], wanted) for revision in batch]
            yield sync.SubscribeResponse(snapshot=sync.Changes(changes=items))
        count = len(revisions) + script.miscount
        yield sync.SubscribeResponse(snapshot_end=sync.SnapshotEnd(revision=head, count=count))

    async def _changes(
        self, wanted: sync.Subscription, script: Script, after: int
    ) -> AsyncIterator[sync.SubscribeResponse]:
        interval_seconds = wanted.progress_interval.ToMicroseconds() / 1e6
        before: list[pb.Change] = []
        while True:
            head = len(self.history)
            due = [
                self._as_wanted(change, wanted)
                for change in filtered(self.history, a_filter(wanted))
                if change.revision > after and change.revision not in script.skip
            ]
            for batch in batched(due, self.batch):
                yield sync.SubscribeResponse(changes=sync.Changes(changes=batch))
                if script.repeat:
                    yield sync.SubscribeResponse(changes=sync.Changes(changes=[*before[-1:], *batch]))
                before = list(batch)
            after = head
            try:
                async with asyncio.timeout(interval_seconds), self._moved:
                    while len(self.history) == head:
                        await self._moved.wait()
            except TimeoutError:
                progress = sync.Progress(revision=after, head_revision=len(self.history))
                progress.time.GetCurrentTime()
                yield sync.SubscribeResponse(progress=progress)

    def _as_wanted(self, change: pb.Change, wanted: sync.Subscription) -> pb.Change:
        if wanted.include_embeddings or not change.embedding:
            return change
        plain = pb.Change()
        plain.CopyFrom(change)
        plain.ClearField("embedding")
        return plain

    # IngestService

    async def Submit(self, request: ingest.SubmitRequest, context: Context) -> ingest.SubmitResponse:
        await self._admit(context)
        await self._fail(context)
        receipts = self._take(request.submissions)
        await self.answering.wait()
        return ingest.SubmitResponse(receipts=receipts)

    async def SubmitStream(
        self, request_iterator: AsyncIterator[ingest.SubmitStreamRequest], context: Context
    ) -> AsyncIterator[ingest.SubmitStreamResponse]:
        await self._admit(context)
        async for request in request_iterator:
            receipts = self._take(request.submissions)
            await self._fail(context)
            await self.answering.wait()
            yield ingest.SubmitStreamResponse(receipts=receipts)

    async def Retract(self, request: ingest.RetractRequest, context: Context) -> ingest.RetractResponse:
        await self._admit(context)
        await self._fail(context)
        submission = pb.Submission(
            submission_id=request.submission_id, item_id=request.item_id, provenance=request.provenance
        )
        return ingest.RetractResponse(receipt=self._take([submission])[0])

    def _take(self, submissions: Sequence[pb.Submission]) -> list[pb.Receipt]:
        self.batches.append([submission.submission_id for submission in submissions])
        receipts = []
        for submission in submissions:
            key = (submission.provenance.producer, submission.submission_id)
            receipt = pb.Receipt(earlier=key in self.receipts)
            receipt.MergeFrom(
                self.receipts.setdefault(
                    key,
                    pb.Receipt(
                        submission_id=submission.submission_id,
                        item_id=submission.item_id,
                        outcome=pb.OUTCOME_ADMITTED,
                        revision=len(self.receipts) + 1,
                    ),
                )
            )
            receipts.append(receipt)
        return receipts

    async def _admit(self, context: Context) -> None:
        """Notes who makes a call, and turns away whom the test has turned away."""
        shown = dict(context.invocation_metadata() or ()).get("authorization")
        names = context.auth_context().get("x509_common_name", ())
        caller = Caller(None if shown is None else str(shown), next((name.decode() for name in names), None))
        self.callers.append(caller)
        refused = self.refuses(caller)
        if refused is not None:
            await abort(context, refused)

    async def _fail(self, context: Context) -> None:
        if self.failures:
            await abort(context, self.failures.popleft())

    # KnowledgeService

    async def Get(self, request: knowledge.GetRequest, context: Context) -> knowledge.GetResponse:
        await self._admit(context)
        await self._fail(context)
        at = request.as_of.revision if request.HasField("as_of") else len(self.history)
        return knowledge.GetResponse(change=state_after(self.history, at)[request.item_id], revision=at)

    async def History(self, request: knowledge.HistoryRequest, context: Context) -> knowledge.HistoryResponse:
        await self._admit(context)
        await self._fail(context)
        versions = [c for c in self.history if c.item_id == request.item_id and c.version > request.after_version]
        return knowledge.HistoryResponse(changes=versions[: request.limit], revision=len(self.history))

    async def Search(self, request: knowledge.SearchRequest, context: Context) -> knowledge.SearchResponse:
        await self._admit(context)
        await self._fail(context)
        self.queries.append(request.text)
        return knowledge.SearchResponse(revision=len(self.history), query_embedding=self.query_vector.tobytes())

    async def ListFeedback(
        self, request: knowledge.ListFeedbackRequest, context: Context
    ) -> knowledge.ListFeedbackResponse:
        await self._admit(context)
        await self._fail(context)
        begin = int(request.page_token or 0)
        end = begin + request.limit
        answer = knowledge.ListFeedbackResponse(feedback=self.feedback[begin:end])
        if end < len(self.feedback):
            answer.next_page_token = str(end)
        return answer

    async def Explain(self, request: knowledge.ExplainRequest, context: Context) -> knowledge.ExplainResponse:
        await self._admit(context)
        await self._fail(context)
        receipt = pb.Receipt(producer=request.producer, submission_id=request.submission_id)
        return knowledge.ExplainResponse(explanations=[knowledge.Explanation(receipt=receipt)])

    async def ListAlarms(self, request: knowledge.ListAlarmsRequest, context: Context) -> knowledge.ListAlarmsResponse:
        await self._admit(context)
        await self._fail(context)
        return knowledge.ListAlarmsResponse(head_revision=len(self.history))

    async def ListSignals(
        self, request: knowledge.ListSignalsRequest, context: Context
    ) -> knowledge.ListSignalsResponse:
        await self._admit(context)
        await self._fail(context)
        return knowledge.ListSignalsResponse(model=request.namespace, revision=len(self.history))

    async def Diff(self, request: knowledge.DiffRequest, context: Context) -> knowledge.DiffResponse:
        await self._admit(context)
        await self._fail(context)
        earlier, later = getattr(request, "from").revision, request.to.revision or len(self.history)
        before, after = state_after(self.history, earlier), state_after(self.history, later)
        entries = [
            knowledge.DiffEntry(item_id=item_id, before=before.get(item_id), after=after.get(item_id))
            for item_id in sorted(before.keys() | after.keys())
            if before.get(item_id) != after.get(item_id)
        ]
        if not request.page_token:  # a page without entries is not the last
            return knowledge.DiffResponse(from_revision=earlier, to_revision=later, next_page_token="0")
        at = int(request.page_token)
        token = str(at + request.limit) if at + request.limit < len(entries) else ""
        page = entries[at : at + request.limit]
        return knowledge.DiffResponse(entries=page, from_revision=earlier, to_revision=later, next_page_token=token)


async def abort(context: Context, error: EpistreamError) -> NoReturn:
    """End the call with the status that tells of `error`."""
    await context.abort_with_status(rpc_status.to_status(to_status(error)))
    raise AssertionError


def a_filter(wanted: sync.Subscription) -> pb.Filter | None:
    return wanted.filter if wanted.HasField("filter") else None


def last_revision(message: sync.SubscribeResponse) -> int:
    """Up to where a stream was sent with `message`, which must say so."""
    match message.WhichOneof("message"):
        case "changes":
            return message.changes.changes[-1].revision
        case "progress":
            return message.progress.revision
        case "snapshot_end":
            return message.snapshot_end.revision
        case "subscribed":
            return message.subscribed.after_revision
        case kind:
            raise AssertionError(f"a script cannot drain after {kind}")


def batched(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """`values` in lists of `size`."""
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
