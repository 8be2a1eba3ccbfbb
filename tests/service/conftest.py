"""What the service tests share."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from epistream.indexer.engine import Engine
from epistream.indexer.model import Record
from epistream.services.kafka.local import LocalKafka
from epistream.v1 import namespace_service_pb2 as ns
from tests.support.backups import ENCODER, LARGE_BYTES, LARGE_ITEMS
from tests.support.kafka import Kafka, a_kafka
from tests.support.kafka_runtime import kafka_runtime
from tests.support.rpc import Client, client_of, submission
from tests.support.secured import ACCESS, NAMESPACES, Secured, start
from tests.support.service import RunningService, running_service


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with a_kafka(tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield Kafka(bootstrap)


@pytest.fixture(scope="module")
def kafka_to_kill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """What `own_kafka` gives: one for each file, and none for a file that asks for none."""
    with LocalKafka(tmp_path_factory.mktemp("own-kafka"), runtime=kafka_runtime()) as kafka:
        yield kafka


@pytest.fixture
def own_kafka(kafka_to_kill: LocalKafka) -> LocalKafka:
    """One that the test may kill. It runs when the test begins, whatever the one before has done to it."""
    kafka_to_kill.start()
    return kafka_to_kill


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    yield from start(tmp_path_factory.mktemp("secured"), ACCESS)


@pytest_asyncio.fixture
async def root(secured: Secured) -> AsyncIterator[Client]:
    async with secured.client("root") as client:
        for namespace in NAMESPACES:
            await client.make_namespace(namespace)
        yield client


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[Secured]:
    yield from start(tmp_path, ACCESS)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("service") / "data") as service:
        yield service


@pytest_asyncio.fixture
async def client(service: RunningService) -> AsyncIterator[Client]:
    async with client_of(service.address) as client:
        yield client


@pytest.fixture(scope="module")
def large_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store of 20 MB."""
    folder = tmp_path_factory.mktemp("large") / "data"
    engine = Engine(folder)
    engine.namespaces.create(ns.CreateNamespaceRequest(name="large", encoder=ENCODER))
    facts = [submission("large", n, content=f"{n} " + "x" * LARGE_BYTES) for n in range(LARGE_ITEMS)]
    engine.pipeline.commit(engine.pipeline.prepare([Record(fact.SerializeToString(), 0) for fact in facts]))
    engine.close()
    return folder


@pytest.fixture(scope="module")
def large_service(large_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service over a copy of it, which no test stops. Tests add to the namespace `more` only."""
    folder = tmp_path_factory.mktemp("shared") / "data"
    shutil.copytree(large_store, folder)
    with running_service(folder) as service:
        yield service
