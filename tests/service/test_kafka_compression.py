"""Batches in over a real Kafka as producers in Java compress them: the broker itself does it here."""

from pathlib import Path

import pytest

from epistream.services.kafka import clients
from tests.support.intake import assert_each_once, facts, make_namespace, send, taking
from tests.support.kafka import Kafka


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_what_is_compressed_is_taken_in(compression: str, kafka: Kafka, tmp_path: Path) -> None:
    namespace, topic = make_namespace(tmp_path), kafka.new_topic(compression_type=compression)
    send(kafka, topic, facts(namespace, range(200)))
    with taking(tmp_path, kafka.bootstrap, topic) as process:
        process.await_read(topic, 200)
        assert process.intake.stopped() == {}
    assert_each_once(tmp_path, namespace, range(200))


def test_the_log_says_what_can_be_read(kafka: Kafka, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), taking(tmp_path, kafka.bootstrap, kafka.new_topic()):
        pass
    assert f"(compressions: gzip, snappy, lz4, zstd; checksums: {clients.checksums()})" in caplog.text
