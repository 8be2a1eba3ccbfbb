"""What producers and raters send in `details` is as odd as they like: no signal raises or leaves its range for it."""

import math
from itertools import product
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epistream.indexer.signals import Said, Window, measure, verified, video
from epistream.v1 import knowledge_pb2 as pb
from tests.support.fuzzing import examples
from tests.support.windows import change, executed, part, said, window, yes_or_no

ODD: Final = (math.nan, math.inf, -math.inf, -1e308, -1.0, -1e-308, -0.0, 0.0, 5e-324, 0.5, 1.0, 3.0, 30.0, 1e308)
NUMBERS: Final = st.sampled_from(ODD) | st.floats()
VALUES: Final = NUMBERS | st.sampled_from([None, True, "30", [], [1.0], {}, {"frame": 1.0}])
LABELS: Final = st.lists(
    st.dictionaries(st.sampled_from(["frame", "keyframe", "interpolated"]), VALUES, max_size=3) | VALUES, max_size=4
)
FIELDS: Final = (
    *("duration", "duration_s", "duration_seconds", "frames", "num_frames", "frame_count", "steps", "fps"),
    *("similarity", "clip_similarity", "detections", "objects", "action", "camera", "mask", "box"),
)
DETAILS: Final = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, VALUES) | {"annotations": LABELS | VALUES})
SPANS: Final = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=2)
TEXTS: Final = ("A red ball rolls left of 3 cups.", "def f(x):\n    return x", "…")
RAN: Final = st.sampled_from(["verified", "fail", "vacuous", ""])
RATERS: Final = st.sampled_from([pb.RATER_TYPE_EXECUTOR, pb.RATER_TYPE_HUMAN, pb.RATER_TYPE_AI])
SCALES: Final = st.sampled_from([(0.0, 1.0), (1.0, 5.0), (-1.0, 1.0), (0.0, 100.0), (-1e307, 1e307), (0.0, 5e-324)])
KINDS: Final = tuple(product(pb.Origin.values()[1:], pb.Modality.values()[1:]))


def odd_change(at: int, kind: tuple[Any, Any], draw: st.DrawFn) -> pb.Change:
    origin, modality = kind
    spans = [part(f"{at}.mp4", float(start), float(end)) for start, end in draw(SPANS)]
    return change(
        f"i{at}",
        draw(st.sampled_from(TEXTS)),
        origin,
        modality,
        producer=draw(st.sampled_from(["p", "q"])),
        parents=[f"i{draw(st.integers(0, max(0, at - 1)))}"],
        details=draw(DETAILS),
        media=draw(st.sampled_from([[part(f"{at}.mp4")], [part(f"{at}.mp4", end=0)], [part(f"{at}.mp4", end=9)], []]))
        + spans,
        attributes={"similarity_model": "ViT-B/32"},
    )


def odd_said(item_id: str, draw: st.DrawFn) -> list[Said]:
    low, high = draw(SCALES)
    score = draw(st.sampled_from([high, low, low / 2 + high / 2]))
    aspect = draw(st.sampled_from(["regression", "physics", ""]))
    judged = pb.Judged(item_id=item_id, score=score)
    rated = said(pb.FEEDBACK_KIND_RATING, judged, rater_type=draw(RATERS), aspect=aspect, scale_min=low, scale_max=high)
    figures = {name: draw(NUMBERS) for name in ("mutants", "killed")}
    return [rated, executed(item_id, draw(RAN), 0, **figures), yes_or_no(item_id, draw(st.booleans()), aspect=aspect)]


@st.composite
def odd_windows(draw: st.DrawFn) -> Window:
    """Items of some cells with odd details, and odd feedback on each."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    changes = [odd_change(at, kind, draw) for at, kind in enumerate(kinds)]
    vectors = [draw(st.sampled_from([(0, 0), (1, 0), (0, 1), (1, 1)])) for _ in changes]
    return window(*changes, vectors=vectors, said=[one for known in changes for one in odd_said(known.item_id, draw)])


@given(odd_windows())
@examples(300)
def test_odd_details_leave_every_figure_within_its_range_and_nothing_raises(found: Window) -> None:
    for _, signal, figure in measure(found):
        assert (figure.value is None) == bool(figure.missing), signal.name
        for value in (figure.value, figure.low, figure.high):
            assert value is None or math.isfinite(value), signal.name
        if figure.value is not None:
            assert signal.low - 1e-9 <= figure.value <= signal.high + 1e-9, (signal.name, figure.value)


def crawled(name: str, **details: float) -> pb.Change:
    """A crawled video with a segment of the first second."""
    return change(
        name, "x", pb.ORIGIN_CRAWLED, pb.MODALITY_VIDEO, media=[part(f"{name}.mp4", 0, 1)], details=dict(details)
    )


@pytest.mark.parametrize("duration", [-1e-308, -1.0, 0.0, math.nan, math.inf, -math.inf])
def test_a_video_that_lasts_no_time_has_no_coverage(duration: float) -> None:
    odd = [crawled(f"odd-{n}", duration=duration) for n in range(3)]
    assert video.segment_coverage(window(*odd)).value is None
    found = video.segment_coverage(window(*odd, crawled("even", duration=4)))
    assert (found.value, found.items) == (0.25, 1)
    told = crawled("told", duration=duration, duration_s=2)
    assert video.segment_coverage(window(told)).value == 0.5, "the next field counts"


@pytest.mark.parametrize("frames", [-1.0, 0.0, math.nan, math.inf])
def test_a_video_of_no_frames_has_no_density(frames: float) -> None:
    labels = {"annotations": [{"frame": 3}]}
    odd = change("v", "x", pb.ORIGIN_EXPERT, pb.MODALITY_VIDEO, details={"frames": frames, **labels})
    assert video.label_density(window(odd)).value is None
    assert video.label_gap_p95(window(odd)).value is None


def test_labels_at_no_time_have_no_gap() -> None:
    labels = [{"frame": frame} for frame in (0, 30, math.nan, math.inf, -30, 1e308)]
    details = {"fps": 0.5, "annotations": labels}
    found = video.label_gap_p95(window(change("v", "x", pb.ORIGIN_EXPERT, pb.MODALITY_VIDEO, details=details)))
    assert (found.value, found.items) == (60.0, 1)


@pytest.mark.parametrize(("low", "high", "score", "share"), [(1, 5, 4, 0.75), (0, 100, 50, 0.5), (-1, 1, -1, 0.0)])
def test_the_survival_of_dependants_is_a_share_of_the_executors_scale(
    low: float, high: float, score: float, share: float
) -> None:
    base = change("base", "x", pb.ORIGIN_COLLABORATIVE, pb.MODALITY_CODE)
    told = said(
        pb.FEEDBACK_KIND_RATING,
        pb.Judged(item_id="base", score=score),
        rater_type=pb.RATER_TYPE_EXECUTOR,
        aspect="regression",
        scale_min=low,
        scale_max=high,
    )
    assert verified.regression_survival(window(base, said=[told])).value == share
