"""What ends that something is held: the same words about the same item, from who may say them."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from epistream.indexer import holding
from epistream.indexer.engine import Engine
from epistream.indexer.store import FORMAT, check
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.knowing import NAMESPACE, HandClock, commit, commit_in_batches, open_engine, pending, submission

SYNTHETIC, CRAWLED, COLLABORATIVE = pb.ORIGIN_SYNTHETIC, pb.ORIGIN_CRAWLED, pb.ORIGIN_COLLABORATIVE
FIFTY = "Do not take more than fifty."


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with closing(open_engine(tmp_path)) as opened:
        yield opened
        assert check(opened.store) == []


def set_floor(engine: Engine, floor: float) -> None:
    """What is SYNTHETIC is put off with the floor 1, and goes on with 0."""
    policy = ns_pb.Policy(real_share_floor=floor, near_duplicate_threshold=1.0)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))


def said(engine: Engine, item: str) -> str:
    return engine.knowledge.get(api.GetRequest(namespace=NAMESPACE, item_id=item)).change.knowledge.content


def test_a_version_that_was_put_off_goes_on_though_another_item_says_its_words(engine: Engine) -> None:
    commit(engine, submission("Alpha is 1.", id="1", item="a", origin=SYNTHETIC))
    set_floor(engine, 1.0)
    (put_off,) = commit(engine, submission("Alpha is 2.", id="2", item="a", origin=SYNTHETIC))
    (other,) = commit(engine, submission("Alpha is 2.", id="3", origin=CRAWLED, producer="web"))
    assert (put_off.reason, other.outcome) == (pb.REASON_DEFERRED, pb.OUTCOME_ADMITTED)

    set_floor(engine, 0.0)
    engine.pipeline.let_go(NAMESPACE)

    assert said(engine, "a") == "Alpha is 2."


def limited(engine: Engine) -> pb.Receipt:
    """An expert's item, and what ada says of it, which waits for a person."""
    ada = submission(FIFTY, id="2", item="limit", origin=COLLABORATIVE, producer="ada")
    return commit(engine, submission("The limit is 5 mg.", id="1", item="limit"), ada)[1]


@pytest.mark.parametrize(
    ("item", "origin", "ends"),
    [("", CRAWLED, False), ("", pb.ORIGIN_EXPERT, False), ("other", CRAWLED, False), ("limit", pb.ORIGIN_EXPERT, True)],
)
def test_what_waits_for_a_person_about_an_item_ends_with_that_item_only(
    engine: Engine, item: str, origin: pb.Origin.ValueType, *, ends: bool
) -> None:
    assert limited(engine).reason == pb.REASON_LOWER_AUTHORITY

    commit(engine, submission(FIFTY, id="3", item=item, origin=origin, producer="else"))

    assert [held.decision.receipt.producer for held in pending(engine)] == ([] if ends else ["ada"])


@pytest.mark.parametrize(("origin", "ends"), [(SYNTHETIC, False), (CRAWLED, True), (pb.ORIGIN_EXPERT, True)])
def test_a_lower_authority_ends_nothing_that_waits_for_a_person(
    engine: Engine, origin: pb.Origin.ValueType, *, ends: bool
) -> None:
    """Code that waits for its tests, and names no item."""
    policy = ns_pb.Policy(verify_code=True)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    waits, says = (
        submission("x = 1", id="1", origin=CRAWLED),
        submission("x = 1", id="2", origin=origin, producer="e"),
    )
    waits.modality = says.modality = pb.MODALITY_CODE
    assert commit(engine, waits)[0].reason == pb.REASON_UNVERIFIED
    policy = ns_pb.Policy(verify_code=False)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))

    (receipt,) = commit(engine, says)

    assert receipt.outcome == pb.OUTCOME_ADMITTED
    assert len(pending(engine)) == (0 if ends else 1)


def anything(chance: np.random.Generator, count: int) -> list[pb.Submission]:
    """Few contents, items and origins, so that much is held and much of it said again."""
    made = []
    for number in range(count):
        origin = (SYNTHETIC, SYNTHETIC, CRAWLED, COLLABORATIVE, pb.ORIGIN_EXPERT)[chance.integers(5)]
        one = submission(
            f"It is {chance.integers(8)}.",
            id=str(number),
            item=("", "a", "b", "c", "d", "e")[chance.integers(6)],
            origin=origin,
            producer=f"p-{origin}",
            derived_from=["lost"] if origin == SYNTHETIC and chance.random() < 0.3 else [],
        )
        one.modality = (pb.MODALITY_TEXT, pb.MODALITY_CODE)[chance.integers(2)]
        made.append(one)
    return made


@pytest.mark.parametrize("seed", range(5))
def test_what_ends_is_the_same_however_a_stream_is_cut_and_in_another_life(tmp_path: Path, seed: int) -> None:
    sent = anything(np.random.default_rng(seed), 120)
    dumps, counts = [], []
    for size in (1, 7, 120):
        with closing(open_engine(tmp_path / str(size))) as engine:
            policy = ns_pb.Policy(real_share_floor=1.0, near_duplicate_threshold=1.0, verify_code=True)
            engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
            commit_in_batches(engine, sent, size)
            dumps.append(list(engine.store.logical_dump()))
            counts.append(waiting(engine))
            assert said_since(engine) > 0
        with closing(Engine(tmp_path / str(size), clock=HandClock())) as again:
            counts.append(waiting(again))
            assert check(again.store) == []
    assert dumps == dumps[:1] * 3
    assert counts == counts[:1] * 6
    assert sum(counts[0]) > 0


def waiting(engine: Engine) -> tuple[int, int, int]:
    """What is counted of what waits."""
    standing = engine.namespaces.state(NAMESPACE).standing
    return standing.put_off.total(), standing.orphans, standing.unverified


def said_since(engine: Engine) -> int:
    """How many wait no more, and nobody has decided them."""
    ended = engine.store.writer.execute("SELECT sequence FROM held WHERE resolved IS NOT NULL").fetchall()
    decided = {entry.record.decision.releases for entry in engine.store.journal.follow(0)}
    return len({sequence for (sequence,) in ended} - decided)


def test_what_format_9_took_to_have_ended_waits_again(tmp_path: Path) -> None:
    with closing(open_engine(tmp_path)) as engine:
        limited(engine)
        commit(engine, submission(FIFTY, id="3", origin=CRAWLED, producer="web"))
        waits = [held.sequence for held in pending(engine)]
        # As that had it: whoever said the words.
        engine.store.writer.execute("UPDATE held SET resolved = 4; UPDATE counts SET held = 0")
        engine.store.writer.execute("UPDATE meta SET value = '9' WHERE key = 'format'")
        assert pending(engine) == []
    with closing(Engine(tmp_path, clock=HandClock())) as engine:
        assert engine.store.renewed is not None
        assert engine.store.writer.execute("SELECT value FROM meta WHERE key = 'format'").get == str(FORMAT)
        assert [held.sequence for held in pending(engine)] == waits
        with engine.store.reader() as catalog:
            assert holding.ended(catalog, engine.namespaces.configs[NAMESPACE].number, waits[0]) is None
