"""R23, tails protected: what people say rarely is never taken for a copy of what a model said, whichever came first.

Tails are what a collapse loses first (docs/gate.md#tails). The item here lies where nobody else has said anything.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.knowing import NAMESPACE, commit, commit_in_batches, direction, open_engine, submission

HUMAN = [origin for origin in pb.Origin.values() if origin not in (pb.ORIGIN_UNSPECIFIED, pb.ORIGIN_SYNTHETIC)]
SAID, COPY = "the daily limit for axolotls is 5 mg", "The daily limit for axolotls is 5 mg."
"""What a person says, and what a model makes of it: the same claim in another form."""
RARE, BESIDE = direction(0, 0, 1), direction(0, 0, 1, 0.05)

each_origin = pytest.mark.parametrize("origin", HUMAN, ids=pb.Origin.Name)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """One that knows much of one kind, by people and by models."""
    opened = open_engine(tmp_path)
    chance = np.random.default_rng(3)
    for number in range(40):
        vector = direction(1, *(0.3 * chance.standard_normal(2)))
        origin = pb.ORIGIN_SYNTHETIC if number % 2 else pb.ORIGIN_CRAWLED
        commit(opened, submission(f"Fact {number} is usual.", id=f"u-{number}", origin=origin, vector=vector))
    yield opened
    opened.close()


def human(origin: pb.Origin.ValueType, content: str = SAID) -> pb.Submission:
    return submission(content, id="human", item="rare", producer="ada", origin=origin, vector=RARE)


def synthetic(content: str = COPY, number: int = 0) -> pb.Submission:
    item = f"copy-{number}"
    return submission(content, id=item, item=item, producer="model", origin=pb.ORIGIN_SYNTHETIC, vector=BESIDE)


def found(engine: Engine) -> list[tuple[str, pb.Origin.ValueType]]:
    """What answers give where the rare item lies."""
    vector = pb.Embedding(float32=RARE.tobytes())
    hits = engine.knowledge.search(api.SearchRequest(namespace=NAMESPACE, vector=vector, limit=3)).hits
    return [(hit.change.knowledge.content, hit.change.knowledge.origin) for hit in hits if hit.similarity > 0.9]


def current(engine: Engine, item_id: str) -> tuple[str, pb.Origin.ValueType]:
    knowledge = engine.knowledge.get(api.GetRequest(namespace=NAMESPACE, item_id=item_id)).change.knowledge
    return knowledge.content, knowledge.origin


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("content", [SAID, COPY], ids=["other-words", "same-words"])
@each_origin
def test_r23_a_rare_item_of_people_that_comes_after_a_model_s_copy_takes_its_place(
    engine: Engine, origin: pb.Origin.ValueType, content: str, size: int
) -> None:
    copied, receipt = commit_in_batches(engine, [synthetic(), human(origin, content)], size)

    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_REVISED, pb.REASON_PROMOTION)
    assert found(engine) == [(content, origin)]
    assert current(engine, receipt.item_id) == (content, origin)
    history = engine.knowledge.history(api.HistoryRequest(namespace=NAMESPACE, item_id=receipt.item_id)).changes
    assert {change.knowledge.origin for change in history} == {pb.ORIGIN_SYNTHETIC, origin}
    assert copied.item_id == receipt.item_id


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("content", [SAID, COPY], ids=["other-words", "same-words"])
@each_origin
def test_r23_a_model_s_copy_of_a_rare_item_of_people_changes_nothing_of_it(
    engine: Engine, origin: pb.Origin.ValueType, content: str, size: int
) -> None:
    said, receipt = commit_in_batches(engine, [human(origin, content), synthetic()], size)

    assert (receipt.outcome, receipt.item_id) == (pb.OUTCOME_MERGED, "rare")
    assert found(engine) == [(content, origin)]
    assert current(engine, "rare") == (content, origin)
    assert said.version == 1


@each_origin
def test_r23_however_often_models_repeat_it_before_and_after_people_are_heard(
    engine: Engine, origin: pb.Origin.ValueType
) -> None:
    before, after = [synthetic(number=n) for n in range(20)], [synthetic(number=n) for n in range(20, 40)]
    receipts = commit_in_batches(engine, [*before, human(origin), *after], 7)

    assert [receipt.outcome for receipt in receipts[21:]] == [pb.OUTCOME_MERGED] * 20
    assert found(engine) == [(SAID, origin)]


@each_origin
def test_r23_a_model_s_revision_of_the_item_waits_and_people_s_words_stay(
    engine: Engine, origin: pb.Origin.ValueType
) -> None:
    copied, _ = commit(engine, synthetic(), human(origin))
    newer = synthetic("The daily limit for axolotls is 50 mg.", 1)
    newer.item_id = copied.item_id
    (receipt,) = commit(engine, newer)

    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_HELD, pb.REASON_LOWER_AUTHORITY)
    assert found(engine) == [(SAID, origin)]


@each_origin
def test_r23_a_model_s_copy_that_was_put_off_ends_as_a_copy_of_what_people_said_since(
    engine: Engine, origin: pb.Origin.ValueType
) -> None:
    for floor in (1.0, 0.0):
        policy = ns_pb.Policy(real_share_floor=floor)
        engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
        commit(engine, *([synthetic(), human(origin)] if floor else []))
    engine.pipeline.let_go(NAMESPACE)

    (receipt,) = commit(engine, synthetic())
    assert (receipt.outcome, receipt.item_id, receipt.earlier) == (pb.OUTCOME_MERGED, "rare", True)
    assert found(engine) == [(SAID, origin)]
