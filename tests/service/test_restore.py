"""A store that was restored, and what those see who knew the one before."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from epistream.clients import KnowledgeClient, Producer, Replica, SyncKnowledgeClient, SyncProducer
from epistream.clients.backup import back_up
from epistream.indexer.restore import Restored, restore
from epistream.services.restore_command import restore_command
from epistream.v1 import knowledge_pb2 as pb
from tests.support.backups import (
    ENCODER,
    dumped,
    submissions_in,
)
from tests.support.cli import epistream, epistream_process
from tests.support.intake import topic_with_dead_letters
from tests.support.kafka import Kafka
from tests.support.rpc import DIMENSION, submission
from tests.support.service import RunningService, running_service
from tests.support.waits import until, wait_until


def test_a_backup_is_restored_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = tmp_path / "b", tmp_path / "new"
    with running_service(tmp_path / "data") as service, SyncProducer(service.address) as producer:
        assert (
            epistream(
                "namespaces",
                "create",
                "small",
                "--encoder",
                "none",
                "--dimension",
                str(DIMENSION),
                "-a",
                service.address,
            ).code
            == 0
        )
        producer.submit(*(submission("small", n) for n in range(20)))
        assert epistream("backup", "--output", str(file), "-a", service.address).code == 0
    people = epistream_process("restore", str(file), "--folder", str(folder))
    assert people.code == 0, people.err
    assert "small at revision 20" in people.out
    again = epistream_process("restore", str(file), "--folder", str(folder))
    assert again.code == 2
    assert "which is never overwritten" in again.err
    restore_command(file, tmp_path / "other", checked=False, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["epoch"] != told["header"]["epoch"]
    assert told["positions"] == []
    assert dumped(tmp_path / "other") == dumped(folder)


def restored_in_place(service: RunningService, file: Path) -> Restored:
    """Put a restored store in the place of the service's, which is stopped; the one before is lost."""
    shutil.rmtree(service.folder)
    return restore(file, service.folder)


async def test_a_replica_of_the_time_after_the_backup_ends_with_just_what_was_restored(tmp_path: Path) -> None:
    def fact(number: int, text: str) -> pb.Submission:
        return submission("facts", number, content=text, submission_id=f"{number} {text}")

    with running_service(tmp_path / "data") as service:
        async with KnowledgeClient(service.address) as client, Producer(service.address) as producer:
            await client.create_namespace("facts", encoder=ENCODER)
            await producer.submit(*(fact(n, f"Fact {n}.") for n in range(30)))
            made = await back_up(service.address, tmp_path / "b")
            await producer.retract("facts", "item-3", producer="tests", origin="EXPERT")
            await producer.submit(*(fact(n, f"Fact {n} is another.") for n in range(5, 10)))
            await producer.submit(*(fact(n, f"Fact {n}.") for n in range(30, 40)))
            async with Replica.open(tmp_path / "r", service.address, "facts", "model") as replica:
                await replica.wait_for(46)
                assert replica.get("item-35") is not None
                # The replica follows while the store is replaced, as in the field.
                await asyncio.to_thread(service.stop)
                restored = await asyncio.to_thread(restored_in_place, service, made.path)
                await asyncio.to_thread(service.start)
                await until(lambda: replica.epoch == restored.epoch)
                assert replica.revision == 30
                assert replica.counts.resyncs == 1
                contents = {item: content_of(replica, item) for item in replica.item_ids()}
                assert contents == {f"item-{n}": f"Fact {n}." for n in range(30)}
                # Revisions are given anew, to other changes.
                await producer.submit(*(fact(n, f"Fact {n} is new.") for n in range(50, 60)))
                await replica.wait_for(40)
                assert content_of(replica, "item-55") == "Fact 55 is new."
                assert replica.get("item-35") is None
                assert replica.counts.resyncs == 1


def content_of(replica: Replica, item: str) -> str:
    change = replica.get(item)
    assert change is not None
    return change.knowledge.content


def test_kafka_is_read_again_from_the_backup_on(kafka: Kafka, tmp_path: Path) -> None:
    topic = topic_with_dead_letters(kafka)

    def send(numbers: range) -> None:
        kafka.produce(topic, [submission("facts", n).SerializeToString() for n in numbers])

    with running_service(tmp_path / "data", kafka=kafka.bootstrap, kafka_topics=topic) as running:

        def head() -> float:
            return running.metric('epistream_store_revision{namespace="facts"}')

        with SyncKnowledgeClient(running.address) as client, SyncProducer(running.address) as producer:
            client.create_namespace("facts", encoder=ENCODER)
            send(range(60))
            wait_until(lambda: head() == 60, "all are taken in")
            made = asyncio.run(back_up(running.address, tmp_path / "b"))
            send(range(60, 100))
            producer.submit(submission("facts", 999))
            wait_until(lambda: head() == 101, "all are taken in")
        running.kill()
        restored = restored_in_place(running, made.path)
        assert {at: place.offset for at, place in restored.positions.items()} == {(topic, 0): 60}
        running.start()
        wait_until(lambda: head() == 100, "what came since then is taken in again")
        assert running.stop() == 0
    assert submissions_in(running.folder) == {f"s-{n}" for n in range(100)}, "what came over gRPC since then is gone"
    assert len(dumped(running.folder)) > 0
