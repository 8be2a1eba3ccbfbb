"""The cells of video: motion that captions leave out, what labels cost, physics that generators miss, what is lacking.

A video's segments are the items that were derived from it, or the parts of it among its media, in the order of their
beginnings.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np
from google.protobuf import struct_pb2

from epistream.indexer.claim import claim_of, compare
from epistream.indexer.signals.figure import Figure, largest, mean, newest, p95, share
from epistream.indexer.signals.window import READ_MAX, Said, Window, field_names, number, positive
from epistream.indexer.signals.words import objects, singular, verbs
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.canonical import media_of

PHYSICS: Final = "physics"
"""The aspect under which people say whether a video is as physics has it."""
PHYSICAL_FROM: Final = 0.75
"""A rating says so from this share of its scale on: 4 of 1 to 5, as VideoPhy-2 counts."""
FROZEN_COHERENCE: Final = 0.98
FROZEN_MOTION: Final = 0.1
"""A video is frozen whose segments' captions are as near to each other as this, and have so few verbs of motion."""
DIMENSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "agent": ("agent", "robot", "person", "actor", "hand", "embodiment"),
    "object state": ("object", "state", "pose"),
    "contact": ("contact", "gripper", "grasp", "touch"),
    "force": ("force", "torque", "effort"),
    "camera": ("camera", "cam", "viewpoint"),
    "action": ("action",),
    "outcome": ("outcome", "reward", "success", "result", "terminal"),
}
"""What an interaction has to be labelled with, and words in names of fields that say so: RT-1's fields as pattern."""

_DYNAMICS: Final = frozenset(("action", "flow", "trajectory", "force", "velocity", "qvel", "torque"))
_NAME_PARTS: Final = re.compile(r"[^a-z]+")
_DURATION: Final = ("duration", "duration_s", "duration_seconds")
_ROUNDED: Final = 1.0
"""Lengths of videos are told in whole seconds by many, s."""
_FRAMES: Final = ("frames", "num_frames", "frame_count", "steps")
_LABELS: Final = "annotations"
_CONTRADICTING: Final = ("number", "unit", "negation", "quantifier")
_NO_CRAWLED: Final = "no crawled video in the window"
_NO_SEGMENTS: Final = "no synthetic video has captions of at least two segments"
_NO_LABELS: Final = "no expert's video brings labels and a number of frames, or segments and a length"


def motion(window: Window) -> Figure:
    """How much of what crawled captions say is motion, on average.

        #verbs of motion / #verbs   of each caption with a verb; Levin's classes of motion, without a tagger

    Range 0 to 1. Unit: share. Source: Levin 1993; `words.verbs`.
    """
    counts = [verbs(window.content(place)) for place in window.cell(pb.ORIGIN_CRAWLED, pb.MODALITY_VIDEO)]
    return mean([moving / all_verbs for moving, all_verbs in counts if all_verbs], "no crawled caption has a verb")


def segment_coverage(window: Window) -> Figure:
    """How much of crawled videos their segments cover, on average.

        Σ segment s / duration s,   at most 1; the duration is `details.duration`, or the end of the whole video

    A duration that ends more than a second before a segment does is the clip's and not the video's, as where a clip of
    10 s is cut out at 84 s: of such a video it is not known. Range 0 to 1. Unit: share. Source: own.
    """
    cell = window.cell(pb.ORIGIN_CRAWLED, pb.MODALITY_VIDEO)
    found = [covered for place in cell if (covered := _coverage(window, place)) is not None]
    return mean(found, "no crawled video has both segments and a duration")


def has_dynamics(window: Window) -> Figure:
    """The share of crawled videos that bring dynamics.

        |videos with any field of actions, flow, trajectories, velocities, forces or torques| / |videos|

    A word in the name of a field of `details` says so. A video without any field brings none: that is what the signal
    shows. Range 0 to 1. Unit: share. Source: own.
    """
    cell = window.cell(pb.ORIGIN_CRAWLED, pb.MODALITY_VIDEO)
    hits = sum(not _DYNAMICS.isdisjoint(_named(window.changes[place].knowledge)) for place in cell)
    return share(hits, len(cell), _NO_CRAWLED)


def label_density(window: Window) -> Figure:
    """How many of the frames of experts' videos have a label of their own, on average.

        |frames with a label| / frames   of `details.annotations`, a list with `frame` each, and `details.frames`
        Σ segment s / duration s         without these, of videos with segments and a duration

    Range 0 to 1. Unit: share. Source: own.
    """
    found = []
    for place in window.cell(pb.ORIGIN_EXPERT, pb.MODALITY_VIDEO):
        details = window.changes[place].knowledge.details
        frames, labels = positive(details, *_FRAMES), _labels(details)
        if frames and labels:
            found.append(min(1.0, len({label for label, _ in labels}) / frames))
        elif (share_covered := _coverage(window, place)) is not None:
            found.append(share_covered)
    return mean(found, _NO_LABELS)


def label_gap_p95(window: Window) -> Figure:
    """How long experts' videos go from one label to the next, in 95 % of the gaps at most.

        95th percentile of t_i+1 - t_i,   t: frame / fps of each label, or the beginning of each segment

    Labels at `details.fps`; segments where there are any. Range 0 to ∞. Unit: s. Source: own.
    """
    gaps: list[float] = []
    for place in window.cell(pb.ORIGIN_EXPERT, pb.MODALITY_VIDEO):
        details = window.changes[place].knowledge.details
        fps = positive(details, "fps")
        times = [start for start, _ in _spans(window, place)]
        if fps:
            times = times or [time for frame, _ in _labels(details) if math.isfinite(time := frame / fps)]
        times = sorted(set(times))
        gaps.extend(later - earlier for earlier, later in pairwise(times))
    return p95(gaps, _NO_LABELS)


def interpolated_share(window: Window) -> Figure:
    """The share of the labels of experts' videos that were interpolated between others, as their source says.

        |labels with `interpolated` true| / |labels that have `interpolated`|

    Of `details.annotations` with `interpolated`. Range 0 to 1. Unit: share. Source: own.
    """
    told = [
        interpolated
        for place in window.cell(pb.ORIGIN_EXPERT, pb.MODALITY_VIDEO)
        for _, interpolated in _labels(window.changes[place].knowledge.details)
        if interpolated is not None
    ]
    return share(sum(told), len(told), "no label says whether it was interpolated")


def coherence(window: Window) -> Figure:
    """How near the captions of neighbouring segments of synthetic videos are, on average.

        mean_i cos(c_i, c_i+1)   of each video

    It misses slow drift, and of a frozen clip it is 1: look at `drift` and `frozen_share`, too.
    Range -1 to 1. Unit: cosine. Source: own; VBench compares neighbours (Huang et al. 2023, arXiv 2311.17982).
    """
    return mean([_coherence(window, video) for video in _videos(window)], _NO_SEGMENTS)


def drift(window: Window) -> Figure:
    """How the captions of synthetic videos become unlike with distance, on average. Below 0: they drift away.

        Σ_dt (dt - mean dt) (a_dt - mean a) / Σ_dt (dt - mean dt)²,   a_dt = mean_i cos(c_i, c_i+dt)

    Of videos with at least three segments, by least squares. Range -2 to 2. Unit: cosine a segment. Source: own.
    """
    found = []
    for video in _videos(window):
        rows = window.vectors[video].astype(np.float64)
        apart = range(1, len(video))
        near = [float((rows[:-dt] * rows[dt:]).sum(axis=1).mean()) for dt in apart]
        if len(video) > 2:
            found.append(float(np.polyfit(list(apart), near, 1)[0]))
    return mean(found, "no synthetic video has captions of at least three segments")


def entity_persistence(window: Window) -> Figure:
    """How much of what a segment speaks of the next one speaks of, too, on average over synthetic videos.

        mean_i |O_i & O_i+1| / |O_i U O_i+1|,   O: heads of noun phrases

    Range 0 to 1. Unit: Jaccard. Source: own; `words.objects`.
    """
    found = []
    for video in _videos(window):
        spoken = [objects(window.content(place)) for place in video]
        pairs = [len(a & b) / len(a | b) for a, b in pairwise(spoken) if a | b]
        found.extend([math.fsum(pairs) / len(pairs)] if pairs else [])
    return mean(found, _NO_SEGMENTS)


def contradictions(window: Window) -> Figure:
    """How often a segment of a synthetic video contradicts the next: for each segment but the last.

        |neighbours that contradict each other| / |neighbours|

    Two captions contradict each other that speak of the same things and differ in a number, a unit, a quantifier or a
    negation, by the difference guard. Range 0 to 1. Unit: share. Source: own; `claim.compare`.
    """
    hits = pairs = 0
    for video in _videos(window)[-READ_MAX:]:
        claims = [claim_of(pb.MODALITY_TEXT, window.content(place)) for place in video]
        spoken = [objects(window.content(place)) for place in video]
        for at in range(len(video) - 1):
            told = compare(claims[at], claims[at + 1]).differences
            kinds = {difference.partition(":")[0] for difference in told}
            hits += not kinds.isdisjoint(_CONTRADICTING) and not spoken[at].isdisjoint(spoken[at + 1])
            pairs += 1
    return share(hits, pairs, _NO_SEGMENTS)


def frozen_share(window: Window) -> Figure:
    """The share of synthetic videos that are coherent because nothing happens.

        |videos with coherence >= 0.98 and #verbs of motion < 0.1 #verbs over all captions, or no verb| / |videos|

    `parts` has the newest such videos. Range 0 to 1. Unit: share. Source: own.
    """
    videos = _by_video(window)
    hits = [
        window.changes[whole].item_id
        for whole, segments in videos.items()
        if _coherence(window, segments) >= FROZEN_COHERENCE and _motion(window, segments) < FROZEN_MOTION
    ]
    return replace(share(len(hits), len(videos), _NO_SEGMENTS), parts=newest(hits, len(videos)))


def physical_share(window: Window) -> Figure:
    """The share of people's answers that a video which a model made is as physics has it.

        |answers of yes, and ratings with (score - min) / (max - min) >= 3/4| / |answers and ratings|

    Feedback with the aspect `physics`, of videos with a generator: yes or no as in VideoPhy, or a rating as in
    VideoPhy-2, which takes 4 and 5 of its scale of 1 to 5 for adherence. `parts` has both kinds.
    Range 0 to 1. Unit: share. Source: Bansal et al. 2024 (arXiv 2406.03520), 2025 (arXiv 2503.06800).
    """
    kinds: Counter[str] = Counter()
    hits = 0
    for said in window.said:
        if (answer := _physical(window, said)) is not None:
            kinds["yes or no" if said.feedback.kind == pb.FEEDBACK_KIND_BINARY else "ratings"] += 1
            hits += answer
    found = share(hits, kinds.total(), "nobody judged the physics of a generated video")
    return replace(found, parts=largest(kinds, kinds.total())) if kinds else found


def completeness(window: Window) -> Figure:
    """How many of the labels of an interaction collaborative videos have, on average.

        present / required,   of agent, object state, contact, force, camera, action, outcome

    A label is present when a field of `details` is named so: a video without any field lacks all. `parts` has what is
    missing, each with the share of videos that lack it. Range 0 to 1. Unit: share.
    Source: own; Brohan et al. 2022 (arXiv 2212.06817) as the pattern.
    """
    cell = window.cell(pb.ORIGIN_COLLABORATIVE, pb.MODALITY_VIDEO)
    lacks = [_lacking(window.changes[place].knowledge) for place in cell]
    whole = mean([1 - len(each) / len(DIMENSIONS) for each in lacks], "no collaborative video in the window")
    if whole.value is None:
        return whole
    absent = Counter(name for each in lacks for name in each)
    return Figure(value=whole.value, items=whole.items, parts=largest(absent, len(cell)))


def _videos(window: Window) -> list[list[int]]:
    """Of each synthetic video the places of its segments' captions, those with vectors, at least two."""
    return list(_by_video(window).values())


def _by_video(window: Window) -> dict[int, list[int]]:
    """The same by the place of the video, oldest first."""
    return window.remembered("videos", lambda: dict(_segmented(window)))


def _segmented(window: Window) -> Iterator[tuple[int, list[int]]]:
    segments: dict[int, list[int]] = {}
    for place in window.cell(pb.ORIGIN_SYNTHETIC, pb.MODALITY_VIDEO):
        for whole in window.parents(place):
            if window.has_vector(place) and _is_part(window, place, whole):
                segments.setdefault(whole, []).append(place)
    for whole in sorted(segments):
        if len(segments[whole]) > 1:
            yield whole, sorted(segments[whole], key=lambda place: (_start(window, place), place))


def _is_part(window: Window, place: int, whole: int) -> bool:
    """Whether an item is about a part of the video that another one is about."""
    part, of = window.changes[place].knowledge, window.changes[whole].knowledge
    return of.modality == pb.MODALITY_VIDEO and part.media.uri == of.media.uri


def _start(window: Window, place: int) -> float:
    media = window.changes[place].knowledge.media
    return media.start.ToNanoseconds() / 1e9 if media.HasField("start") else math.inf


def _coherence(window: Window, video: Sequence[int]) -> float:
    rows = window.vectors[video].astype(np.float64)
    return float((rows[:-1] * rows[1:]).sum(axis=1).mean())


def _motion(window: Window, video: Sequence[int]) -> float:
    counts = [verbs(window.content(place)) for place in video]
    total = sum(all_verbs for _, all_verbs in counts)
    return sum(moving for moving, _ in counts) / total if total else 0.0


def _spans(window: Window, place: int) -> list[tuple[float, float]]:
    """The parts of a video that have a beginning and an end, s: of its own media, and of items derived from it."""
    derived = window.remembered("parts of videos", lambda: _derived(window)).get(place, [])
    media = [one for each in (place, *derived) for one in media_of(window.changes[each].knowledge)]
    found = {
        (one.start.ToNanoseconds() / 1e9, one.end.ToNanoseconds() / 1e9)
        for one in media
        if one.HasField("start") and one.HasField("end")
    }
    return sorted(found)


def _derived(window: Window) -> Mapping[int, list[int]]:
    found: dict[int, list[int]] = {}
    for place in window.places(pb.MODALITY_VIDEO):
        for whole in window.parents(place):
            if _is_part(window, place, whole):
                found.setdefault(whole, []).append(place)
    return found


def _duration(window: Window, place: int) -> float | None:
    knowledge = window.changes[place].knowledge
    told = positive(knowledge.details, *_DURATION)
    if told is not None:
        return told
    ends = [m.end.ToNanoseconds() / 1e9 for m in media_of(knowledge) if m.HasField("end") and not m.HasField("start")]
    return max((end for end in ends if end > 0), default=None)


def _coverage(window: Window, place: int) -> float | None:
    """Which share of a video its segments cover; None where it has none, or no duration that reaches to their end."""
    duration, spans = _duration(window, place), _spans(window, place)
    if not duration or not spans or max(end for _, end in spans) > duration + _ROUNDED:
        return None
    return min(1.0, _covered(spans) / duration)


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """How long the spans are together, what they share once; they are in order."""
    total, reached = 0.0, -math.inf
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _labels(details: struct_pb2.Struct) -> list[tuple[float, bool | None]]:
    """The frames of `annotations`, and of each whether it was interpolated, where that is said."""
    value = details.fields.get(_LABELS)
    if value is None or value.WhichOneof("kind") != "list_value":
        return []
    found = []
    for each in value.list_value.values:
        frame = number(each.struct_value, "frame", "keyframe")
        told = each.struct_value.fields.get("interpolated")
        is_told = told is not None and told.WhichOneof("kind") == "bool_value"
        if frame is not None and frame >= 0:
            found.append((frame, told.bool_value if told is not None and is_told else None))
    return found


def _named(knowledge: pb.Knowledge) -> set[str]:
    """The words of the names of all fields, singular."""
    return {singular(word) for name in field_names(knowledge.details) for word in _NAME_PARTS.split(name) if word}


def _physical(window: Window, said: Said) -> bool | None:
    """Whether a person says that a generated video is as physics has it; None where this says nothing of it."""
    feedback = said.feedback
    if feedback.aspect != PHYSICS or feedback.rater_type != pb.RATER_TYPE_HUMAN:
        return None
    item_id, score = feedback.judged[0].item_id, feedback.judged[0].score
    if not window.is_a(item_id, pb.MODALITY_VIDEO) or not _is_generated(window, item_id):
        return None
    if feedback.kind == pb.FEEDBACK_KIND_BINARY:
        return score == 1
    return None if said.rating is None else said.rating >= PHYSICAL_FROM


def _is_generated(window: Window, item_id: str) -> bool:
    knowledge = window.changes[window.by_item[item_id]].knowledge
    return bool(knowledge.provenance.generator) or knowledge.origin == pb.ORIGIN_SYNTHETIC


def _lacking(knowledge: pb.Knowledge) -> list[str]:
    named = _named(knowledge)
    return [dimension for dimension, called in DIMENSIONS.items() if named.isdisjoint(called)]
