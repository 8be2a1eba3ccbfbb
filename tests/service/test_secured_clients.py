"""Our own clients on a real service that asks who they are."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from epistream.clients import Credentials, Denied, KnowledgeClient, Producer, Replica, submission
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns
from tests.support.certificates import Authority, put
from tests.support.cli import epistream
from tests.support.rpc import vector
from tests.support.security import AUDIENCE, ISSUER, Issuer, hash_of
from tests.support.service import RunningService, running_service
from tests.support.waits import until

ACCESS: Final = f"""
[roles.all]
verbs = ["read", "write", "watch", "admin"]
namespaces = ["*"]

[roles.follower]
verbs = ["watch"]
namespaces = ["pharmacy"]

[principals.root]
roles = ["all"]
token_hashes = ["{hash_of("root")}"]

[principals.advisor]
roles = ["follower"]
token_hashes = ["{hash_of("advisor")}"]

[jwt]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
keys_file = "keys.json"
leeway_seconds = 0
"""


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def service(authority: Authority, issuer: Issuer, tmp_path: Path) -> Iterator[RunningService]:
    put(tmp_path / "keys.json", json.dumps({"keys": [issuer.public_key()]}))
    put(tmp_path / "access.toml", ACCESS)
    flags = authority.service_flags() | {"access_file": str(tmp_path / "access.toml")}
    with running_service(tmp_path / "data", flags) as service:
        yield service


def credentials(authority: Authority, token: str) -> Credentials:
    return Credentials(tls_ca_file=authority.ca_file, token=token)


def a_fact(number: int) -> pb.Submission:
    made = submission(f"Fact {number}.", namespace="pharmacy", producer="ada", origin="EXPERT", item_id=str(number))
    made.embedding.float32 = vector(number)
    return made


async def publish(address: str, shown: Credentials, *numbers: int) -> None:
    async with KnowledgeClient(address, credentials=shown) as client:
        await client.create_namespace("pharmacy", encoder=ns.Encoder(model="none", dimension=16))
    async with Producer(address, credentials=shown) as producer:
        for number in numbers:
            await producer.submit(a_fact(number))


async def test_a_replica_follows_until_it_may_no_longer_and_answers_on(
    service: RunningService, authority: Authority, tmp_path: Path
) -> None:
    root = credentials(authority, "root")
    await publish(service.address, root, 1)
    file = tmp_path / "replica"
    shown = credentials(authority, "advisor")
    following = Replica.open(file, service.address, "pharmacy", consumer="advisor", credentials=shown)
    with pytest.raises(Denied):  # noqa: PT012 - why it had stopped is raised when it is left, too
        async with following as replica:
            await replica.wait_current()
            assert replica.item_ids() == ["1"]
            put(tmp_path / "access.toml", ACCESS.replace('verbs = ["watch"]', 'verbs = ["read"]'))
            await until(lambda: replica.error is not None)
            assert isinstance(replica.error, Denied)
            assert replica.error.reason == "PERMISSION_DENIED"
            await publish(service.address, root, 2)
            assert replica.item_ids() == ["1"]
    put(tmp_path / "access.toml", ACCESS)
    await until(lambda: service.logged().count("The access file was read again") == 2)
    async with Replica.open(file, service.address, "pharmacy", consumer="advisor", credentials=shown) as replica:
        await replica.wait_current()
        assert sorted(replica.item_ids()) == ["1", "2"]


async def test_a_replica_goes_on_over_the_end_of_its_token_where_a_new_one_was_put_in_its_file(
    service: RunningService, authority: Authority, issuer: Issuer, tmp_path: Path
) -> None:
    root = credentials(authority, "root")
    await publish(service.address, root, 1)
    token = tmp_path / "token"
    put(token, issuer.token(["follower"], seconds=5))
    shown = Credentials(tls_ca_file=authority.ca_file, token_file=token)
    async with Replica.open(
        tmp_path / "replica", service.address, "pharmacy", consumer="a", credentials=shown
    ) as replica:
        await replica.wait_current()
        put(token, issuer.token(["follower"]))
        await until(lambda: replica.counts.reconnects > 0, "the end of the stream with the first token")
        await publish(service.address, root, 2)
        await replica.wait_for(2, 20)
        assert replica.error is None
        assert sorted(replica.item_ids()) == ["1", "2"]


async def test_connections_that_end_by_their_age_cost_a_producer_and_a_replica_nothing(
    authority: Authority, issuer: Issuer, tmp_path: Path
) -> None:
    put(tmp_path / "keys.json", json.dumps({"keys": [issuer.public_key()]}))
    put(tmp_path / "access.toml", ACCESS)
    audit = tmp_path / "audit.jsonl"
    flags = authority.service_flags(mutual=True) | {
        "access_file": str(tmp_path / "access.toml"),
        "audit_file": str(audit),
        "max_connection_age_seconds": "1",
    }
    shown = Credentials(tls_ca_file=authority.ca_file, token="root", **authority.client("root"))
    with running_service(tmp_path / "data", flags) as service:
        await publish(service.address, shown, 0)
        async with (
            Replica.open(
                tmp_path / "replica", service.address, "pharmacy", consumer="advisor", credentials=shown
            ) as replica,
            Producer(service.address, credentials=shown) as producer,
        ):
            await replica.wait_current()
            sent = 0

            async def facts() -> AsyncIterator[pb.Submission]:
                nonlocal sent
                while connections(audit, "IngestService/SubmitStream") < 3 or connections(audit, SUBSCRIBE) < 4:
                    sent += 1
                    yield a_fact(sent)
                    await asyncio.sleep(0.01)

            async with asyncio.timeout(60):
                receipts = [receipt async for receipt in producer.stream(facts())]
            assert [receipt.revision for receipt in receipts] == list(range(2, sent + 2))
            await replica.wait_for(sent + 1, 20)
            assert set(replica.item_ids()) == {str(number) for number in range(sent + 1)}
            assert replica.error is None


SUBSCRIBE: Final = "SyncService/Subscribe"


def connections(audit: Path, method: str) -> int:
    """From how many a stream came that is in the audit log."""
    lines = map(json.loads, audit.read_text().splitlines())
    return len({line["peer"] for line in lines if line["method"] == method})


async def test_a_stream_of_submissions_goes_on_over_the_end_of_its_token(
    service: RunningService, authority: Authority, issuer: Issuer, tmp_path: Path
) -> None:
    """With the next token once it is in the file; else what was taken is known, and why it went no further."""
    await publish(service.address, credentials(authority, "root"))
    token = tmp_path / "token"
    put(token, issuer.token(["all"], seconds=4))
    shown = Credentials(tls_ca_file=authority.ca_file, token_file=token)
    steps: asyncio.Queue[range] = asyncio.Queue()

    async def source() -> AsyncIterator[pb.Submission]:
        while numbers := await steps.get():
            for number in numbers:
                yield a_fact(number)

    async with Producer(service.address, credentials=shown) as producer:
        receipts = producer.stream(source())
        taken: list[pb.Receipt] = []

        async def take(numbers: range) -> None:
            await steps.put(numbers)
            taken.extend([await anext(receipts) for _ in numbers])

        await take(range(20))
        put(token, issuer.token(["all"], seconds=8))
        await asyncio.sleep(4.5)  # the first token has run out
        await take(range(20, 40))
        await asyncio.sleep(4)  # the second, too, and nobody has put another one there
        with pytest.raises(Denied, match="does not know who calls") as caught:
            await take(range(40, 60))
        assert caught.value.reason == "UNAUTHENTICATED"
    assert [receipt.submission_id for receipt in taken] == [a_fact(number).submission_id for number in range(40)]
    assert [receipt.revision for receipt in taken] == list(range(1, 41))
    assert {receipt.earlier for receipt in taken} == {False}


def test_the_command_line_shows_a_token(service: RunningService, authority: Authority, tmp_path: Path) -> None:
    where = ["--address", service.address, "--tls-ca-file", str(authority.ca_file)]
    for name in ("root", "advisor"):
        put(tmp_path / name, f"{name}\n")
    root, advisor = (["--token-file", str(tmp_path / name)] for name in ("root", "advisor"))
    made = epistream("namespaces", "create", "pharmacy", "--encoder", "none", "--dimension", "16", *where, *root)
    assert made.code == 0, made.err
    assert "pharmacy" in epistream("namespaces", "list", *where, *advisor).out
    denied = epistream("namespaces", "create", "other", "--encoder", "none", "--dimension", "16", *where, *advisor)
    assert denied.code == 1
    assert "advisor may not admin in 'other'" in denied.err
    nobody = epistream("namespaces", "list", *where)
    assert nobody.code == 1
    assert "does not know who calls" in nobody.err
