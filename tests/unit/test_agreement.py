"""How far raters are of one mind: Krippendorff's alpha, reckoned in another way too, and the votes on an item."""

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epistream.indexer.agreement import Level, alpha, alphas, disagreement
from epistream.v1 import knowledge_pb2 as pb
from tests.support.samples import DATA, needs_samples, rows

Units = Sequence[Sequence[float | None]]

KRIPPENDORFF: Units = list(
    zip(
        (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
        (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
        (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
        (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
        strict=True,
    )
)
"""The example of the paper: four observers, twelve units."""


def reference(units: Units, level: Level) -> float | None:
    """1 - D_o / D_e by going through all pairs of values, within units and between them."""
    pairable = [[v for v in unit if v is not None] for unit in units]
    pairable = [unit for unit in pairable if len(unit) > 1]
    every = [value for unit in pairable for value in unit]

    def differ(c: float, k: float) -> float:
        if level == Level.NOMINAL:
            return float(c != k)
        if level == Level.INTERVAL:
            return (c - k) ** 2
        low, high = min(c, k), max(c, k)
        between = sum(low <= value <= high for value in every)
        return (between - (every.count(c) + every.count(k)) / 2) ** 2 if c != k else 0.0

    observed = sum(
        differ(a, b) / (len(unit) - 1) / len(every) for unit in pairable for a, b in itertools.permutations(unit, 2)
    )
    expected = sum(differ(a, b) for a, b in itertools.permutations(every, 2))
    return 1 - observed / (expected / (len(every) * (len(every) - 1))) if expected else None


def test_alphas_of_groups_are_against_the_chance_of_all_and_their_mean_is_the_alpha_of_all() -> None:
    units: Units = [(1, 1), (1, 2), (2, 2)]
    apart = alphas([[unit] for unit in units])
    assert apart == [1, pytest.approx(1 - 1 / (18 / 30)), 1]
    assert alphas([units[:1], units[1:]]) == [1, pytest.approx(1 - 0.5 / (18 / 30))]
    assert alphas([[(1, None)], units]) == [None, pytest.approx(alpha(units))]
    assert alphas([[(1, 1)], [(1, 1)]]) is None
    groups = [KRIPPENDORFF[:3], KRIPPENDORFF[3:7], KRIPPENDORFF[7:]]
    counts = [sum(n for unit in group if (n := sum(v is not None for v in unit)) > 1) for group in groups]
    for level in Level:
        found = alphas(groups, level)
        assert found is not None
        told = [one for one in found if one is not None]
        assert sum(n * one for n, one in zip(counts, told, strict=True)) / sum(counts) == pytest.approx(
            alpha(KRIPPENDORFF, level)
        )


@pytest.mark.parametrize(
    ("level", "published"), [(Level.NOMINAL, 0.743), (Level.ORDINAL, 0.815), (Level.INTERVAL, 0.849)]
)
def test_r30_alpha_of_the_papers_example_is_the_papers(level: Level, published: float) -> None:
    found = alpha(KRIPPENDORFF, level)
    assert found is not None
    assert round(found, 3) == published


@given(
    st.lists(st.lists(st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.0, 5.0, -3.5])), max_size=5), max_size=12),
    st.sampled_from(Level),
)
def test_r30_alpha_is_that_of_a_reckoning_over_all_pairs(units: list[list[float | None]], level: Level) -> None:
    found, expected = alpha(units, level), reference(units, level)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)


@needs_samples
def test_r30_alpha_of_the_annotators_of_breaking_nli_is_the_references_to_1e_6() -> None:
    found = [row["annotators"] for row in rows(DATA / "pairs_sample.jsonl") if "annotators" in row]
    kinds = sorted({vote for votes in found for vote in votes})
    units = [[float(kinds.index(vote)) for vote in votes] for votes in found]
    measured, expected = alpha(units), reference(units, Level.NOMINAL)
    assert measured is not None
    assert expected is not None
    assert abs(measured - expected) < 1e-6
    unanimous = sum(len(set(votes)) == 1 for votes in found) / len(found)
    print(f"Breaking-NLI: {len(found)} pairs, {unanimous:.1%} unanimous, alpha {measured:.4f}")


@pytest.mark.parametrize("units", [[], [[1.0]], [[1.0, 1.0], [1.0, 1.0]], [[None, 2.0], [3.0]]])
def test_r33_alpha_is_none_where_nothing_can_be_compared(units: Units) -> None:
    assert alpha(units) is None


def votes(
    *scores: float, kind: pb.FeedbackKind.ValueType = pb.FEEDBACK_KIND_BINARY, producer: str = "p"
) -> list[tuple[str, pb.Feedback]]:
    """One rater's score each, of the item `a`, with the producer."""
    made = []
    for number, score in enumerate(scores):
        one = pb.Feedback(kind=kind, rater=f"r{number}", judged=[pb.Judged(item_id="a", score=score)])
        if kind == pb.FEEDBACK_KIND_RATING:
            one.scale_min, one.scale_max = 1, 4
        made.append((producer, one))
    return made


def test_votes_are_at_odds_as_far_as_their_entropy_goes() -> None:
    assert disagreement("a", []) is None
    assert disagreement("b", votes(1, 0)) is None
    assert disagreement("a", votes(1, 1, 1)) == 0
    assert disagreement("a", votes(1, 0)) == pytest.approx(1)
    assert disagreement("a", votes(1, 1, 0)) == pytest.approx(0.9183, abs=1e-4)
    assert disagreement("a", votes(1, 4, kind=pb.FEEDBACK_KIND_RATING)) == pytest.approx(0.5)
    assert disagreement("a", [*votes(1, 1), *votes(1, 2, 3, 4, kind=pb.FEEDBACK_KIND_RATING)]) == pytest.approx(1)


def test_a_raters_newest_vote_counts() -> None:
    assert disagreement("a", [*votes(1, 0), *votes(1, 1)]) == 0


def test_two_producers_may_know_two_raters_by_one_name() -> None:
    assert disagreement("a", [*votes(1), *votes(0, producer="q")]) == pytest.approx(1)
