"""Every method of the contract that is about one namespace, called with as little as it takes."""

from collections.abc import Awaitable, Callable
from typing import Final

import grpc

from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import review_service_pb2 as review_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from tests.support.rpc import Client, submission, vector
from tests.support.secured import PATIENCE_SECONDS

REVIEWER: Final = review_pb.Reviewer(name="dr-ada", origin=pb.ORIGIN_EXPERT)


async def subscribe(client: Client, namespace: str) -> None:
    async with client.subscribe(namespace, head=True) as stream:
        await stream.next_of("subscribed")


async def submit_stream(client: Client, namespace: str) -> None:
    stream = client.ingest.SubmitStream(timeout=PATIENCE_SECONDS)
    await stream.write(ingest_pb.SubmitStreamRequest(submissions=[submission(namespace, 1)]))
    await stream.done_writing()
    while isinstance(await stream.read(), ingest_pb.SubmitStreamResponse):
        pass


async def backup(client: Client, _: str) -> None:
    method = "/epistream.v1.AdminService/Backup"
    stub: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = client.channel.unary_stream(method)
    async for _message in stub(b"", timeout=PATIENCE_SECONDS):
        pass


Calling = Callable[[Client, str], Awaitable[object]]


async def search(client: Client, namespace: str) -> object:
    return await client.knowledge.Search(
        know_pb.SearchRequest(namespace=namespace, vector=pb.Embedding(float32=vector(1)))
    )


async def diff(client: Client, namespace: str) -> object:
    request = know_pb.DiffRequest(namespace=namespace)
    getattr(request, "from").revision = 0
    return await client.knowledge.Diff(request)


async def wait_applied(client: Client, namespace: str) -> object:
    return await client.sync.WaitApplied(sync_pb.WaitAppliedRequest(namespace=namespace, revision=1, consumers=[]))


async def retract(client: Client, namespace: str) -> object:
    return await client.retract(namespace, "item-1")


CALLS: Final[dict[str, Calling]] = {
    "IngestService/Submit": lambda client, namespace: client.submit(submission(namespace, 1)),
    "IngestService/SubmitStream": submit_stream,
    "IngestService/Retract": retract,
    "KnowledgeService/Get": lambda client, namespace: client.knowledge.Get(
        know_pb.GetRequest(namespace=namespace, item_id="item-1")
    ),
    "KnowledgeService/History": lambda client, namespace: client.knowledge.History(
        know_pb.HistoryRequest(namespace=namespace, item_id="item-1")
    ),
    "KnowledgeService/Search": search,
    "KnowledgeService/Diff": diff,
    "KnowledgeService/ListFeedback": lambda client, namespace: client.knowledge.ListFeedback(
        know_pb.ListFeedbackRequest(namespace=namespace, item_id="item-1")
    ),
    "KnowledgeService/Explain": lambda client, namespace: client.knowledge.Explain(
        know_pb.ExplainRequest(namespace=namespace, producer="tests", submission_id="s-1")
    ),
    "KnowledgeService/ListAlarms": lambda client, namespace: client.knowledge.ListAlarms(
        know_pb.ListAlarmsRequest(namespace=namespace)
    ),
    "KnowledgeService/ListSignals": lambda client, namespace: client.knowledge.ListSignals(
        know_pb.ListSignalsRequest(namespace=namespace)
    ),
    "ReviewService/ListReviews": lambda client, namespace: client.reviews.ListReviews(
        review_pb.ListReviewsRequest(namespace=namespace)
    ),
    "ReviewService/GetReview": lambda client, namespace: client.reviews.GetReview(
        review_pb.GetReviewRequest(namespace=namespace, review_id=1)
    ),
    "ReviewService/ClaimReview": lambda client, namespace: client.reviews.ClaimReview(
        review_pb.ClaimReviewRequest(namespace=namespace, review_id=1, reviewer=REVIEWER)
    ),
    "ReviewService/DecideReview": lambda client, namespace: client.reviews.DecideReview(
        review_pb.DecideReviewRequest(
            namespace=namespace, review_id=1, reviewer=REVIEWER, verdict=review_pb.REVIEW_VERDICT_REJECT
        )
    ),
    "ReviewService/CommentReview": lambda client, namespace: client.reviews.CommentReview(
        review_pb.CommentReviewRequest(namespace=namespace, subject_id=1, reviewer=REVIEWER, text="Why?")
    ),
    "ReviewService/ListConflicts": lambda client, namespace: client.reviews.ListConflicts(
        review_pb.ListConflictsRequest(namespace=namespace)
    ),
    "ReviewService/ResolveConflict": lambda client, namespace: client.reviews.ResolveConflict(
        review_pb.ResolveConflictRequest(
            namespace=namespace, conflict_id=1, reviewer=REVIEWER, standing_item_ids=["item-1"]
        )
    ),
    "SyncService/Subscribe": subscribe,
    "SyncService/ListConsumers": lambda client, namespace: client.sync.ListConsumers(
        sync_pb.ListConsumersRequest(namespace=namespace)
    ),
    "SyncService/WaitApplied": wait_applied,
    "NamespaceService/CreateNamespace": lambda client, namespace: client.make_namespace(namespace),
    "NamespaceService/GetNamespace": lambda client, namespace: client.namespaces.GetNamespace(
        ns_pb.GetNamespaceRequest(name=namespace)
    ),
    "NamespaceService/ListPolicies": lambda client, namespace: client.namespaces.ListPolicies(
        ns_pb.ListPoliciesRequest(name=namespace)
    ),
    "NamespaceService/UpdatePolicy": lambda client, namespace: client.namespaces.UpdatePolicy(
        ns_pb.UpdatePolicyRequest(name=namespace, policy=ns_pb.Policy(near_duplicate_threshold=0.95))
    ),
    "AdminService/Backup": backup,
}


async def outcome(client: Client, method: str, namespace: str) -> str:
    """`denied`, or `let in`: whatever the call then became."""
    try:
        await CALLS[method](client, namespace)
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            return "unknown"
        if error.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE):
            return str(error)  # neither
        return "denied" if error.code() == grpc.StatusCode.PERMISSION_DENIED else "let in"
    return "let in"
