"""A producer's side: make submissions, send them, have a receipt for each."""

import hashlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from epistream.clients.channel import CALL_TIMEOUT_SECONDS, Connected, Connection, call
from epistream.clients.credentials import Credentials
from epistream.clients.submit_stream import ANSWER_SECONDS_MAX, BATCH_SUBMISSIONS_MAX, SubmitStream
from epistream.v1 import ingest_service_pb2 as ingest
from epistream.v1 import ingest_service_pb2_grpc as rpc
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken

BATCH_BYTES_MAX: Final = 1 << 20
"""A call carries no more than this, unless a single submission does."""

OriginName: TypeAlias = Literal["EXPERT", "COLLABORATIVE", "CRAWLED", "SYNTHETIC"]
"""How knowledge came to be, by falling authority."""
ModalityName: TypeAlias = Literal["TEXT", "CODE", "IMAGE", "VIDEO"]
"""What kind of knowledge it is."""


def submission(
    content: str,
    *,
    namespace: str,
    producer: str,
    origin: OriginName,
    modality: ModalityName = "TEXT",
    item_id: str = "",
    submission_id: str = "",
    source: str = "",
    generator: str = "",
    derived_from: Iterable[str] = (),
    licence: str = "",
    time: datetime | None = None,
    attributes: Mapping[str, str] | None = None,
    media: pb.Media | None = None,
    embedding: Sequence[float] | NDArray[np.float32] | None = None,
    expected_version: int | None = None,
    valid_from: datetime | None = None,
) -> pb.Submission:
    """A submission of new knowledge, or of a new version of `item_id`, submitted now.

    See `Submission` in the contract for each field.

    Without a `submission_id` it gets the SHA-256 of all the rest, so that the same submission made twice is one. To say
    again what was said before something else, as in A, B, A under one `item_id`, give an id of your own.
    """
    made = pb.Submission(
        namespace=namespace,
        submission_id=submission_id,
        item_id=item_id,
        origin=pb.Origin.Value(f"ORIGIN_{origin}"),
        modality=pb.Modality.Value(f"MODALITY_{modality}"),
        content=content,
        media=media,
        attributes=attributes,
        expected_version=expected_version,
    )
    made.provenance.MergeFrom(
        pb.Provenance(producer=producer, source=source, generator=generator, derived_from=derived_from, licence=licence)
    )
    if time is not None:
        made.provenance.time.FromDatetime(time)
    if valid_from is not None:
        made.valid_from.FromDatetime(valid_from)
    if embedding is not None:
        made.embedding.float32 = np.asarray(embedding, "<f4").tobytes()
    if not made.submission_id:
        made.submission_id = hashlib.sha256(made.SerializeToString(deterministic=True)).hexdigest()
    made.submitted_time.FromDatetime(datetime.now(UTC))
    return made


class Producer(Connected):
    """Sends knowledge to a service. Construct it inside the event loop that uses it.

    Whatever is sent can be sent again: the service knows a submission by its producer and id and answers with the
    earlier receipt. Each method therefore repeats what was not answered while the service is unavailable, and when a
    token has run out and its file holds another one. It raises:
        InvalidInput, NotFound, Conflict, Denied, Broken: as the service says. A submission that is wrong raises
            nothing: its receipt says REFUSED and why.
        Unavailable: no answer in time, or TLS cannot be agreed on (`reason` TLS).
    """

    def __init__(
        self,
        target: str | grpc.aio.Channel,
        *,
        credentials: Credentials | None = None,
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> None:
        """Connects to `target` (`host:port`, or a channel, which stays the caller's to close) when it is first used.

        A call may take `timeout_seconds`, its repetitions included. Raises InvalidInput: the `credentials` cannot be
        used.
        """
        self._connection = Connection(target, credentials)
        self._seconds = timeout_seconds

    @property
    def _stub(self) -> rpc.IngestServiceStub:
        return rpc.IngestServiceStub(self._connection.channel)

    async def submit(self, *submissions: pb.Submission, atomic: bool = False) -> list[pb.Receipt]:
        """The receipts of `submissions`, in their order, when all of them are durable.

        Many submissions are sent in several calls, one after the other. With `atomic` it is one call, and all or
        nothing: when one is refused, none is written and `InvalidInput` or `Conflict` names it.
        """
        receipts: list[pb.Receipt] = []
        for batch in (submissions,) if atomic else batches(submissions):
            request = ingest.SubmitRequest(submissions=batch, atomic=atomic)
            answer = await call(self._connection, lambda: self._stub.Submit, request, self._seconds)
            if len(answer.receipts) != len(batch):
                raise Broken(f"The service answered {len(batch)} submissions with {len(answer.receipts)} receipts.")
            receipts.extend(answer.receipts)
        return receipts

    async def retract(
        self,
        namespace: str,
        item_id: str,
        *,
        producer: str,
        origin: OriginName,
        submission_id: str = "",
        expected_version: int | None = None,
    ) -> pb.Receipt:
        """Takes an item back, on the authority of `origin`. From the receipt's revision on it is in no answer.

        Without a `submission_id` each call is an act of its own, since an item can come back and be retracted again.
        """
        request = ingest.RetractRequest(
            namespace=namespace,
            submission_id=submission_id or uuid.uuid4().hex,
            item_id=item_id,
            origin=pb.Origin.Value(f"ORIGIN_{origin}"),
            provenance=pb.Provenance(producer=producer),
            expected_version=expected_version,
        )
        return (await call(self._connection, lambda: self._stub.Retract, request, self._seconds)).receipt

    def stream(
        self, submissions: AsyncIterable[pb.Submission], *, answer_seconds_max: float = ANSWER_SECONDS_MAX
    ) -> AsyncGenerator[pb.Receipt, None]:
        """Sends submissions as they come and yields their receipts, in order, as they commit.

        What is at hand goes out together, so that a slow source waits for nothing and a fast one is sent in large
        batches. Receipts that are not taken slow the source down. A broken stream is followed by another, which begins
        with what was not answered. An error of the source is raised after the receipts of what it gave. Raises
        `Unavailable` when nothing was answered for `answer_seconds_max`.
        """
        return SubmitStream(self._connection, submissions, answer_seconds_max).receipts()


def batches(submissions: Iterable[pb.Submission]) -> Iterator[list[pb.Submission]]:
    """Lists of at most 1,000 submissions and 1 MiB; a longer one is alone."""
    batch: list[pb.Submission] = []
    size = 0
    for one in submissions:
        bytes_of_one = one.ByteSize()
        if batch and (len(batch) == BATCH_SUBMISSIONS_MAX or size + bytes_of_one > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += bytes_of_one
    if batch:
        yield batch
