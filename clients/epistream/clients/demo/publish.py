"""How the demonstration's knowledge goes in: over Kafka, or over gRPC where there is no Kafka.

Either way the answer is a receipt for each submission. Over Kafka they are had by a second submission, over gRPC: the
service knows what it has decided and answers with the earlier receipts, however often and over whatever way the same
submissions come.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from epistream.clients.kafka_client import translated
from epistream.clients.knowledge import KnowledgeClient
from epistream.clients.producer import Producer
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns
from epistream.wire.errors import Unavailable

Ends: TypeAlias = dict[tuple[str, int], int]
"""The offset after the last record of each partition, by topic and number."""
Progress: TypeAlias = Callable[[int], None]
"""Told how many submissions were decided."""

FOLLOW_SECONDS: Final = 60.0
STALL_SECONDS: Final = 180.0
"""Longer than a slow machine needs to load the encoder."""
ANSWER_SECONDS: Final = 180.0
_POLL_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Published:
    """What became of some submissions."""

    receipts: list[pb.Receipt]
    """One for each, in their order."""
    seconds: float
    """From the first sent to the last decided."""
    repeated: int
    """How many were answered with the earlier receipt when all were submitted again; over gRPC that is not done."""


class Way(Protocol):
    """A way for knowledge to go in."""

    name: str

    async def publish(self, submissions: Sequence[pb.Submission], progress: Progress) -> Published:
        """Publishes, and waits until all is decided. Raises EpistreamError."""

    async def send(self, submission: pb.Submission) -> None:
        """Publishes one, and does not wait until it is decided. Raises EpistreamError."""


class OverGrpc:
    """Straight to the service."""

    name = "gRPC"

    def __init__(self, producer: Producer) -> None:
        """`producer` stays the caller's."""
        self._producer = producer

    async def publish(self, submissions: Sequence[pb.Submission], progress: Progress) -> Published:
        """As `Way.publish`."""
        began = time.monotonic()
        receipts = await stream(self._producer, submissions, progress)
        return Published(receipts, time.monotonic() - began, 0)

    async def send(self, submission: pb.Submission) -> None:
        """As `Way.send`; it is decided when this returns."""
        await self._producer.submit(submission)


class OverKafka:
    """Through Kafka's topics."""

    name = "Kafka"

    def __init__(self, kafka: "Kafka", producer: Producer, client: KnowledgeClient, namespace: str) -> None:
        """All that is given stays the caller's."""
        self._kafka = kafka
        self._producer = producer
        self._client = client
        self._namespace = namespace

    async def publish(self, submissions: Sequence[pb.Submission], progress: Progress) -> Published:
        """As `Way.publish`."""
        began = time.monotonic()
        before = decided_count(await self._client.namespace(self._namespace))
        ends = await asyncio.to_thread(self._kafka.send, submissions)
        shown, last_news = 0, time.monotonic()
        while shown < len(submissions):
            # The counts are the quicker ones, but they do not move for what was decided in an earlier run.
            decided = decided_count(await self._client.namespace(self._namespace)) - before
            left = await asyncio.to_thread(self._kafka.not_taken_in, ends)
            now = min(len(submissions), max(decided, len(submissions) - left))
            if now > shown:
                shown, last_news = now, time.monotonic()
                progress(shown)
            elif time.monotonic() - last_news > STALL_SECONDS:
                text = f"For {STALL_SECONDS:g} seconds the service took nothing in from Kafka; {left} records are left."
                raise Unavailable(text, reason="DEADLINE")
            await asyncio.sleep(_POLL_SECONDS)
        receipts = await stream(self._producer, submissions, lambda _: None)
        repeated = sum(receipt.earlier for receipt in receipts)
        for receipt in receipts:
            receipt.earlier = False  # of the first submission, over Kafka, this is the receipt
        return Published(receipts, last_news - began, repeated)

    async def send(self, submission: pb.Submission) -> None:
        """As `Way.send`; Kafka has it when this returns."""
        await asyncio.to_thread(self._kafka.send, [submission])


class Kafka:
    """What the demonstration needs of Kafka. Blocks; for one thread at a time."""

    def __init__(self, bootstrap: str, group: str) -> None:
        """Connects. `group` is where the service shows Kafka's tools how far it is.

        Raises:
            Unavailable: no broker answers.
        """
        from kafka.admin import KafkaAdminClient
        from kafka.errors import KafkaError

        from epistream.clients.kafka_producer import KafkaProducer

        self._bootstrap = bootstrap
        self._group = group
        self._producer = KafkaProducer(bootstrap)
        try:
            self._admin: Any = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
        except KafkaError as error:
            raise translated(error, bootstrap, "connecting") from error

    def send(self, submissions: Sequence[pb.Submission]) -> Ends:
        """Sends all and waits until Kafka has them; where each partition ends after them. Raises EpistreamError."""
        sent = [self._producer.send(submission) for submission in submissions]
        self._producer.flush()
        ends: Ends = {}
        for position in (future.result() for future in sent):
            partition = (position.topic, position.partition)
            ends[partition] = max(ends.get(partition, 0), position.offset + 1)
        return ends

    def wait_until_followed(self) -> None:
        """Waits until the service has told the group where it is: from then on nothing that is sent can be missed.

        Raises:
            EpistreamError: it has not, after some time.
        """
        deadline = time.monotonic() + FOLLOW_SECONDS
        while not self._offsets(None):
            if time.monotonic() > deadline:
                text = f"For {FOLLOW_SECONDS:g} seconds the service has not begun to read Kafka at {self._bootstrap}."
                raise Unavailable(text, reason="DEADLINE")
            time.sleep(_POLL_SECONDS)

    def not_taken_in(self, ends: Ends) -> int:
        """How many records before `ends` the service has not taken in yet, as it told Kafka at most 3 seconds ago.

        Raises:
            EpistreamError: Kafka does not say.
        """
        taken_in = self._offsets(list(ends))
        # A partition that was never told of has the offset -1.
        return sum(max(0, end - max(0, taken_in.get(partition, 0))) for partition, end in ends.items())

    def close(self) -> None:
        """Ends the connections."""
        self._producer.close()
        self._admin.close()

    def _offsets(self, partitions: Sequence[tuple[str, int]] | None) -> Ends:
        """What the service has told of these partitions, or of all."""
        from kafka import TopicPartition
        from kafka.errors import KafkaError

        asked = None if partitions is None else [TopicPartition(*partition) for partition in partitions]
        try:
            answer = self._admin.list_group_offsets({self._group: asked})[self._group]
        except KafkaError as error:
            raise translated(error, self._bootstrap, "asking how far the service is") from error
        return {(partition.topic, partition.partition): at.offset for partition, at in answer.items()}


async def stream(producer: Producer, submissions: Sequence[pb.Submission], progress: Progress) -> list[pb.Receipt]:
    """Submits over gRPC; the receipts."""

    async def source() -> AsyncIterator[pb.Submission]:
        for submission in submissions:
            yield submission

    receipts: list[pb.Receipt] = []
    async for receipt in producer.stream(source(), answer_seconds_max=ANSWER_SECONDS):
        receipts.append(receipt)
        progress(len(receipts))
    return receipts


def decided_count(namespace: ns.Namespace) -> int:
    """How many submissions were decided in a namespace, the refused ones left out.

    Where nothing is retracted, so that each change is one, and what is held stays.
    """
    return namespace.head_revision + namespace.merged_count + namespace.held_count
