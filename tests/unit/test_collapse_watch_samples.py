"""The collapse watch on the samples, through the whole pipeline, with the packaged encoder: R17 to R20.

The loops (R17, R19) are watched under the default guard; where windows have to be whole, it only measures.
"""

from pathlib import Path

import pytest

from epistream.v1 import knowledge_pb2 as pb
from epistream.v1.namespace_service_pb2 import GUARD_MEASURE
from tests.support.samples import STREAMS, needs_samples, places, values
from tests.support.watched_samples import (
    EVERY,
    GENERATIONS,
    feed,
    open_watched,
    taken_for_a_model,
    watched_loop,
)
from tests.unit.test_collapse import PEOPLE, spearman

pytestmark = [needs_samples, pytest.mark.slow]

SPLITS = 10


def ratio(alarm: pb.CollapseAlarm) -> float:
    return alarm.ratios[1].ratio


def test_r17_a_loop_that_replaces_raises_the_alarm_with_its_first_generation_and_it_stays_on(tmp_path: Path) -> None:
    found = watched_loop(tmp_path / "s", "replace")["loop"]

    assert [one.accepted for one in found] == [EVERY * number for number in range(1, 9)], "two for each generation"
    of_generations = found[1::2]
    assert [one.on for one in of_generations] == [True] * 4
    assert ratio(of_generations[-1]) < ratio(of_generations[0]) - 0.10
    assert spearman([(float(g), ratio(one)) for g, one in zip(GENERATIONS, of_generations, strict=True)]) <= -0.8
    assert found[-1].slope < 0


def test_r19_the_store_that_accumulates_stays_diverse_and_above_the_newest_generation_of_a_loop(tmp_path: Path) -> None:
    accumulated = watched_loop(tmp_path / "a", "accumulate")[""]
    replaced = watched_loop(tmp_path / "r", "replace")["loop"][1::2]

    assert ratio(accumulated[-1]) >= 0.6
    assert all(ratio(store) > ratio(newest) for store, newest in zip(accumulated, replaced, strict=True))


LARGE = ("crawl:wikipedia", "human_experts_truthfulqa")
"""Of the sources of people those with enough for a window of 64 in both halves of a split."""


def test_r18_no_other_source_of_people_can_be_split() -> None:
    assert {source for source in PEOPLE if len(places(STREAMS, producer=source)) >= 128} == set(LARGE)


@pytest.mark.parametrize("source", LARGE)
def test_r18_people_who_are_taken_for_a_model_raise_no_alarm(tmp_path: Path, source: str) -> None:
    raised = sum(one.on for split in range(SPLITS) for one in taken_for_a_model(tmp_path / str(split), source, split))

    assert raised <= 0.05 * SPLITS


def test_r18_people_of_another_source_are_drift_and_no_collapse(tmp_path: Path) -> None:
    large = [one for one in PEOPLE if len(places(STREAMS, producer=one)) >= 64]
    for ours in large:
        engine = open_watched(tmp_path / ours, anchor_items=64, watch_items=64, watch_every=32, guard=GUARD_MEASURE)
        feed(engine, STREAMS, places(STREAMS, producer=ours))
        for theirs in large:
            if theirs != ours:
                found = [one for one in feed(engine, STREAMS, places(STREAMS, producer=theirs), theirs) if one.producer]
                assert found
                assert not any(one.on for one in found), (ours, theirs)
        engine.close()


def test_r20_models_that_answer_the_prompts_of_people_are_compared_on_those(tmp_path: Path) -> None:
    engine = open_watched(tmp_path, anchor_items=64, watch_items=64, watch_every=48, guard=GUARD_MEASURE)
    people = [*places(STREAMS, producer="human_experts"), *places(STREAMS, producer="human_seed_authors")]
    feed(engine, STREAMS, people)

    for model in (one for one in values(STREAMS, "producer") if one.startswith("model:")):
        found = [one for one in feed(engine, STREAMS, places(STREAMS, producer=model), model) if one.producer]
        assert [one.matched for one in found] == [True] * len(found), model
        assert found
    of_people = places(STREAMS, producer="human_experts_truthfulqa")
    unmatched = [one for one in feed(engine, STREAMS, of_people, "others") if one.producer]
    assert unmatched
    assert not any(one.matched for one in unmatched)
    engine.close()
