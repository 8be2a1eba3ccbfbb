"""The blocking clients, each once through everything that it does; the service runs in the same background loop."""

import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from epistream.clients import (
    Changes,
    Conflict,
    NotFound,
    Position,
    Start,
    SyncKnowledgeClient,
    SyncProducer,
    SyncReplica,
    SyncSubscriber,
    Unavailable,
    submission,
)
from epistream.clients.background import run
from epistream.v1 import knowledge_pb2 as pb
from tests.support.histories import DIMENSION, random_history, state_after, unit_vector
from tests.support.scripted_server import Script, ScriptedServer
from tests.support.waits import PATIENCE_SECONDS, until, wait_until

WAITING = """
import sys, threading
from epistream.clients import SyncProducer, submission

def facts():
    yield submission("fact", namespace="tests", producer="ada", origin="EXPERT")
    threading.Event().wait()

with SyncProducer(sys.argv[1]) as producer:
    for receipt in producer.stream(facts()):
        print(receipt.submission_id, flush=True)
"""
"""A program whose source has nothing more to say, and does not end."""


@contextmanager
def served(history: list[pb.Change]) -> Iterator[ScriptedServer]:
    server = ScriptedServer(history)
    run(server.start())
    try:
        yield server
    finally:
        run(server.stop())


def facts(count: int) -> list[pb.Submission]:
    return [submission(f"fact {n}", namespace="tests", producer="ada", origin="EXPERT") for n in range(count)]


def test_a_blocking_producer_submits_retracts_and_streams() -> None:
    with served([]) as server, SyncProducer(server.address) as producer:
        sent = facts(3)
        assert [receipt.submission_id for receipt in producer.submit(*sent)] == [s.submission_id for s in sent]
        assert producer.retract("tests", "limit", producer="ada", origin="EXPERT").item_id == "limit"
        receipts = list(producer.stream(iter(facts(2500))))
        assert [receipt.submission_id for receipt in receipts] == [s.submission_id for s in facts(2500)]
        assert [receipt.earlier for receipt in receipts[:4]] == [True, True, True, False]


def test_a_blocking_stream_that_is_left_early_is_closed() -> None:
    with served([]) as server, SyncProducer(server.address) as producer:
        receipts = producer.stream(facts(100))
        assert next(iter(receipts)).outcome == pb.OUTCOME_ADMITTED
        receipts.close()  # type: ignore[attr-defined] # it is a generator


def test_ctrl_c_ends_a_blocking_stream_whose_source_waits() -> None:
    with served([]) as server:
        command = [sys.executable, "-c", WAITING, server.address]
        program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert program.stdout is not None
            assert program.stdout.readline()
            program.send_signal(signal.SIGINT)
            _, told = program.communicate(timeout=PATIENCE_SECONDS)
        finally:
            program.kill()
            program.wait()
    assert "\nKeyboardInterrupt\n" in told
    assert "RuntimeError" not in told
    assert program.returncode == -signal.SIGINT


def test_sources_that_wait_keep_nobody_else_waiting(tmp_path: Path) -> None:
    """More of them than asyncio has threads for whoever blocks, which are 32 at most."""
    begun: list[int] = []
    go_on = threading.Event()

    def waiting() -> Iterator[pb.Submission]:
        begun.append(1)
        go_on.wait()
        yield from facts(1)

    with (
        served(random_history(5, seed=5)) as server,
        SyncProducer(server.address) as producer,
        SyncReplica(tmp_path / "r", server.address, "tests", "model") as replica,
    ):
        replica.wait_current()
        threads = [threading.Thread(target=lambda: list(producer.stream(waiting()))) for _ in range(40)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: len(begun) == 40, "the first look at each source")
            assert replica.search([1.0] * DIMENSION, limit=1)
        finally:
            go_on.set()
            for thread in threads:
                thread.join()


def test_a_blocking_subscriber_iterates_acknowledges_and_resumes() -> None:
    history = random_history(60, seed=1, dimension=0)
    with served(history[:40]) as server:
        server.scripts.append(Script(break_after=4))
        received: list[pb.Change] = []
        with SyncSubscriber(server.address, "tests", "c", start=Start.BEGINNING) as subscriber:
            for event in subscriber:
                if isinstance(event, Changes):
                    received.extend(event.changes)
                    subscriber.acknowledge(event.revision)
                    if event.revision == 40:
                        break
            assert subscriber.position == Position("epoch-1", 40)
            assert subscriber.counts.reconnects == 1
        assert received == history[:40]
        acknowledged = server.streams[-1].acknowledgements
        run(until(lambda: bool(acknowledged) and acknowledged[-1].applied_revision == 40))


def test_a_blocking_subscriber_is_closed_from_another_thread() -> None:
    with served(random_history(5, seed=2)) as server:
        subscriber = SyncSubscriber(server.address, "tests", "c", progress_interval_seconds=30)
        next(subscriber)
        closing = threading.Timer(0.1, subscriber.close)
        closing.start()
        assert len(list(subscriber)) <= 3
        closing.join()


def test_a_blocking_replica_follows_searches_and_survives(tmp_path: Path) -> None:
    history = random_history(60, seed=3)
    with served(history[:40]) as server:
        server.query_vector = np.frombuffer(unit_vector(random.Random(1), DIMENSION), "<f4")
        with SyncReplica(tmp_path / "r", server.address, "tests", "model") as replica:
            replica.wait_current()
            assert len(replica) == len(state_after(history, 40))
            run(server.commit(*history[40:]))
            replica.wait_for(60)
            assert {i: replica.get(i) for i in replica.item_ids()} == state_after(history, 60)
            hits = replica.search("How much?", limit=3)
            assert replica.search_vector(server.query_vector, limit=3) == hits
            assert replica.counts.reconnects == 0
            with pytest.raises(Unavailable, match="not yet at revision 61"):
                replica.wait_for(61, timeout_seconds=0.1)
            with pytest.raises(Conflict):
                SyncReplica(tmp_path / "r", server.address, "tests", "model")
        address = server.address
    with SyncReplica(tmp_path / "r", address, "tests", "model") as replica:
        assert (replica.revision, replica.epoch, replica.error) == (60, "epoch-1", None)
        assert replica.search("How much?", limit=3) == hits


def test_a_blocking_replica_tells_when_it_is_closed_why_it_stopped(tmp_path: Path) -> None:
    with served([]) as server:
        server.scripts.append(Script(refuse=NotFound("There is no namespace tests.")))
        replica = SyncReplica(tmp_path / "r", server.address, "tests", "model")
        with pytest.raises(NotFound):
            replica.wait_current()
        with pytest.raises(NotFound):
            replica.close()


def test_a_blocking_client_reads() -> None:
    history = random_history(60, seed=4)
    with served(history) as server, SyncKnowledgeClient(server.address) as client:
        state = state_after(history, 60)
        item_id = next(iter(state))
        assert client.get("tests", item_id).change == state[item_id]
        assert client.history("tests", item_id) == [c for c in history if c.item_id == item_id]
        assert client.search("tests", "How much?").revision == 60
        assert client.diff("tests", 10, 20).to_revision == 20
        assert client.consumers("tests").head_revision == 60
        assert client.wait_applied("tests", 60, ["a"]) == ["a"]


def test_blocking_clients_are_used_from_many_threads() -> None:
    with served([]) as server, SyncProducer(server.address) as producer:
        results: list[list[pb.Receipt]] = []
        threads = [threading.Thread(target=lambda n=n: results.append(producer.submit(*facts(n)))) for n in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(len, results)) == list(range(1, 9))
        assert len(server.receipts) == 8
