"""The Kafka side of a service in this process: a real engine, a real writer, a real broker; no gRPC."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal
from unittest import mock

from prometheus_client import CollectorRegistry, generate_latest

from epistream.clients.kafka_producer import KafkaProducer
from epistream.indexer.catalog import Catalog
from epistream.indexer.engine import Engine
from epistream.indexer.model import Place
from epistream.indexer.outbox import acknowledge
from epistream.indexer.store import Store, check, read_only
from epistream.services.kafka.intake import Intake
from epistream.services.kafka.metrics import KafkaMetrics
from epistream.services.kafka.polling import Polling
from epistream.services.kafka.publishing import Publishing
from epistream.services.kafka.survey import Source
from epistream.services.writer import Commit, Writer
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import Broken
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity
from epistream.wire.topics import CARRIED, RECORD_BYTES_MAX
from tests.support import eager_publisher
from tests.support.kafka import Kafka
from tests.support.knowing import DIMENSION, submission
from tests.support.waits import wait_until


@dataclass(frozen=True, slots=True)
class Taking:
    """A running intake and what it runs over."""

    engine: Engine
    writer: Writer
    intake: Intake
    publishing: Publishing
    registry: CollectorRegistry
    failures: list[Broken]

    def head(self, namespace: str) -> int:
        """The newest revision of a namespace."""
        return self.engine.namespaces.state(namespace).head

    def await_head(self, namespace: str, revision: int) -> None:
        """Waits until so many changes are committed."""
        wait_until(lambda: self.head(namespace) >= revision, f"revision {revision} of {namespace}")

    def await_read(self, topic: str, offset: int, partition: int = 0) -> None:
        """Waits until every record before `offset` has had its effect."""
        wait_until(
            lambda: self.engine.pipeline.positions().get((topic, partition), Place(0)).offset >= offset,
            f"offset {offset} of {topic}/{partition}",
        )

    @property
    def polling(self) -> Polling:
        """What reads, where all topics are in one lane."""
        [lane] = self.intake._lanes
        return lane.polling

    def published(self, topic: str) -> float:
        """How many messages for a topic Kafka has acknowledged."""
        return self.registry.get_sample_value("epistream_outbox_published_total", {"topic": topic}) or 0.0

    def metrics(self) -> str:
        """What Prometheus reads."""
        return generate_latest(self.registry).decode()


@contextmanager
def taking(
    folder: Path,
    bootstrap: str,
    *topics: str,
    start: Literal["earliest", "latest"] = "earliest",
    group: str = "",
    publish: bool = False,
    publisher: ModuleType = eager_publisher,
    make_topics: bool = False,
    around_commit: Callable[[Commit], Commit] = lambda commit: commit,
    security: KafkaSecurity = PLAINTEXT,
    carried: Mapping[str, Collection[pb.Origin.ValueType]] = CARRIED,
    people: Collection[str] = (),
) -> Iterator[Taking]:
    """An intake of these topics into the store in `folder`, which is stopped in the end, in the service's order.

    If it is to `publish`, `publisher` is the program that does.
    """
    engine = Engine(folder, carried=carried)
    failures: list[Broken] = []
    writer = Writer(around_commit(engine.pipeline.commit), committed=lambda *_: None, failed=failures.append)
    registry = CollectorRegistry()
    metrics = KafkaMetrics(registry)
    group = group or f"test-{uuid.uuid4().hex}"
    source = Source(bootstrap, topics, group, start, security)
    intake = Intake(source, engine.pipeline, engine.store, writer, metrics, failed=failures.append, people=people)
    with mock.patch("epistream.services.kafka.publishing.publisher", publisher):
        keeping = Publishing(
            bootstrap,
            folder,
            lambda cursor: writer.run(lambda: acknowledge(engine.store, cursor)).result(),
            engine.feed.subscribe_to_commits,
            metrics,
            group=group,
            submission_topics=topics if make_topics else (),
            security=security,
        )
    writer.start()
    intake.start()
    if publish:
        keeping.start()
    try:
        yield Taking(engine, writer, intake, keeping, registry, failures)
    finally:
        intake.stop()
        if publish:
            keeping.stop()
        writer.stop()
        engine.close()


def make_namespace(folder: Path, name: str = "") -> str:
    """A namespace of its own, in the store in `folder`, whose producers bring vectors of DIMENSION; its name."""
    name = name or f"n-{uuid.uuid4().hex[:12]}"
    engine = Engine(folder)
    try:
        engine.namespaces.create(
            ns_pb.CreateNamespaceRequest(name=name, encoder=ns_pb.Encoder(model="none", dimension=DIMENSION))
        )
    finally:
        engine.close()
    return name


def facts(namespace: str, numbers: Sequence[int]) -> list[pb.Submission]:
    """The submission `s-1` of `item-1` for 1: each a new item."""
    return [submission(f"Fact {n}.", id=f"s-{n}", item=f"item-{n}", namespace=namespace) for n in numbers]


def send(kafka: Kafka, topic: str, submissions: Sequence[pb.Submission]) -> None:
    """Sends submissions to a topic and waits until Kafka has them."""
    with KafkaProducer(kafka.bootstrap) as producer:
        for one in submissions:
            producer.send(one, topic=topic)


def topic_with_dead_letters(kafka: Kafka, *, partitions: int = 1) -> str:
    """A topic that no other test knows, and beside it, where they are missing, those that the service writes to."""
    topic = kafka.new_topic(partitions=partitions, max_message_bytes=str(RECORD_BYTES_MAX))
    kafka.ensure_topics((topic,))
    return topic


def dump(folder: Path) -> list[str]:
    """Every row of the store in `folder`, which nobody has open."""
    store = Store(folder)
    try:
        return list(store.logical_dump())
    finally:
        store.close()


def findings(folder: Path) -> list[str]:
    """What is wrong with the store in `folder`, which nobody has open."""
    store = Store(folder)
    try:
        return check(store)
    finally:
        store.close()


class TakingProcess:
    """`taking` in a process of its own, to be killed."""

    def __init__(self, folder: Path, bootstrap: str, *topics: str, publish: bool = False) -> None:
        """Starts the process."""
        arguments = [str(folder), bootstrap, "publish" if publish else "take", *topics]
        self._log = folder.with_name(f"{folder.name}.log")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.intake", *arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Returns when the condition holds; fails when the process ends before."""

        def holds() -> object:
            assert self._process.poll() is None, f"the process ended by itself:\n{self._log.read_text()}"
            return condition()

        wait_until(holds, what)

    def kill(self) -> None:
        """End it as power loss does."""
        self._process.kill()
        self._process.wait()


def admitted(folder: Path, namespace: str) -> list[tuple[int, str]]:
    """The revision and the submission id of every change, in order."""
    with read_only(folder) as catalog:
        [number] = [number for number, made in catalog.namespaces() if made.name == namespace]
        return [(c.revision, c.knowledge.submission_id) for c in _changes(catalog, number)]


def _changes(catalog: Catalog, number: int) -> Iterator[pb.Change]:
    for row in catalog.changes(number, 0, 10**9, 10**9):
        yield pb.Change.FromString(row.change)


def assert_each_once(folder: Path, namespace: str, numbers: Sequence[int]) -> None:
    """Each of these submissions is one change, no other is, the revisions are dense, and the store is sound."""
    changes = admitted(folder, namespace)
    assert [revision for revision, _ in changes] == list(range(1, len(changes) + 1))
    assert sorted(id_ for _, id_ in changes) == sorted(f"s-{n}" for n in numbers)
    assert findings(folder) == []


def _main(folder: str, bootstrap: str, what: str, *topics: str) -> None:
    with taking(Path(folder), bootstrap, *topics, group="killed", publish=what == "publish") as process:
        wait_until(lambda: process.failures, "a failure", seconds=3600)


if __name__ == "__main__":
    _main(*sys.argv[1:])
