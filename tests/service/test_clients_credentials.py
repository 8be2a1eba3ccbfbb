"""Clients with credentials over real sockets: TLS, client certificates, tokens, and what is said of wrong ones."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from itertools import groupby
from pathlib import Path

import grpc
import pytest

from epistream.clients import (
    Credentials,
    Denied,
    EpistreamError,
    KnowledgeClient,
    Producer,
    Replica,
    Start,
    Subscriber,
    SyncKnowledgeClient,
    SyncProducer,
    Unavailable,
    connect,
    submission,
)
from epistream.clients.channel import Connection, translate
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1.knowledge_service_pb2 import SearchRequest
from epistream.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from tests.support.certificates import Authority, put
from tests.support.histories import random_history, state_after
from tests.support.scripted_server import Caller, Script, ScriptedServer
from tests.support.waits import PATIENCE_SECONDS, until

HISTORY = random_history(20, seed=1)
FACT = submission("The limit is 5 mg.", namespace="tests", producer="ada", origin="EXPERT")


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer(HISTORY)
    yield server
    await server.stop()


async def serve(server: ScriptedServer, tls: grpc.ServerCredentials | None) -> str:
    server.tls = tls
    await server.start()
    return server.address


async def answered(address: str, credentials: Credentials | None) -> int:
    async with KnowledgeClient(address, credentials=credentials, timeout_seconds=20) as client:
        return (await client.search("tests", "anything")).revision


async def why_not(address: str, credentials: Credentials | None) -> EpistreamError:
    """Why there is no answer, told at once, since nobody would wait so long."""
    async with KnowledgeClient(address, credentials=credentials, timeout_seconds=10 * PATIENCE_SECONDS) as client:
        with pytest.raises(EpistreamError) as caught:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await client.search("tests", "anything")
    return caught.value


async def why_not_yet(address: str, credentials: Credentials | None) -> EpistreamError:
    """What a first attempt is told; clients go on trying."""
    async with connect(address, credentials=credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await KnowledgeServiceStub(channel).Search(SearchRequest(), timeout=PATIENCE_SECONDS)
    return translate(caught.value)


def only(*tokens: str) -> Callable[[Caller], EpistreamError | None]:
    """Admits nobody without one of these."""
    good = {f"Bearer {token}" for token in tokens}
    return lambda caller: None if caller.authorization in good else Denied("who?", reason="UNAUTHENTICATED")


async def test_every_client_shows_its_token_over_tls(ours: Authority, server: ScriptedServer, tmp_path: Path) -> None:
    address = await serve(server, ours.serving("127.0.0.1"))
    server.refuses = only("secret")
    given = Credentials(tls_ca_file=ours.ca_file, token="secret")
    assert await answered(address, given) == 20
    async with Producer(address, credentials=given) as producer:
        assert (await producer.submit(FACT))[0].outcome == pb.OUTCOME_ADMITTED
        assert [receipt.earlier async for receipt in producer.stream(one(FACT))] == [True]
    async with Subscriber(address, "tests", "model", credentials=given, start=Start.BEGINNING) as subscriber:
        await anext(subscriber)
    async with Replica.open(tmp_path / "replica", address, "tests", "model", credentials=given) as replica:
        await replica.wait_current()
        assert {name: replica.get(name) for name in replica.item_ids()} == state_after(HISTORY, 20)
    assert {caller.authorization for caller in server.callers} == {"Bearer secret"}
    assert len(server.callers) == 5


async def one(fact: pb.Submission) -> AsyncIterator[pb.Submission]:
    yield fact


async def test_blocking_clients_take_the_same(ours: Authority, server: ScriptedServer) -> None:
    address = await serve(server, ours.serving("127.0.0.1"))
    server.refuses = only("secret")
    given = Credentials(tls_ca_file=ours.ca_file, token="secret")

    def blocking() -> int:
        with SyncProducer(address, credentials=given) as producer:
            producer.submit(FACT)
        with SyncKnowledgeClient(address, credentials=given) as client:
            return client.search("tests", "anything").revision

    assert await asyncio.to_thread(blocking) == 20


async def test_a_channel_may_be_made_with_credentials(ours: Authority, server: ScriptedServer) -> None:
    address = await serve(server, ours.serving("127.0.0.1"))
    for given in (
        Credentials(tls_ca_file=ours.ca_file),
        grpc.ssl_channel_credentials(ours.ca_file.read_bytes()),
    ):
        async with connect(address, credentials=given) as channel, KnowledgeClient(channel) as client:
            assert (await client.search("tests", "anything")).revision == 20


async def test_with_a_client_certificate_both_know_each_other(ours: Authority, server: ScriptedServer) -> None:
    address = await serve(server, ours.serving("127.0.0.1", clients=ours))
    assert await answered(address, Credentials(tls_ca_file=ours.ca_file, **ours.client("advisor"))) == 20
    assert server.callers == [Caller(None, "advisor")]


async def test_a_service_that_asks_for_a_certificate_gets_a_good_one_or_no_call(
    ours: Authority, server: ScriptedServer, tmp_path: Path
) -> None:
    address = await serve(server, ours.serving("127.0.0.1", clients=ours))
    strange = Authority(tmp_path / "strange")
    for given in (
        Credentials(tls_ca_file=ours.ca_file),
        Credentials(tls_ca_file=ours.ca_file, **strange.client("advisor")),
    ):
        failed = await why_not_yet(address, given)
        assert isinstance(failed, Unavailable)
        assert "client certificate" in failed.message
    assert not server.callers


async def test_a_service_that_is_not_the_right_one_is_told_of_at_once(
    ours: Authority, server: ScriptedServer, tmp_path: Path
) -> None:
    strange = Authority(tmp_path / "strange")
    given = Credentials(tls_ca_file=ours.ca_file, token="secret")
    told = {}
    for name, tls in {
        "authority": strange.serving("127.0.0.1"),
        "name": ours.serving("knowledge.example.org"),
        "time": ours.serving("127.0.0.1", expired=True),
        "plain": None,
    }.items():
        address = await serve(server, tls)
        failed = await why_not(address, given)
        assert isinstance(failed, Unavailable)
        assert failed.reason == "TLS"
        told[name] = failed.message
        await server.stop()
    assert "holds the authority that signed it" in told["authority"]
    assert "another name" in told["name"]
    assert "has expired" in told["time"]
    assert "does not speak TLS" in told["plain"]
    assert not server.callers, "nobody was shown the token"


async def test_streams_tell_what_is_wrong_as_well(ours: Authority, server: ScriptedServer, tmp_path: Path) -> None:
    address = await serve(server, ours.serving("127.0.0.1"))
    strange = Credentials(tls_ca_file=Authority(tmp_path / "strange").ca_file)
    async with Producer(address, credentials=strange) as producer:
        with pytest.raises(Unavailable, match="tls_ca_file holds the authority"):
            [_ async for _ in producer.stream(one(FACT))]
    async with Replica.open(tmp_path / "replica", address, "tests", "model", credentials=strange) as replica:
        await until(lambda: bool(replica._subscriber.last_error))
        with pytest.raises(Unavailable, match="tls_ca_file holds the authority"):
            await replica.wait_current(timeout_seconds=0.1)


async def test_a_client_without_tls_is_told_that_the_service_may_expect_it(
    ours: Authority, server: ScriptedServer
) -> None:
    address = await serve(server, ours.serving("127.0.0.1"))
    for given in (None, Credentials(token="secret")):
        assert "may expect TLS" in (await why_not_yet(address, given)).message


async def test_a_name_may_be_given_that_is_not_the_address(ours: Authority, server: ScriptedServer) -> None:
    address = await serve(server, ours.serving("knowledge.example.org"))
    given = Credentials(tls_ca_file=ours.ca_file, tls_server_name="knowledge.example.org", token="secret")
    assert await answered(address, given) == 20


async def test_within_the_machine_a_token_goes_without_tls(server: ScriptedServer) -> None:
    address = await serve(server, None)
    assert await answered(address, Credentials(token="secret")) == 20
    assert server.callers == [Caller("Bearer secret", None)]


async def test_clients_that_show_a_token_can_always_be_closed(server: ScriptedServer) -> None:
    """In a process of its own: where gRPC waits for itself, nothing in that process can say so."""
    address = await serve(server, None)
    command = (sys.executable, "-m", "tests.support.closing_client", address, "300")
    client = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(10 * PATIENCE_SECONDS):
            told, _ = await client.communicate()
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
    assert told == b"300\n"


async def test_a_token_file_is_read_again_when_it_changes(
    ours: Authority, server: ScriptedServer, tmp_path: Path
) -> None:
    address = await serve(server, ours.serving("127.0.0.1"))
    token = tmp_path / "token"
    token.write_text(" first \n")  # as `kubectl create secret --from-file` makes one of a file that ends with a line
    given = Credentials(tls_ca_file=ours.ca_file, token_file=token)
    async with KnowledgeClient(address, credentials=given) as client:
        for content in ("first", "second", ""):
            put(token, content)
            await client.search("tests", "anything")
    assert [caller.authorization for caller in server.callers] == ["Bearer first", "Bearer second", "Bearer second"]


async def test_a_subscription_goes_on_with_the_token_that_has_replaced_its_own(
    server: ScriptedServer, tmp_path: Path
) -> None:
    address = await serve(server, None)
    token = tmp_path / "token"
    token.write_text("first")
    server.scripts.append(Script(break_after=2))
    async with Subscriber(
        address, "tests", "model", credentials=Credentials(token_file=token), start=Start.BEGINNING
    ) as subscriber:
        await anext(subscriber)
        put(token, "second")
        server.refuses = only("second")
        async for _ in subscriber:
            if subscriber.position is not None and subscriber.position.revision == 20:
                break
    assert [caller.authorization for caller in server.callers] == ["Bearer first", "Bearer second"]


async def test_a_subscription_whose_token_ran_out_comes_back_with_the_next(
    server: ScriptedServer, tmp_path: Path
) -> None:
    address = await serve(server, None)
    token = tmp_path / "token"
    token.write_text("first")
    server.refuses = only("second")
    async with Subscriber(
        address, "tests", "model", credentials=Credentials(token_file=token), start=Start.BEGINNING
    ) as subscriber:
        with pytest.raises(Denied, match="who") as caught:
            await anext(subscriber)
        assert caught.value.reason == "UNAUTHENTICATED"

        def replaced(caller: Caller) -> EpistreamError | None:
            put(token, "second")  # while the call that shows the first one is on its way
            return only("second")(caller)

        server.refuses = replaced
        await anext(subscriber)
    assert [caller.authorization for caller in server.callers] == ["Bearer first", "Bearer first", "Bearer second"]


async def test_a_producer_whose_token_ran_out_comes_back_with_the_next(server: ScriptedServer, tmp_path: Path) -> None:
    address = await serve(server, None)
    token = tmp_path / "token"

    def replaced(caller: Caller) -> EpistreamError | None:
        put(token, "second")  # while the call that shows the first one is on its way
        return only("second")(caller)

    for send in (submitted, streamed):
        token.write_text("first")
        async with Producer(address, credentials=Credentials(token_file=token)) as producer:
            server.refuses = only("second")
            with pytest.raises(Denied, match="who") as caught:
                await send(producer)
            assert caught.value.reason == "UNAUTHENTICATED"
            server.refuses = replaced
            assert await send(producer) == pb.OUTCOME_ADMITTED
    shown = [caller.authorization for caller in server.callers]
    assert [token for token, _ in groupby(shown)] == 2 * ["Bearer first", "Bearer second"]
    assert shown.count("Bearer first") >= 4, "a stream that is refused while it is written to may be opened once more"
    assert shown.count("Bearer second") == 2
    assert len(server.receipts) == 1


async def test_another_token_ends_no_connection(server: ScriptedServer, tmp_path: Path) -> None:
    address = await serve(server, None)
    token = tmp_path / "token"
    token.write_text("first")
    connection = Connection(address, Credentials(token_file=token))
    put(token, "second")
    assert not connection.renew(), "a token is read again for each call"
    await connection.aclose()


async def test_a_call_is_repeated_whose_channel_was_left_for_another(
    ours: Authority, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "LEAVING_SECONDS_MAX", 0.05)
    address = await serve(server, ours.serving("127.0.0.1"))
    authority = tmp_path / "authority"
    put(authority, ours.ca_file.read_text())
    async with Producer(address, credentials=Credentials(tls_ca_file=authority)) as producer:
        server.answering.clear()
        waiting = asyncio.create_task(submitted(producer))
        await until(lambda: len(server.batches) == 1)
        put(authority, ours.ca_file.read_text())
        server.failures.append(Unavailable("not now", retry_delay_seconds=0.0))
        await producer.retract("tests", "limit", producer="ada", origin="EXPERT")
        await until(lambda: len(server.batches) == 3, "the first call again, after the retraction")
        server.answering.set()
        assert await waiting == pb.OUTCOME_ADMITTED


async def test_a_call_is_told_that_its_client_was_closed(server: ScriptedServer) -> None:
    producer = Producer(await serve(server, None))
    server.answering.clear()
    waiting = asyncio.create_task(submitted(producer))
    await until(lambda: len(server.batches) == 1)
    await producer.aclose()
    with pytest.raises(Unavailable, match="was closed"):
        await waiting
    server.answering.set()


async def submitted(producer: Producer) -> pb.Outcome.ValueType:
    (receipt,) = await producer.submit(FACT)
    return receipt.outcome


async def streamed(producer: Producer) -> pb.Outcome.ValueType:
    (receipt,) = [receipt async for receipt in producer.stream(one(FACT))]
    return receipt.outcome


async def test_who_is_denied_is_not_kept_trying(server: ScriptedServer) -> None:
    address = await serve(server, None)
    server.refuses = lambda _: Denied("not you")
    failed = await why_not(address, Credentials(token="secret"))
    assert isinstance(failed, Denied)
    assert (failed.message, failed.reason) == ("not you", "PERMISSION_DENIED")
    assert len(server.callers) == 1


async def test_a_replica_that_may_no_longer_stops_and_says_so(server: ScriptedServer, tmp_path: Path) -> None:
    address = await serve(server, None)

    async def until_it_is_left() -> None:
        async with Replica.open(
            tmp_path / "replica", address, "tests", "model", credentials=Credentials(token="secret")
        ) as replica:
            await replica.wait_current()
            server.refuses = lambda _: Denied("no longer")
            await server.stop()
            await server.start()
            await until(lambda: replica.error is not None)
            told.append(replica.error)
            assert len(replica) == len(state_after(HISTORY, 20)), "it answers from what it holds"

    told: list[EpistreamError | None] = []
    with pytest.raises(Denied, match="no longer") as caught:
        await until_it_is_left()
    assert told == [caught.value]
    assert len(server.callers) == 2


async def test_certificates_that_were_replaced_are_used_from_the_next_connection_on(
    ours: Authority, server: ScriptedServer, tmp_path: Path
) -> None:
    address = await serve(server, ours.serving("127.0.0.1", clients=ours))
    files = {name: tmp_path / f"mine-{name}" for name in ("tls_cert_file", "tls_key_file", "tls_ca_file")}

    def mine(authority: Authority, name: str) -> None:
        for which, path in (authority.client(name) | {"tls_ca_file": authority.ca_file}).items():
            put(files[which], path.read_text())

    mine(ours, "first")
    given = Credentials(**files)  # type: ignore[arg-type] # only the files
    async with (
        KnowledgeClient(address, credentials=given) as client,
        Replica.open(tmp_path / "replica", address, "tests", "model", credentials=given) as replica,
    ):
        await client.search("tests", "anything")
        await replica.wait_current()
        later = Authority(tmp_path / "later")
        mine(later, "second")
        await server.stop()
        await serve(server, later.serving("127.0.0.1", clients=later))
        await client.search("tests", "anything")
        await until(lambda: [caller.certificate_name for caller in server.callers].count("second") == 2)
    assert [caller.certificate_name for caller in server.callers] == ["first", "first", "second", "second"]
