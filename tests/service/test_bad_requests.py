"""Wrong requests: each method answers with a status code, and google.rpc's details name the field.

What is asserted is what any client sees: the code, the reason of `ErrorInfo`, the fields of `BadRequest`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
import pytest
from google.protobuf import duration_pb2, field_mask_pb2, timestamp_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from epistream.clients import SyncKnowledgeClient, SyncProducer
from epistream.v1 import errors_pb2
from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from epistream.v1.raw_pb2 import RawSubmitRequest
from tests.support.rpc import DIMENSION, PATIENCE_SECONDS, Client, rpc_failure_of, submission, vector
from tests.support.service import RunningService, running_service

NAMESPACE: Final = "facts"
SHORT: Final = "short"
"""A namespace of which only the newest revision is retained."""
NOBODY: Final = "no-such-namespace"
GARBAGE: Final = b"\x0a\xff\xff\xff\xff\x0fgarbage"
HEAD: Final = 2
"""How many items there are."""
TOKENS: Final = ("x", "-1", "1.5", "²", "9" * 19, "9" * 20)


@dataclass(frozen=True, slots=True)
class Wrong:
    """A request that is wrong, and what a client is told."""

    name: str
    method: str
    request: Message | bytes | None
    """None for a stream that ends without a message."""
    code: grpc.StatusCode
    reason: str
    fields: tuple[str, ...] = ()


def _invalid(name: str, method: str, request: Message | bytes | None, *fields: str) -> Wrong:
    return Wrong(name, method, request, grpc.StatusCode.INVALID_ARGUMENT, "INVALID", fields)


def _unknown(method: str, request: Message) -> Wrong:
    return Wrong(f"{method} in an unknown namespace", method, request, grpc.StatusCode.NOT_FOUND, "UNKNOWN_NAMESPACE")


def _future(method: str, request: Message) -> Wrong:
    name = f"{method} beyond the head"
    return Wrong(name, method, request, grpc.StatusCode.FAILED_PRECONDITION, "FUTURE_REVISION")


def _compacted(method: str, request: Message) -> Wrong:
    name = f"{method} before what is retained"
    return Wrong(name, method, request, grpc.StatusCode.OUT_OF_RANGE, "COMPACTED")


def _bad(number: int, **fields: object) -> pb.Submission:
    """A submission without an origin, and with these fields."""
    made = submission(NAMESPACE, number, **fields)
    made.ClearField("origin")
    return made


def _submit(*submissions: pb.Submission, atomic: bool = False) -> ingest_pb.SubmitRequest:
    return ingest_pb.SubmitRequest(submissions=submissions, atomic=atomic)


def _create(name: str = "new", **fields: Any) -> ns_pb.CreateNamespaceRequest:
    encoder = ns_pb.Encoder(model=fields.pop("model", "none"), dimension=fields.pop("dimension", DIMENSION))
    return ns_pb.CreateNamespaceRequest(name=name, encoder=encoder, policy=ns_pb.Policy(**fields))


def _search(vector: pb.Embedding | None = None, **fields: Any) -> knowledge_pb.SearchRequest:
    return knowledge_pb.SearchRequest(**{"namespace": NAMESPACE, "vector": vector, **fields})


def _diff(start: int | None = 0, end: int | None = None, **fields: Any) -> knowledge_pb.DiffRequest:
    request = knowledge_pb.DiffRequest(**{"namespace": NAMESPACE, **fields})
    if start is not None:
        getattr(request, "from").revision = start
    if end is not None:
        request.to.revision = end
    return request


def _subscribe(**fields: Any) -> sync_pb.SubscribeRequest:
    wanted = sync_pb.Subscription(**{"namespace": NAMESPACE, "consumer": "model", **fields})
    return sync_pb.SubscribeRequest(subscribe=wanted)


def _seconds(seconds: float) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))


def _floats(count: int, value: float = 1.0) -> pb.Embedding:
    return pb.Embedding(values=[value] * count)


_SUBMIT, _RETRACT = "IngestService/Submit", "IngestService/Retract"
_GET, _HISTORY = "KnowledgeService/Get", "KnowledgeService/History"
_SEARCH, _DIFF = "KnowledgeService/Search", "KnowledgeService/Diff"
_POLICIES = "NamespaceService/ListPolicies"
_CREATE, _UPDATE = "NamespaceService/CreateNamespace", "NamespaceService/UpdatePolicy"
_NAMESPACE, _SUBSCRIBE = "NamespaceService/GetNamespace", "SyncService/Subscribe"
_CONSUMERS, _WAIT = "SyncService/ListConsumers", "SyncService/WaitApplied"
_FUTURE = pb.AsOf(revision=HEAD + 1)
_MANY = pb.Filter(producers=["nobody"] * 257)
_NO_TIME = pb.AsOf(time=timestamp_pb2.Timestamp(seconds=10**15))

INGEST: Final = (
    _invalid("a batch of nothing", _SUBMIT, _submit(), "submissions"),
    _invalid("a batch of 1,001", _SUBMIT, _submit(*[_bad(1)] * 1001), "submissions"),
    _invalid("a request that is none", _SUBMIT, GARBAGE),
    _invalid("an atomic batch of nothing", _SUBMIT, _submit(atomic=True), "submissions"),
    _invalid(
        "an atomic batch with two that are wrong",
        _SUBMIT,
        _submit(submission(NAMESPACE, 3), _bad(4), _bad(5, content="\0"), atomic=True),
        "submissions[1].origin",
        "submissions[2].origin",
        "submissions[2].content",
    ),
    _invalid(
        "an atomic batch with one that cannot be read",
        _SUBMIT,
        RawSubmitRequest(submissions=[submission(NAMESPACE, 3).SerializeToString(), b"\xff"], atomic=True),
        "submissions[1]",
    ),
    _invalid(
        "an atomic batch with one for nobody",
        _SUBMIT,
        _submit(submission(NOBODY, 3), atomic=True),
        "submissions[0].namespace",
    ),
    Wrong(
        "an atomic batch that comes too late",
        _SUBMIT,
        _submit(submission(NAMESPACE, 3, item_id="item-1", expected_version=0), atomic=True),
        grpc.StatusCode.ABORTED,
        "VERSION_CONFLICT",
        ("submissions[0].expected_version",),
    ),
    _invalid("a retraction that is none", _RETRACT, GARBAGE),
)
KNOWLEDGE: Final = (
    _unknown(_GET, knowledge_pb.GetRequest(namespace=NOBODY, item_id="item-1")),
    Wrong(
        "an item that is not there",
        _GET,
        knowledge_pb.GetRequest(namespace=NAMESPACE, item_id="nothing"),
        grpc.StatusCode.NOT_FOUND,
        "NOT_FOUND",
    ),
    _future(_GET, knowledge_pb.GetRequest(namespace=NAMESPACE, item_id="item-1", as_of=_FUTURE)),
    _invalid(
        "a time that is none",
        _GET,
        knowledge_pb.GetRequest(namespace=NAMESPACE, item_id="item-1", as_of=_NO_TIME),
        "as_of.time",
    ),
    _invalid(
        "neither a revision nor a time",
        _GET,
        knowledge_pb.GetRequest(namespace=NAMESPACE, item_id="item-1", as_of=pb.AsOf()),
        "as_of",
    ),
    _invalid("a question that is none", _GET, GARBAGE),
    _unknown(_HISTORY, knowledge_pb.HistoryRequest(namespace=NOBODY, item_id="item-1")),
    Wrong(
        "the history of an item that never was",
        _HISTORY,
        knowledge_pb.HistoryRequest(namespace=NAMESPACE, item_id="nothing"),
        grpc.StatusCode.NOT_FOUND,
        "NOT_FOUND",
    ),
    _invalid(
        "1,001 versions",
        _HISTORY,
        knowledge_pb.HistoryRequest(namespace=NAMESPACE, item_id="item-1", limit=1001),
        "limit",
    ),
    _unknown(_GET, knowledge_pb.GetRequest(namespace="水" * 1_000_000)),
    _unknown(_SEARCH, _search(_floats(DIMENSION), namespace=NOBODY)),
    _invalid("a search for nothing", _SEARCH, _search(), "query"),
    _invalid("a search with 3 dimensions", _SEARCH, _search(_floats(3)), "vector"),
    _invalid("a search with half a number", _SEARCH, _search(pb.Embedding(float32=b"x" * 11)), "vector.float32"),
    _invalid("a search with a NaN", _SEARCH, _search(_floats(DIMENSION, float("nan"))), "vector.values[0]"),
    _invalid("a search with zeros", _SEARCH, _search(_floats(DIMENSION, 0.0)), "vector.values"),
    _invalid("a search with an empty vector", _SEARCH, _search(pb.Embedding()), "vector"),
    _invalid(
        "a search with both forms",
        _SEARCH,
        _search(pb.Embedding(float32=vector(1), values=[1.0] * DIMENSION)),
        "vector",
    ),
    _invalid("a search for a text without an encoder", _SEARCH, _search(text="What is the limit?"), "text"),
    _invalid("a search with a filter of 257", _SEARCH, _search(_floats(DIMENSION), filter=_MANY), "filter"),
    _invalid("1,001 hits", _SEARCH, _search(_floats(DIMENSION), limit=1001), "limit"),
    _compacted(_GET, knowledge_pb.GetRequest(namespace=SHORT, item_id="item-1", as_of=pb.AsOf(revision=0))),
    _compacted(_SEARCH, _search(_floats(DIMENSION), namespace=SHORT, as_of=pb.AsOf(revision=0))),
    _compacted(_DIFF, _diff(0, namespace=SHORT)),
    _future(_SEARCH, _search(_floats(DIMENSION), as_of=_FUTURE)),
    _invalid("a search at no time", _SEARCH, _search(_floats(DIMENSION), as_of=_NO_TIME), "as_of.time"),
    _invalid("a search at neither", _SEARCH, _search(_floats(DIMENSION), as_of=pb.AsOf()), "as_of"),
    _unknown(_DIFF, _diff(namespace=NOBODY)),
    _invalid("a difference from nowhere", _DIFF, _diff(None), "from"),
    _invalid("a difference backwards", _DIFF, _diff(2, 1), "to"),
    _invalid("a difference to neither", _DIFF, _diff(0, to=pb.AsOf()), "to"),
    _future(_DIFF, _diff(0, HEAD + 1)),
    _invalid("a difference with a filter of 257", _DIFF, _diff(filter=_MANY), "filter"),
    _invalid("1,001 differences", _DIFF, _diff(limit=1001), "limit"),
    *(_invalid(f"the page token {token}", _DIFF, _diff(page_token=token), "page_token") for token in TOKENS),
)
NAMESPACES: Final = (
    _invalid("no name", _CREATE, _create(""), "name"),
    _invalid("a name in capitals", _CREATE, _create("Facts"), "name"),
    _invalid("a name that is a path", _CREATE, _create("../facts"), "name"),
    _invalid("a name of 101 characters", _CREATE, _create("n" * 101), "name"),
    _invalid("a name of two million characters", _CREATE, _create("n" * 2_000_000), "name"),
    _invalid("a name of a million characters that are not ASCII", _CREATE, _create("水" * 1_000_000), "name"),
    _invalid("no dimension", _CREATE, _create(dimension=0), "encoder.dimension"),
    _invalid("8,193 dimensions", _CREATE, _create(dimension=8193), "encoder.dimension"),
    Wrong(
        "an encoder of somebody else's",
        _CREATE,
        _create(model="word2vec"),
        grpc.StatusCode.FAILED_PRECONDITION,
        "NO_SUCH_ENCODER",
        ("encoder",),
    ),
    _invalid("a low threshold", _CREATE, _create(near_duplicate_threshold=0.4), "policy.near_duplicate_threshold"),
    _invalid("no number", _CREATE, _create(near_duplicate_threshold=float("nan")), "policy.near_duplicate_threshold"),
    Wrong(
        "a name that is taken",
        _CREATE,
        _create(NAMESPACE, dimension=DIMENSION + 1),
        grpc.StatusCode.ALREADY_EXISTS,
        "ALREADY_EXISTS",
    ),
    _unknown(_NAMESPACE, ns_pb.GetNamespaceRequest(name=NOBODY)),
    _unknown(_POLICIES, ns_pb.ListPoliciesRequest(name=NOBODY)),
    _invalid("1,001 policies", _POLICIES, ns_pb.ListPoliciesRequest(name=NAMESPACE, limit=1001), "limit"),
    _invalid("no page", _POLICIES, ns_pb.ListPoliciesRequest(name=NAMESPACE, page_token="x"), "page_token"),
    _unknown(_UPDATE, ns_pb.UpdatePolicyRequest(name=NOBODY)),
    _invalid(
        "a mask of no field",
        _UPDATE,
        ns_pb.UpdatePolicyRequest(name=NAMESPACE, update_mask=field_mask_pb2.FieldMask(paths=["threshold"])),
        "update_mask",
    ),
    _invalid(
        "a high threshold",
        _UPDATE,
        ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=ns_pb.Policy(near_duplicate_threshold=1.1)),
        "policy.near_duplicate_threshold",
    ),
)
SYNC: Final = (
    _invalid("a stream without a message", _SUBSCRIBE, None, "subscribe"),
    _invalid("a stream that begins with nothing", _SUBSCRIBE, sync_pb.SubscribeRequest(), "subscribe"),
    _invalid(
        "a stream that begins with an acknowledgement",
        _SUBSCRIBE,
        sync_pb.SubscribeRequest(acknowledge=sync_pb.Acknowledgement(applied_revision=1)),
        "subscribe",
    ),
    _invalid("a stream that begins with garbage", _SUBSCRIBE, GARBAGE),
    _invalid("a subscription of nobody", _SUBSCRIBE, _subscribe(consumer="", head=True), "subscribe.consumer"),
    _invalid(
        "a consumer of 201 characters", _SUBSCRIBE, _subscribe(consumer="c" * 201, head=True), "subscribe.consumer"
    ),
    _invalid("a filter of 257", _SUBSCRIBE, _subscribe(head=True, filter=_MANY), "subscribe.filter"),
    _invalid("no namespace", _SUBSCRIBE, _subscribe(namespace="", head=True), "namespace"),
    _invalid("no start", _SUBSCRIBE, _subscribe(), "subscribe.start"),
    _invalid("not the head", _SUBSCRIBE, _subscribe(head=False), "subscribe.head"),
    _invalid("no snapshot", _SUBSCRIBE, _subscribe(snapshot=False), "subscribe.snapshot"),
    _invalid(
        "progress all the time",
        _SUBSCRIBE,
        _subscribe(head=True, progress_interval=_seconds(0.05)),
        "subscribe.progress_interval",
    ),
    _invalid(
        "progress once an hour",
        _SUBSCRIBE,
        _subscribe(head=True, progress_interval=_seconds(3600)),
        "subscribe.progress_interval",
    ),
    _unknown(_SUBSCRIBE, _subscribe(namespace=NOBODY, head=True)),
    _compacted(_SUBSCRIBE, _subscribe(namespace=SHORT, after_revision=0)),
    _future(_SUBSCRIBE, _subscribe(after_revision=HEAD + 1)),
    Wrong(
        "a position of another store",
        _SUBSCRIBE,
        _subscribe(after_revision=1, epoch="another"),
        grpc.StatusCode.FAILED_PRECONDITION,
        "EPOCH_MISMATCH",
    ),
    _unknown(_CONSUMERS, sync_pb.ListConsumersRequest(namespace=NOBODY)),
    _invalid("the consumers of nothing", _CONSUMERS, sync_pb.ListConsumersRequest(), "namespace"),
    _unknown(_WAIT, sync_pb.WaitAppliedRequest(namespace=NOBODY, revision=1)),
    _invalid("waiting for nothing", _WAIT, sync_pb.WaitAppliedRequest(namespace=NAMESPACE), "revision"),
    _future(_WAIT, sync_pb.WaitAppliedRequest(namespace=NAMESPACE, revision=HEAD + 1)),
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("requests") / "data") as service:
        with SyncKnowledgeClient(service.address) as client, SyncProducer(service.address) as producer:
            for name, retained in ((NAMESPACE, 0), (SHORT, 1)):
                encoder, policy = ns_pb.Encoder(model="none", dimension=DIMENSION), ns_pb.Policy()
                policy.retained_revisions = retained
                client.create_namespace(name, encoder=encoder, policy=policy)
                producer.submit(*(submission(name, number) for number in range(1, HEAD + 1)))
        yield service


@pytest.mark.parametrize("wrong", [*INGEST, *KNOWLEDGE, *NAMESPACES, *SYNC], ids=lambda wrong: wrong.name)
async def test_a_wrong_request_gets_its_status_and_the_path_of_the_field(client: Client, wrong: Wrong) -> None:
    error = await failure(client, wrong.method, [] if wrong.request is None else [wrong.request])
    assert (error.code(), details(error).info.reason) == (wrong.code, wrong.reason)
    assert [violation.field for violation in details(error).bad.field_violations] == list(wrong.fields)
    assert all(violation.description for violation in details(error).bad.field_violations)
    assert error.details()


@pytest.mark.parametrize(
    "wrong",
    [one for one in (*KNOWLEDGE, *SYNC) if one.reason in {"FUTURE_REVISION", "COMPACTED", "EPOCH_MISMATCH"}],
    ids=lambda wrong: wrong.name,
)
async def test_who_asks_for_a_wrong_revision_is_told_where_the_namespace_stands(client: Client, wrong: Wrong) -> None:
    assert wrong.request is not None
    state = details(await failure(client, wrong.method, [wrong.request])).state
    assert state.head_revision == HEAD
    assert state.compacted_revision == (HEAD - 1 if wrong.reason == "COMPACTED" else 0)
    assert len(state.epoch) == 32


async def test_a_second_subscription_on_a_stream_ends_it(client: Client) -> None:
    error = await failure(client, _SUBSCRIBE, [_subscribe(head=True), _subscribe(head=True)])
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in details(error).bad.field_violations] == ["subscribe"]


async def test_acknowledging_what_was_not_sent_ends_the_stream(client: Client) -> None:
    ahead = sync_pb.SubscribeRequest(acknowledge=sync_pb.Acknowledgement(applied_revision=HEAD + 1))
    error = await failure(client, _SUBSCRIBE, [_subscribe(head=True), ahead])
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in details(error).bad.field_violations] == ["acknowledge.applied_revision"]


async def test_the_status_of_a_thousand_conflicts_arrives(client: Client) -> None:
    stale = [submission(NAMESPACE, number, submission_id=f"new-{number}", expected_version=7) for number in range(1000)]
    error = await failure(client, _SUBMIT, [_submit(*stale, atomic=True)])
    assert error.code() == grpc.StatusCode.ABORTED
    fields = [violation.field for violation in details(error).bad.field_violations]
    assert fields[0] == "submissions[0].expected_version"
    assert len(fields) < len(stale)


async def test_versions_are_asked_for_beyond_any(client: Client) -> None:
    request = knowledge_pb.HistoryRequest(namespace=NAMESPACE, item_id="item-1", after_version=2**64 - 1)
    assert not (await client.knowledge.History(request)).changes


async def test_a_message_of_17_mebibytes_is_turned_away(client: Client) -> None:
    error = await failure(client, _SUBMIT, [RawSubmitRequest(submissions=[b"x" * 1024 * 1024] * 17)])
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_method_that_is_none_is_unimplemented(client: Client) -> None:
    error = await failure(client, "IngestService/Forget", [b""])
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_waiting_call_that_ends_in_vain_names_who_is_behind(client: Client) -> None:
    wait = sync_pb.WaitAppliedRequest(namespace=NAMESPACE, revision=HEAD, consumers=["nobody-yet"])
    error = await rpc_failure_of(client.sync.WaitApplied(wait, timeout=0.5))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "nobody-yet" in (error.details() or "")


@pytest.mark.parametrize(
    ("field", "reason", "fields"),
    [
        ("namespace", pb.REASON_INVALID, {"namespace": ""}),
        ("namespace", pb.REASON_UNKNOWN_NAMESPACE, {"namespace": NOBODY}),
        ("submission_id", pb.REASON_INVALID, {"submission_id": ""}),
        ("item_id", pb.REASON_INVALID, {"item_id": ""}),
        ("item_id", pb.REASON_UNKNOWN_ITEM, {"item_id": "nothing"}),
        ("origin", pb.REASON_INVALID, {"origin": 0}),
        ("origin", pb.REASON_INVALID, {"origin": 77}),
        ("provenance.producer", pb.REASON_INVALID, {"provenance": pb.Provenance()}),
        ("provenance.producer", pb.REASON_INVALID, {"provenance": pb.Provenance(producer="a" * 201)}),
        ("expected_version", pb.REASON_VERSION_CONFLICT, {"expected_version": 7}),
    ],
)
async def test_a_wrong_retraction_is_refused_in_its_receipt(
    client: Client, field: str, reason: pb.Reason.ValueType, fields: dict[str, Any]
) -> None:
    right = {
        "namespace": NAMESPACE,
        "submission_id": "take-back",
        "item_id": "item-1",
        "origin": pb.ORIGIN_EXPERT,
        "provenance": pb.Provenance(producer="tests"),
    }
    request = ingest_pb.RetractRequest(**{**right, **fields})
    receipt = (await client.ingest.Retract(request, timeout=PATIENCE_SECONDS)).receipt
    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_REFUSED, reason)
    assert [violation.field for violation in receipt.violations] == [field]


async def test_after_all_that_the_service_is_as_it_was(client: Client, service: RunningService) -> None:
    namespace = (await client.namespaces.GetNamespace(ns_pb.GetNamespaceRequest(name=NAMESPACE))).namespace
    assert namespace.head_revision == HEAD
    assert service.is_running()
    assert " in IngestService" not in service.logged()


@dataclass(frozen=True, slots=True)
class Details:
    """The messages of a status that are there, and empty ones for those that are not."""

    info: error_details_pb2.ErrorInfo
    bad: error_details_pb2.BadRequest
    state: errors_pb2.RevisionState


def details(error: grpc.aio.AioRpcError) -> Details:
    """What an error says to programs."""
    status: status_pb2.Status | None = rpc_status.from_call(error)
    assert status is not None, f"an error without details: {error}"
    found = Details(error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), errors_pb2.RevisionState())
    for detail in status.details:
        for message in (found.info, found.bad, found.state):
            detail.Unpack(message)
    assert found.info.domain == "epistream"
    return found


async def failure(client: Client, method: str, requests: Sequence[Message | bytes]) -> grpc.aio.AioRpcError:
    """What a method fails with."""
    path = f"/epistream.v1.{method}"
    encoded = [one if isinstance(one, bytes) else one.SerializeToString() for one in requests]
    if method != _SUBSCRIBE:
        [request] = encoded
        ask: Any = client.channel.unary_unary(path)
        return await rpc_failure_of(ask(request, timeout=PATIENCE_SECONDS))

    async def converse() -> None:
        call: Any = client.channel.stream_stream(path)(timeout=PATIENCE_SECONDS)
        for one in encoded:
            await call.write(one)
        await call.done_writing()
        async for _ in call:
            pass

    return await rpc_failure_of(converse())
