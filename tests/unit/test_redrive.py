"""How far a redrive has come is kept by a broker that may go while it is asked; three real ones: test_kafka_cluster."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import (
    GroupAuthorizationFailedError,
    InvalidGroupIdError,
    KafkaConnectionError,
    NoError,
    NotCoordinatorError,
)
from kafka.protocol.metadata import CoordinatorType

from epistream.services.kafka.redrive import _keep, _kept
from epistream.wire.errors import Unavailable

GROUP = "redrive"
PARTITION = TopicPartition("letters", 0)


class Admin:
    """The broker that is asked is another one each time: that which the client has looked up, or a new one."""

    def __init__(self, *answers: type[Exception]) -> None:
        self._answers = list(answers)
        self._manager = SimpleNamespace(cluster=SimpleNamespace(_coordinators={}))
        self.kept: dict[Any, Any] = {}

    def _asked(self) -> type[Exception]:
        known = self._manager.cluster._coordinators
        assert (CoordinatorType.GROUP, GROUP) not in known, "asked where it was refused before"
        known[CoordinatorType.GROUP, GROUP] = 1
        return self._answers.pop(0)

    def list_group_offsets(self, asked: Mapping[str, Sequence[TopicPartition]]) -> dict[str, Any]:
        answer = self._asked()
        if answer is not NoError:
            raise answer
        return dict.fromkeys(asked, self.kept)

    def alter_group_offsets(self, _group: str, offsets: Mapping[TopicPartition, Any]) -> dict[Any, Any]:
        answer = self._asked()
        if answer is KafkaConnectionError:
            raise answer
        if answer is NoError:
            self.kept.update(offsets)
        return dict.fromkeys(offsets, answer)


def test_a_broker_that_goes_is_followed_by_the_one_that_kafka_chooses() -> None:
    admin = Admin(KafkaConnectionError, NotCoordinatorError, NoError)
    _keep(admin, GROUP, {("letters", 0): 7})
    assert admin.kept[PARTITION].offset == 7

    admin = Admin(KafkaConnectionError, NoError)
    assert _kept(admin, GROUP, [PARTITION]) == {}


def test_what_waiting_does_not_mend_is_told_at_once() -> None:
    with pytest.raises(Unavailable, match="the letters are sent"):
        _keep(Admin(InvalidGroupIdError), GROUP, {("letters", 0): 7})
    with pytest.raises(GroupAuthorizationFailedError):
        _keep(Admin(GroupAuthorizationFailedError), GROUP, {("letters", 0): 7})
    with pytest.raises(GroupAuthorizationFailedError):
        _kept(Admin(GroupAuthorizationFailedError), GROUP, [PARTITION])
