"""A service that is killed while knowledge comes in over gRPC and over Kafka loses nothing and doubles nothing."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import fields

import pytest

from epistream.v1 import knowledge_pb2 as pb
from tests.support.kill_check import History, Stream, check
from tests.support.kill_producers import OVER_KAFKA, service_beside_kafka
from tests.support.kill_rounds import kill_rounds

ROUNDS = 6


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """What was seen in some rounds."""
    with service_beside_kafka(tmp_path_factory.mktemp("rounds")) as (service, side):
        yield kill_rounds(service, ROUNDS, seed=1, kafka=side)


def test_a_killed_service_loses_nothing_and_doubles_nothing(history: History) -> None:
    assert check(history).all() == []


def test_the_rounds_had_something_to_find(history: History) -> None:
    assert len(history.restart_seconds) == ROUNDS
    assert history.struck == ["applied", "snapshot_written", "opening"]
    assert len(history.streams) >= ROUNDS
    assert history.head > 100
    assert len(history.produced) > 100
    assert history.dead_letters
    assert history.atomic_batches
    outcomes = {receipt.outcome for _, receipt in history.answered}
    assert outcomes >= {pb.OUTCOME_ADMITTED, pb.OUTCOME_REVISED, pb.OUTCOME_MERGED, pb.OUTCOME_HELD, pb.OUTCOME_REFUSED}
    assert any(change.kind == pb.CHANGE_KIND_RETRACTED for stream in history.streams for change in stream.changes)
    producers = [{change.knowledge.provenance.producer for change in stream.changes} for stream in history.streams]
    assert sum(OVER_KAFKA in some for some in producers) > ROUNDS / 3, "Kafka was read between the kills, too"


def _lose_an_entry(history: History) -> None:
    del history.stored[len(history.stored) // 2]


def _store_an_entry_twice(history: History) -> None:
    history.stored.append(history.stored[0])


def _answer_otherwise(history: History) -> None:
    taken = (i for i, (_, receipt) in enumerate(history.answered) if receipt.revision)
    number = next(taken)
    sent, receipt = copy.deepcopy(history.answered[number])
    receipt.revision += 1
    history.answered[number] = sent, receipt


def _decide_anew(history: History) -> None:
    number = next(i for i, (_, receipt) in enumerate(history.again) if receipt.earlier)
    sent, receipt = copy.deepcopy(history.again[number])
    receipt.earlier = False
    history.again[number] = sent, receipt


def _push_nothing_of_a_revision(history: History) -> None:
    del next(stream.changes for stream in history.streams if len(stream.changes) > 2)[1]


def _push_a_revision_twice(history: History) -> None:
    changes = next(stream.changes for stream in history.streams if stream.changes)
    changes.append(changes[-1])


def _push_something_else(history: History) -> None:
    changes = next(stream.changes for stream in history.streams if stream.changes)
    changes[0] = copy.deepcopy(changes[0])
    changes[0].knowledge.content += "!"


def _find_something_else(history: History) -> None:
    history.found_by_replica = [["else"], *history.found_by_replica[1:]]


def _forget_in_the_replica(history: History) -> None:
    history.replica.pop(next(iter(history.replica)))


def _keep_in_the_snapshot(history: History) -> None:
    history.snapshot["gone"] = pb.Change(item_id="gone")


def _miss_a_record(history: History) -> None:
    history.dead_letters.pop()


def _take_a_record_twice(history: History) -> None:
    history.dead_letters.append(history.dead_letters[0])


def _publish_nothing_of_a_revision(history: History) -> None:
    history.published.pop()


def _move_the_head(history: History) -> None:
    history.head_after += 1


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (_lose_an_entry, "lost"),
        (_answer_otherwise, "lost"),
        (_decide_anew, "lost"),
        (_miss_a_record, "lost"),
        (_store_an_entry_twice, "doubled"),
        (_push_a_revision_twice, "doubled"),
        (_take_a_record_twice, "doubled"),
        (_move_the_head, "doubled"),
        (_push_nothing_of_a_revision, "gaps"),
        (_publish_nothing_of_a_revision, "gaps"),
        (_push_something_else, "wrong"),
        (_forget_in_the_replica, "wrong"),
        (_find_something_else, "wrong"),
        (_keep_in_the_snapshot, "wrong"),
    ],
)
def test_the_check_finds_what_is_wrong(history: History, spoil: Callable[[History], None], kind: str) -> None:
    copied = {field.name: copy.copy(getattr(history, field.name)) for field in fields(history)}
    copied["streams"] = [Stream(stream.after, list(stream.changes)) for stream in history.streams]
    spoilt = History(**copied)
    spoil(spoilt)
    assert getattr(check(spoilt), kind)
