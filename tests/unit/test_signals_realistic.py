"""Each cell's window is of many records, and where these are crafted the signals say what was put into them."""

from collections import Counter
from itertools import pairwise
from math import exp, log
from statistics import fmean
from typing import Any, Final

import numpy as np
import pytest

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME, WORKS
from epistream.indexer.signals import CELLS, Figure, Window, image, video
from tests.support import cells, crafted
from tests.support.cells import EMOTIONS, SURVIVED, realistic
from tests.support.samples import needs_samples
from tests.support.source_shapes import OTHER_SHAPES
from tests.support.windows import figures, only

ITEMS_MIN: Final = 30
FEWER: Final = {
    "context": "of files, those that import a module of their own repository",
    "rater_agreement": "of raters",
    "gain_per_hour": "of hours",
    "physical_share": "of the seven videos that the sample data has",
}
"""Figures of fewer items than that, and of what they are."""
AT_AN_END: Final = {("unverified_share", "human"): "all programs of people in the sample data are verified"}


@needs_samples
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_no_figure_is_of_a_few_records_or_at_an_end_of_its_range(cell: Any) -> None:
    for signal in cell.signals:
        for figure in realistic(cell.name)[signal.name]:
            assert figure.value is not None
            assert (figure.items >= ITEMS_MIN) != (signal.name in FEWER), signal.name
            is_inside = signal.low < figure.value < signal.high
            assert is_inside != ((signal.name, figure.producer) in AT_AN_END), signal.name


def value(found: Figure) -> float:
    assert found.value is not None, found.missing
    return found.value


def of_cell(name: str, window: Window) -> dict[str, float]:
    """The values of a cell's signals that are of everybody's items, and have one."""
    found = {signal: told[0].value for signal, told in figures(window, name).items() if len(told) == 1}
    return {signal: told for signal, told in found.items() if told is not None}


def share_of_entropy(counts: dict[str, int]) -> float:
    total = sum(counts.values())
    return -sum(n / total * log(n / total) for n in counts.values())


@needs_samples
def test_who_else_says_what_a_text_says_is_told_and_no_number_is_supported_by_that() -> None:
    found = cells.crawled_text()
    newest = [one.item_id for one in found.changes[-250:]]
    others = [len(found.corroborations.get(item_id, ())) for item_id in newest]
    assert {0, 1, 2} == set(others)
    told = of_cell("I text", found)
    assert told["corroboration"] == pytest.approx(sum(others) / 250)
    assert told["uncorroborated_risk"] == pytest.approx(sum(1 / (1 + n) for n in others) / 250)
    alone = Window(found.changes, found.vectors, found.threshold)
    assert told["unsupported_numbers"] == of_cell("I text", alone)["unsupported_numbers"]


def test_crawled_files_are_as_they_were_made() -> None:
    files, kinds = list(crafted.repository_files()), crafted.FILES
    whole, parsing = len(files), len(files) - kinds["broken"]
    assert whole == crafted.REPOSITORIES + sum(kinds.values())
    told = of_cell("I code", cells.crawled_code())
    assert told["parse_share"] == parsing / whole
    assert told["filtered_share"] == (kinds["generated"] + kinds["data"]) / whole
    assert told["context"] == kinds["uses"] / (kinds["uses"] + kinds["loses"])
    assert told["self_contained"] == (parsing - kinds["undefined"]) / parsing


def test_the_runs_of_lines_that_repositories_share_are_those_of_the_licence() -> None:
    files = list(crafted.repository_files())
    licensed = [one["repo"] for one in files if "of a licence" in one["content"]]
    assert len(set(licensed)) == crafted.LICENSED
    of_licence = crafted.LICENCE_LINES - 4
    runs = sum(one["content"].count("\n") - 4 for one in files)
    distinct = runs - of_licence * (len(licensed) - crafted.LICENSED)  # in each repository once
    assert of_cell("I code", cells.crawled_code())["boilerplate"] == of_licence * crafted.LICENSED / distinct


def test_each_sum_of_a_crawled_file_is_two_operators_on_a_line() -> None:
    contents = [one["content"] for one in crafted.repository_files()]
    parsing = [content for content in contents if "print '" not in content]
    density = fmean((content.count("+=") + content.count(" * ")) / content.count("\n") for content in parsing)
    assert of_cell("I code", cells.crawled_code())["logic_density"] == pytest.approx(density)


def test_the_alternative_texts_below_the_bar_are_those_that_were_made_weak() -> None:
    rows, kinds = list(crafted.alternative_texts()), crafted.ALTERNATIVE_TEXTS
    told = of_cell("I image", cells.linked_images())
    assert told["weak_alignment"] == kinds["weak"] / (kinds["weak"] + kinds["fits"])
    assert told["generic_alt"] == crafted.GENERIC[True] / sum(crafted.GENERIC.values())
    cosines = [one["similarity"] for one in rows if "similarity" in one]
    assert len(cosines) == len(rows) - kinds["unmeasured"]
    assert told["alignment"] == pytest.approx(fmean(cosines))
    assert min(cosines) < 0
    assert told["clip_score"] == pytest.approx(2.5 * fmean(max(cosine, 0.0) for cosine in cosines))


def test_crawled_videos_move_and_are_covered_as_they_were_made() -> None:
    told = of_cell("I video", cells.crawled_videos())
    moving, still = (crafted.CLIPS[kind] + crafted.STOCK[kind] for kind in ("moving", "still"))
    assert told["motion"] == pytest.approx(moving / (moving + still))
    parts = sum(quarters * count for quarters, count in crafted.QUARTERS.items())
    cut = sum(count for quarters, count in crafted.QUARTERS.items() if quarters)
    assert told["segment_coverage"] == pytest.approx(parts / 4 / cut), "a clip's duration is its own"
    videos = sum(crafted.CLIPS.values()) + sum(crafted.STOCK.values()) + parts
    assert told["has_dynamics"] == crafted.FLOWING[True] / videos


def test_the_longer_answer_wins_as_often_as_it_was_made_to() -> None:
    ranked = [list(zip(one["rank"], map(len, one["outputs"]), strict=True)) for one in crafted.rankings()]
    compared = [[(better, worse) for better in one for worse in one if better[0] < worse[0]] for one in ranked]
    longer = [better > worse for one in compared for (_, better), (_, worse) in one]
    # Of the first twelve L8 says the same of the best and the worst, and L9 the opposite of every fourth.
    ends = [max(one)[1] < min(one)[1] for one in ranked[:12]]
    longer += [*ends, *(is_longer != (at % 4 == 0) for at, is_longer in enumerate(ends))]
    counts = crafted.RANKINGS
    assert sum(map(len, compared)) == 6 * sum(counts.values()) - counts["longest first, with a tie"]
    found = figures(cells.ranked_texts(), "II text")
    share = only(found["long_win_share"])
    assert value(share) == sum(longer) / len(longer)
    assert share.items == len(longer)
    slope = only(found["length_coefficient"])
    assert slope.low is not None
    assert slope.low > 0
    # L9 is outvoted in three of twelve, and of these nobody else can be asked: the other two disagree.
    agreed = only(found["rater_agreement"])
    assert value(agreed) == pytest.approx((4 + 9 / 12) / 5)
    assert agreed.items == 5


@needs_samples
def test_what_experts_hand_in_by_the_hour_and_what_waits_for_them() -> None:
    told = of_cell("II code", cells.expert_code())
    assert told["gain_per_hour"] == pytest.approx(80 * told["gain_per_record"] / (80 / 4))
    assert told["queue_age_p95"] == pytest.approx(20 * 0.95 * 39)  # 40 ages, 20 s apart, from 0 on


def test_relations_are_grounded_that_have_a_mask_or_a_box() -> None:
    masked = sum(relations * count for (relations, masked), count in crafted.EDITS.items() if masked)
    bare = sum(relations * count for (relations, masked), count in crafted.EDITS.items() if not masked)
    assert of_cell("II image", cells.expert_images())["grounded"] == (masked + 4) / (masked + bare + 10)


def test_labels_of_frames_are_as_dense_and_as_often_interpolated_as_they_were_made() -> None:
    told = of_cell("II video", cells.expert_videos())
    videos = list(crafted.labels())
    said = {kind: count for kind, count in crafted.LABELLED.items() if kind[1] is not None}
    guessed = sum((keys - 1) * (between or 0) * count for (keys, between), count in said.items())
    by_hand = sum(keys * count for (keys, _), count in said.items())
    assert told["interpolated_share"] == guessed / (guessed + by_hand)
    assert told["label_density"] == pytest.approx(fmean(len(one["annotations"]) / one["frames"] for one in videos))
    frames = [[label["frame"] for label in one["annotations"]] for one in videos]
    gaps = sorted(
        (after - before) / one["fps"]
        for one, of_video in zip(videos, frames, strict=True)
        for before, after in pairwise(of_video)
    )
    assert len(gaps) == 300  # so the 95th percentile is 0.05 of the way from the 285th to the 286th
    assert told["label_gap_p95"] == pytest.approx(gaps[284] + 0.05 * (gaps[285] - gaps[284]))


@needs_samples
def test_emotions_are_spread_as_they_were_given_out() -> None:
    people, loop = ({name: n for name, n in EMOTIONS[who].items() if name} for who in ("web", "loop"))
    found = only(realistic("III text")["emotions"])
    assert found.value == pytest.approx(share_of_entropy(loop) / share_of_entropy(people))
    assert found.items == sum(loop.values())


@needs_samples
def test_captions_of_captions_are_of_the_second_generation() -> None:
    found = only(realistic("III image")["generation"])
    assert found.items == 700
    assert found.value == pytest.approx((630 + 70 * 2) / 700)


@needs_samples
def test_synthetic_videos_are_frozen_and_contradict_themselves_as_they_were_made() -> None:
    kinds, told = crafted.SEGMENTED, of_cell("III video", cells.synthetic_videos())
    videos = [one for one in crafted.captioned_videos() if not one["video_id"].startswith("whole")]
    assert len(videos) == sum(kinds.values())
    neighbours = [(one["video_id"].partition("-")[0], len(one["captions"]) - 1) for one in videos]
    assert told["frozen_share"] == kinds["frozen"] / len(videos)
    contradicting = sum(count for kind, count in neighbours if kind == "miscounted")
    assert told["contradictions"] == contradicting / sum(count for _, count in neighbours)
    # Every second step of a thing that drifts leaves it alone of the thing and the two places.
    kept = [fmean([1 / 3 if kind == "drifting" and n % 2 else 1 for n in range(count)]) for kind, count in neighbours]
    assert told["entity_persistence"] == pytest.approx(fmean(kept))


@needs_samples
def test_a_frozen_video_is_coherent_and_one_that_drifts_is_not() -> None:
    found = cells.synthetic_videos()
    coherent: dict[str, list[float]] = {}
    for whole, segments in video._by_video(found).items():
        kind = found.changes[whole].item_id.partition(":")[2].partition("-")[0]
        coherent.setdefault(kind, []).append(video._coherence(found, segments))
    assert min(coherent["frozen"]) == pytest.approx(1)
    assert fmean(coherent["drifting"]) < fmean(coherent["moving"]) < 0.98
    assert of_cell("III video", found)["drift"] < 0


@needs_samples
def test_conflicts_are_as_old_as_they_were_made() -> None:
    found = only(realistic("IV text")["conflict_age_p95"])
    assert value(found) == pytest.approx(1 + 0.95 * (found.items - 1))  # opened a second apart, the last a second ago


def test_programs_span_their_turns_and_their_modules() -> None:
    told = of_cell("IV code", cells.mended_programs())
    mended = sum(count for turns, count in crafted.TURNS.items() if turns > 1)
    spans = [2] * mended + [1] * crafted.TURNS[1] + [1] * crafted.CONTESTS + [1 + n for n in crafted.MODULES]
    assert told["span"] == pytest.approx(fmean(spans))
    beyond = 2 * crafted.CONTESTS + len(crafted.MODULES)
    assert told["beyond_unit_tests"] == beyond / (beyond + sum(crafted.TURNS.values()))
    assert told["regression_survival"] == pytest.approx(
        sum(survived * count for survived, count in SURVIVED.items()) / sum(SURVIVED.values())
    )


def diversity_of(axes: list[int]) -> float:
    """VS_1 of unit vectors on axes: exp of the entropy of how often each is there."""
    counts = Counter(axes).values()
    return exp(-sum(n / len(axes) * log(n / len(axes)) for n in counts))


def expected(found: Window) -> float:
    """The ratio of `win_diversity`, of images on axes."""
    axis = {one.item_id: int(np.argmax(row)) for one, row in zip(found.changes, found.vectors, strict=True)}
    best: list[int] = []
    shown: list[int] = []
    for one in found.said:
        order = sorted(one.feedback.judged, key=lambda judged: (judged.place, judged.item_id))
        if axis[order[0].item_id] != axis[order[-1].item_id]:
            shown.append(axis[order[-(len(best) % 2)].item_id])
            best.append(axis[order[0].item_id])
    return diversity_of(best) / diversity_of(shown)


@needs_samples
def test_images_that_win_are_less_diverse_where_they_were_drawn_from_few_directions() -> None:
    narrow = cells.liked(best=range(16), others=range(16, 128))
    assert value(image.win_diversity(narrow)) == pytest.approx(expected(narrow))
    assert value(image.win_diversity(narrow)) < 0.4
    assert value(only(realistic("IV image")["win_diversity"])) < 0.5  # the same, and each vector a little beside


@needs_samples
def test_images_that_win_are_as_diverse_where_they_were_drawn_as_those_that_lose_and_more_where_these_are_alike() -> (
    None
):
    alike = cells.liked(best=range(128), others=range(128))
    assert value(image.win_diversity(alike)) == pytest.approx(expected(alike))
    assert value(image.win_diversity(alike)) == pytest.approx(1, abs=0.1)
    wide = cells.liked(best=range(16, 128), others=range(16))
    assert value(image.win_diversity(wide)) == pytest.approx(expected(wide))
    assert value(image.win_diversity(wide)) > 1.1


@needs_samples
def test_images_of_one_prompt_have_one_vector_until_a_producer_sends_their_own() -> None:
    sent = [one for work in WORKS for one in submissions(work, EXAMPLES[work.name])]
    sent += [one for shape in OTHER_SHAPES for one in submissions(BY_NAME[shape.work], shape.record)]
    assert not any(one.HasField("embedding") for one in sent)
    imported = cells.encoded(cells.liked(best=range(1), others=range(1)))
    assert {one.knowledge.prompt for one in imported.changes} == {""}  # so the caption alone is encoded
    found = image.win_diversity(imported)
    assert found.value is None
    assert "vectors of their own" in found.missing


def test_the_labels_that_videos_lack_are_those_that_they_were_not_given() -> None:
    found = only(figures(cells.prompted_videos(), "IV video")["completeness"])
    assert found.value == pytest.approx(sum(crafted.FIELDS.values()) / len(crafted.FIELDS) / crafted.VIDEOS)
    named = {"robot": "agent", "object_pose": "object state", "gripper_closed": "contact", "torque": "force"}
    named |= {"camera": "camera", "action": "action", "reward": "outcome"}
    lacking = {named[name]: 1 - count / crafted.VIDEOS for name, count in crafted.FIELDS.items()}
    assert dict(found.parts) == pytest.approx(lacking)
