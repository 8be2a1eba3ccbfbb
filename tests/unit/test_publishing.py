"""What becomes of what Kafka has acknowledged, and of a page of which nothing is heard."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from epistream.indexer.outbox import Outbox
from epistream.indexer.positions import Cursor
from epistream.services.kafka import publisher
from epistream.services.kafka.keeper import Service
from epistream.services.kafka.metrics import KafkaMetrics
from epistream.services.kafka.publisher import Publisher
from epistream.services.kafka.publishing import Publishing
from epistream.wire.errors import Unavailable


def publishing(acknowledge: Callable[[Cursor], None]) -> Publishing:
    metrics = KafkaMetrics(CollectorRegistry())
    return Publishing("127.0.0.1:1", Path(), acknowledge, lambda _: lambda: None, metrics, group="g")


def test_what_could_not_be_kept_is_kept_when_it_is_told_again_and_then_no_more() -> None:
    asked: list[Cursor] = []

    def acknowledge(cursor: Cursor) -> None:
        asked.append(cursor)
        if len(asked) == 1:
            raise Unavailable("the disk is full")

    one = publishing(acknowledge)
    for _ in range(4):
        one._take({"acknowledged": [7, 2]})
    assert asked == [Cursor(7, 2)] * 2
    one._take({"acknowledged": [8, 2]})
    assert asked[2:] == [Cursor(8, 2)]


def test_a_page_of_which_nothing_is_heard_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_PAGE_SECONDS", 0.0)
    monkeypatch.setattr(publisher, "_WAIT_SECONDS", 0.01)
    one = Publisher("127.0.0.1:1", cast("Outbox", None), cast("Service", None))
    with pytest.raises(Unavailable, match="a new producer sends it"):
        one._await(Future())


class Told(Service):
    """What a publisher tells."""

    def __init__(self) -> None:
        self.messages: list[dict[str, object]] = []

    def tell(self, **message: object) -> None:
        self.messages.append(message)


def test_what_kafka_has_is_told_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Told()
    one = Publisher("127.0.0.1:1", cast("Outbox", None), service)
    one._acknowledge(Cursor(7, 2), at_once=False)
    one._acknowledge(Cursor(7, 2), at_once=False)
    assert service.messages == [{"acknowledged": [7, 2]}]
    monkeypatch.setattr(publisher, "_AGAIN_SECONDS", 0.0)
    one._acknowledge(Cursor(7, 2), at_once=False)
    assert service.messages == [{"acknowledged": [7, 2]}] * 2
