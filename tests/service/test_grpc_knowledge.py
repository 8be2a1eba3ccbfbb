"""KnowledgeService and NamespaceService over gRPC, as a client generated from the protos meets them."""

from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import field_mask_pb2

from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import Conflict, InvalidInput, NotFound, Resync
from tests.support.rpc import DIMENSION, Client, client_of, failure_of, rpc_failure_of, submission, vector
from tests.support.service import running_service


def at(revision: int) -> pb.AsOf:
    return pb.AsOf(revision=revision)


async def test_an_item_is_answered_as_it_is_and_as_it_was(client: Client) -> None:
    await client.make_namespace("get")
    await client.submit(submission("get", 1))
    await client.submit(submission("get", 2, item_id="item-1", content="Another fact."))
    now = await client.knowledge.Get(knowledge_pb.GetRequest(namespace="get", item_id="item-1", include_embedding=True))
    assert (now.change.version, now.change.knowledge.content, now.revision) == (2, "Another fact.", 2)
    length = np.linalg.norm(np.frombuffer(now.change.embedding, "<f4"))
    assert length == pytest.approx(1.0, abs=1e-6)
    then = await client.knowledge.Get(knowledge_pb.GetRequest(namespace="get", item_id="item-1", as_of=at(1)))
    assert (then.change.version, then.change.knowledge.content, then.revision) == (1, "Fact number 1.", 1)


async def test_the_history_of_an_item_comes_page_by_page(client: Client) -> None:
    await client.make_namespace("history")
    for number in range(1, 6):
        await client.submit(submission("history", number, item_id="item-1", content=f"Version {number} says so."))
    for limit in (1, 2, 3, 7):
        request = knowledge_pb.HistoryRequest(namespace="history", item_id="item-1", limit=limit)
        versions: list[int] = []
        while page := (await client.knowledge.History(request)).changes:
            assert len(page) == min(limit, 5 - len(versions))
            versions += [change.version for change in page]
            request.after_version = versions[-1]
        assert versions == [1, 2, 3, 4, 5]


async def test_a_search_finds_the_nearest_now_and_then(client: Client) -> None:
    await client.make_namespace("search")
    await client.submit_many("search", range(1, 21))
    request = knowledge_pb.SearchRequest(
        namespace="search", vector=pb.Embedding(float32=vector(7)), limit=3, include_embeddings=True
    )
    answer = await client.knowledge.Search(request)
    assert answer.revision == 20
    assert answer.hits[0].change.item_id == "item-7"
    assert answer.hits[0].similarity == pytest.approx(1.0, abs=1e-6)
    assert len(answer.hits) == 3
    request.as_of.CopyFrom(at(6))
    earlier = await client.knowledge.Search(request)
    assert "item-7" not in [hit.change.item_id for hit in earlier.hits]


async def test_without_its_index_files_a_service_gives_the_same_answers(tmp_path: Path) -> None:
    """The index is derived: whoever deletes it waits a moment at the next start, and that is all."""
    folder = tmp_path / "data"

    async def answers(client: Client) -> list[bytes]:
        requests = [
            knowledge_pb.SearchRequest(
                namespace="search", vector=pb.Embedding(float32=vector(number)), limit=5, include_embeddings=True
            )
            for number in range(1, 40, 3)
        ]
        earlier = knowledge_pb.SearchRequest()
        earlier.CopyFrom(requests[2])
        earlier.as_of.CopyFrom(at(20))
        found = [await client.knowledge.Search(request) for request in (*requests, earlier)]
        assert all(answer.hits for answer in found)
        return [answer.SerializeToString(deterministic=True) for answer in found]

    with running_service(folder) as service:
        async with client_of(service.address) as client:
            await client.make_namespace("search")
            await client.submit_many("search", range(1, 41))
            await client.retract("search", "item-7")
            before = await answers(client)
    files = list((folder / "index").iterdir())
    assert files, "a service that ends in order keeps its index"
    for file in files:
        file.unlink()
    with running_service(folder) as service:
        async with client_of(service.address) as client:
            assert await answers(client) == before


async def test_a_diff_names_what_is_not_the_same(client: Client) -> None:
    await client.make_namespace("diff")
    await client.submit_many("diff", range(1, 4))
    await client.submit(submission("diff", 4, item_id="item-1", content="Another fact."))
    await client.retract("diff", "item-2")
    request = knowledge_pb.DiffRequest(namespace="diff")
    getattr(request, "from").CopyFrom(at(3))  # a keyword in Python
    answer = await client.knowledge.Diff(request)
    found = {e.item_id: (e.HasField("before"), e.HasField("after")) for e in answer.entries}
    assert found == {"item-1": (True, True), "item-2": (True, False)}
    assert (answer.from_revision, answer.to_revision) == (3, 5)


async def test_questions_that_have_no_answer_say_why(client: Client) -> None:
    await client.make_namespace("why")
    await client.submit_many("why", [1])
    get = client.knowledge.Get
    missing = await rpc_failure_of(get(knowledge_pb.GetRequest(namespace="why", item_id="item-2")))
    assert missing.code() == grpc.StatusCode.NOT_FOUND
    assert isinstance(await failure_of(get(knowledge_pb.GetRequest(namespace="nowhere", item_id="x"))), NotFound)
    future = await failure_of(get(knowledge_pb.GetRequest(namespace="why", item_id="item-1", as_of=at(2))))
    assert isinstance(future, Resync)
    assert (future.reason, future.state.head_revision) == ("FUTURE_REVISION", 1)
    search = knowledge_pb.SearchRequest(namespace="why", vector=pb.Embedding(values=[1.0]))
    wrong = await failure_of(client.knowledge.Search(search))
    assert isinstance(wrong, InvalidInput)
    assert wrong.violations


async def test_a_namespace_is_made_once_and_described(client: Client) -> None:
    made = await client.make_namespace("made")
    again = await client.make_namespace("made")
    assert again == made
    assert (made.encoder.model, made.encoder.dimension, made.policy_version) == ("none", DIMENSION, 1)
    other = ns_pb.CreateNamespaceRequest(name="made", encoder=ns_pb.Encoder(model="none", dimension=DIMENSION + 1))
    taken = client.namespaces.CreateNamespace(other)
    assert isinstance(await failure_of(taken), Conflict)
    await client.submit_many("made", range(1, 4))
    got = (await client.namespaces.GetNamespace(ns_pb.GetNamespaceRequest(name="made"))).namespace
    assert (got.head_revision, got.item_count) == (3, 3)
    listed = (await client.namespaces.ListNamespaces(ns_pb.ListNamespacesRequest())).namespaces
    names = [namespace.name for namespace in listed]
    assert "made" in names
    assert names == sorted(names)


async def test_a_policy_is_changed_field_by_field(client: Client) -> None:
    made = await client.make_namespace("policy")
    request = ns_pb.UpdatePolicyRequest(
        name="policy",
        policy=ns_pb.Policy(near_duplicate_threshold=0.9, retained_revisions=7),
        update_mask=field_mask_pb2.FieldMask(paths=["near_duplicate_threshold"]),
    )
    changed = (await client.namespaces.UpdatePolicy(request)).namespace
    assert changed.policy.near_duplicate_threshold == 0.9
    assert changed.policy.retained_revisions == made.policy.retained_revisions
    assert changed.policy_version == 2
    assert changed.policy_time.ToMicroseconds() > made.policy_time.ToMicroseconds() > 0

    listed = await client.namespaces.ListPolicies(ns_pb.ListPoliciesRequest(name="policy"))
    assert [(one.version, one.policy, one.time) for one in listed.policies] == [
        (2, changed.policy, changed.policy_time),
        (1, made.policy, made.create_time),
    ]


@pytest.mark.parametrize("name", ["", "Upper", "-", "x" * 101, "a b"])
async def test_a_name_that_is_none_is_refused(client: Client, name: str) -> None:
    error = await failure_of(client.make_namespace(name))
    assert isinstance(error, InvalidInput)
    assert [violation.field for violation in error.violations] == ["name"]


async def test_an_encoder_that_the_service_does_not_have_is_a_failed_precondition(client: Client) -> None:
    request = ns_pb.CreateNamespaceRequest(name="encoder", encoder=ns_pb.Encoder(model="some-model", dimension=8))
    error = await rpc_failure_of(client.namespaces.CreateNamespace(request))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
