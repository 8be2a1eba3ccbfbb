"""Who may do what, on a live server with TLS: principals by verbs by namespaces, and what the denied can find out."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import psutil
import pytest
import pytest_asyncio

from epistream.clients import Credentials
from epistream.indexer.decode import RECORD_BYTES_MAX
from epistream.services import ingest
from epistream.services.compose import Service
from epistream.services.kafka.redrive import redrive_store
from epistream.services.security.audit import Audit
from epistream.services.security.limits import Allowance
from epistream.services.security.rules import RULES
from epistream.services.settings import Settings
from epistream.v1 import admin_service_pb2 as admin_pb
from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from epistream.v1.raw_pb2 import RawSubmitRequest
from epistream.wire.errors import Denied, EpistreamError, InvalidInput, NotFound, Unavailable
from tests.support.certificates import Authority, put
from tests.support.rpc import DIMENSION, SMALL_WINDOW, Client, client_of, failure_of, rpc_failure_of, submission, vector
from tests.support.security import AUDIENCE, ISSUER, Issuer, client_with, hash_of
from tests.support.service import RunningService, running_service
from tests.support.waits import until

PATIENCE_SECONDS: Final = 20.0
VERBS: Final = ("read", "write", "watch", "admin")
NAMESPACES: Final = ("a", "b")

ACCESS: Final = f"""
[jwt]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
keys_file = "keys.json"
leeway_seconds = 0

[roles.lasting]
verbs = ["read", "write", "watch", "admin"]
namespaces = ["*"]

[principals.lasting]
roles = ["lasting"]
token_hashes = ["{hash_of("lasting")}"]

[principals.small]
roles = ["lasting"]
token_hashes = ["{hash_of("small")}"]
limits = {{ message_bytes = 200 }}

[principals.seldom]
roles = ["lasting"]
token_hashes = ["{hash_of("seldom")}"]
limits = {{ submissions_per_second = 0.001 }}

[roles.ward]
verbs = ["watch"]
namespaces = ["a"]
consumers = ["ward-*"]

[principals.ward]
roles = ["ward"]
token_hashes = ["{hash_of("ward")}"]

[roles.all]
verbs = ["read", "write", "watch", "admin", "monitor"]
namespaces = ["*"]

[principals.root]
roles = ["all"]
token_hashes = ["{hash_of("root")}"]

[roles.writers]
verbs = ["write"]
namespaces = ["a"]
producers = ["writer-*"]

[principals.writer]
roles = ["writers"]
token_hashes = ["{hash_of("writer")}"]
""" + "".join(
    f"""
[roles.{verb}-{namespace}]
verbs = ["{verb}"]
namespaces = ["{namespace}"]

[principals.{verb}-{namespace}]
roles = ["{verb}-{namespace}"]
token_hashes = ["{hash_of(f"{verb}-{namespace}")}"]
"""
    for verb, namespace in itertools.product(VERBS, NAMESPACES)
)


class Secured:
    """A service with TLS and an access file."""

    def __init__(self, folder: Path, authority: Authority, issuer: Issuer, service: RunningService) -> None:
        self.folder, self.authority, self.issuer, self.service = folder, authority, issuer, service

    def client(self, token: str | None, *options: tuple[str, int]) -> Any:
        """A client that shows a token."""
        return client_with(self.service.address, self.authority.channel_credentials(), token, *options)

    def audit(self) -> list[dict[str, Any]]:
        """The lines of the audit log."""
        return [json.loads(line) for line in (self.folder / "audit.jsonl").read_text().splitlines()]


def start(folder: Path, access: str) -> Iterator[Secured]:
    authority, issuer = Authority(folder), Issuer()
    (folder / "keys.json").write_text(json.dumps({"keys": [issuer.public_key()]}))
    (folder / "access.toml").write_text(access)
    flags = authority.service_flags() | {
        "access_file": str(folder / "access.toml"),
        "audit_file": str(folder / "audit.jsonl"),
    }
    with running_service(folder / "data", flags) as service:
        yield Secured(folder, authority, issuer, service)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    yield from start(tmp_path_factory.mktemp("secured"), ACCESS)


@pytest_asyncio.fixture
async def root(secured: Secured) -> AsyncIterator[Client]:
    async with secured.client("root") as client:
        for namespace in NAMESPACES:
            await client.make_namespace(namespace)
        yield client


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
    "KnowledgeService/ListSignals": lambda client, namespace: client.knowledge.ListSignals(
        know_pb.ListSignalsRequest(namespace=namespace)
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
    "NamespaceService/UpdatePolicy": lambda client, namespace: client.namespaces.UpdatePolicy(
        ns_pb.UpdatePolicyRequest(name=namespace, policy=ns_pb.Policy(near_duplicate_threshold=0.95))
    ),
    "AdminService/Backup": backup,
}
NEEDS: Final = {
    "IngestService": {"write"},
    "KnowledgeService": {"read"},
    "SyncService": {"watch"},
    "NamespaceService/CreateNamespace": {"admin"},
    "NamespaceService/UpdatePolicy": {"admin"},
    "NamespaceService/GetNamespace": {"read", "write", "watch", "admin"},
    "AdminService/Backup": set[str](),
}
"""Which verb suffices in the namespace, written out beside the rules. For a backup none does: it is of everything."""


def needed(method: str) -> set[str]:
    return NEEDS.get(method) or NEEDS.get(method.partition("/")[0], set())


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
    await root.submit(submission("b", 1))
    async with secured.client("read-a") as client:
        for method in ("KnowledgeService/Get", "KnowledgeService/Search", "NamespaceService/GetNamespace"):
            there = await failure_of(CALLS[method](client, "b"))
            nowhere = await failure_of(CALLS[method](client, "c"))
            assert there.message.replace("'b'", "'c'") == nowhere.message
            assert (type(there), there.reason) == (type(nowhere), nowhere.reason)
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


NOT_UTF8: Final = b"\x32\x01\xff"
"""A content that no submission can have. Who may submit it can be read all the same, from before and after it."""
CUT_OFF: Final = b"\x32\x05x"
"""A content that ends too early. What stands before it can be read."""


def torn(namespace: str, producer: str, tail: bytes) -> bytes:
    """A submission that cannot be decoded."""
    named = pb.Submission(namespace=namespace, provenance=pb.Provenance(producer=producer))
    return named.SerializeToString() + tail


@pytest.mark.parametrize(
    "planted",
    [
        pytest.param(torn("b", "writer-1", CUT_OFF), id="another namespace"),
        pytest.param(torn("a", "somebody", CUT_OFF), id="another producer"),
        pytest.param(torn("", "somebody", CUT_OFF), id="another producer, no namespace"),
        pytest.param(torn("b", "writer-1", NOT_UTF8), id="another namespace that is asked about"),
        pytest.param(torn("b", "writer-1", NOT_UTF8) + torn("a", "writer-1", b""), id="another namespace, then mine"),
    ],
)
async def test_nobody_leaves_a_dead_letter_in_the_name_of_others(
    secured: Secured,
    root: Client,  # noqa: ARG001 - a and b exist
    planted: bytes,
) -> None:
    before = await metrics(secured, "root")
    mine = submission("a", 91, provenance=pb.Provenance(producer="writer-1"))
    request = RawSubmitRequest(submissions=[mine.SerializeToString(), planted]).SerializeToString()
    async with secured.client("writer") as client:
        stream = client.stream_raw("IngestService/SubmitStream")
        await stream.write(request)
        for answer in (client.call_raw("IngestService/Submit", request), stream.read()):
            assert isinstance(await failure_of(answer), Denied)
    after = await metrics(secured, "root")
    for name in ("epistream_dlq_total", "epistream_ingest_outcomes_total"):
        assert sample(after, name) == sample(before, name)


@pytest.mark.parametrize(
    "allowed", [torn("a", "writer-1", CUT_OFF), torn("", "", CUT_OFF), torn("a", "", CUT_OFF), b"\xff\xff"]
)
async def test_what_cannot_be_decoded_is_kept_where_its_names_are_the_callers_own(
    secured: Secured,
    root: Client,  # noqa: ARG001 - a and b exist
    allowed: bytes,
) -> None:
    before = await metrics(secured, "root")
    async with secured.client("writer") as client:
        request = RawSubmitRequest(submissions=[allowed]).SerializeToString()
        answer = ingest_pb.SubmitResponse.FromString(await client.call_raw("IngestService/Submit", request))
    assert [receipt.reason for receipt in answer.receipts] == [pb.REASON_MALFORMED]
    assert sample(await metrics(secured, "root"), "epistream_dlq_total") == sample(before, "epistream_dlq_total") + 1


async def test_what_is_left_of_a_submission_that_was_cut_is_not_another_one(
    secured: Secured,
    root: Client,  # noqa: ARG001 - a and b exist
) -> None:
    """Its sender was asked about its end, which is not kept. Somebody with more rights may send it again."""
    others = submission("b", 92, provenance=pb.Provenance(producer="somebody"), origin=pb.ORIGIN_EXPERT)
    begins = others.SerializeToString() + OF_A_LATER_VERSION[:2]
    length = RECORD_BYTES_MAX - len(begins) - 3
    begins += bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14]) + bytes(length)
    assert len(begins) == RECORD_BYTES_MAX
    assert pb.Submission.FromString(begins).namespace == "b"
    ends = pb.Submission(namespace="a", origin=pb.ORIGIN_SYNTHETIC, provenance=pb.Provenance(producer="writer-1"))
    async with secured.client("writer") as client:
        request = RawSubmitRequest(submissions=[begins + ends.SerializeToString()]).SerializeToString()
        answer = ingest_pb.SubmitResponse.FromString(await client.call_raw("IngestService/Submit", request))
    assert [receipt.outcome for receipt in answer.receipts] == [pb.OUTCOME_REFUSED]
    shown = Credentials(token="root", tls_ca_file=secured.authority.ca_file)
    data = secured.service.folder
    redriven = await asyncio.to_thread(redrive_store, data, secured.service.address, credentials=shown)
    assert redriven.outcomes.keys() == {"REFUSED"}


async def test_who_may_write_nowhere_leaves_no_dead_letter(secured: Secured, root: Client) -> None:  # noqa: ARG001
    before = await metrics(secured, "root")
    async with secured.client("read-a") as client:
        request = RawSubmitRequest(submissions=[b"\xff\xff"]).SerializeToString()
        error = await rpc_failure_of(client.call_raw("IngestService/Submit", request))
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED
    after = await metrics(secured, "root")
    assert sample(after, "epistream_dlq_total") == sample(before, "epistream_dlq_total")


async def metrics(secured: Secured, token: str | None) -> str:
    """The page, over HTTPS."""
    return await asyncio.to_thread(secured.service.metrics_page, ca=secured.authority.ca_pem, token=token)


def sample(page: str, name: str) -> float:
    """The sum of a metric's samples."""
    lines = (line.rpartition(" ") for line in page.splitlines() if line.startswith(name))
    return sum(float(value) for _, _, value in lines)


async def test_the_metrics_are_for_whoever_may_monitor(secured: Secured, root: Client) -> None:  # noqa: ARG001
    page = await metrics(secured, "root")
    assert "epistream_tls_certificate_not_after_timestamp_seconds" in page
    for token in (None, "nobody", "read-a", "admin-a"):
        with pytest.raises(OSError, match="401"):
            await metrics(secured, token)
    page = await metrics(secured, "root")
    assert 'epistream_auth_failures_total{reason="unauthenticated"}' in page


async def test_the_audit_log_says_who_did_what_and_holds_no_knowledge(secured: Secured, root: Client) -> None:
    await root.submit(submission("a", 81, content="The secret ingredient is salt."))
    async with secured.client("read-b") as client:
        await failure_of(client.submit(submission("a", 82)))
    async with secured.client("watch-a") as client:
        await subscribe(client, "a")
    ended = ("SyncService/Subscribe", "CANCELLED")
    await until(lambda: ended in [(line["method"], line["code"]) for line in secured.audit()])
    lines = secured.audit()
    [written] = [
        line
        for line in lines
        if line["method"] == "IngestService/Submit"
        and line.get("outcomes") == {"ADMITTED": 1}
        and line["principal"] == "root"
        and line["time"] >= lines[-20 if len(lines) > 20 else 0]["time"]
    ][-1:]
    assert written["code"] == "OK"
    assert written["revisions"]["a"] >= 1
    assert written["peer"].startswith("ipv4:127.0.0.1:")
    assert any(line["principal"] == "read-b" and line["code"] == "PERMISSION_DENIED" for line in lines)
    assert any(line["principal"] is None and line["code"] == "UNAUTHENTICATED" for line in lines)
    opened = [line for line in lines if line["code"] == "OPENED" and line["principal"] == "watch-a"]
    assert opened[-1]["namespace"] == "a"
    assert opened[-1]["consumer"] == "model"
    text = (secured.folder / "audit.jsonl").read_text()
    assert "salt" not in text
    assert "eyJ" not in text


async def test_who_is_denied_leaves_nothing_behind_however_much_was_sent(secured: Secured, root: Client) -> None:  # noqa: ARG001
    process = psutil.Process(secured.service.pid)
    large = ns_pb.GetNamespaceRequest(name="x" * 15_000_000)
    async with secured.client("nobody") as unknown, secured.client("read-a") as denied:
        for client in (unknown, denied):
            await failure_of(client.namespaces.GetNamespace(large))
        before, log = process.memory_info().rss, (secured.folder / "audit.jsonl").stat().st_size
        for _ in range(15):
            for client in (unknown, denied):
                assert isinstance(await failure_of(client.namespaces.GetNamespace(large)), Denied)
    assert process.memory_info().rss - before < 200 * 2**20, "450 MB were sent"
    assert (secured.folder / "audit.jsonl").stat().st_size - log < 20_000


async def test_callers_whom_nobody_knows_cannot_fill_the_audit_log(secured: Secured, root: Client) -> None:  # noqa: ARG001
    before = len(secured.audit())
    async with secured.client("nobody") as client:
        calls = [failure_of(client.namespaces.ListNamespaces(ns_pb.ListNamespacesRequest())) for _ in range(500)]
        begun = time.monotonic()
        assert all(isinstance(error, Denied) for error in await asyncio.gather(*calls))
        seconds = time.monotonic() - begun
    lines = [line for line in secured.audit()[before:] if line["principal"] is None]
    assert 1 <= len(lines) <= 10 * (seconds + 2)


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[Secured]:
    yield from start(tmp_path, ACCESS)


async def fails_with(stream: Any) -> EpistreamError:
    return await asyncio.wait_for(stream.failure(), PATIENCE_SECONDS)


async def test_a_permission_that_is_taken_away_ends_the_streams_that_stood_on_it(changing: Secured) -> None:
    access = changing.folder / "access.toml"
    async with (
        changing.client("root") as root,
        changing.client("watch-a") as loser,
        changing.client("watch-b") as keeper,
    ):
        for namespace in NAMESPACES:
            await root.make_namespace(namespace)
        async with loser.subscribe("a", head=True) as lost, keeper.subscribe("b", head=True) as kept:
            await lost.next_of("subscribed")
            await kept.next_of("subscribed")
            # Something wrong changes nothing.
            put(access, "[roles")
            await until(lambda: unusable_access_files(changing))
            await root.submit(submission("a", 1))
            await lost.changes(1)
            # The role without its verb: the stream ends, a new one cannot be opened, the other goes on.
            put(access, ACCESS.replace('verbs = ["watch"]\nnamespaces = ["a"]', 'verbs = ["read"]\nnamespaces = ["a"]'))
            error = await fails_with(lost)
            assert isinstance(error, Denied)
            assert error.reason == "PERMISSION_DENIED"
            again = loser.subscribe("a", head=True)
            async with again:
                assert isinstance(await fails_with(again), Denied)
            await root.submit(submission("b", 1))
            await kept.changes(1)
            # The token itself.
            put(access, ACCESS.replace(hash_of("watch-b"), hash_of("another")))
            error = await fails_with(kept)
            assert isinstance(error, Denied)
            assert error.reason == "UNAUTHENTICATED"


async def test_a_consumer_that_is_given_to_others_ends_the_streams_in_its_name(changing: Secured) -> None:
    async with changing.client("root") as root, changing.client("ward") as client:
        await root.make_namespace("a")
        async with client.subscribe("a", head=True, consumer="ward-3") as stream:
            await stream.next_of("subscribed")
            put(changing.folder / "access.toml", ACCESS.replace('"ward-*"', '"ward-4"'))
            error = await fails_with(stream)
        assert isinstance(error, Denied)
        assert "as 'ward-3'" in error.message


MORE_THAN_GRPC_HOLDS: Final = 48
"""So many items of a quarter of a megabyte."""


async def test_who_is_cut_off_and_does_not_read_keeps_the_places_until_it_lets_go(changing: Secured) -> None:
    """What it has not read is still held for it, so others of its principal do not get its places meanwhile."""
    put(changing.folder / "access.toml", ACCESS + "[limits]\nstreams = 3\n")
    await until(lambda: "The access file was read again" in changing.service.logged())
    async with changing.client("root") as root:
        await root.make_namespace("a")
        for number in range(MORE_THAN_GRPC_HOLDS):
            await root.submit(submission("a", 100 + number, content=f"{number} " + "x" * 250_000))
        async with changing.client(changing.issuer.token(["lasting"], seconds=10), SMALL_WINDOW) as client:
            unread = [client.subscribe("a", after_revision=0, consumer="unread") for _ in range(3)]
            for stream in unread:
                await stream.call.write(sync_pb.SubscribeRequest(subscribe=stream.wanted))
                await stream.next_of("subscribed")

            async def all_cut_off() -> bool:
                listed = await root.sync.ListConsumers(sync_pb.ListConsumersRequest(namespace="a"))
                return not any(consumer.connected for consumer in listed.consumers)

            await until(all_cut_off)
            async with changing.client(changing.issuer.token(["lasting"])) as again:
                error = await failure_of(subscribe(again, "a"))
                assert isinstance(error, Unavailable)
                assert "you have 3 streams open" in error.message
                unread[0].call.cancel()
                await until(lambda: may_follow(again, "a"))


async def until_audited(secured: Secured, method: str, code: str) -> None:
    await until(lambda: any((line["method"], line["code"]) == (method, code) for line in secured.audit()))


async def lasting_calls(client: Client) -> dict[str, Callable[[], Awaitable[EpistreamError]]]:
    """Calls that are open and say nothing by themselves, of each method that lasts; they give what they end with."""
    unread = client.subscribe("a", after_revision=0, consumer="unread")
    await unread.call.write(sync_pb.SubscribeRequest(subscribe=unread.wanted))
    await unread.next_of("subscribed")
    backup: Any = client.admin.Backup(admin_pb.BackupRequest())
    assert (await backup.read()).HasField("header")
    used, unused = client.ingest.SubmitStream(), client.ingest.SubmitStream()
    await used.write(ingest_pb.SubmitStreamRequest(submissions=[submission("a", 1)]))
    await used.read()
    waiting = client.sync.WaitApplied(
        sync_pb.WaitAppliedRequest(namespace="a", revision=1, consumers=["unread"]), timeout=2 * PATIENCE_SECONDS
    )
    await client.sync.ListConsumers(sync_pb.ListConsumersRequest(namespace="a"))  # the calls before it have begun

    async def all_of_backup() -> None:
        while isinstance(await backup.read(), admin_pb.BackupResponse):
            pass

    return {
        "WaitApplied": lambda: failure_of(waiting),
        "SubmitStream": lambda: failure_of(used.read()),
        "SubmitStream without a batch": lambda: failure_of(unused.read()),
        "Subscribe that is not read": unread.failure,
        "Backup that is not read": lambda: failure_of(all_of_backup()),
    }


@pytest.mark.parametrize(
    ("token", "taken_away", "code", "reason"),
    [
        ("lasting", ('"read", "write", "watch", "admin"', '"read"'), "PERMISSION_DENIED", "PERMISSION_DENIED"),
        ("lasting", (hash_of("lasting"), hash_of("another")), "UNAUTHENTICATED", "UNAUTHENTICATED"),
        ("JWT", ("", ""), "UNAVAILABLE", "CREDENTIALS_EXPIRED"),
    ],
)
async def test_whatever_lasts_is_cut_off_when_what_it_stood_on_is_gone(
    changing: Secured, token: str, taken_away: tuple[str, str], code: str, reason: str
) -> None:
    async with changing.client("root") as root:
        await root.make_namespace("a")
        for number in range(MORE_THAN_GRPC_HOLDS):
            await root.submit(submission("a", 100 + number, content=f"{number} " + "x" * 250_000))
        shown = changing.issuer.token(["lasting"], seconds=10) if token == "JWT" else token
        async with changing.client(shown, SMALL_WINDOW) as client:
            calls = await lasting_calls(client)
            put(changing.folder / "access.toml", ACCESS.replace(*taken_away, 1))
            # Nobody has read on, and yet they have ended.
            for method in ("SyncService/Subscribe", "AdminService/Backup"):
                await until_audited(changing, method, code)
            listed = await root.sync.ListConsumers(sync_pb.ListConsumersRequest(namespace="a"))
            assert [consumer.connected for consumer in listed.consumers] == [False]
            ended = {name: await asyncio.wait_for(call(), PATIENCE_SECONDS) for name, call in calls.items()}
            assert {name: error.reason for name, error in ended.items()} == dict.fromkeys(calls, reason)
    assert changing.service.stop() == 0
    assert "Traceback" not in changing.service.logged()


async def unusable_access_files(secured: Secured) -> float:
    return sample(await metrics(secured, "root"), 'epistream_security_errors_total{part="access_file"}')


async def may_follow(client: Client, namespace: str) -> bool:
    return await outcome(client, "SyncService/Subscribe", namespace) == "let in"


async def test_a_stream_ends_when_its_token_runs_out_and_may_come_back_with_a_new_one(changing: Secured) -> None:
    async with changing.client("root") as root:
        await root.make_namespace("a")
    short = changing.client(changing.issuer.token(["watch-a"], seconds=4))
    async with short as client, client.subscribe("a", head=True) as stream:
        await stream.next_of("subscribed")
        error = await fails_with(stream)
        assert isinstance(error, Unavailable)
        assert error.reason == "CREDENTIALS_EXPIRED"
    async with changing.client(changing.issuer.token(["watch-a"])) as client:
        await subscribe(client, "a")


async def test_a_key_file_that_comes_after_the_access_file_that_names_it_is_read(changing: Secured) -> None:
    new = Issuer("two")
    async with changing.client("root") as root:
        await root.make_namespace("a")
    renamed = ACCESS.replace('"keys.json"', '"later.json"').replace(hash_of("watch-b"), hash_of("another"))
    put(changing.folder / "access.toml", renamed)
    await until(lambda: unusable_access_files(changing))
    put(changing.folder / "later.json", json.dumps({"keys": [new.public_key()]}))
    async with changing.client(new.token(["watch-a"])) as client:
        await until(lambda: may_follow(client, "a"))
    async with changing.client("watch-b") as revoked:
        assert await outcome(revoked, "SyncService/Subscribe", "b") == "unknown"


async def test_a_key_that_is_taken_out_of_the_key_file_is_believed_no_more(changing: Secured) -> None:
    new = Issuer("two")
    async with changing.client("root") as root:
        await root.make_namespace("a")
    async with (
        changing.client(changing.issuer.token(["watch-a"])) as client,
        client.subscribe("a", head=True) as stream,
    ):
        await stream.next_of("subscribed")
        put(changing.folder / "keys.json", json.dumps({"keys": [changing.issuer.public_key(), new.public_key()]}))
        async with changing.client(new.token(["watch-a"])) as other:
            await until(lambda: may_follow(other, "a"))
            await subscribe(client, "a")
            put(changing.folder / "keys.json", json.dumps({"keys": [new.public_key()]}))
            error = await fails_with(stream)
            assert error.reason == "UNAUTHENTICATED"
            await subscribe(other, "a")


# In this process, where a test can see what is waited for.


@asynccontextmanager
async def inside(folder: Path, issuer: Issuer) -> AsyncIterator[Client]:
    """A client of a service in this process, with the namespace a. It shows nothing by itself."""
    put(folder / "keys.json", json.dumps({"keys": [issuer.public_key()]}))
    put(folder / "access.toml", ACCESS)
    places = {"folder": folder / "data", "address": "127.0.0.1:0", "metrics_address": "127.0.0.1:0"}
    files = {"access_file": folder / "access.toml", "audit_file": folder / "audit.jsonl"}
    service = Service(Settings.load(encoder="none", **places, **files))
    await service.start()
    try:
        async with client_of(service.address) as client:
            encoder = ns_pb.Encoder(model="none", dimension=DIMENSION)
            wanted = ns_pb.CreateNamespaceRequest(name="a", encoder=encoder)
            await client.namespaces.CreateNamespace(wanted, metadata=showing("root"))
            yield client
    finally:
        await service.stop()


def showing(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


SHORT_SECONDS: Final = 2.0


async def test_who_runs_out_while_a_stream_is_opened_is_not_listed_as_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(_: Audit, line: Mapping[str, object]) -> None:
        if line["code"] == "OPENED":
            time.sleep(SHORT_SECONDS)

    monkeypatch.setattr(Audit, "record", record)
    issuer = Issuer()
    async with inside(tmp_path, issuer) as client:
        call = client.sync.Subscribe(metadata=showing(issuer.token(["watch-a"], seconds=SHORT_SECONDS)))
        wanted = sync_pb.Subscription(namespace="a", consumer="late", head=True)
        await call.write(sync_pb.SubscribeRequest(subscribe=wanted))
        assert (await failure_of(call.read())).reason == "CREDENTIALS_EXPIRED"
        request = sync_pb.ListConsumersRequest(namespace="a")
        listed = await client.sync.ListConsumers(request, metadata=showing("root"))
        assert [(consumer.consumer, consumer.connected) for consumer in listed.consumers] == [("late", False)]


async def test_a_stream_that_waits_for_its_rate_leaves_the_room_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "IN_HAND_BYTES_MAX", 1)  # one request fills it
    waits = asyncio.Event()
    delay_seconds = Allowance.delay_seconds

    def asked(allowance: Allowance) -> float:
        seconds = delay_seconds(allowance)
        if seconds > 0:
            waits.set()
        return seconds

    monkeypatch.setattr(Allowance, "delay_seconds", asked)
    async with inside(tmp_path, Issuer()) as client:
        slowed, other = (client.ingest.SubmitStream(metadata=showing(token)) for token in ("seldom", "root"))
        for number in (1, 2):
            await slowed.write(ingest_pb.SubmitStreamRequest(submissions=[submission("a", number)]))
        first: Any = await asyncio.wait_for(slowed.read(), PATIENCE_SECONDS)
        assert [receipt.submission_id for receipt in first.receipts] == ["s-1"]
        await asyncio.wait_for(waits.wait(), PATIENCE_SECONDS)
        # The second has come and has to wait for a quarter of an hour.
        request = ingest_pb.SubmitRequest(submissions=[submission("a", 3)])
        called = await client.ingest.Submit(request, metadata=showing("root"))
        await other.write(ingest_pb.SubmitStreamRequest(submissions=[submission("a", 4)]))
        streamed: Any = await asyncio.wait_for(other.read(), PATIENCE_SECONDS)
        # Dense: nothing of the one that waits was taken.
        assert [receipt.revision for receipt in (*called.receipts, *streamed.receipts)] == [2, 3]
        slowed.cancel()
        other.cancel()
