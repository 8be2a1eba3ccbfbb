"""Who may do what, on a live server with TLS: principals by verbs by namespaces, and what the denied can find out."""

import asyncio
import itertools
from collections.abc import Awaitable
from typing import Final

import grpc
from grpc_status import rpc_status

from epistream.services.security.rules import RULES
from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import review_service_pb2 as review_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from epistream.wire.errors import Denied, InvalidInput, NotFound
from tests.support.every_call import CALLS, outcome
from tests.support.rpc import Client, delay_told_by, failure_of, rpc_failure_of, submission, told_by
from tests.support.secured import NAMESPACES, PATIENCE_SECONDS, VERBS, Secured

NEEDS: Final = {
    "IngestService": {"write"},
    "KnowledgeService": {"read"},
    "ReviewService": {"review"},
    "SyncService": {"watch"},
    "NamespaceService/CreateNamespace": {"admin"},
    "NamespaceService/UpdatePolicy": {"admin"},
    "NamespaceService/GetNamespace": {"read", "write", "review", "watch", "admin"},
    "NamespaceService/ListPolicies": {"read", "write", "review", "watch", "admin"},
    "AdminService/Backup": set[str](),
}
"""Which verb suffices in the namespace, written out beside the rules. For a backup none does: it is of everything."""


def needed(method: str) -> set[str]:
    return NEEDS.get(method) or NEEDS.get(method.partition("/")[0], set())


def test_the_matrix_has_every_method() -> None:
    assert {*CALLS, "NamespaceService/ListNamespaces"} == set(RULES)


async def test_principals_by_verbs_by_namespaces(secured: Secured, root: Client) -> None:
    await root.submit(submission("a", 1), submission("b", 1))
    wrong = []
    for verb, home in itertools.product(VERBS, NAMESPACES):
        async with secured.client(f"{verb}-{home}") as client:
            for method, namespace in itertools.product(CALLS, (*NAMESPACES, "there-is-none")):
                expected = "let in" if namespace == home and verb in needed(method) else "denied"
                found = await outcome(client, method, namespace)
                if found != expected:
                    wrong.append((verb, home, method, namespace, found))
    assert wrong == []


async def test_somebody_unknown_gets_nowhere(secured: Secured, root: Client) -> None:  # noqa: ARG001 - a and b exist
    for token in (None, "nobody", secured.issuer.token(["all"], aud="other")):
        async with secured.client(token) as client:
            found = {await outcome(client, method, "a") for method in CALLS}
            assert found == {"unknown"}
            listing = client.namespaces.ListNamespaces(ns_pb.ListNamespacesRequest())
            assert isinstance(await failure_of(listing), Denied)


async def test_invalid_tokens_are_refused_alike(secured: Secured, root: Client) -> None:  # noqa: ARG001 - a exists
    good = secured.issuer.token(["all"])
    async with secured.client(good) as client:
        await client.namespaces.GetNamespace(ns_pb.GetNamespaceRequest(name="a"))
    bad = [
        secured.issuer.token(["all"], seconds=-60),
        secured.issuer.token(["all"], aud="other"),
        secured.issuer.token(["all"], iss="https://evil.example"),
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.",
        good[:-20],
        secured.issuer.token(["all"], padding="x" * 9000),
        "nobody's",
    ]
    refusals = set()
    for token in bad:
        async with secured.client(token) as client:
            error = await failure_of(client.namespaces.GetNamespace(ns_pb.GetNamespaceRequest(name="a")))
            assert isinstance(error, Denied)
            refusals.add((error.reason, error.message))
    assert len(refusals) == 1, refusals
    assert refusals.pop()[0] == "UNAUTHENTICATED"


async def test_a_denied_namespace_is_like_one_that_is_not_there(secured: Secured, root: Client) -> None:
    """To the last detail, for every call: what `b` has is what would tell it from `c`."""
    await root.submit(submission("b", 1))
    inferred = []
    for who in (*(f"{verb}-a" for verb in VERBS), "ward", "reviewer", "writer"):
        async with secured.client(who) as client:
            for method, call in CALLS.items():
                there, nowhere = [await told_whole(call(client, namespace)) for namespace in ("b", "c")]
                if [text.replace("'b'", "'c'") for text in there] != nowhere:
                    inferred.append((who, method, there, nowhere))
    assert inferred == []


async def told_whole(call: Awaitable[object]) -> list[str]:
    """All that a refused call is told: the code, the text, each detail, and whatever else comes with the end."""
    error = await rpc_failure_of(call)
    assert error.code() == grpc.StatusCode.PERMISSION_DENIED
    status = rpc_status.from_call(error)
    assert status is not None
    metadata = [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())]
    names = [key for key, _ in metadata]
    return [str(error.details()), status.message, *map(str, status.details), *names]


async def test_who_may_in_one_namespace_sees_that_one(secured: Secured, root: Client) -> None:  # noqa: ARG001 - a and b exist
    async with secured.client("read-a") as client:
        listed = await client.namespaces.ListNamespaces(ns_pb.ListNamespacesRequest())
        assert [namespace.name for namespace in listed.namespaces] == ["a"]
        # Where it may read, what is not there is told as ever.
        error = await failure_of(client.knowledge.Get(know_pb.GetRequest(namespace="a", item_id="no-such-item")))
        assert isinstance(error, NotFound)


async def test_a_batch_with_one_submission_that_may_not_be_is_not_taken(secured: Secured, root: Client) -> None:
    async with secured.client("write-a") as client:
        error = await failure_of(client.submit(submission("a", 71), submission("b", 71)))
        assert isinstance(error, Denied)
        assert "submission 2 of 2" in error.message
        with_stream = client.ingest.SubmitStream(timeout=PATIENCE_SECONDS)
        await with_stream.write(ingest_pb.SubmitStreamRequest(submissions=[submission("b", 72)]))
        assert isinstance(await failure_of(with_stream.read()), Denied)
    for namespace, item in (("a", "item-71"), ("b", "item-71"), ("b", "item-72")):
        request = know_pb.GetRequest(namespace=namespace, item_id=item)
        assert isinstance(await failure_of(root.knowledge.Get(request)), NotFound)


async def test_nobody_reviews_in_a_name_or_with_an_authority_that_is_not_theirs(
    secured: Secured,
    root: Client,  # noqa: ARG001 - a and b exist
) -> None:
    async with secured.client("reviewer") as client:
        for name, origin, allowed in (
            ("dr-ada", pb.ORIGIN_COLLABORATIVE, True),
            ("dr-ada", pb.ORIGIN_EXPERT, False),
            ("mallory", pb.ORIGIN_COLLABORATIVE, False),
        ):
            reviewer = review_pb.Reviewer(name=name, origin=origin)
            request = review_pb.ClaimReviewRequest(namespace="a", review_id=1, reviewer=reviewer)
            error = await failure_of(client.reviews.ClaimReview(request))
            assert isinstance(error, NotFound if allowed else Denied), (name, origin, error)


async def test_who_decided_a_review_and_why_is_told_to_reviewers_only(secured: Secured, root: Client) -> None:
    orphan = pb.Provenance(derived_from=["unheard-of"])
    held = submission("a", 91, origin=pb.ORIGIN_SYNTHETIC, provenance=orphan)
    (receipt,) = await root.submit(held)
    assert receipt.reason == pb.REASON_UNKNOWN_PARENT
    listed = await root.reviews.ListReviews(review_pb.ListReviewsRequest(namespace="a", producers=["tests"]))
    [review] = [one for one in listed.reviews if one.receipt.submission_id == held.submission_id]
    decided = review_pb.DecideReviewRequest(
        namespace="a",
        review_id=review.review_id,
        reviewer=review_pb.Reviewer(name="dr-ada", origin=pb.ORIGIN_EXPERT),
        verdict=review_pb.REVIEW_VERDICT_REJECT,
        comment="Never trust this one.",
    )
    await root.reviews.DecideReview(decided)
    asked = know_pb.ExplainRequest(namespace="a", producer="tests", submission_id=held.submission_id)

    told = {}
    for who in ("root", "read-a"):
        async with secured.client(who) as client:
            told[who] = list((await client.knowledge.Explain(asked)).explanations)

    assert [(one.decided_by, one.comment) for one in told["root"]] == [("", ""), ("dr-ada", "Never trust this one.")]
    for field in ("decided_by", "comment"):
        told["root"][1].ClearField(field)
    assert told["read-a"] == told["root"], "the rest is told to who may read"


async def test_nobody_acknowledges_for_a_consumer_that_is_not_theirs(secured: Secured, root: Client) -> None:
    await root.submit(submission("a", 61))
    async with secured.client("ward") as client:
        async with client.subscribe("a", after_revision=0, consumer="ward-3") as own:
            await own.next_of("subscribed")
        for namespace in ("a", "b", "there-is-none"):
            async with client.subscribe(namespace, after_revision=0, consumer="advisor") as other:
                error = await other.failure()
            assert isinstance(error, Denied)
            assert error.message.startswith(f"ward may not watch in '{namespace}' as 'advisor'")
    listed = await root.sync.ListConsumers(sync_pb.ListConsumersRequest(namespace="a"))
    assert "ward-3" in {consumer.consumer for consumer in listed.consumers}
    assert "advisor" not in {consumer.consumer for consumer in listed.consumers}


_SUBMIT: Final = "IngestService/Submit"
TOO_LARGE: Final = bytes(17 * 1024 * 1024)
"""A byte more than 16 MiB is too much."""
OF_A_LATER_VERSION: Final = b"\xc2\x3e\xac\x02" + bytes(300)
"""The field 1000 of a message, 300 bytes: nobody here knows it, and it counts as bytes."""


async def test_no_message_is_larger_than_its_principal_may_send(secured: Secured, root: Client) -> None:  # noqa: ARG001
    asked = sync_pb.SubscribeRequest(subscribe=sync_pb.Subscription(namespace="a", consumer="small", head=True))
    async with secured.client("small") as client:
        first, later = (client.stream_raw("SyncService/Subscribe") for _ in range(2))
        await first.write(asked.SerializeToString() + OF_A_LATER_VERSION)
        await later.write(asked.SerializeToString())
        assert isinstance(await later.read(), bytes)
        await later.write(OF_A_LATER_VERSION)

        async def ended() -> None:
            while isinstance(await later.read(), bytes):
                pass

        method = "/epistream.v1.AdminService/Backup"
        backup: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = client.channel.unary_stream(method)
        for fails in (first.read, ended, backup(OF_A_LATER_VERSION).read):
            error = await asyncio.wait_for(failure_of(fails()), PATIENCE_SECONDS)
            assert isinstance(error, InvalidInput)
            assert error.reason == "TOO_LARGE"
            assert "you may send 200" in error.message


async def test_who_sends_what_is_too_large_to_be_read_is_not_listened_to_for_a_while(
    secured: Secured, root: Client
) -> None:
    async with secured.client("careless") as client:
        heard = [await rpc_failure_of(client.call_raw(_SUBMIT, TOO_LARGE)) for _ in range(6)]
        also = await rpc_failure_of(client.submit(submission("a", 62)))

    assert {error.code() for error in (*heard, also)} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert ["larger than max" in (error.details() or "") for error in heard] == [True] * 5 + [False]
    for error in (heard[-1], also):
        assert told_by(error).reason == "RATE_LIMITED"
        assert 0 < delay_told_by(error) <= 10
    await root.submit(submission("a", 62))


async def test_of_a_caller_whom_nobody_knows_no_message_is_read(secured: Secured) -> None:
    async with secured.client("unknown") as client:
        error = await rpc_failure_of(client.call_raw(_SUBMIT, TOO_LARGE))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED
