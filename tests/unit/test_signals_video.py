"""R34 and the cells of video: motion, labels, coherence that a frozen clip has too, and what interactions lack."""

from typing import Any

import numpy as np
import pytest

from epistream.indexer.signals import Said, Window, video
from epistream.indexer.signals.words import verbs
from epistream.v1 import knowledge_pb2 as pb
from tests.support.samples import DATA, encoder, needs_samples, rows
from tests.support.windows import change, part, said, window, window_of, yes_or_no

FROZEN = "A cup stands on a wooden table by the window."
MOVING = (
    "A cup slides across a wooden table.",
    "The cup tips over the edge of the table and falls.",
    "The cup drops to the floor and shatters, and tea splashes.",
)


def of_video(item_id: str, content: str, origin: pb.Origin.ValueType = pb.ORIGIN_CRAWLED, **fields: Any) -> pb.Change:
    return change(item_id, content, origin, pb.MODALITY_VIDEO, **fields)


def segmented(name: str, captions: tuple[str, ...]) -> list[pb.Change]:
    """A synthetic video and an item for each of its segments."""
    uri = f"{name}.mp4"
    whole = of_video(name, " ".join(captions), pb.ORIGIN_SYNTHETIC, media=[part(uri)])
    return [
        whole,
        *(
            of_video(f"{name}/{n}", text, pb.ORIGIN_SYNTHETIC, parents=[name], media=[part(uri, 2.0 * n, 2.0 * n + 2)])
            for n, text in enumerate(captions)
        ),
    ]


@pytest.mark.parametrize(
    ("caption", "counted"),
    [
        ("A heron wades through reeds.", (1, 1)),
        ("Boats are moored in a bay.", (0, 1)),
        ("The child is kicking a ball while her brother watches.", (1, 2)),
        ("The waves are visible.", (0, 1)),  # no verb behind an article
        ("He ran, slid and threw the ball.", (3, 3)),
        ("She has cooked rice.", (0, 1)),
        ("Old town at dusk", (0, 0)),
    ],
)
def test_verbs_of_motion_among_verbs(caption: str, counted: tuple[int, int]) -> None:
    assert verbs(caption) == counted


def test_motion_is_a_mean_over_captions_with_a_verb() -> None:
    texts = ("A heron wades through reeds.", "Boats are moored in a bay.", "Old town at dusk")
    found = video.motion(window(*(of_video(f"v{n}", text) for n, text in enumerate(texts))))
    assert (found.value, found.items) == (0.5, 2)


def test_segments_cover_what_they_cover_once() -> None:
    two = of_video("a", "x", media=[part("a.mp4", 0, 4), part("a.mp4", 2, 6)], details={"duration": 12})
    whole = of_video("b", "y", media=[part("b.mp4", end=10)])
    piece = of_video("b/1", "z", pb.ORIGIN_SYNTHETIC, parents=["b"], media=[part("b.mp4", 1, 6)])
    unknown = of_video("c", "w", media=[part("c.mp4", 1, 6)])
    found = video.segment_coverage(window(two, whole, piece, unknown))
    assert (found.value, found.items) == (0.5, 2)
    assert video.segment_coverage(window(unknown)).value is None


@pytest.mark.parametrize(("duration", "covered"), [(10, None), (92.5, None), (93.5, 10 / 93.5), (100, 0.1)])
def test_a_duration_that_a_segment_does_not_fit_into_is_not_the_videos(duration: float, covered: float | None) -> None:
    clip = of_video("a", "x", media=[part("a.mp4", 84, 94)], details={"duration": duration})
    assert video.segment_coverage(window(clip)).value == covered


def test_r33_a_video_without_segments_has_no_value_and_says_why() -> None:
    found = window(of_video("a", "A kite.", pb.ORIGIN_SYNTHETIC, media=[part("a.mp4")]), vectors=[1, 0])
    for signal in (video.coherence, video.drift, video.entity_persistence, video.contradictions, video.frozen_share):
        assert signal(found).value is None
        assert signal(found).missing


def test_dynamics_are_fields_of_actions_flow_or_forces() -> None:
    moves = of_video("a", "x", details={"fields": {"observations/effort": 1, "gripper_action": [1]}})
    lies = of_video("b", "x", details={"width": 640, "action": None})
    found = video.has_dynamics(window(moves, lies))
    assert (found.value, found.items) == (0.5, 2)


def test_labels_have_a_density_a_gap_and_a_share_that_was_interpolated() -> None:
    labels = [{"frame": 0, "interpolated": False}, {"frame": 30, "interpolated": True}, {"frame": 90}]
    details = {"frames": 300, "fps": 30, "annotations": labels}
    found = window(of_video("a", "x", pb.ORIGIN_EXPERT, details=details))
    assert video.label_density(found).value == pytest.approx(3 / 300)
    assert video.label_gap_p95(found).value == pytest.approx(1 + 0.95 * 1)
    assert (video.interpolated_share(found).value, video.interpolated_share(found).items) == (0.5, 2)
    parts = of_video("a", "x", pb.ORIGIN_EXPERT, media=[part("a.mp4", 0, 2)], details={"duration": 8})
    assert video.label_density(window(parts)).value == 0.25, "a segment labels its frames"
    bare = window(of_video("a", "x", pb.ORIGIN_EXPERT, details={"steps": 300}))
    for signal in (video.label_density, video.label_gap_p95, video.interpolated_share):
        assert signal(bare).value is None


def encoded(changes: list[pb.Change], **fields: Any) -> Window:
    return window(*changes, vectors=encoder().encode([one.knowledge.content for one in changes]), **fields)


def test_r34_a_frozen_video_is_coherent_and_flagged_by_its_lack_of_motion() -> None:
    frozen = encoded(segmented("f", (FROZEN,) * 4))
    assert video.coherence(frozen).value == pytest.approx(1.0)
    assert video.frozen_share(frozen).value == 1.0
    moving = encoded(segmented("m", MOVING))
    coherence = video.coherence(moving).value
    assert coherence is not None
    assert coherence < 0.98
    assert video.frozen_share(moving).value == 0.0
    both = encoded([*segmented("f", (FROZEN,) * 4), *segmented("m", MOVING)])
    assert (video.frozen_share(both).value, video.frozen_share(both).items) == (0.5, 2)
    assert video.frozen_share(both).parts == (("f", 0.5),)


def test_r34_frozen_share_names_the_newest_ten_videos_that_are_meant() -> None:
    frozen = [one for n in range(12) for one in segmented(f"f{n}", (FROZEN,) * 2)]
    found = video.frozen_share(window(*frozen, vectors=[[1, 0]] * len(frozen)))
    assert found.parts == tuple((f"f{n}", 1 / 12) for n in range(11, 1, -1))


def test_drift_is_what_neighbours_do_not_show() -> None:
    turning = [[np.cos(0.2 * n), np.sin(0.2 * n)] for n in range(8)]
    changes = segmented("d", tuple(f"Step {n}." for n in range(8)))
    drifting = window(*changes, vectors=[[1, 0], *turning])
    near, slope = video.coherence(drifting).value, video.drift(drifting).value
    assert near == pytest.approx(np.cos(0.2))
    assert slope is not None
    assert slope < -0.1
    still = window(*changes, vectors=[[1, 0]] * 9)
    assert video.drift(still).value == pytest.approx(0, abs=1e-9)


def test_entities_persist_and_captions_contradict_each_other() -> None:
    found = encoded(
        segmented("e", ("A red kite above a beach.", "A red kite above a pier.", "Two red kites above a pier."))
    )
    persistence = video.entity_persistence(found).value
    assert persistence == pytest.approx((1 / 3 + 1.0) / 2)
    contradictions = video.contradictions(found)
    assert (contradictions.value, contradictions.items) == (0.5, 2)
    other = encoded(segmented("o", ("One oar lies in a boat.", "Two gulls cross the sky.")))
    assert video.contradictions(other).value == 0.0


def test_people_judge_the_physics_of_generated_videos_only() -> None:
    made = of_video("a", "An apple falls.", pb.ORIGIN_COLLABORATIVE, generator="text-to-video")
    filmed = of_video("b", "An apple falls.")
    told = [
        yes_or_no("a", True, "r1", "physics"),
        yes_or_no("a", False, "r2", "physics"),
        yes_or_no("a", True, "r1", "alignment"),
        yes_or_no("b", True, "r1", "physics"),
        yes_or_no("a", True, "judge", "physics", rater_type=pb.RATER_TYPE_AI),
    ]
    found = video.physical_share(window(made, filmed, said=told))
    assert (found.value, found.items) == (0.5, 2)


def rated(score: float, low: float = 1, high: float = 5) -> Said:
    judged = pb.Judged(item_id="a", score=score)
    return said(pb.FEEDBACK_KIND_RATING, judged, aspect="physics", scale_min=low, scale_max=high)


def test_ratings_of_physics_count_from_three_quarters_of_their_scale_on_as_in_videophy_2() -> None:
    made = of_video("a", "An apple falls.", pb.ORIGIN_COLLABORATIVE, generator="text-to-video")
    found = video.physical_share(window(made, said=[rated(score) for score in (1, 2, 3, 4, 5)]))
    assert (found.value, found.items, found.parts) == (0.4, 5, (("ratings", 1.0),))
    others = [rated(0.75, 0, 1), rated(0.7, 0, 1), yes_or_no("a", True, "r2", "physics")]
    both = video.physical_share(window(made, said=others))
    assert both.value == pytest.approx(2 / 3)
    assert dict(both.parts) == {"ratings": pytest.approx(2 / 3), "yes or no": pytest.approx(1 / 3)}
    record = {"videopath": "a.mp4", "caption": "An apple falls.", "score": "4.0"}
    assert video.physical_share(window_of("sora-physics", record)).value == 1.0


def test_completeness_names_the_labels_that_are_missing() -> None:
    details = {
        "robot": "arm-1",
        "observation": {"object_pose": [1], "gripper_closed": 0.3},
        "camera_high": "x",
        "actions": [1],
        "reward": 1,
    }
    labelled = of_video("a", "x", pb.ORIGIN_COLLABORATIVE, details=details)
    bare = of_video("b", "x", pb.ORIGIN_COLLABORATIVE, details={"concept": "physics"})
    found = video.completeness(window(labelled, bare))
    assert found.value == pytest.approx((6 / 7 + 0) / 2)
    assert dict(found.parts)["force"] == 1.0
    assert dict(found.parts)["camera"] == 0.5


@needs_samples
def test_answers_of_videophy() -> None:
    found = rows(DATA / "video_physics_feedback_sample.jsonl")
    records = [
        {
            "videopath": row["media_uri"],
            "caption": row["text"],
            "sa": row["feedback"]["semantic_adherence"],
            "pc": row["feedback"]["physical_commonsense"],
        }
        for row in found
    ]
    told = video.physical_share(window_of("sora-physics", *records))
    assert told.value == pytest.approx(sum(record["pc"] for record in records) / len(records))
    assert told.items == 7
