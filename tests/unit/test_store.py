"""The store: stores of earlier formats (tests/golden/store-N.sql), and how SQLite is used."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import apsw
import pytest

from epistream.indexer import positions, views
from epistream.indexer.engine import Engine
from epistream.indexer.feed import Wish
from epistream.indexer.journal import Entry
from epistream.indexer.model import Place
from epistream.indexer.store import CHECKING, FILE, OTHER_VIEWS, Store, check
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import sync_service_pb2 as sync
from epistream.wire.errors import Broken, Conflict, Unavailable
from epistream.wire.topics import EXPERT
from tests.support.knowing import NAMESPACE, HandClock, commit, direction, open_engine, pending, submission

GOLDEN: Final = Path(__file__).parent.parent / "golden"


@pytest.fixture(params=OTHER_VIEWS)
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Today's engine over a store of that format.

    It has two versions of `limit`, a merged and a held submission, an item that was taken back, and from Kafka a dead
    letter and an item.
    """
    with closing(apsw.Connection(str(tmp_path / FILE))) as connection:
        connection.execute((GOLDEN / f"store-{request.param}.sql").read_text())
    with closing(Engine(tmp_path, clock=HandClock())) as engine:
        yield engine


def said(engine: Engine, item: str) -> list[tuple[int, str]]:
    changes = engine.knowledge.history(api.HistoryRequest(namespace=NAMESPACE, item_id=item)).changes
    return [(change.version, change.knowledge.content) for change in changes]


def test_a_namespace_from_before_noise_was_held_keeps_its_guard_and_may_be_asked_for_again(older: Engine) -> None:
    known = older.namespaces.get(NAMESPACE)
    asked = ns_pb.CreateNamespaceRequest(name=NAMESPACE, encoder=known.encoder, policy=known.policy)
    asked.policy.ClearField("guard")

    assert known.policy.guard == ns_pb.GUARD_MEASURE
    assert older.namespaces.create(asked) == known
    asked.policy.guard = ns_pb.GUARD_HOLD_NOISE
    with pytest.raises(Conflict):
        older.namespaces.create(asked)


def test_a_namespace_from_before_its_policies_were_kept_has_the_first_since_it_was_made(older: Engine) -> None:
    known = older.namespaces.get(NAMESPACE)
    (first,) = older.namespaces.policies(ns_pb.ListPoliciesRequest(name=NAMESPACE)).policies

    assert (first.version, first.policy, first.time) == (1, known.policy, known.create_time)


def test_a_store_of_an_earlier_format_is_renewed_and_answers_as_before(older: Engine) -> None:
    assert older.store.renewed == 9
    assert check(older.store) == []
    assert said(older, "limit") == [(1, "The daily limit is 5 mg."), (2, "The daily limit is 6 mg.")]
    assert said(older, "gone") == [(1, "To be taken back."), (2, "")]
    request = api.SearchRequest(namespace=NAMESPACE, limit=9, vector=pb.Embedding(float32=direction(1.0).tobytes()))
    hits = older.knowledge.search(request).hits
    assert hits[0].change.knowledge.content == "The daily limit is 6 mg."
    assert {hit.change.item_id for hit in hits} == {"limit", "aspirin", "kafka"}
    at = api.GetRequest(namespace=NAMESPACE, item_id="limit", as_of=pb.AsOf(revision=1))
    assert older.knowledge.get(at).change.knowledge.content == "The daily limit is 5 mg."


def test_a_store_of_an_earlier_format_knows_what_it_has_taken_in(older: Engine) -> None:
    """Else what comes again from producers or Kafka would have its effect a second time."""
    again = submission("The daily limit is 6 mg.", id="5", item="limit", vector=direction(1.0))
    [receipt] = commit(older, again)
    assert (receipt.outcome, receipt.version, receipt.revision) == (pb.OUTCOME_REVISED, 2, 3)
    namespace = older.namespaces.get(NAMESPACE)
    assert (namespace.head_revision, namespace.item_count, namespace.held_count, namespace.merged_count) == (6, 3, 1, 1)
    assert older.pipeline.positions() == {(EXPERT, 0): Place(43)}
    assert [one.decision.held.content for one in pending(older)] == ["The daily limit is 50 mg."]
    [letter] = older.store.dead_letters(0, 10)
    assert letter.record.value == b"\xff no record"


def test_a_store_of_an_earlier_format_learns_which_topics_its_positions_are_of(older: Engine, tmp_path: Path) -> None:
    with older.store.transaction() as connection:
        positions.learn(connection, {(EXPERT, 0): "its-id"})
    older.close()
    with closing(Engine(tmp_path, clock=HandClock())) as engine:
        assert engine.store.renewed is None
        assert engine.pipeline.positions() == {(EXPERT, 0): Place(43, topic_id="its-id")}


def test_subscribers_of_a_store_of_an_earlier_format_go_on_where_they_were(older: Engine) -> None:
    changes = sync.Changes.FromString(older.feed.replay(NAMESPACE, 2, Wish()).body).changes
    assert [(c.revision, c.item_id) for c in changes] == [(3, "limit"), (4, "gone"), (5, "gone"), (6, "kafka")]


def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        assert (store.writer.pragma("journal_mode"), store.writer.pragma("synchronous")) == ("wal", 2)  # 2: FULL


def committed_within(room: int, engine: Engine, sent: pb.Submission) -> list[pb.Receipt]:
    """The receipt where SQLite may take so many bytes more than it has; none where that is too little."""
    apsw.hard_heap_limit(apsw.memory_used() + room)
    try:
        return commit(engine, sent)
    except Unavailable as error:
        return [] if error.reason == "OVERLOADED" else pytest.fail(str(error))
    finally:
        apsw.hard_heap_limit(0)


def test_what_finds_no_memory_is_not_written_and_may_be_tried_again(tmp_path: Path) -> None:
    large = submission("x" * 200_000, id="large")
    with closing(open_engine(tmp_path)) as engine:
        room = 0
        while not (receipts := committed_within(room, engine, large)):
            assert check(engine.store) == []
            room += 20_000  # so that it is short at one step after the other
        assert room > 200_000, "it was short in the transaction, too"
        [receipt] = receipts
        assert (receipt.outcome, receipt.revision, receipt.earlier) == (pb.OUTCOME_ADMITTED, 1, False)
        assert check(engine.store) == []


def test_a_check_makes_the_views_in_a_file_that_nobody_else_reads_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in memory: there views may be larger than that."""
    seen: list[tuple[Path, int]] = []
    apply = views.apply

    def looked_at(connection: apsw.Connection, entries: Sequence[Entry]) -> None:
        file = Path(connection.filename)
        seen.append((file, file.parent.stat().st_mode & 0o777))
        apply(connection, entries)

    with closing(open_engine(tmp_path)) as engine:
        commit(engine, submission("A fact.", id="1"))
        monkeypatch.setattr(views, "apply", looked_at)
        left = tmp_path / CHECKING / "left"  # by one that was killed
        left.parent.mkdir()
        left.touch()
        assert check(engine.store) == []
        assert seen == [(tmp_path / CHECKING / FILE, 0o700)]
        assert not left.parent.exists()


def test_a_check_that_finds_no_space_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_connection: apsw.Connection, _entries: Sequence[Entry]) -> None:
        raise apsw.FullError("database or disk is full")

    with closing(open_engine(tmp_path)) as engine:
        commit(engine, submission("A fact.", id="1"))
        monkeypatch.setattr(views, "apply", full)
        with pytest.raises(Unavailable, match="there is no space"):
            check(engine.store)
        assert not (tmp_path / CHECKING).exists()


def test_a_sqlite_that_corrupts_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(Broken, match=r"SQLite 3\.51\.2 can corrupt the store: install apsw"):
        Store(tmp_path)
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.3")
    Store(tmp_path).close()
