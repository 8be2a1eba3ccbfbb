"""The producers of `tests.support.kill_rounds`: two over gRPC, one over Kafka. They go on whatever the service does.

Each sends to all namespaces, and mixes them in one batch.
"""

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from epistream.clients import Conflict, InvalidInput, NotFound, SyncKnowledgeClient, SyncProducer
from epistream.clients.kafka_producer import CappedProducer, Position, submission_headers
from epistream.services.kafka.topics import ensure_topics
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.topics import CHANGES, OUTCOMES, submission_key
from tests.support.kafka import Kafka, a_kafka
from tests.support.kill_check import PATIENCE_SECONDS, History
from tests.support.kill_traffic import NAMESPACES, Traffic
from tests.support.service import RunningService, running_service

OVER_KAFKA: Final = "records"
"""The name of the producer over Kafka."""
PAUSE_SECONDS: Final = 0.02
"""The longest pause of a producer between two batches."""
BATCH_MAX: Final = 20
UNANSWERED_MAX: Final = 200
"""Of the stream. What a killed service could not answer comes again, and must fit between two kills."""
RECORDS_MAX: Final = 4
"""Over Kafka, between two pauses: what comes while the service is down piles up."""
PARTITIONS: Final = 2
GARBAGE_SHARE: Final = 0.05
"""Of the records over Kafka, those that are no submission."""

_GARBAGE: Final = b"\xff\xfe no submission "
_Producing: TypeAlias = Callable[[History, int, threading.Event], None]


@contextmanager
def service_beside_kafka(
    folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[RunningService, "KafkaSide"]]:
    """A service with an empty store, in `folder`, and a Kafka that it reads from; both run as long as the block.

    `environment` is the service's, besides this process's.
    """
    with a_kafka(folder / "kafka") as bootstrap:
        kafka = Kafka(bootstrap)
        side = KafkaSide(kafka, kafka.new_topic("rounds", partitions=PARTITIONS), PARTITIONS)
        ensure_topics(bootstrap, submission_topics=[side.topic])
        given = {"kafka_topics": side.topic}
        with running_service(folder / "store", given, kafka=bootstrap, environment=environment) as service:
            yield service, side


@contextmanager
def producing(address: str, history: History, seed: int, kafka: "KafkaSide | None") -> Iterator[None]:
    """Producers that send while the block runs. Leaving it waits until everything sent is answered."""
    stop = threading.Event()
    with ThreadPoolExecutor(3, "producer") as pool:
        producers: list[_Producing] = [partial(_submit_batches, address), partial(_submit_stream, address)]
        producers += [kafka.produce] if kafka is not None else []
        work = [pool.submit(_noting_failure, each, history, seed, stop) for each in producers]
        try:
            yield
        finally:
            stop.set()
        for each in work:
            each.result(PATIENCE_SECONDS)


def _noting_failure(produce: _Producing, history: History, seed: int, stop: threading.Event) -> None:
    try:
        produce(history, seed, stop)
    except Exception as error:
        history.faults.append(f"a producer could not go on: {error!r}")
        raise


def _submit_batches(address: str, history: History, seed: int, stop: threading.Event) -> None:
    """Call after call, some of them atomic."""
    traffic, chance = Traffic("calls", seed), random.Random(seed)
    with SyncProducer(address, timeout_seconds=PATIENCE_SECONDS) as producer:
        while not stop.wait(chance.uniform(0, PAUSE_SECONDS)):
            if chance.random() < 0.25:
                _submit_atomically(producer, traffic.atomic_batch(), history)
            else:
                batch = [traffic.next() for _ in range(chance.randint(1, BATCH_MAX))]
                history.answered += zip(batch, producer.submit(*batch), strict=True)


def _submit_atomically(producer: SyncProducer, batch: Sequence[pb.Submission], history: History) -> None:
    try:
        receipts = producer.submit(*batch, atomic=True)
    except (InvalidInput, Conflict):
        history.refused_batches.append(batch)
    else:
        history.atomic_batches.append(batch)
        history.answered += zip(batch, receipts, strict=True)


def _submit_stream(address: str, history: History, seed: int, stop: threading.Event) -> None:
    """One stream over all rounds."""
    traffic, chance = Traffic("stream", seed), random.Random(seed)
    unanswered: deque[pb.Submission] = deque()

    def source() -> Iterator[pb.Submission]:
        while not stop.wait(chance.uniform(0, PAUSE_SECONDS)):
            if len(unanswered) > UNANSWERED_MAX:
                continue
            for _ in range(chance.randint(1, BATCH_MAX)):
                unanswered.append(traffic.next())
                yield unanswered[-1]

    with SyncProducer(address) as producer:
        for receipt in producer.stream(source(), answer_seconds_max=PATIENCE_SECONDS):
            history.answered.append((unanswered.popleft(), receipt))


@dataclass(frozen=True, slots=True)
class KafkaSide:
    """A topic that the service reads, and what the service tells Kafka."""

    kafka: Kafka
    topic: str
    partitions: int

    def produce(self, history: History, seed: int, stop: threading.Event) -> None:
        """Send records until stopped; returns when Kafka has acknowledged all."""
        traffic, chance = Traffic(OVER_KAFKA, seed), random.Random(seed)
        sent: list[tuple[bytes, Future[Position]]] = []
        with CappedProducer(self.kafka.bootstrap, client_id="kill-rounds") as producer:
            while not stop.wait(chance.uniform(0, PAUSE_SECONDS)):
                for _ in range(chance.randint(1, RECORDS_MAX)):
                    one = traffic.next()
                    is_garbage = chance.random() < GARBAGE_SHARE
                    value = _GARBAGE + chance.randbytes(20) if is_garbage else one.SerializeToString()
                    key, headers = submission_key(one), submission_headers(one)
                    sent.append((value, producer.send(self.topic, value, key=key, headers=headers)))
            self._note(sent, history)

    def read_to_the_end(self, service: RunningService, client: SyncKnowledgeClient, history: History) -> None:
        """Wait until the service has taken all records and has told Kafka what came of them; note what it told."""
        last = [self._last(partition) for partition in range(self.partitions)]
        with CappedProducer(self.kafka.bootstrap, client_id="kill-rounds") as producer:
            sent = [
                (one.SerializeToString(), producer.send(self.topic, one.SerializeToString(), partition=partition))
                for partition, one in enumerate(last)
            ]
            self._note(sent, history)
        known = False
        while not known:  # nobody holds the producer back, so many may wait
            revisions = _revisions(client)
            known = all(_is_known(client, one) for one in last)
            if not known:
                history.wait_until(partial(_has_grown, client, revisions), "more of Kafka's records")
        while left := service.metric("epistream_outbox_pending"):  # the publisher is slow on a busy machine, but moves
            history.wait_until(partial(_is_below, service, left), "something more told to Kafka")
        history.told = [pb.Receipt.FromString(value) for _, value in self._values(OUTCOMES)]
        published = [(name, pb.Change.FromString(value)) for name, value in self._values(CHANGES)]
        for name, change in sorted(published, key=lambda told: told[1].revision):
            history.namespaces[name].published.append(change)

    def _values(self, topic: str) -> list[tuple[str, bytes]]:
        """The messages about our namespaces, each with the one that it is keyed by.

        Those that were sent again, as after a crash, are there once.
        """
        values: dict[tuple[tuple[str, bytes], ...], tuple[str, bytes]] = {}
        for record in self.kafka.read(topic):
            name = (record.key or b"").split(b"/")[0].decode(errors="replace")
            if name in NAMESPACES and record.value is not None:
                values.setdefault(record.headers, (name, record.value))
        return list(values.values())

    def _last(self, partition: int) -> pb.Submission:
        one = Traffic(f"last of {partition}", seed=0).new()
        one.item_id = f"last-{partition}"
        return one

    def _note(self, sent: Sequence[tuple[bytes, "Future[Position]"]], history: History) -> None:
        for value, future in sent:
            position = future.result(PATIENCE_SECONDS)
            history.produced[position.partition, position.offset] = value


def _is_below(service: RunningService, left: float) -> bool:
    """Whether less than that is still to be told to Kafka."""
    return service.metric("epistream_outbox_pending") < left


def _revisions(client: SyncKnowledgeClient) -> int:
    return sum(client.namespace(name).head_revision for name in NAMESPACES)


def _has_grown(client: SyncKnowledgeClient, revisions: int) -> bool:
    """Whether the service has more than that."""
    return _revisions(client) > revisions


def _is_known(client: SyncKnowledgeClient, sent: pb.Submission) -> bool:
    """Whether the service has the item of a submission."""
    try:
        client.get(sent.namespace, sent.item_id)
    except NotFound:
        return False
    return True
