"""Dead letters go back to where they came from, and have their effect once."""

import asyncio
import json
import os
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from epistream.clients import Credentials
from epistream.indexer.store import read_only
from epistream.services.__main__ import commands
from epistream.services.kafka.redrive import ATTEMPTS_HEADER, Counts, Letter, redrive, redrive_store
from epistream.services.kafka.redrive_command import redrive_command
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1.raw_pb2 import RawSubmitRequest
from epistream.wire.errors import Unavailable
from epistream.wire.topics import dead_letter_topic
from tests.support.certificates import Authority
from tests.support.intake import Taking, facts, make_namespace, send, taking, topic_with_dead_letters
from tests.support.kafka import Kafka
from tests.support.knowing import DIMENSION
from tests.support.rpc import client_of, submission
from tests.support.scripted_server import Caller, ScriptedServer
from tests.support.service import running_service
from tests.support.waits import wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def add_namespace(process: Taking, name: str) -> None:
    """Makes a namespace while the intake runs."""
    request = ns_pb.CreateNamespaceRequest(name=name, encoder=ns_pb.Encoder(model="none", dimension=DIMENSION))
    process.writer.run(lambda: process.engine.namespaces.create(request)).result()


def await_told(process: Taking) -> None:
    wait_until(lambda: process.engine.outbox.count() == 0, "an empty outbox")


def refuse_some(process: Taking, kafka: Kafka, topic: str, namespace: str) -> None:
    """Three submissions for a namespace that is missing, and two records that are none."""
    send(kafka, topic, facts(namespace, range(3)))
    kafka.produce(topic, [b"not one", b"not another"], key=b"key", headers=[("trace", b"7")])
    process.await_read(topic, 5)
    await_told(process)


def test_a_letter_is_sent_back_once_and_applied_once(kafka: Kafka, folder: Path) -> None:
    namespace, topic = make_namespace(folder) + "-later", topic_with_dead_letters(kafka)
    letters = dead_letter_topic(topic)
    with taking(folder, kafka.bootstrap, topic, publish=True) as process:
        refuse_some(process, kafka, topic, namespace)
        add_namespace(process, namespace)
        both = Counter(UNKNOWN_NAMESPACE=3, MALFORMED=2)
        assert redrive(kafka.bootstrap, [letters]) == {letters: Counts(redriven=5, reasons=both)}
        process.await_head(namespace, 3)
        process.await_read(topic, 10)
        await_told(process)
        failed_again = Counts(redriven=2, reasons=Counter(MALFORMED=2))
        assert redrive(kafka.bootstrap, [letters]) == {letters: failed_again}
        process.await_read(topic, 12)
        assert redrive(kafka.bootstrap, [letters], everything=True)[letters].redriven >= 7
        process.await_read(topic, 19)
        assert process.head(namespace) == 3
    sent_back = kafka.read(topic)[5:10]
    original = kafka.read(topic)[:5]
    for first, again in zip(original, sent_back, strict=True):
        assert (again.key, again.value) == (first.key, first.value)
        assert again.headers == (*first.headers, (ATTEMPTS_HEADER, b"1"))
    assert dict(kafka.read(topic)[10].headers)[ATTEMPTS_HEADER] == b"2"


def test_letters_can_be_chosen_by_reason_and_counted_without_sending(kafka: Kafka, folder: Path) -> None:
    namespace, topic = make_namespace(folder) + "-later", topic_with_dead_letters(kafka)
    letters = dead_letter_topic(topic)
    with taking(folder, kafka.bootstrap, topic, publish=True) as process:
        refuse_some(process, kafka, topic, namespace)
        chosen = Counts(redriven=3, left=2, reasons=Counter(UNKNOWN_NAMESPACE=3))
        for _ in range(2):
            assert redrive(kafka.bootstrap, [letters], reason="UNKNOWN_NAMESPACE", dry_run=True) == {letters: chosen}
        add_namespace(process, namespace)
        first = redrive(kafka.bootstrap, [letters], reason="UNKNOWN_NAMESPACE", limit=2)
        assert first == {letters: Counts(redriven=2, reasons=Counter(UNKNOWN_NAMESPACE=2))}
        process.await_head(namespace, 2)
        rest = redrive(kafka.bootstrap, [letters], reason="UNKNOWN_NAMESPACE")
        assert rest == {letters: Counts(redriven=1, left=2, reasons=Counter(UNKNOWN_NAMESPACE=1))}
        process.await_head(namespace, 3)
        # Another reason has a place of its own.
        assert redrive(kafka.bootstrap, [letters], reason="MALFORMED", dry_run=True)[letters].redriven == 2
        process.await_read(topic, 8)
    assert len(kafka.read(topic)) == 8


def test_what_is_no_letter_of_ours_is_counted_and_left(kafka: Kafka) -> None:
    letters = kafka.new_topic("strange")
    kafka.produce(letters, [b"somebody else's"])
    assert redrive(kafka.bootstrap, [letters]) == {letters: Counts(strange=1)}


def test_a_letter_without_a_value_is_left(kafka: Kafka) -> None:
    """Of what was too large to be read there is nothing, and a tombstone would delete what its key has said since."""
    topic = kafka.new_topic(cleanup_policy="compact")
    letters = dead_letter_topic(topic)
    kafka.ensure_topics([topic])
    kafka.produce(letters, [b""], headers=[("epistream-dlq-original-topic", topic.encode())])
    kafka.produce(letters, [None], key=b"key", headers=[("epistream-dlq-original-topic", topic.encode())])
    assert redrive(kafka.bootstrap, [letters]) == {letters: Counts(left=2)}
    assert kafka.read(topic) == []


@pytest.mark.parametrize(
    ("setting", "refused"),
    [
        ({"max_message_bytes": "10000"}, (b"x" * 20_000, b"1")),
        ({"cleanup_policy": "compact"}, (b"without a key", None)),
    ],
    ids=["too large", "without a key in a compacted topic, of whose batch Kafka takes nothing"],
)
def test_a_letter_that_its_topic_does_not_take_is_left_and_those_beside_it_go(
    kafka: Kafka, caplog: pytest.LogCaptureFixture, setting: dict[str, Any], refused: tuple[bytes, bytes | None]
) -> None:
    topic = kafka.new_topic(**setting)
    letters = dead_letter_topic(topic)
    kafka.ensure_topics([topic])
    came_from = [("epistream-dlq-original-topic", topic.encode())]
    for value, key in ((b"first", b"1"), refused, (b"last", b"1")):
        kafka.produce(letters, [value], key=key, headers=came_from)
    assert redrive(kafka.bootstrap, [letters]) == {letters: Counts(redriven=2, left=1, reasons=Counter({"": 3}))}
    assert [record.value for record in kafka.read(topic)] == [b"first", b"last"]
    assert f"The letter {letters}/0 at offset 1 is left" in caplog.text
    assert redrive(kafka.bootstrap, [letters]) == {letters: Counts()}


def test_a_missing_topic_of_letters_is_said(kafka: Kafka) -> None:
    with pytest.raises(Unavailable, match=r"no-such-topic.*UnknownTopic"):
        redrive(kafka.bootstrap, ["no-such-topic"])


async def test_letters_that_came_over_grpc_are_submitted_again_and_applied_once(folder: Path) -> None:
    with running_service(folder) as service:
        async with client_of(service.address) as client:
            refused = await client.submit(*(submission("later", n) for n in range(3)))
            assert {receipt.reason for receipt in refused} == {pb.REASON_UNKNOWN_NAMESPACE}
            await client.submit(submission("later", 0))  # the same bytes again
            await client.call_raw("IngestService/Submit", RawSubmitRequest(submissions=[b"\xff"]).SerializeToString())
            told: list[Letter] = []
            assert redrive_store(folder, service.address, reason="MALFORMED", dry_run=True, told=told.append) == Counts(
                redriven=1, left=4, reasons=Counter(MALFORMED=1)
            )
            assert told == [Letter("number 5 of the store", "", "MALFORMED", told[0].error)]
            assert "protobuf" in told[0].error
            redrive_store(folder, service.address, limit=1, dry_run=True, told=told.append)
            first = told[1]
            assert first == Letter("number 1 of the store", "tests/s-0", "UNKNOWN_NAMESPACE", first.error)
            assert "namespace: " in first.error
            assert "'later'" in first.error
            await client.make_namespace("later")
            done = redrive_store(folder, service.address, reason="UNKNOWN_NAMESPACE")
            assert (done.redriven, dict(done.outcomes)) == (3, {"ADMITTED": 3})
            again = redrive_store(folder, service.address)
            assert (again.redriven, dict(again.outcomes)) == (1, {"REFUSED": 1})
    with read_only(folder) as catalog:
        [number] = [number for number, _ in catalog.namespaces()]
        assert catalog.counts(number).head == 3


async def test_a_service_that_wants_credentials_gets_them(folder: Path, tmp_path: Path) -> None:
    with running_service(folder) as service:
        async with client_of(service.address) as client:
            await client.submit(submission("later", 0))
    ours, token = Authority(tmp_path / "ours"), tmp_path / "token"
    token.write_text("secret")
    server = ScriptedServer()
    server.tls = ours.serving("127.0.0.1")
    async with server:
        with pytest.raises(Unavailable, match="tls_ca_file holds the authority"):
            await asyncio.to_thread(redrive_store, folder, server.address, credentials=Credentials(tls=True))
        options = (f"--folder={folder}", f"--tls-ca-file={ours.ca_file}", f"--token-file={token}", "--json")
        environment = {"EPISTREAM_ADDRESS": server.address, "XDG_CONFIG_HOME": os.devnull, "GRPC_VERBOSITY": "NONE"}
        done = await asyncio.to_thread(CliRunner().invoke, commands(), ["redrive", *options], env=environment)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["store"]["outcomes"] == {"ADMITTED": 1}
    assert server.callers == [Caller("Bearer secret", None)]


def test_a_store_that_is_missing_and_a_service_that_is_away_are_said(folder: Path) -> None:
    with pytest.raises(Unavailable, match="holds no store"):
        redrive_store(folder, "127.0.0.1:1")
    make_namespace(folder)
    assert redrive_store(folder, "127.0.0.1:1") == Counts()


def test_the_command_tells_people_and_programs(kafka: Kafka, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace, topic = make_namespace(folder) + "-later", topic_with_dead_letters(kafka)
    letters = dead_letter_topic(topic)
    with taking(folder, kafka.bootstrap, topic, publish=True) as process:
        refuse_some(process, kafka, topic, namespace)

    def run(**options: bool) -> str:
        out = StringIO()
        console = Console(file=out, highlight=False, soft_wrap=True)
        assert redrive_command(kafka.bootstrap, [letters], None, None, console=console, **options) == 0  # type: ignore[arg-type]
        return out.getvalue()

    *each, counted = run(dry_run=True).splitlines()
    assert f"{letters}/0 at offset 0: UNKNOWN_NAMESPACE: namespace: " in each[0]
    assert f"'{namespace}'" in each[0]
    assert [line.count(": MALFORMED: ") for line in each] == [0, 0, 0, 1, 1]
    assert counted == f"{letters}: 5 would be redriven (2 MALFORMED, 3 UNKNOWN_NAMESPACE), 0 left"
    reasons = {"UNKNOWN_NAMESPACE": 3, "MALFORMED": 2}
    told = {"redriven": 5, "left": 0, "strange": 0, "reasons": reasons, "outcomes": {}}
    assert json.loads(run(as_json=True, dry_run=True)) == {letters: told}
    assert json.loads(run(as_json=True)) == {letters: told}
    assert run() == f"{letters}: 0 redriven, 0 left\n"
    capsys.readouterr()
    assert redrive_command("127.0.0.1:1", [letters], None, None) == 3
    printed = capsys.readouterr()
    assert "Is Kafka running" in printed.err
    assert printed.out == ""
