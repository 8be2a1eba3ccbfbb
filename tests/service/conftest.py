"""What the service tests share."""

from collections.abc import Iterator

import pytest

from tests.support.kafka import Kafka, a_kafka


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with a_kafka(tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield Kafka(bootstrap)
