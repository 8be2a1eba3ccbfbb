"""A service that is killed while knowledge comes in over gRPC and over Kafka loses nothing and doubles nothing."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import TypeVar

import pytest

from epistream.v1 import knowledge_pb2 as pb
from tests.support.kill_check import History, NamespaceHistory, Stored, Stream, check
from tests.support.kill_producers import OVER_KAFKA, service_beside_kafka
from tests.support.kill_rounds import kill_rounds

ROUNDS = 6
HistoryT = TypeVar("HistoryT", History, NamespaceHistory)
MessageT = TypeVar("MessageT", pb.Change, pb.Receipt)


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
    assert len(history.produced) > 100
    assert history.dead_letters
    assert history.atomic_batches
    outcomes = {receipt.outcome for _, receipt in history.answered}
    assert outcomes >= {pb.OUTCOME_ADMITTED, pb.OUTCOME_REVISED, pb.OUTCOME_MERGED, pb.OUTCOME_HELD, pb.OUTCOME_REFUSED}
    for seen in history.namespaces.values():
        assert len(seen.streams) >= ROUNDS
        assert seen.head > 100
        assert any(change.kind == pb.CHANGE_KIND_RETRACTED for stream in seen.streams for change in stream.changes)
        producers = [{change.knowledge.provenance.producer for change in stream.changes} for stream in seen.streams]
        assert sum(OVER_KAFKA in some for some in producers) > ROUNDS / 3, "Kafka was read between the kills, too"


def test_what_is_of_one_namespace_could_be_taken_for_the_others(history: History) -> None:
    few, many = _few_and_many(history)
    assert many.head > few.head + 100, "no revision late in one is the next in the other"
    assert {change.item_id for change in few.snapshot.values()} & set(many.snapshot)
    ids = [{(r.producer, r.submission_id) for r in map(_receipt, seen.stored)} for seen in (few, many)]
    assert set.intersection(*ids)
    assert any(len({sent.namespace for sent in batch}) > 1 for batch in history.atomic_batches)
    assert any(len({sent.namespace for sent in batch}) > 1 for batch in history.refused_batches)


def _few_and_many(history: History) -> list[NamespaceHistory]:
    """The namespace with fewer revisions, and the other."""
    return sorted(history.namespaces.values(), key=lambda seen: seen.head)


def _receipt(entry: Stored) -> pb.Receipt:
    return entry.decision.receipt


def _a_namespace(history: History) -> NamespaceHistory:
    return next(iter(history.namespaces.values()))


def _lose_an_entry(history: History) -> None:
    stored = _a_namespace(history).stored
    del stored[len(stored) // 2]


def _store_an_entry_twice(history: History) -> None:
    stored = _a_namespace(history).stored
    stored.append(stored[0])


def _store_in_the_other_namespace(history: History) -> None:
    """Something that changed nothing, so that no number is missing."""
    few, many = _few_and_many(history)
    entry = next(entry for entry in few.stored if entry.change is None)
    few.stored.remove(entry)
    many.stored.append(entry)


def _answer_with_the_other_namespace(history: History) -> None:
    taken = (i for i, (_, receipt) in enumerate(history.answered) if receipt.outcome != pb.OUTCOME_REFUSED)
    number = next(taken)
    sent, receipt = copy.deepcopy(history.answered[number])
    [receipt.namespace] = history.namespaces.keys() - {sent.namespace}
    history.answered[number] = sent, receipt


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
    del next(stream.changes for stream in _a_namespace(history).streams if len(stream.changes) > 2)[1]


def _pushed(seen: NamespaceHistory) -> list[pb.Change]:
    """The changes of its first stream that had any."""
    return next(stream.changes for stream in seen.streams if stream.changes)


def _push_a_revision_twice(history: History) -> None:
    changes = _pushed(_a_namespace(history))
    changes.append(changes[-1])


def _push_something_else(history: History) -> None:
    changes = _pushed(_a_namespace(history))
    changes[0] = copy.deepcopy(changes[0])
    changes[0].knowledge.content += "!"


def _push_the_others_change(history: History) -> None:
    """In the place of its own of the same revision, so that no number is missing and none is there twice."""
    few, many = _few_and_many(history)
    _pushed(few)[0] = _pushed(many)[0]


def _push_the_others_change_too(history: History) -> None:
    few, many = _few_and_many(history)
    last = [stream.changes for stream in few.streams if stream.changes][-1]
    following = last[-1].revision + 1
    last.append(next(c for stream in many.streams for c in stream.changes if c.revision == following))


def _take_a_revision_from_the_others_count(history: History) -> None:
    """Of the newest change, and all that tells of it, so that no two say otherwise."""
    few, many = _few_and_many(history)
    [name] = {change.namespace for change in few.snapshot.values()}
    before, few.head, few.head_after = few.head, many.head + 1, many.head + 1

    def renumbered(message: MessageT) -> MessageT:
        if (message.namespace, message.revision) == (name, before):
            message = copy.deepcopy(message)
            message.revision = few.head
        return message

    history.answered = [(sent, renumbered(receipt)) for sent, receipt in history.answered]
    history.again = [(sent, renumbered(receipt)) for sent, receipt in history.again]
    history.told = [renumbered(receipt) for receipt in history.told]
    few.published = [renumbered(change) for change in few.published]
    few.snapshot = {item: renumbered(change) for item, change in few.snapshot.items()}
    few.replica = {item: renumbered(change) for item, change in few.replica.items()}
    few.streams = [Stream(stream.after, [renumbered(change) for change in stream.changes]) for stream in few.streams]
    for number, entry in enumerate(few.stored):
        decision = copy.deepcopy(entry.decision)
        decision.receipt.CopyFrom(renumbered(decision.receipt))
        few.stored[number] = Stored(decision, entry.change if entry.change is None else renumbered(entry.change))


def _find_something_else(history: History) -> None:
    seen = _a_namespace(history)
    seen.found_by_replica = [["else"], *seen.found_by_replica[1:]]


def _find_what_is_in_the_other_namespace(history: History) -> None:
    few, many = _few_and_many(history)
    few.found, many.found = many.found, few.found


def _forget_in_the_replica(history: History) -> None:
    replica = _a_namespace(history).replica
    replica.pop(next(iter(replica)))


def _keep_in_the_snapshot(history: History) -> None:
    _a_namespace(history).snapshot["gone"] = pb.Change(item_id="gone")


def _miss_a_record(history: History) -> None:
    history.dead_letters.pop()


def _take_a_record_twice(history: History) -> None:
    history.dead_letters.append(history.dead_letters[0])


def _publish_nothing_of_a_revision(history: History) -> None:
    _a_namespace(history).published.pop()


def _publish_the_others_change(history: History) -> None:
    few, many = _few_and_many(history)
    few.published[0] = many.published[0]


def _move_the_head(history: History) -> None:
    _a_namespace(history).head_after += 1


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (_lose_an_entry, "lost"),
        (_answer_otherwise, "lost"),
        (_decide_anew, "lost"),
        (_miss_a_record, "lost"),
        (_answer_with_the_other_namespace, "lost"),
        (_store_an_entry_twice, "doubled"),
        (_push_a_revision_twice, "doubled"),
        (_take_a_record_twice, "doubled"),
        (_move_the_head, "doubled"),
        (_push_nothing_of_a_revision, "gaps"),
        (_publish_nothing_of_a_revision, "gaps"),
        (_take_a_revision_from_the_others_count, "gaps"),
        (_push_something_else, "wrong"),
        (_push_the_others_change, "wrong"),
        (_push_the_others_change_too, "wrong"),
        (_publish_the_others_change, "wrong"),
        (_store_in_the_other_namespace, "wrong"),
        (_forget_in_the_replica, "wrong"),
        (_find_something_else, "wrong"),
        (_find_what_is_in_the_other_namespace, "wrong"),
        (_keep_in_the_snapshot, "wrong"),
    ],
)
def test_the_check_finds_what_is_wrong(history: History, spoil: Callable[[History], None], kind: str) -> None:
    spoilt = _copied(history)
    spoilt.namespaces = {name: _copied(seen) for name, seen in history.namespaces.items()}
    for seen in spoilt.namespaces.values():
        seen.streams = [Stream(stream.after, list(stream.changes)) for stream in seen.streams]
    spoil(spoilt)
    assert getattr(check(spoilt), kind)


def _copied(history: HistoryT) -> HistoryT:
    """One whose lists are its own; what is in them is not."""
    return replace(history, **{field.name: copy.copy(getattr(history, field.name)) for field in fields(history)})
