"""A service that loses its power while knowledge comes in over gRPC and over Kafka loses nothing and doubles nothing.

What the check of such a history finds: tests/robustness/test_kill.py.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from epistream.clients import SyncKnowledgeClient, SyncProducer
from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import Broken, EpistreamError
from tests.support.failing_service import power_lost_unflushed, survived
from tests.support.kill_check import History, check
from tests.support.kill_producers import OVER_KAFKA, service_beside_kafka
from tests.support.kill_traffic import DIMENSION, NAMESPACES, Traffic
from tests.support.power_rounds import power_rounds
from tests.support.service import Fail, RunningService, running_service

ROUNDS = 6


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """What was seen in some rounds."""
    with service_beside_kafka(tmp_path_factory.mktemp("rounds")) as (service, side):
        yield power_rounds(service, ROUNDS, seed=1, kafka=side)


def test_a_service_without_power_loses_nothing_and_doubles_nothing(history: History) -> None:
    assert check(history).all() == []


def test_the_rounds_had_something_to_find(history: History) -> None:
    assert history.struck == ["power_lost"] * ROUNDS
    assert len(history.answered) > 100
    assert len(history.produced) > 100
    for seen in history.namespaces.values():
        pushed = [change.knowledge.provenance.producer for stream in seen.streams for change in stream.changes]
        assert len(seen.streams) > ROUNDS / 2
        assert pushed.count(OVER_KAFKA) > 10


def test_a_disk_that_does_not_flush_is_noticed_by_these_rounds(tmp_path: Path) -> None:
    """What was acknowledged is not all there, or the file is damaged."""
    with running_service(tmp_path / "data", fail=Fail(power_lost_unflushed.__name__, 2000)) as service:
        acknowledged = submit_until_it_ends(service)
    assert min(acknowledged.values()) > 3
    try:
        engine = Engine(survived(tmp_path / "data"))
    except Broken:
        return
    heads = {known.name: known.head_revision for known in engine.namespaces.list()}
    lost = [name for name, revision in acknowledged.items() if heads.get(name, 0) < revision]
    assert stores.check(engine.store) or lost
    engine.store.close()


def submit_until_it_ends(service: RunningService) -> dict[str, int]:
    """The newest revision of each namespace that was acknowledged."""
    acknowledged, traffic = dict.fromkeys(NAMESPACES, 0), Traffic("calls", 1)
    with SyncKnowledgeClient(service.address) as client:
        for name in NAMESPACES:
            client.create_namespace(name, encoder=ns_pb.Encoder(model="none", dimension=DIMENSION))
    with SyncProducer(service.address, timeout_seconds=2) as producer:
        try:
            while True:
                [receipt] = producer.submit(traffic.new())
                acknowledged[receipt.namespace] = receipt.revision
        except EpistreamError:
            assert service.wait() == -signal.SIGKILL
    return acknowledged
