"""In which order people look at what waits: R30 and R31 of docs/gate.md."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from epistream.indexer.review import AGE_SECONDS_MAX, Waiting, rank, uncertainty, verification
from epistream.v1 import knowledge_pb2 as pb

DIMENSION = 384
DAY = 24 * 3600.0


def rows(seed: int, count: int, *, likeness: float = 0.0, dimension: int = DIMENSION) -> NDArray[np.float32]:
    """Unit vectors whose cosines are `likeness`, more or less."""
    random = np.random.default_rng(seed)
    common, own = random.standard_normal(dimension), random.standard_normal((count, dimension))
    made = np.sqrt(likeness) * common / np.linalg.norm(common)
    made = made + np.sqrt(1 - likeness) * own / np.linalg.norm(own, axis=1, keepdims=True)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


def queue(seed: int = 1, count: int = 50, likeness: float = 0.0) -> list[Waiting]:
    return [Waiting(n + 1, f"p{n}", 60.0, vector) for n, vector in enumerate(rows(seed, count, likeness=likeness))]


def order(waiting: list[Waiting], dimension: int = DIMENSION) -> list[int]:
    return [one.review_id for one in rank(waiting, dimension)]


@pytest.mark.parametrize("likeness", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("contested", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_r31_of_five_near_copies_among_fifty_the_top_ten_has_one(seed: int, contested: bool, likeness: float) -> None:
    waiting = queue(seed, likeness=likeness)
    assert waiting[7].vector is not None
    noise = np.random.default_rng(seed).standard_normal((5, DIMENSION)) * 1e-3
    for place, extra in zip((7, 11, 23, 30, 49), noise, strict=True):
        vector = waiting[7].vector + extra
        unit = np.asarray(vector / np.linalg.norm(vector), np.float32)
        waiting[place] = replace(waiting[place], vector=unit, contested=contested)
    copies = {waiting[place].review_id for place in (7, 11, 23, 30, 49)}
    assert len(copies & set(order(waiting)[:10])) <= 1
    assert len(copies & set(order(waiting)[-10:])) >= 3


def test_r31_the_order_is_the_same_whatever_order_they_are_given_in() -> None:
    waiting = queue(likeness=0.5)
    waiting[3] = replace(waiting[4], review_id=4)
    expected = rank(waiting, DIMENSION)
    for seed in range(5):
        random.Random(seed).shuffle(waiting)
        assert rank(waiting, DIMENSION) == expected


def test_r31_every_review_is_served_within_the_age_cap() -> None:
    """Fifty wait; each hour one comes that is more urgent than any of them, and one is decided."""
    step = 3600.0
    waiting = [
        Waiting(n + 1, f"p{n}", 0.0, vector, disagreement=0.0) for n, vector in enumerate(rows(1, 50, dimension=32))
    ]
    newcomers = rows(2, 200, dimension=32)
    oldest = 0.0
    for turn, vector in enumerate(newcomers):
        first = rank(waiting, 32)[0]
        (served,) = [one for one in waiting if one.review_id == first.review_id]
        oldest = max(oldest, served.age_seconds)
        waiting = [replace(one, age_seconds=one.age_seconds + step) for one in waiting if one is not served]
        waiting.append(Waiting(1000 + turn, f"n{turn}", 0.0, vector, contested=True))
    assert max(one.review_id for one in waiting) == 1000 + len(newcomers) - 1
    assert min(one.review_id for one in waiting) > 50, "all that waited first were served"
    assert oldest <= AGE_SECONDS_MAX


def test_what_is_due_comes_first_the_oldest_first() -> None:
    waiting = queue()
    waiting[20] = replace(waiting[20], age_seconds=4 * DAY)
    waiting[30] = replace(waiting[30], age_seconds=5 * DAY)
    waiting[40] = replace(waiting[40], disagreement=1.0)
    ranked = rank(waiting, DIMENSION)
    assert [one.review_id for one in ranked[:3]] == [31, 21, 41]
    assert [one.priority.due for one in ranked[:3]] == [True, True, False]


def test_old_disputes_about_what_is_in_answers_come_behind_what_is_held_and_due() -> None:
    waiting = [replace(one, disagreement=1.0, in_answers=True, age_seconds=90 * DAY) for one in queue()]
    waiting[20] = replace(waiting[20], age_seconds=100 * DAY)
    waiting[30] = replace(waiting[30], in_answers=False, disagreement=None, age_seconds=4 * DAY)
    waiting[40] = replace(waiting[40], age_seconds=DAY)
    assert order(waiting)[:3] == [31, 21, 1]
    assert order(waiting)[-1] == 41


def test_r30_what_raters_dispute_comes_before_what_they_agree_on_and_what_nobody_rated() -> None:
    waiting = queue()
    for place, votes in ((5, 0.2), (15, 1.0), (25, 0.0)):
        waiting[place] = replace(waiting[place], disagreement=votes)
    waiting[35] = replace(waiting[35], contested=True, age_seconds=3 * DAY)
    found = order(waiting)
    assert set(found[:2]) == {6, 16}
    assert found[2] == 36
    assert found[-1] == 26, "what all agree on comes last"


def test_of_ten_in_a_row_at_most_three_are_of_one_producer_while_there_are_others() -> None:
    waiting = [replace(one, producer="flood" if n % 2 else one.producer) for n, one in enumerate(queue())]
    waiting = [replace(one, contested=one.producer == "flood") for one in waiting]
    ranked = rank(waiting, DIMENSION)
    for start in (0, 10, 20):
        assert sum(one.producer == "flood" for one in ranked[start : start + 10]) == 3
    assert len(ranked) == 50


def test_a_flood_over_two_bands_has_three_of_any_ten_in_a_row() -> None:
    """Three of its submissions are disputed and 22 contested; of others two are disputed, and the rest just waits."""
    waiting = queue()
    for place in range(5):
        waiting[place] = replace(waiting[place], disagreement=1.0)
    for place in (*range(3), *range(5, 27)):
        waiting[place] = replace(waiting[place], producer="flood", contested=place > 4)
    ranked = rank(waiting, DIMENSION)
    assert {one.review_id for one in ranked[:5]} == {1, 2, 3, 4, 5}, "what is disputed comes first"
    last = max(at for at, one in enumerate(ranked) if one.producer != "flood")
    tens = [[one.producer for one in ranked[start : start + 10]] for start in range(last - 8)]
    assert len(tens) > 20
    assert max(ten.count("flood") for ten in tens) == 3


def test_what_is_due_counts_among_the_ten() -> None:
    waiting = [replace(one, age_seconds=4 * DAY if at < 3 else 0.0) for at, one in enumerate(queue())]
    waiting = [replace(one, producer="flood") if at % 2 or at < 3 else one for at, one in enumerate(waiting)]
    assert sum(one.producer == "flood" for one in rank(waiting, DIMENSION)[:10]) == 3


def test_disputes_of_one_producer_alone_come_before_the_rest() -> None:
    waiting = [replace(one, producer="flood", disagreement=1.0) if at < 20 else one for at, one in enumerate(queue())]
    assert {one.producer for one in rank(waiting, DIMENSION)[:20]} == {"flood"}


def test_what_is_typical_comes_before_what_is_lonely_by_the_root_of_its_density() -> None:
    lonely, less, typical, other = np.array([[0, 0, 1], [0.6, 0.8, 0], [1, 0, 0], [0.6, -0.8, 0]], np.float32)
    waiting = [Waiting(n, f"p{n}", DAY, row) for n, row in enumerate((lonely, less, typical, other), start=1)]
    ranked = rank(waiting, 3)
    found = {one.review_id: one.priority for one in ranked}
    assert found[1].density == 0.05
    assert found[3].density == pytest.approx((0.6 + 0.6 + 0) / 3)
    for one in found.values():
        assert one.value == pytest.approx(one.uncertainty * one.density**0.5 * one.gain * one.ageing)
    assert ranked[0].review_id == 3, "the most typical one, though others have lower ids"
    assert found[3].gain == pytest.approx(found[1].gain) == pytest.approx(0.5 * np.log1p(10)), "nothing came before it"
    assert found[2].gain < found[1].gain, "what is near it tells less"


def test_without_vectors_it_is_the_rest_that_counts() -> None:
    waiting = [replace(one, vector=None) for one in queue(count=4)]
    waiting[2] = replace(waiting[2], contested=True)
    waiting[3] = replace(waiting[3], age_seconds=DAY)
    assert order(waiting) == [3, 4, 1, 2]
    mixed = [*queue(count=3), replace(waiting[2], review_id=9)]
    assert order(mixed)[0] == 9


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 0.5),
        ({"contested": True}, 1.0),
        ({"verified": 0.5}, 1.0),
        ({"verified": 0.75}, 0.5),
        ({"verified": 1.0}, 0.05),
        ({"disagreement": 0.0}, 0.05),
        ({"disagreement": 0.3, "verified": 0.9}, 0.3),
    ],
)
def test_uncertainty_is_the_largest_of_what_is_known(given: dict[str, float], expected: float) -> None:
    assert uncertainty(Waiting(1, "p", 0.0, **given)) == pytest.approx(expected)  # type: ignore[arg-type]


def test_nothing_waits() -> None:
    assert rank([], DIMENSION) == []


def ran(item_id: str, degree: str = "", score: float = 0.0, **fields: Any) -> pb.Feedback:
    made = pb.Feedback(
        kind=pb.FEEDBACK_KIND_BINARY, rater="executor", rater_type=pb.RATER_TYPE_EXECUTOR, degree=degree, **fields
    )
    made.judged.add(item_id=item_id, score=score)
    return made


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], None),
        ([ran("other", "verified", 1)], None),
        ([ran("it", "verified", 1)], 1.0),
        ([ran("it", "verified", 1), ran("it", "fail")], 0.0),
        ([ran("it", "fail"), ran("it", "vacuous")], 0.5),
        ([ran("it", score=1)], 1.0),
    ],
)
def test_who_ran_the_tests_last_says_how_likely_an_item_is_right(
    said: list[pb.Feedback], expected: float | None
) -> None:
    people = ran("it", "fail")
    people.rater_type = pb.RATER_TYPE_HUMAN

    assert verification("it", [*said, people]) == expected
