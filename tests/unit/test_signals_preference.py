"""R29 and the cells of feedback: whether length wins, whether raters agree, and how far they contradict each other."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from epistream.indexer.signals import Said, Window, disagreement, preference
from epistream.indexer.signals.figure import wilson
from epistream.v1 import knowledge_pb2 as pb
from tests.support.windows import SECOND_US, change, conflict, preferred, said, window, yes_or_no

LONG, SHORT = "a long text of many words", "short"


def judged(long_wins: int, short_wins: int) -> Window:
    """Comparisons of a longer with a shorter text, each of its own two items."""
    changes, told = [], []
    for n in range(long_wins + short_wins):
        changes += [change(f"l{n}", LONG, pb.ORIGIN_EXPERT), change(f"s{n}", SHORT, pb.ORIGIN_EXPERT)]
        told.append(preferred(*((f"l{n}", f"s{n}") if n < long_wins else (f"s{n}", f"l{n}"))))
    return window(*changes, said=told)


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe, Statistics in Medicine 17:857 (1998), table I: 81 of 263, 15 of 148, 0 of 20.
    for hits, items, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert wilson(hits, items) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("long_wins", "alarm"), [(100, False), (120, False), (150, True), (50, True)])
def test_r29_the_alarm_is_on_when_the_interval_excludes_a_half_by_more_than_a_tenth(
    long_wins: int, alarm: bool
) -> None:
    found = preference.long_win_share(judged(long_wins, 200 - long_wins))
    assert found.value == long_wins / 200
    assert (found.low, found.high) == wilson(long_wins, 200)
    assert found.alarm is alarm
    assert found.items == 200


def test_r29_fewer_than_200_pairs_have_no_figure_but_a_reason() -> None:
    for signal in (preference.long_win_share, preference.length_coefficient):
        found = signal(judged(199, 0))
        assert (found.value, found.items) == (None, 199)
        assert "fewer than 200 pairs" in found.missing


def test_equal_lengths_and_ties_decide_nothing() -> None:
    changes = [change("a", "four", pb.ORIGIN_EXPERT), change("b", "also", pb.ORIGIN_EXPERT)]
    tie = said(pb.FEEDBACK_KIND_PAIRWISE, pb.Judged(item_id="a", place=1), pb.Judged(item_id="b", place=1))
    found = window(*changes, said=[preferred("a", "b")] * 300 + [tie] * 300)
    assert len(preference.preferences(found)) == 300
    assert preference.long_win_share(found).items == 0


def drawn(slope: float, count: int) -> NDArray[np.float64]:
    """The better's advantage in length where length decides with this slope; sd 1."""
    random = np.random.default_rng(11)
    gaps = random.standard_normal(count)
    return gaps * np.where(random.random(count) < 1 / (1 + np.exp(-slope * gaps)), 1.0, -1.0)


def test_r29_the_coefficient_is_where_the_likelihood_has_no_slope_and_its_interval_holds_the_truth() -> None:
    gaps = drawn(0.8, 4000)
    fitted = preference.logistic(gaps)
    assert fitted is not None
    slope, error = fitted
    assert abs(slope - 0.8) < 2.5 * error

    def likelihood(at: float) -> float:
        return float(-np.log1p(np.exp(-at * gaps)).sum())

    step = 1e-4
    assert (likelihood(slope + step) - likelihood(slope - step)) / (2 * step) == pytest.approx(0, abs=1e-4)
    curvature = (likelihood(slope + step) - 2 * likelihood(slope) + likelihood(slope - step)) / step**2
    assert error == pytest.approx(1 / math.sqrt(-curvature), rel=1e-3)


def test_the_coefficient_has_no_value_where_the_longer_one_always_wins() -> None:
    assert preference.logistic(np.array([1.0, 2.0, 0.5])) is None
    found = preference.length_coefficient(judged(250, 0))
    assert found.value is None
    assert "always or never" in found.missing
    biased = preference.length_coefficient(judged(160, 40))
    assert biased.value == pytest.approx(math.log(160 / 40))
    assert biased.low is not None
    assert biased.low > 0


def test_a_ranking_counts_each_two_of_its_places_and_a_long_one_only_neighbours() -> None:
    def ranking(count: int) -> Window:
        items = [change(f"i{n}", "x" * n, pb.ORIGIN_EXPERT) for n in range(count)]
        places = [pb.Judged(item_id=f"i{n}", place=max(n, 1)) for n in range(count)]  # i0 and i1 tie
        return window(*items, said=[said(pb.FEEDBACK_KIND_RANKING, *places)])

    assert len(preference.preferences(ranking(4))) == 3 + 2  # six pairs, of which one is a tie
    assert len(preference.preferences(ranking(40))) == 38


def test_what_programs_and_models_say_is_no_preference_of_people() -> None:
    told = preferred("a", "b")
    told.submission.feedback.rater_type = pb.RATER_TYPE_AI
    found = window(change("a", LONG), change("b", SHORT), said=[told] * 300)
    assert preference.preferences(found) == []


def test_each_rater_is_compared_with_the_majority_of_the_others() -> None:
    told = [preferred("a", "b", "r1"), preferred("a", "b", "r2"), preferred("b", "a", "r3"), preferred("c", "d", "r1")]
    changes = [change(name, name * 3, pb.ORIGIN_EXPERT) for name in "abcd"]
    agreed = preference.agreement(preference.preferences(window(*changes, said=told)))
    # r1's others tie, 1 to 1; so do r2's; r3 has both against. Nobody else judged c and d.
    assert agreed == {("", "r3"): 0.0}
    fourth = [*told, preferred("a", "b", "r4")]
    figure = preference.rater_agreement(window(*changes, said=fourth))
    assert figure.value == pytest.approx((1 + 1 + 1 + 0) / 4)
    assert figure.parts[0] == ("r3", 0.0)
    alone = preference.rater_agreement(window(*changes, said=told[:1]))
    assert alone.value is None


def by(producer: str, told: Said) -> Said:
    """What a rater of this producer says."""
    told.submission.provenance.producer = producer
    return told


def test_raters_of_two_producers_with_the_same_name_are_two() -> None:
    items = [change(name, name * 3, pb.ORIGIN_COLLABORATIVE) for name in "ab"]
    told = [by("alice", preferred("a", "b")), by("bob", preferred("b", "a"))]
    assert preference.rater_agreement(window(*items, said=told)).parts == (("r1", 0.0), ("r1", 0.0))
    assert disagreement.vote_entropy(window(*items, said=told)).value == pytest.approx(math.log(2) / math.log(3))
    answers = [by("alice", yes_or_no("a", True)), by("bob", yes_or_no("a", False))]
    assert disagreement.vote_entropy(window(*items, said=answers)).value == pytest.approx(1.0)


def votes(*answers: bool, aspect: str = "") -> Iterator[Said]:
    for n, answer in enumerate(answers):
        yield yes_or_no("a", answer, rater=f"r{n}", aspect=aspect)


def test_the_entropy_of_votes_is_0_for_agreement_and_1_for_an_even_split() -> None:
    item = change("a", LONG, pb.ORIGIN_COLLABORATIVE)
    for answers, expected in (((True, True, True), 0.0), ((True, False), 1.0)):
        found = disagreement.vote_entropy(window(item, said=list(votes(*answers))))
        assert found.value == pytest.approx(expected)
    apart = [*votes(True, aspect="help"), *votes(False, aspect="harm")]
    assert disagreement.vote_entropy(window(item, said=apart)).value is None
    again = [*votes(True, True), yes_or_no("a", False, rater="r0")]  # r0 has changed their mind
    assert disagreement.vote_entropy(window(item, said=again)).value == pytest.approx(1.0)


def test_alpha_is_that_of_each_way_of_judging() -> None:
    items = [change(name, LONG, pb.ORIGIN_COLLABORATIVE) for name in "abc"]
    # Two raters on three items, (1, 1), (1, 0), (0, 0): the example of `agreement`.
    told = [
        yes_or_no(name, yes, rater)
        for name, rater, yes in zip("aabbcc", "rsrsrs", (True, True, True, False, False, False), strict=True)
    ]
    found = disagreement.alpha(window(*items, said=told))
    assert found.value == pytest.approx(1 - 5 * 2 / 18)
    assert found.items == 3
    other_way = [yes_or_no(name, True, rater, "harm") for name in "abc" for rater in "rs"]
    both = disagreement.alpha(window(*items, said=[*told, *other_way]))
    assert (both.value, both.items) == (found.value, 3), "where all say the same, chance makes no difference"
    assert disagreement.alpha(window(*items, said=told[:1])).value is None


def claims(*votes: tuple[str, bool, bool], **fields: Any) -> Window:
    """Texts that two raters each judge with yes or no."""
    items = [change(name, LONG, pb.ORIGIN_COLLABORATIVE) for name, _, _ in votes]
    told = [yes_or_no(name, vote, rater) for name, *cast in votes for rater, vote in zip("rs", cast, strict=True)]
    return window(*items, said=told, **fields)


def test_alpha_is_told_for_each_claim_the_lowest_first() -> None:
    votes = (("a", True, True), ("b", True, False), ("c", False, False))
    apart = disagreement.alpha(claims(*votes))
    assert [name for name, _ in apart.parts] == ["b", "a", "c"]
    assert dict(apart.parts) == {"a": 1, "b": pytest.approx(1 - 1 / (18 / 30)), "c": 1}
    opened = disagreement.alpha(claims(*votes, conflicts=[conflict("b", "a")]))
    assert dict(opened.parts) == {"a": pytest.approx(1 - 0.5 / (18 / 30)), "c": 1}, "a and b are one claim"
    assert opened.items == 2
    near = disagreement.alpha(claims(*votes, vectors=[[0, 1], [1, 0], [1, 0.01]]))
    assert dict(near.parts) == {"a": 1, "b": pytest.approx(1 - 0.5 / (18 / 30))}, "b and c are one claim"
    whole = pytest.approx(1 - 5 * 2 / 18)
    assert apart.value == opened.value == near.value == whole, "how votes are grouped changes no disagreement"


def test_a_claim_that_all_agree_on_counts_as_agreement() -> None:
    found = disagreement.alpha(claims(*[(f"a{n}", n % 2 == 0, n % 2 == 0) for n in range(9)], ("z", True, False)))
    assert found.parts[0][0] == "z"
    assert [value for _, value in found.parts[1:]] == [1.0] * 9


def rated(score: float, rater: str, scale: tuple[float, float] = (1, 4)) -> Said:
    judged = pb.Judged(item_id="a", score=score)
    return said(pb.FEEDBACK_KIND_RATING, judged, rater=rater, scale_min=scale[0], scale_max=scale[1])


def test_a_scale_of_which_only_one_step_is_a_number_has_no_spread() -> None:
    item = change("a", LONG, pb.ORIGIN_COLLABORATIVE)
    votes = [rated(0, "r1", (0, 1e-20)), rated(0, "r2", (0, 1e-20))]
    assert disagreement.vote_entropy(window(item, said=votes)).value is None


def test_votes_on_two_scales_are_two_ways_of_judging() -> None:
    item = change("a", LONG, pb.ORIGIN_COLLABORATIVE)
    wide = [rated(score, f"w{score}", (1, 4)) for score in (1, 2, 3, 4)]
    narrow = [rated(score, f"n{score}", (0, 1)) for score in (0, 1)]
    for told in ([*wide, *narrow], [*narrow, *wide]):
        assert disagreement.vote_entropy(window(item, said=told)).value == pytest.approx(1.0)
    one_each = [rated(0, "r1", (0, 1)), rated(4, "r2", (1, 4))]
    assert disagreement.vote_entropy(window(item, said=one_each)).value is None
    shifted = disagreement.alpha(window(item, said=[*(rated(s, f"a{s}", (0, 1)) for s in (0, 1)), *_shifted()]))
    assert shifted.value == pytest.approx(0.0)


def _shifted() -> Iterator[Said]:
    """Votes on a scale with as many steps, of which each is another number."""
    yield from (rated(score, f"b{score}", (8, 9)) for score in (8, 9))


def test_votes_on_scales_and_comparisons_count_among_what_can_be_voted() -> None:
    items = [change(name, LONG, pb.ORIGIN_COLLABORATIVE) for name in "ab"]
    scale = disagreement.vote_entropy(window(*items, said=[rated(1, "r1"), rated(4, "r2")]))
    assert scale.value == pytest.approx(math.log(2) / math.log(4))
    compared = disagreement.vote_entropy(window(*items, said=[preferred("a", "b", "r1"), preferred("b", "a", "r2")]))
    assert compared.value == pytest.approx(math.log(2) / math.log(3))


def test_open_conflicts_have_an_age_and_a_share() -> None:
    items = [change(name, LONG, pb.ORIGIN_COLLABORATIVE) for name in "abcd"]
    conflicts = [conflict("b", "a", opened_us=10 * SECOND_US), conflict("c", "a", opened_us=90 * SECOND_US)]
    found = window(*items, vectors=np.eye(4), conflicts=conflicts, end_us=100 * SECOND_US)
    assert disagreement.conflicted_share(found).value == 3 / 4
    blind = window(*items, conflicts=conflicts[:1])
    assert disagreement.conflicted_share(blind).items == 2, "nobody looked for what contradicts c and d"
    unknown = disagreement.conflicted_share(window(*items))
    assert (unknown.value, unknown.missing) == (None, "no text with a vector: without one nothing is compared with it")
    assert disagreement.conflict_age_p95(found).value == pytest.approx(10 + 0.95 * 80)
    assert disagreement.conflict_age_p95(window(*items)).missing == "no conflict between texts is open"
