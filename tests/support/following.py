"""R13 and R14: a chronicle is published over Kafka, a replica answers questions about it, a consumer follows.

The service is the real one with the packaged encoder, Kafka is the real one, and the consumer goes away in between.
"""

import itertools
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from epistream.clients import Changes, Position, Start, SyncKnowledgeClient, SyncReplica, SyncSubscriber
from epistream.clients.demo.publish import decided_count
from epistream.clients.kafka_producer import KafkaProducer
from epistream.indexer.encoder import PACKAGED_MODEL
from epistream.v1 import knowledge_pb2 as pb
from tests.support.asked import Share, said, share
from tests.support.intake import topic_with_dead_letters
from tests.support.kafka import Kafka
from tests.support.merging import MUTATIONS
from tests.support.samples import rows
from tests.support.service import running_service
from tests.support.updating import STATEMENTS, stem
from tests.support.waits import wait_until

NAMESPACE = "chronicle"
HITS = 5
_LOADED_SECONDS = 120.0
_AWAY_EVERY = 3
"""One in so many of the submissions comes while the consumer is away."""


@dataclass(frozen=True, slots=True)
class Following:
    """What came out."""

    found_before: Share
    """R13: questions that found their statement among the first hits of a replica before it was published."""
    found: Share
    """R13: afterwards."""
    seconds: tuple[float, ...]
    """R14: of each submission that was sent while the consumer was there, from its sending to its arrival there.

    Of one that never arrived infinite.
    """
    revisions: tuple[int, ...]
    """R14: what the consumer got, in the order in which it got it, in both of its times."""
    head: int
    """R14: the newest revision that there is."""


def measure(folder: Path, kafka: Kafka, rate: float = 0, between: int = 0) -> Following:
    """Publish at `rate` submissions a second; 0 is as fast as it goes. `between` other ones come after each statement.

    `between` is at most 3, so many as there are.
    """
    topic = topic_with_dead_letters(kafka)
    with (
        running_service(
            folder / "store", kafka=kafka.bootstrap, kafka_topics=topic, kafka_group=topic, encoder=PACKAGED_MODEL
        ) as service,
        SyncKnowledgeClient(service.address) as client,
        KafkaProducer(kafka.bootstrap) as producer,
    ):
        client.create_namespace(NAMESPACE)
        known = _known()
        for one in known:
            producer.send(one, topic=topic)
        _await(client, len(known), _LOADED_SECONDS)
        news = _news(between)
        away = len(news) // _AWAY_EVERY
        with SyncReplica(folder / "replica", service.address, NAMESPACE, consumer="model") as replica:
            replica.wait_current()
            found_before = _recall(replica)
            with _Consumer(service.address, Start.BEGINNING) as online:
                wait_until(lambda: len(online.got) == len(known), "the consumer has what was known")
                sent_at = _send(producer, topic, news[:-away], rate)
                head = _await(client, len(known) + len(news) - away)
                wait_until(lambda: online.got[-1][0] >= head, "the consumer has what came")
            _send(producer, topic, news[-away:], rate)
            head = _await(client, len(known) + len(news))
            with _Consumer(service.address, online.position) as back:
                wait_until(lambda: back.got and back.got[-1][0] >= head, "the consumer has what it missed")
            replica.wait_for(head)
            found = _recall(replica)
    arrived = {name: at for _, name, at in online.got}
    return Following(
        found_before,
        found,
        tuple(arrived.get(name, math.inf) - at for name, at in sent_at.items()),
        tuple(revision for revision, _, _ in [*online.got, *back.got]),
        head,
    )


class _Consumer:
    """A subscription that is read in a thread of its own until the block is left."""

    def __init__(self, address: str, start: Start | Position) -> None:
        self.got: list[tuple[int, str, float]] = []
        """Of each change its revision, its submission, and when it came."""
        self.position = Position("", 0)
        self._subscriber = SyncSubscriber(address, NAMESPACE, consumer="follower", start=start)
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._subscriber.close()
        self._thread.join()
        self.position = self._subscriber.position or self.position

    def _read(self) -> None:
        for event in self._subscriber:
            if isinstance(event, Changes):
                now = time.time()
                self.got += [(change.revision, change.knowledge.submission_id, now) for change in event.changes]
                self._subscriber.acknowledge(event.revision)


def _known() -> list[pb.Submission]:
    """What is there before: sentences about other things."""
    sentences = dict.fromkeys(row["a"] for row in rows(MUTATIONS))
    return [
        said(sentence, id=f"known-{number}", namespace=NAMESPACE, producer="encyclopaedia")
        for number, sentence in enumerate(sentences)
    ]


def _news(between: int) -> list[pb.Submission]:
    """The chronicle, and between its statements changed sentences of what is known."""
    changed = iter([row for row in rows(MUTATIONS) if row["expect"] == "must_not_merge"])
    news = []
    for row in rows(STATEMENTS):
        news.append(_news_of("chronicle", row["id"], row["statement"]))
        news += [_news_of("encyclopaedia", one["id"], one["b"]) for one in itertools.islice(changed, between)]
    return news


def _news_of(producer: str, name: str, content: str) -> pb.Submission:
    return said(content, id=name, item=name, namespace=NAMESPACE, producer=producer)


def _send(producer: KafkaProducer, topic: str, news: Sequence[pb.Submission], rate: float) -> dict[str, float]:
    """When each was sent, by its id."""
    began, sent_at = time.time(), {}
    for number, one in enumerate(news):
        if rate:
            time.sleep(max(0.0, began + number / rate - time.time()))
        sent_at[one.submission_id] = time.time()
        producer.send(one, topic=topic)
    return sent_at


def _await(client: SyncKnowledgeClient, decided: int, seconds: float = 60.0) -> int:
    """Wait until so many submissions have an outcome; the head."""
    wait_until(lambda: decided_count(client.namespace(NAMESPACE)) >= decided, f"{decided} outcomes", seconds=seconds)
    return client.namespace(NAMESPACE).head_revision


def _recall(replica: SyncReplica) -> Share:
    """Questions of the chronicle of which a replica's first hits have the statement that they ask for."""
    return share(
        row["id"] in {hit.change.item_id for hit in replica.search(stem(query["question"]), limit=HITS)}
        for row in rows(STATEMENTS)
        for query in row["queries"]
    )
