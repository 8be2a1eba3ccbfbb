"""A random life of a store, step by step, against a dictionary: batches from everywhere, replays, crashes, repairs."""

import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.indexer.index import ExactIndex, FaissIndex, IndexFactory
from epistream.indexer.model import Place, Position
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.wire.errors import Conflict, InvalidInput
from tests.robustness.test_histories import CLAIMS, DIRECTIONS, ITEMS, ORIGINS, Model, content_at, found_at
from tests.support.knowing import NAMESPACE, HandClock, commit, open_engine, record, retraction, submission

LONG_SECONDS = 600
TOPIC = "life"
Sketch: TypeAlias = dict[str, Any] | int
"""Of a submission: its fields, or the number of an earlier one that is sent again."""

a_version = st.sampled_from([None, None, None, None, 1, 2])
a_statement: st.SearchStrategy[Sketch] = st.builds(
    dict,
    content=st.sampled_from(CLAIMS),
    item=st.sampled_from(ITEMS),
    origin=st.sampled_from(ORIGINS),
    producer=st.sampled_from(["alice", "bob"]),
    vector=st.sampled_from(DIRECTIONS),
    expected_version=a_version,
)
a_retraction: st.SearchStrategy[Sketch] = st.builds(
    dict, item=st.sampled_from(ITEMS[:-1]), origin=st.sampled_from(ORIGINS)
)
one_sent = st.one_of(a_statement, a_statement, a_statement, a_retraction, st.integers(0, 200))
what_is_sent = st.lists(one_sent, min_size=2, max_size=8)
"""A statement, a retraction, or one of those before, sent again."""


class Life(RuleBasedStateMachine):
    """What may happen to a store. The model knows by the receipts what must be answered."""

    def __init__(self) -> None:
        super().__init__()
        self.root = TemporaryDirectory()
        self.folder = Path(self.root.name) / "0"
        self.model, self.clock = Model(), HandClock()
        self.sent: list[pb.Submission] = []
        self.over_kafka: list[pb.Submission] = []
        self.engine: Engine | None = None
        self.new_index: IndexFactory = FaissIndex

    @initialize(exact=st.booleans())
    def begin(self, exact: bool) -> None:
        self.new_index = ExactIndex if exact else FaissIndex
        self.open()
        self.a_call([{"content": claim, "item": item} for claim, item in zip(CLAIMS, ITEMS, strict=False)])
        self.some_records([{"item": "nothing"}, {"content": "Ice is cold.", "item": "c"}])

    def open(self) -> None:
        self.engine = open_engine(self.folder, self.clock, self.new_index)

    @property
    def running(self) -> Engine:
        assert self.engine is not None
        return self.engine

    def made(self, sketch: Sketch) -> pb.Submission:
        """The submission that is meant; of an id of its own unless it was sent before."""
        if isinstance(sketch, int):
            return self.sent[sketch % len(self.sent)]
        name = f"s-{len(self.sent)}"
        make = submission if "content" in sketch else retraction
        self.sent.append(make(id=name, **sketch))
        return self.sent[-1]

    @rule(sketches=what_is_sent)
    def a_call(self, sketches: list[Sketch]) -> None:
        sent = [self.made(sketch) for sketch in sketches]
        for one, receipt in zip(sent, commit(self.running, *sent), strict=True):
            self.model.take(one, receipt)

    @rule(sketches=what_is_sent)
    def an_atomic_call(self, sketches: list[Sketch]) -> None:
        sent = [self.made(sketch) for sketch in sketches]
        try:
            receipts = commit(self.running, *sent, atomic=True)
        except (InvalidInput, Conflict):
            return  # the invariants show that nothing was taken
        assert all(receipt.outcome != pb.OUTCOME_REFUSED for receipt in receipts)
        for one, receipt in zip(sent, receipts, strict=True):
            self.model.take(one, receipt)

    @rule(sketches=what_is_sent)
    def some_records(self, sketches: list[Sketch]) -> None:
        first = len(self.over_kafka)
        self.over_kafka += [self.made(sketch) for sketch in sketches]
        for one, receipt in zip(self.over_kafka[first:], self.read(first, len(self.over_kafka)), strict=True):
            self.model.take(one, receipt)

    @rule(first=st.integers(0, 100), count=st.integers(1, 10))
    def some_records_again(self, first: int, count: int) -> None:
        first %= len(self.over_kafka)
        until = min(len(self.over_kafka), first + count)
        before = list(self.running.store.logical_dump())
        assert all(receipt.earlier for receipt in self.read(first, until))
        assert list(self.running.store.logical_dump()) == before

    def read(self, first: int, until: int) -> list[pb.Receipt]:
        """Commit records of the topic."""
        records = [record(self.over_kafka[offset], Position(TOPIC, 0, offset)) for offset in range(first, until)]
        return self.running.pipeline.commit(self.running.pipeline.prepare(records))

    @rule()
    def a_restart(self) -> None:
        self.running.close()
        self.open()

    @rule()
    def a_kill(self) -> None:
        """What is on the disk is taken as it is; what was in memory is gone."""
        killed, self.folder = self.folder, self.folder.with_name(str(int(self.folder.name) + 1))
        shutil.copytree(killed, self.folder)
        self.running.store.close()
        self.open()

    @rule()
    def the_views_are_made_anew(self) -> None:
        before = list(self.running.store.logical_dump())
        stores.rebuild(self.running.store)
        assert list(self.running.store.logical_dump()) == before

    @rule()
    def the_index_is_lost(self) -> None:
        self.running.close()
        shutil.rmtree(self.folder / "index")
        self.open()

    @rule(jump_us=st.sampled_from([1, 1_000_000, -1_000_000]))
    def the_clock_jumps(self, jump_us: int) -> None:
        self.clock.us += jump_us

    @invariant()
    def what_is_known_now_is_the_models(self) -> None:
        if self.engine is not None:
            head = self.engine.feed.head(NAMESPACE)
            assert head == len(self.model.states) - 1
            assert found_at(self.engine, head) == set(self.model.live)
            assert self.engine.pipeline.positions().get((TOPIC, 0), Place(0)).offset == len(self.over_kafka)

    def teardown(self) -> None:
        if self.engine is not None:
            self.everything_that_was_known_is_the_models(self.engine)
            assert stores.check(self.engine.store) == []
            self.engine.close()
        self.root.cleanup()

    def everything_that_was_known_is_the_models(self, engine: Engine) -> None:
        for revision, state in enumerate(self.model.states):
            for item in self.model.versions:
                assert content_at(engine, item, revision) == state.get(item)
            diff = api.DiffRequest(namespace=NAMESPACE, limit=1000)
            getattr(diff, "from").revision = revision
            found = {entry.item_id: entry.after.knowledge.content for entry in engine.knowledge.diff(diff).entries}
            now = self.model.live
            changed = {item for item in {*state, *now} if state.get(item) != now.get(item)}
            assert changed <= found.keys(), "what differs is told; an item may also come back as it was"
            assert all(now.get(item, "") == content for item, content in found.items())
        for item, newest in self.model.versions.items():
            asked = api.HistoryRequest(namespace=NAMESPACE, item_id=item, limit=1000)
            versions = [change.version for change in engine.knowledge.history(asked).changes]
            assert versions == list(range(1, newest + 1))


SHORT = settings(max_examples=10, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(SHORT, max_examples=40, stateful_step_count=40)


def test_a_life_of_a_store() -> None:
    run_state_machine_as_test(Life, settings=SHORT)


@pytest.mark.robustness
@pytest.mark.timeout(2 * LONG_SECONDS)
def test_many_lives_of_a_store() -> None:
    end = time.monotonic() + LONG_SECONDS
    while time.monotonic() < end:
        run_state_machine_as_test(Life, settings=LONG)
