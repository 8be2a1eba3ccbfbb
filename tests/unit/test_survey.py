"""What is asked of Kafka, and what comes of its answers. Dicts stand for Kafka and the store.

A topic that was made anew is told from the one that was read, by its id; and what Kafka cannot say of one partition
does not keep it from saying it of the others.
"""

import uuid
from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any, Final, Literal

import pytest
from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import (
    LeaderNotAvailableError,
    NotCoordinatorError,
    UnknownBrokerIdError,
    UnknownTopicOrPartitionError,
)
from kafka.protocol.metadata import CoordinatorType

from epistream.indexer.model import Place
from epistream.services.kafka.progress import Partition, Progress
from epistream.services.kafka.survey import Positions, Source, Survey
from tests.support.knowing import HandClock

ONE, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
ONE_SHOWN, OTHER_SHOWN = "AAAAAAAAAAAAAAAAAAAAAQ", "AAAAAAAAAAAAAAAAAAAAAg"
"""As `kafka-topics.sh --describe` prints them."""
END: Final = 20
"""Of each partition."""


class _Kafka:
    """The topics, each with its id and the number of its partitions; and what a client for administrators asks."""

    def __init__(self) -> None:
        self.topics: dict[str, tuple[str | None, int]] = {"facts": (ONE, 2), "more": (ONE, 1)}
        self.without_leader: set[Partition] = set()
        self.mute = False
        """Whether it does not say where partitions begin and end."""
        self.group: dict[Partition, int] = {}
        """What the group was told."""
        self.coordinator = 1
        self._coordinators: dict[Any, int] = {}
        self._manager = SimpleNamespace(cluster=SimpleNamespace(_coordinators=self._coordinators))

    def describe_topics(self, names: Collection[str]) -> list[dict[str, Any]]:
        return [self._described(name) for name in names]

    def _described(self, name: str) -> dict[str, Any]:
        if name not in self.topics:
            missing = UnknownTopicOrPartitionError.errno
            return {"name": name, "error_code": missing, "topic_id": None, "partitions": []}
        topic_id, count = self.topics[name]
        partitions = [self._described_partition(name, number) for number in range(count)]
        return {"name": name, "error_code": 0, "topic_id": topic_id, "partitions": partitions}

    def _described_partition(self, name: str, number: int) -> dict[str, Any]:
        has_leader = (name, number) not in self.without_leader
        error = 0 if has_leader else LeaderNotAvailableError.errno
        return {"partition_index": number, "error_code": error, "leader_id": 1 if has_leader else -1}

    def list_partition_offsets(self, asked: Mapping[TopicPartition, OffsetSpec], **_: object) -> dict[Any, Any]:
        if self.mute or any((one.topic, one.partition) in self.without_leader for one in asked):
            raise UnknownBrokerIdError(-1)
        return {one: SimpleNamespace(offset=END if which is OffsetSpec.LATEST else 0) for one, which in asked.items()}

    def alter_group_offsets(self, group: str, offsets: Mapping[TopicPartition, Any]) -> dict[Any, Any]:
        """As kafka-python, which remembers for ever who coordinates a group."""
        if self._coordinators.setdefault((CoordinatorType.GROUP, group), self.coordinator) != self.coordinator:
            return dict.fromkeys(offsets, NotCoordinatorError)
        self.group |= {(one.topic, one.partition): told.offset for one, told in offsets.items()}
        return {}


class _Service:
    """A store's positions, and a survey that has told what follows."""

    def __init__(
        self, kafka: _Kafka, start: Literal["earliest", "latest"] = "earliest", **places: Mapping[int, Place]
    ) -> None:
        self.kept = {(topic, number): place for topic, of_one in places.items() for number, place in of_one.items()}
        self.found: dict[Partition, Place] = {}
        self.kept_when_found: dict[Partition, Place] = {}
        self.left: set[Partition] = set()
        self.progress = Progress()
        self._kafka = kafka
        kept = Positions(lambda: dict(self.kept), self.kept.update, self._learn)
        source = Source("nowhere", ("facts", "more"), "group", start)
        self._survey = Survey(source, kept, self.progress, HandClock(), self._find, self._leave)

    def survey(self) -> None:
        self._survey._survey(self._kafka)

    def away_seconds(self) -> float:
        return self._survey.away_seconds()

    def was_away(self) -> None:
        self._survey._away_since = 0.0

    def stopped(self) -> dict[Partition, str]:
        return {at: why.reason for at, why in self.progress.stopped().items()}

    def _find(self, starts: dict[Partition, Place]) -> None:
        self.found |= starts
        self.kept_when_found |= {partition: self.kept[partition] for partition in starts}

    def _leave(self, partitions: Collection[Partition]) -> None:
        self.left.update(partitions)
        for partition in partitions:  # a poller may have read on in the new topic until then
            self.progress.at(partition, END + 1)

    def _learn(self, topic_ids: Mapping[Partition, str]) -> None:
        for partition, topic_id in topic_ids.items():
            at = self.kept[partition]
            assert not at.topic_id
            self.kept[partition] = Place(at.offset, at.leader_epoch, topic_id)


@pytest.fixture
def kafka() -> _Kafka:
    return _Kafka()


def test_a_partition_begins_with_the_id_of_its_topic(kafka: _Kafka) -> None:
    service = _Service(kafka)
    service.survey()
    assert service.kept == dict.fromkeys([("facts", 0), ("facts", 1), ("more", 0)], Place(0, topic_id=ONE_SHOWN))
    assert service.found == service.kept
    assert service.stopped() == {}


def test_a_position_that_does_not_say_of_which_topic_it_is_learns_that(kafka: _Kafka) -> None:
    service = _Service(kafka, facts={0: Place(10, 3)})
    service.survey()
    assert service.found["facts", 0].offset == 10
    assert service.kept["facts", 0] == service.kept_when_found["facts", 0] == Place(10, 3, ONE_SHOWN)
    kafka.topics["facts"] = (OTHER, 2)
    service.survey()
    assert service.stopped() == {("facts", 0): "TOPIC_REPLACED", ("facts", 1): "TOPIC_REPLACED"}


def test_where_brokers_have_no_ids_everything_goes_on_and_they_are_learnt_when_there_are(kafka: _Kafka) -> None:
    kafka.topics = {"facts": (None, 1), "more": (None, 1)}
    service = _Service(kafka, facts={0: Place(10, topic_id=ONE_SHOWN)})
    service.survey()
    assert service.found == service.kept == {("facts", 0): Place(10, topic_id=ONE_SHOWN), ("more", 0): Place(0)}
    kafka.topics = {"facts": (ONE, 1), "more": (ONE, 1)}
    service.survey()
    assert service.kept["more", 0] == Place(0, topic_id=ONE_SHOWN)
    assert service.stopped() == {}


def test_a_topic_made_anew_before_the_start_is_not_read(kafka: _Kafka, caplog: pytest.LogCaptureFixture) -> None:
    read = {number: Place(END, 0, ONE_SHOWN) for number in range(2)}
    service = _Service(kafka, facts=read, more=read)
    kafka.topics["facts"] = (OTHER, 2)
    service.survey()
    service.survey()
    assert service.found.keys() == {("more", 0)}
    assert service.left == {("facts", 0), ("facts", 1)}
    assert service.stopped() == dict.fromkeys(service.left, "TOPIC_REPLACED")
    assert service.kept["facts", 0] == read[0], "it is found again at the next start"
    message = service.progress.stopped()["facts", 1].message
    assert f"read from offset {END}. " in message
    assert f"the id {ONE_SHOWN}, and this one has the id {OTHER_SHOWN}" in message
    assert "`epistream kafka reread facts 1 --folder FOLDER`" in message
    assert caplog.text.count(message) == 1
    assert service.progress.lag(0).keys() == {("facts", 0), ("facts", 1), ("more", 0)}


def test_a_topic_made_anew_while_it_is_read_is_left(kafka: _Kafka) -> None:
    service = _Service(kafka)
    service.survey()
    del kafka.topics["facts"]
    service.survey()
    assert service.stopped() == {}, "it may come back"
    kafka.topics["facts"] = (OTHER, 1)
    service.survey()
    assert service.left == {("facts", 0), ("facts", 1)}, "also what the new topic does not have"
    assert service.stopped() == dict.fromkeys(service.left, "TOPIC_REPLACED")


def test_each_partition_is_decided_by_itself(kafka: _Kafka) -> None:
    service = _Service(kafka, facts={0: Place(10, topic_id=ONE_SHOWN), 1: Place(7)})  # 1 was placed by an operator
    kafka.topics["facts"] = (OTHER, 3)
    service.survey()
    assert service.stopped() == {("facts", 0): "TOPIC_REPLACED"}
    assert {at: place.offset for at, place in service.found.items()} == {
        ("facts", 1): 7,
        ("facts", 2): 0,
        ("more", 0): 0,
    }
    assert service.kept["facts", 1] == Place(7, topic_id=OTHER_SHOWN)
    service.survey()
    assert service.stopped().keys() == service.left == {("facts", 0)}


def test_a_partition_without_a_leader_holds_up_no_other(kafka: _Kafka, caplog: pytest.LogCaptureFixture) -> None:
    service = _Service(kafka, more={0: Place(10, topic_id=ONE_SHOWN)})
    kafka.without_leader = {("facts", 1)}
    service.survey()
    service.survey()
    assert {at: place.offset for at, place in service.found.items()} == {("facts", 0): 0, ("more", 0): 10}
    assert service.progress.lag(0)["more", 0].records == END - 10
    assert kafka.group == {("facts", 0): 0, ("more", 0): 10}
    assert caplog.text.count("{'facts/1': 'LeaderNotAvailableError'}") == 1

    kafka.without_leader = {("facts", 0)}  # one that is read already
    service.progress.at(("more", 0), 15)
    service.survey()
    assert service.found.keys() == {("facts", 0), ("facts", 1), ("more", 0)}
    assert kafka.group == {("facts", 0): 0, ("facts", 1): 0, ("more", 0): 15}
    assert service.stopped() == {}


def test_a_partition_that_had_no_leader_when_its_topic_began_is_as_new_as_the_others(kafka: _Kafka) -> None:
    service = _Service(kafka, "latest")
    kafka.without_leader = {("facts", 1)}
    service.survey()
    kafka.without_leader = set()
    service.survey()
    assert {at: place.offset for at, place in service.found.items()} == {
        ("facts", 0): END,
        ("facts", 1): END,
        ("more", 0): END,
    }


def test_what_the_store_knows_begins_though_kafka_says_no_offsets(kafka: _Kafka) -> None:
    service = _Service(kafka, more={0: Place(10, topic_id=ONE_SHOWN)})
    service.was_away()
    assert service.away_seconds() > 0
    kafka.mute = True
    with pytest.raises(UnknownBrokerIdError):
        service.survey()
    assert service.found == {("more", 0): Place(10, topic_id=ONE_SHOWN)}
    assert service.away_seconds() == 0, "it has answered what topics there are"
    kafka.mute = False
    service.survey()
    assert service.found.keys() == {("facts", 0), ("facts", 1), ("more", 0)}


def test_what_is_added_to_a_topic_that_is_read_begins_at_its_oldest_record(kafka: _Kafka) -> None:
    service = _Service(kafka, "latest", facts={0: Place(10, topic_id=ONE_SHOWN)})
    service.survey()
    assert {at: place.offset for at, place in service.found.items()} == {
        ("facts", 0): 10,
        ("facts", 1): 0,
        ("more", 0): END,
    }
    kafka.topics["more"] = (ONE, 2)
    service.survey()
    assert service.kept["more", 1] == service.found["more", 1] == Place(0, topic_id=ONE_SHOWN)


def test_a_group_is_told_again_after_its_coordinator_has_moved(kafka: _Kafka) -> None:
    service = _Service(kafka)
    service.survey()
    kafka.coordinator = 2
    service.progress.at(("more", 0), 15)
    service.survey()
    assert kafka.group["more", 0] == 0
    service.survey()
    assert kafka.group["more", 0] == 15
