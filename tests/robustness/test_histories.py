"""Random histories against a model: whatever the batches, the restarts and the index, the answers are the model's."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.indexer.feed import Wish
from epistream.indexer.index import ExactIndex, FaissIndex
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.v1 import sync_service_pb2 as sync
from epistream.wire.errors import Broken, NotFound
from tests.support.fuzzing import examples
from tests.support.knowing import (
    NAMESPACE,
    HandClock,
    commit_from_kafka,
    commit_in_batches,
    direction,
    open_engine,
    pending,
    retraction,
    ruling,
    submission,
)

ITEMS = ("a", "b", "c", "")
DIRECTIONS = [direction(1, 0), direction(1, 0.05), direction(0, 1), direction(0.5, 1)]
ORIGINS = [pb.ORIGIN_EXPERT, pb.ORIGIN_COLLABORATIVE, pb.ORIGIN_CRAWLED, pb.ORIGIN_SYNTHETIC]
CLAIMS = ["The limit is 5 mg.", "the limit is 5 mg", "The limit is 50 mg.", "Water is wet.", "Fire is hot."]


@st.composite
def histories(draw: st.DrawFn) -> list[pb.Submission]:
    """Up to 40 submissions over few items, contents, producers and ids, so that they meet."""
    sent: list[pb.Submission] = []
    for number in range(draw(st.integers(1, 40))):
        origin = draw(st.sampled_from(ORIGINS))
        item, producer = draw(st.sampled_from(ITEMS)), draw(st.sampled_from(["alice", "bob"]))
        if sent and draw(st.integers(0, 9)) == 0:
            sent.append(draw(st.sampled_from(sent)))
        elif item and draw(st.integers(0, 5)) == 0:
            sent.append(retraction(item, id=str(number), origin=origin, producer=producer))
        else:
            made = submission(
                draw(st.sampled_from(CLAIMS)),
                id=str(number),
                item=item,
                origin=origin,
                producer=producer,
                vector=draw(st.sampled_from(DIRECTIONS)),
                attributes={"side": draw(st.sampled_from(["left", "right"]))},
            )
            valid = draw(st.sampled_from([None, -1, 1, 2, 3]))
            if valid is not None:
                made.valid_from.FromSeconds(valid)
            sent.append(made)
    return sent


@dataclass
class Model:
    """What must be so, told by the receipts alone."""

    live: dict[str, str] = field(default_factory=dict)
    states: list[dict[str, str]] = field(default_factory=lambda: [{}])
    versions: dict[str, int] = field(default_factory=dict)
    valid: dict[str, int] = field(default_factory=dict)
    """From when on the heads hold that say so."""

    def take(self, sent: pb.Submission, receipt: pb.Receipt) -> None:
        if receipt.earlier or receipt.outcome not in (pb.OUTCOME_ADMITTED, pb.OUTCOME_REVISED):
            return
        assert receipt.revision == len(self.states), "revisions are dense"
        assert receipt.version == self.versions.get(receipt.item_id, 0) + 1, "versions are dense"
        self.versions[receipt.item_id] = receipt.version
        late = sent.HasField("valid_from") and sent.valid_from.seconds < self.valid.get(receipt.item_id, -2)
        assert late == (receipt.reason == pb.REASON_LATE)
        if not late:
            self.live.pop(receipt.item_id, None)
            self.valid.pop(receipt.item_id, None)
            if not sent.retraction:
                self.live[receipt.item_id] = sent.content
            if sent.HasField("valid_from"):
                self.valid[receipt.item_id] = sent.valid_from.seconds
        self.states.append(dict(self.live))


def content_at(engine: Engine, item: str, revision: int) -> str | None:
    request = api.GetRequest(namespace=NAMESPACE, item_id=item, as_of=pb.AsOf(revision=revision))
    try:
        return engine.knowledge.get(request).change.knowledge.content
    except NotFound:
        return None


def content_held(engine: Engine, item: str, revision: int) -> str | None:
    """What an item says of the end of time, as was known at a revision."""
    request = api.GetRequest(namespace=NAMESPACE, item_id=item, as_of=pb.AsOf(revision=revision))
    request.as_of.valid_time.FromJsonString("9999-12-31T23:59:59Z")
    try:
        return engine.knowledge.get(request).change.knowledge.content
    except NotFound:
        return None


def found_at(engine: Engine, revision: int) -> set[str]:
    """Every item that a search of all finds at a revision."""
    query = pb.Embedding(float32=direction(1, 1).tobytes())
    request = api.SearchRequest(namespace=NAMESPACE, vector=query, limit=100, as_of=pb.AsOf(revision=revision))
    return {hit.change.item_id for hit in engine.knowledge.search(request).hits}


def pushed(engine: Engine, *, replayed: bool, filter: pb.Filter | None = None) -> list[pb.Change]:  # noqa: A002
    """Everything that a subscription from the beginning gets, in small batches."""
    wish, after = Wish.of(filter, include_embeddings=False), 0
    changes: list[pb.Change] = []
    while after < engine.feed.head(NAMESPACE):
        read = engine.feed.replay if replayed else engine.feed.recent
        batch = read(NAMESPACE, after, wish, 300)
        assert batch is not None
        assert batch.last_revision > after
        changes += sync.Changes.FromString(batch.body).changes
        after = batch.last_revision
    return changes


@examples(30, long=60)
@given(histories(), st.sampled_from([1, 3, 7, 100]))
def test_every_answer_at_every_revision_is_the_models(sent: list[pb.Submission], size: int) -> None:
    with TemporaryDirectory() as folder:
        engine, model = open_engine(Path(folder)), Model()
        for one, receipt in zip(sent, commit_in_batches(engine, sent, size), strict=True):
            model.take(one, receipt)
        for opened in (engine, None):
            engine = opened or open_engine(Path(folder))
            assert engine.feed.head(NAMESPACE) == len(model.states) - 1
            for revision, state in enumerate(model.states):
                expected = {item: state.get(item) for item in model.versions}
                assert {item: content_at(engine, item, revision) for item in model.versions} == expected
                assert {item: content_held(engine, item, revision) for item in model.versions} == expected
                assert found_at(engine, revision) == set(state)
            engine.close()


@examples(20, long=40)
@given(histories(), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_the_store_is_the_same_however_the_stream_is_cut(sent: list[pb.Submission], sizes: list[int]) -> None:
    dumps = []
    for batch_sizes, new_index in (([1], ExactIndex), (sizes, FaissIndex), ([1000], FaissIndex)):
        with TemporaryDirectory() as folder:
            engine, start, turn = open_engine(Path(folder), new_index=new_index), 0, 0
            while start < len(sent):
                size = batch_sizes[turn % len(batch_sizes)]
                commit_in_batches(engine, sent[start : start + size], size)
                start, turn = start + size, turn + 1
            dumps.append(list(engine.store.logical_dump()))
            assert stores.check(engine.store) == []
            engine.close()
    assert dumps[0] == dumps[1] == dumps[2]


@examples(20, long=40)
@given(histories(), st.lists(st.booleans(), min_size=1, max_size=9))
def test_what_was_held_is_decided_once_whatever_else_comes(sent: list[pb.Submission], answers: list[bool]) -> None:
    """Between any two batches something may be decided; what is pending, what is counted and the journal agree."""
    with TemporaryDirectory() as folder:
        engine = open_engine(Path(folder))
        for turn, start in enumerate(range(0, len(sent), 4)):
            commit_in_batches(engine, sent[start : start + 4], 4)
            waits = pending(engine)
            if waits:
                admits = answers[turn % len(answers)]
                (receipt,) = engine.pipeline.release([ruling(engine, waits[turn % len(waits)], admits=admits)])
                assert (receipt.outcome == pb.OUTCOME_REJECTED) != admits
            known = engine.namespaces.get(NAMESPACE)
            assert known.held_count == len(pending(engine))
            for one in pending(engine):
                assert commit_in_batches(engine, [one.decision.held], 1)[0].outcome == pb.OUTCOME_HELD
        assert stores.check(engine.store) == []
        engine.close()


@examples(15, long=30)
@given(histories())
def test_reading_a_topic_again_changes_nothing(sent: list[pb.Submission]) -> None:
    with TemporaryDirectory() as folder:
        engine = open_engine(Path(folder))
        commit_from_kafka(engine, sent, 5)
        before, head = list(engine.store.logical_dump()), engine.feed.head(NAMESPACE)
        engine.close()
        engine = open_engine(Path(folder), clock=HandClock(1_900_000_000_000_000))
        assert all(receipt.earlier for receipt in commit_from_kafka(engine, sent, 7))
        assert list(engine.store.logical_dump()) == before
        assert engine.feed.head(NAMESPACE) == head
        engine.close()


@examples(20, long=40)
@given(histories(), st.sampled_from([1, 4, 100]))
def test_memory_and_journal_push_the_same_and_a_filter_shows_a_consistent_part(
    sent: list[pb.Submission], size: int
) -> None:
    with TemporaryDirectory() as folder:
        engine = open_engine(Path(folder))
        commit_in_batches(engine, sent, size)
        head = engine.feed.head(NAMESPACE)
        everything = pushed(engine, replayed=True)
        assert [change.revision for change in everything] == list(range(1, head + 1))
        if head:
            assert pushed(engine, replayed=False) == everything
        left = pb.Filter(attributes={"side": "left"})
        copy: dict[str, pb.Knowledge] = {}
        for change in pushed(engine, replayed=True, filter=left):
            if change.kind in (pb.CHANGE_KIND_RETRACTED, pb.CHANGE_KIND_LEFT):
                assert change.item_id in copy, "nothing leaves that was not there"
                del copy[change.item_id]
            else:
                copy[change.item_id] = change.knowledge
        snapshot = sync.Changes.FromString(
            engine.feed.snapshot(NAMESPACE, head, 0, Wish.of(left, include_embeddings=False)).body
        )
        assert copy == {change.item_id: change.knowledge for change in snapshot.changes}
        engine.close()


@examples(15, long=30)
@given(histories())
def test_views_can_be_dropped_and_index_files_deleted(sent: list[pb.Submission]) -> None:
    with TemporaryDirectory() as folder:
        engine = open_engine(Path(folder))
        commit_in_batches(engine, sent, 6)
        before, head = list(engine.store.logical_dump()), engine.feed.head(NAMESPACE)
        answers = [found_at(engine, revision) for revision in range(head + 1)]
        stores.rebuild(engine.store)
        assert list(engine.store.logical_dump()) == before
        engine.close()
        for file in (Path(folder) / "index").iterdir():
            file.unlink()
        engine = open_engine(Path(folder))
        assert [found_at(engine, revision) for revision in range(head + 1)] == answers
        engine.close()


def test_a_changed_byte_of_the_journal_is_found(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    commit_in_batches(engine, [submission(f"Fact {n}.", id=str(n)) for n in range(5)], 2)
    assert stores.check(engine.store) == []
    engine.store.writer.execute("UPDATE journal SET change = CAST(replace(change, 'Fact 3', 'Lie 33') AS BLOB)")
    assert any("journal entry 5 is not what was written" in line for line in stores.check(engine.store))
    engine.close()


@pytest.mark.parametrize("table", ["items", "versions", "submissions", "counts"])
def test_a_view_that_is_not_what_the_journal_makes_is_found_and_rebuilt(tmp_path: Path, table: str) -> None:
    engine = open_engine(tmp_path)
    commit_in_batches(engine, [submission(f"Fact {n}.", id=str(n), item=f"i{n}") for n in range(5)], 2)
    engine.store.writer.execute(f"DELETE FROM {table}")  # noqa: S608 - a name from this file
    assert stores.check(engine.store) == [f"the view {table} is not what the journal makes: rebuild it"]
    stores.rebuild(engine.store)
    assert stores.check(engine.store) == []
    engine.close()


def test_views_of_an_earlier_version_are_made_anew(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    sent = [submission(f"Fact {n}.", id=str(n), item=f"i{n % 3}") for n in range(5)]
    commit_in_batches(engine, [*sent, retraction("i0", id="gone")], 2)
    history = api.HistoryRequest(namespace=NAMESPACE, item_id="i0")
    before, versions = list(engine.store.logical_dump()), engine.knowledge.history(history).changes
    assert [change.version for change in versions] == [1, 2, 3]
    engine.store.writer.execute(
        "DROP INDEX versions_by_item; CREATE INDEX versions_by_item ON versions (namespace, item_id, version);"
        "ALTER TABLE items DROP COLUMN first_revision; DROP TABLE feedback;"
        "UPDATE meta SET value = '1' WHERE key = 'format'"
    )
    engine.close()
    shutil.copytree(tmp_path, tmp_path / "damaged")

    engine = open_engine(tmp_path)
    assert engine.store.renewed == 7
    assert stores.check(engine.store) == []
    assert engine.store.writer.execute("SELECT value FROM meta WHERE key = 'format'").get == str(stores.FORMAT)
    assert list(engine.store.logical_dump()) == before
    assert engine.knowledge.history(history).changes == versions
    engine.store.writer.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(stores.FORMAT + 1),))
    engine.close()
    with pytest.raises(Broken, match=f"has format {stores.FORMAT + 1}, this version reads format {stores.FORMAT}"):
        open_engine(tmp_path)

    damaged = apsw.Connection(str(tmp_path / "damaged" / stores.FILE))
    damaged.execute("UPDATE journal SET record = x'ff' WHERE sequence = 4")
    damaged.close()
    refused = f"cannot be brought to format {stores.FORMAT}: journal entry 4 is not what was written"
    for _ in range(2):  # the first leaves nothing open
        with pytest.raises(Broken, match=refused):
            open_engine(tmp_path / "damaged")
