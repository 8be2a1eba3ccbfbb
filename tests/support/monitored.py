"""A service with whatever the dashboards show: TLS, an access file, Kafka with a partition that is stopped; and traffic
in which the rest of it happens: knowledge of every outcome, over gRPC and Kafka, models that follow and one that does
not keep up, questions, a backup, calls that fail or are denied, and parts that fail.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from prometheus_client.core import Metric

from epistream.services.kafka import clients
from epistream.v1 import admin_service_pb2 as admin_pb
from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import review_service_pb2 as review_pb
from epistream.wire.topics import dead_letter_topic
from tests.support.backups import taken
from tests.support.certificates import put
from tests.support.collapsing import EVERY, FEW_KINDS, collapse, kinds, texts
from tests.support.intake import send, taking, topic_with_dead_letters
from tests.support.kafka import Kafka
from tests.support.metrics import served
from tests.support.processes import pollers
from tests.support.rpc import Client, Subscription, rpc_failure_of, submission, vector
from tests.support.secured import ACCESS, Secured, sample, start
from tests.support.waits import until, wait_until

NAMESPACE = "monitored"
_COLLAPSED = "monitored-collapsed"
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Monitored:
    """A service that is watched."""

    secured: Secured
    kafka: Kafka
    topic: str
    """The one that records are sent to."""

    def page(self) -> str:
        """What Prometheus reads."""
        return self.secured.service.metrics_page(ca=self.secured.authority.ca_pem, token="root")

    def metrics(self) -> dict[str, Metric]:
        """The same as OpenMetrics, by the names that queries use."""
        return served(self.secured.service.metrics_address, ca=self.secured.authority.ca_pem, token="root")


def monitored(folder: Path, kafka: Kafka) -> Iterator[Monitored]:
    """One that is stopped in the end. Of its three topics one has lost records, and one a letter that Kafka refuses."""
    topic = topic_with_dead_letters(kafka)
    topics = ",".join((topic, _with_lost_records(folder / "data", kafka), _with_a_refused_letter(kafka)))
    settings = {"kafka": kafka.bootstrap, "kafka_topics": topics, "kafka_group": topic}
    for secured in start(folder, ACCESS, **settings, signals_interval_seconds="0.5"):
        made = Monitored(secured, kafka, topic)
        _await_refusal(made)
        yield made


def _await_refusal(made: Monitored) -> None:
    """Before there is traffic: beside it Kafka is told one message after the other, and very late."""
    wait_until(lambda: sample(made.page(), "epistream_outbox_unpublishable_total{") > 0, "the refused letter")


def _with_lost_records(folder: Path, kafka: Kafka) -> str:
    """A topic whose records Kafka removed before they came into the store in `folder`, which nobody has open."""
    from kafka import TopicPartition

    topic = topic_with_dead_letters(kafka)
    with taking(folder, kafka.bootstrap, topic) as process:
        wait_until(process.intake.lag, "the partition")
    kafka.produce(topic, [b"never read"])
    with clients.admin(kafka.bootstrap, "test") as admin:
        admin.delete_records({TopicPartition(topic, 0): 1})
    return topic


def _with_a_refused_letter(kafka: Kafka) -> str:
    """A topic with a record that is none, and too large for the topic of its dead letters."""
    topic = kafka.new_topic()
    with clients.admin(kafka.bootstrap, "test") as admin:
        small = {"num_partitions": 1, "replication_factor": 1, "configs": {"max.message.bytes": "2000"}}
        admin.create_topics({dead_letter_topic(topic): small}, wait_for_metadata=True)
    kafka.produce(topic, [b"large" * 1000])
    return topic


async def with_traffic(monitored: Monitored, watch: Callable[[], Awaitable[None]]) -> None:
    """Run `watch` while there is traffic. It ends with `watch`."""
    kafka, topic = monitored.kafka, monitored.topic
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(monitored.secured.client("root"))
        await client.make_namespace(NAMESPACE)
        await collapse(client, _COLLAPSED)
        await taken(client.admin.Backup(admin_pb.BackupRequest()))
        await _fail(monitored.secured)
        keeps_up = await stack.enter_async_context(client.subscribe(NAMESPACE, head=True, consumer="keeps-up"))
        falls_behind = await stack.enter_async_context(client.subscribe(NAMESPACE, head=True, consumer="falls-behind"))
        tasks = [
            asyncio.create_task(_follow(keeps_up)),
            asyncio.create_task(_follow(falls_behind, acknowledgements=1)),
            asyncio.create_task(_produce(client, kafka, topic)),
            asyncio.create_task(_generate(client)),
            asyncio.create_task(_ask(client)),
        ]
        watching = asyncio.ensure_future(watch())
        try:
            done, _ = await asyncio.wait({*tasks, watching}, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
            assert watching in done, "the traffic has ended"
        finally:
            for task in (*tasks, watching):
                task.cancel()
            await asyncio.gather(*tasks, watching, return_exceptions=True)


async def _fail(secured: Secured) -> None:
    """A call that is denied, an access file that cannot be used, and a poller that dies."""
    async with secured.client("nobody") as stranger:
        await rpc_failure_of(stranger.namespaces.ListNamespaces(ns_pb.ListNamespacesRequest()))
    put(secured.folder / "access.toml", "no access file")
    await until(lambda: pollers(secured.service.pid), "a poller")
    for process in pollers(secured.service.pid):
        process.kill()


async def _follow(stream: Subscription, acknowledgements: int | None = None) -> None:
    """Read everything, and acknowledge it, but only so often."""
    given = 0
    while True:
        message = await stream.next()
        if message.WhichOneof("message") == "changes" and given != acknowledgements:
            await stream.acknowledge(message.changes.changes[-1].revision)
            given += 1


async def _produce(client: Client, kafka: Kafka, topic: str) -> None:
    """In each round every outcome once, over gRPC, by a stream and over Kafka, a record that is none, and a review."""
    for number in itertools.count(1):
        fact, again, against = (submission(NAMESPACE, number) for _ in range(3))
        again.item_id = against.item_id = ""
        again.submission_id, again.provenance.producer = f"again-{number}", "others"
        against.submission_id, against.content = f"against-{number}", f"Fact number {number}0."
        against.origin = pb.ORIGIN_SYNTHETIC
        revised = submission(NAMESPACE, number, submission_id=f"revised-{number}", content=f"{number}, better.")
        wrong = submission("nowhere", number)
        for one in (fact, again, against, revised, wrong, fact):
            await client.submit(one)
        await _review(client)
        await _by_a_stream(client, submission(NAMESPACE, 2_000_000 + number))
        over_kafka = submission(NAMESPACE, 1_000_000 + number)
        await asyncio.to_thread(send, kafka, topic, [over_kafka, submission("nowhere", number)])
        await asyncio.to_thread(kafka.produce, topic, [b"\xff no submission"])
        await asyncio.sleep(_PAUSE_SECONDS)


async def _review(client: Client) -> None:
    """Turn away all that waits but one."""
    reviewer = review_pb.Reviewer(name="dr-ada", origin=pb.ORIGIN_EXPERT)
    waiting = await client.reviews.ListReviews(review_pb.ListReviewsRequest(namespace=NAMESPACE))
    for review in waiting.reviews[1:]:
        request = review_pb.DecideReviewRequest(namespace=NAMESPACE, review_id=review.review_id, reviewer=reviewer)
        request.verdict = review_pb.REVIEW_VERDICT_REJECT
        await client.reviews.DecideReview(request)


async def _generate(client: Client) -> None:
    """In each round a window of a model that says less than people."""
    for number in itertools.count(2):
        said = texts(kinds(FEW_KINDS, EVERY, number), f"Round {number}", namespace=_COLLAPSED)
        await client.submit(*said)
        await asyncio.sleep(10 * _PAUSE_SECONDS)


async def _by_a_stream(client: Client, one: pb.Submission) -> None:
    call = client.ingest.SubmitStream()
    await call.write(ingest_pb.SubmitStreamRequest(submissions=[one]))
    await call.read()
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK


async def _ask(client: Client) -> None:
    """Questions, one that cannot be answered, and a subscription to a revision that is not there yet."""
    while True:
        await client.knowledge.Search(
            knowledge_pb.SearchRequest(namespace=NAMESPACE, vector=pb.Embedding(float32=vector(1)), limit=3)
        )
        await rpc_failure_of(client.knowledge.Get(knowledge_pb.GetRequest(namespace="nowhere", item_id="item-1")))
        async with client.subscribe(NAMESPACE, after_revision=10**9) as ahead:
            await ahead.failure()
        await asyncio.sleep(_PAUSE_SECONDS)
