"""What is read when Prometheus asks, while the service goes down."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from epistream.indexer.engine import Engine
from epistream.services.consumers import Consumers
from epistream.services.scrape import ServiceCollector
from epistream.services.writer import Writer
from tests.support.knowing import HandClock, open_engine

PATIENCE_SECONDS = 20.0


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(tmp_path / "data")
    yield engine
    engine.close()


def test_closing_waits_for_what_is_being_read_and_nothing_is_read_after(engine: Engine) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def encoder_ready() -> bool:
        reading.set()
        return go_on.wait(PATIENCE_SECONDS)

    writer = Writer(engine.pipeline.commit, committed=lambda *_: None, failed=lambda _: None)
    collector = ServiceCollector(
        engine,
        writer,
        Consumers(),
        HandClock(),
        encoder_ready=encoder_ready,
        certificate_not_after=None,
        with_outbox=True,
    )
    with ThreadPoolExecutor(2) as threads:
        read = threads.submit(lambda: list(collector.collect()))
        assert reading.wait(PATIENCE_SECONDS)
        closed = threads.submit(collector.close)
        assert not read.done()
        assert not closed.done()
        go_on.set()
        assert {metric.name for metric in read.result()} >= {"epistream_store_items", "epistream_disk_free_bytes"}
        closed.result(PATIENCE_SECONDS)
    assert list(collector.collect()) == []
