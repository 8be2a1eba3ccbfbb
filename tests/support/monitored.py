"""Traffic in which everything that the dashboards show happens: knowledge of every outcome, over gRPC and Kafka, models
that follow and one that does not keep up, questions, and calls that fail.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import grpc.aio

from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from epistream.v1 import review_service_pb2 as review_pb
from tests.support.collapsing import EVERY, FEW_KINDS, collapse, kinds, texts
from tests.support.intake import send
from tests.support.kafka import Kafka
from tests.support.rpc import Client, Subscription, client_of, rpc_failure_of, submission, vector

NAMESPACE = "monitored"
_COLLAPSED = "monitored-collapsed"
_PAUSE_SECONDS = 0.1


async def with_traffic(address: str, kafka: Kafka, topic: str, watch: Callable[[], Awaitable[None]]) -> None:
    """Run `watch` while there is traffic on the service at HOST:PORT, which reads `topic`. It ends with `watch`."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of(address))
        await client.make_namespace(NAMESPACE)
        await collapse(client, _COLLAPSED)
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
