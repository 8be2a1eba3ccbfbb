"""For each cell a window of what works publish: real rows of the sample data, else records in a published form.

The docstring of each says what it is of, in docs/signals.md, too.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np

from epistream.indexer.claim import claim_of
from epistream.indexer.claim.facts import DATE, QUANTITY, TIME
from epistream.indexer.signals import Figure, Window
from epistream.v1 import knowledge_pb2 as pb
from tests.support import crafted
from tests.support.samples import DATA, STREAMS, TRAJECTORIES, encoder, rows, vectors
from tests.support.windows import (
    SECOND_US,
    change,
    conflict,
    executed,
    figures,
    preferred,
    said,
    window,
    window_of,
    yes_or_no,
)

Row: TypeAlias = dict[str, Any]
CODE: Final = DATA / "code_sample.jsonl"
EMOTIONS: Final = {
    "web": {"joy": 70, "fear": 60, "anger": 60, "calm": 90, "sadness": 40, "": 40},
    "loop": {"joy": 300, "fear": 100, "calm": 800, "": 240},
}
"""How many texts of each producer are of which emotion; of some nobody says."""
SURVIVED: Final = {1.0: 15, 0.5: 9, 0.0: 6}
"""How many updates of programs there are, by the share of their dependants that still pass."""
_VERDICTS: Final = {"pass": "verified", "fail_assert": "fail", "error": "error"}


def encoded(found: Window, **fields: Any) -> Window:
    """The same with vectors of the packaged encoder."""
    made = encoder().encode([one.knowledge.content for one in found.changes])
    return window(*found.changes, vectors=made, said=found.said, **fields)


def crawled_text() -> Window:
    """`streams_sample.jsonl`: the 264 texts of C4 and Wikipedia; crafted: who else says what those without a number
    say.
    """
    picked = [at for at, row in enumerate(rows(STREAMS)) if row["origin"] == "human_web"]
    changes = [change(f"i{at}", rows(STREAMS)[at]["text"], producer=rows(STREAMS)[at]["producer"]) for at in picked]
    without = [one.item_id for one in changes if not has_number(one.knowledge.content)]
    merged = {item_id: ("archive", "mirror")[n % 2 :] for n, item_id in enumerate(without)}
    return window(*changes, vectors=vectors(STREAMS)[picked], corroborations=merged)


def has_number(text: str) -> bool:
    """Whether a text has a number, a date or a time, of which it could be asked who else has it."""
    return any(key[:1] in (DATE, QUANTITY, TIME) for key in claim_of(pb.MODALITY_TEXT, text).keys)


def crawled_code() -> Window:
    """Crafted: 40 files of four repositories, as of Codex."""
    return window_of("codex", *crafted.repository_files())


def crawled_images() -> Window:
    """`image_caption_sample.jsonl`: 70 short captions and the long ones made of them; crafted: 60 rows as of LAION-5B,
    before its bar.
    """
    return encoded(window(*linked_images().changes, *recaptions().changes))


def linked_images() -> Window:
    return window_of("laion-5b", *crafted.alternative_texts())


def recaptions() -> Window:
    records = [
        {"alt": row["short_caption"], "caption": row["synthetic_long_caption"]}
        for row in rows(DATA / "image_caption_sample.jsonl")
    ]
    return window_of("dall-e-3", *records)


def crawled_videos() -> Window:
    """Crafted: 30 clips as of Kinetics-400, 60 stock videos as of WebVid-10M, and parts of 36 of these."""
    stock = window_of("webvid-10m", *crafted.stock_videos()).changes
    clips = window_of("kinetics-400", *crafted.clips()).changes
    return window(*clips, *stock, *crafted.parts_of(list(stock)))


def ranked_texts() -> Window:
    """Crafted: 42 rankings of four answers, as of InstructGPT; of 12 two more people judge the best and the worst."""
    found = window_of("instruct-gpt", *crafted.rankings())
    others = []
    for at, one in enumerate(found.said[:12]):
        order = sorted(one.feedback.judged, key=lambda judged: judged.place)
        best, worst = order[0].item_id, order[-1].item_id
        others += [preferred(best, worst, "L8"), preferred(*((worst, best) if at % 4 == 0 else (best, worst)), "L9")]
    return window(*found.changes, said=[*found.said, *others])


def expert_code() -> Window:
    """`code_sample.jsonl`: 80 programs of people and 34 mutants of them; crafted: four an hour, and 40 that wait."""
    programs = [
        change(row["id"], row["solution"], pb.ORIGIN_EXPERT, pb.MODALITY_CODE, at_us=n * 900 * SECOND_US)
        for n, row in enumerate(row for row in rows(CODE) if row["variant"] == "canonical")
    ]
    derived = [
        change(mutant["id"], mutant["solution"], pb.ORIGIN_SYNTHETIC, pb.MODALITY_CODE, parents=[seed])
        for seed, mutants in mutants_of().items()
        for mutant in mutants
    ]
    ran = [executed(row["id"], _VERDICTS[row["executed"]]) for row in rows(CODE) if row["variant"] != "canonical"]
    found, end_us = window(*programs, *derived, said=ran), 80 * 900 * SECOND_US
    return encoded(found, held_us=[end_us - n * 20 * SECOND_US for n in range(40)], end_us=end_us)


def mutants_of() -> Mapping[str, Sequence[Row]]:
    """The mutants of each program of the samples that has any, by its id."""
    tasks = {(row["dataset"], row["task_id"]): row["id"] for row in rows(CODE) if row["variant"] == "canonical"}
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows(CODE):
        if row["variant"] != "canonical":
            found[tasks[row["dataset"], row["task_id"]]].append(row)
    return found


def expert_images() -> Window:
    """Crafted: 40 turns of edits as of MagicBrush, most with a mask; ten images without, of which four have boxes."""
    others = [
        change(
            f"jug {n}",
            "a jug behind a bowl",
            pb.ORIGIN_EXPERT,
            pb.MODALITY_IMAGE,
            details={"regions": [{"label": "jug", "bbox": [n, n, 40, 60]}]} if n < 4 else None,
        )
        for n in range(10)
    ]
    return window(*window_of("magicbrush", *crafted.edits()).changes, *others)


def expert_videos() -> Window:
    """Crafted: 30 videos with labels of single frames, some interpolated; six episodes without, as of RT-1."""
    labelled = [
        change(f"e{n}", "pick apple", pb.ORIGIN_EXPERT, pb.MODALITY_VIDEO, details=details)
        for n, details in enumerate(crafted.labels())
    ]
    return window(*labelled, *window_of("rt-1", *crafted.episodes()).changes)


def synthetic_text() -> Window:
    """`collapse_trajectory_sample.jsonl`: its loops as one producer, and their human texts; crafted: the emotions."""
    people = [at for at, row in enumerate(rows(TRAJECTORIES)) if row["generation"] == 0]
    loop = [at for at, row in enumerate(rows(TRAJECTORIES)) if row["generation"] > 0]
    changes = [
        change(
            f"t{at}",
            rows(TRAJECTORIES)[at]["text"],
            origin,
            producer=producer,
            attributes={"emotion": emotion} if emotion else None,
        )
        for places, origin, producer in ((people, pb.ORIGIN_CRAWLED, "web"), (loop, pb.ORIGIN_SYNTHETIC, "loop"))
        for at, emotion in zip(places, crafted.mixed(EMOTIONS[producer], 1), strict=True)
    ]
    return window(*changes, vectors=vectors(TRAJECTORIES)[[*people, *loop]])


def synthetic_code() -> Window:
    """`code_sample.jsonl`: 114 programs by their authors, with their verdicts, and how many mutants were noticed."""
    mutants, told = mutants_of(), []
    for row in rows(CODE):
        of_row = mutants.get(row["id"], ())
        kills = {"mutants": len(of_row), "killed": sum(not one["verified"] for one in of_row)} if of_row else {}
        told.append(executed(row["id"], _VERDICTS[row["executed"]], **kills))
    changes = [
        change(row["id"], row["solution"], pb.ORIGIN_SYNTHETIC, pb.MODALITY_CODE, producer=row["author"])
        for row in rows(CODE)
    ]
    return window(*changes, said=told)


def synthetic_images() -> Window:
    """`image_caption_sample.jsonl`: 70 captions that a model made of short ones, and a model's verdicts on images;
    crafted: 70 captions of captions.
    """
    verdicts = [
        {
            "key": said["media_uri"],
            "value": {"correct": said["correct"], "response": said["rationale"], "prompt": row["short_caption"]},
        }
        for row in rows(DATA / "image_caption_sample.jsonl")
        for said in row["feedback"]
    ]
    judged = window_of("dall-e-3", *verdicts)
    again = [
        change(
            f"again {n}", row["short_caption"], pb.ORIGIN_SYNTHETIC, pb.MODALITY_IMAGE, parents=["not in the window"]
        )
        for n, row in enumerate(rows(DATA / "image_caption_sample.jsonl"))
    ]
    for one in again:
        one.generation = 2
    return window(*recaptions().changes, *judged.changes, *again, said=judged.said)


def synthetic_videos() -> Window:
    """Crafted: 42 videos, 38 of several segments, as of ShareGPT4Video; `video_physics_feedback_sample.jsonl`: the
    physics.
    """
    physics = [
        {"videopath": row["media_uri"], "caption": row["text"], "pc": row["feedback"]["physical_commonsense"]}
        for row in rows(DATA / "video_physics_feedback_sample.jsonl")
    ]
    judged = window_of("sora-physics", *physics)
    captioned = window_of("sharegpt4video", *crafted.captioned_videos())
    return encoded(window(*captioned.changes, *judged.changes, said=judged.said))


def judged_pairs() -> Window:
    """`pairs_sample.jsonl`: 200 pairs of Breaking NLI with three people's votes; crafted: the ages of the conflicts."""
    pairs = [row for row in rows(DATA / "pairs_sample.jsonl") if "annotators" in row][:200]
    names = {text: f"t{n}" for n, text in enumerate(dict.fromkeys(row[side] for row in pairs for side in "ab"))}
    votes = [
        yes_or_no(names[row["b"]], vote == "contradiction", f"annotator {n}", "contradiction")
        for row in pairs
        for n, vote in enumerate(row["annotators"])
    ]
    contradicting = [row for row in pairs if row["relation"] == "contradiction"]
    conflicts = [
        conflict(names[row["b"]], names[row["a"]], opened_us=n * 1_000_000) for n, row in enumerate(contradicting)
    ]
    texts = [change(name, text, pb.ORIGIN_COLLABORATIVE) for text, name in names.items()]
    return encoded(window(*texts, said=votes), conflicts=conflicts, end_us=len(conflicts) * 1_000_000)


def mended_programs() -> Window:
    """Crafted: 24 programs as of RLEF, most of them mended; 12 as of CodeContests; six modules of a repository."""
    mended = window_of("rlef", *crafted.trajectories())
    solved = window_of("codecontests", *crafted.problems())
    changes = [*mended.changes, *solved.changes, *crafted.modules()]
    together = [one for one in changes if one.knowledge.origin == pb.ORIGIN_COLLABORATIVE]
    survived = [
        said(
            pb.FEEDBACK_KIND_RATING,
            pb.Judged(item_id=one.item_id, score=score),
            rater_type=pb.RATER_TYPE_EXECUTOR,
            aspect="regression",
            scale_max=1,
        )
        for one, score in zip(together, crafted.mixed(SURVIVED, 2), strict=False)
    ]
    return window(*changes, said=[*mended.said, *solved.said, *survived])


def ranked_images() -> Window:
    """`feedback_imagereward_sample.jsonl`: 127 rankings and their prompts; crafted: the images' vectors, of few kinds
    where they win.
    """
    return liked(best=range(16), others=range(16, 128), noise=0.03)


def liked(*, best: range, others: range, noise: float = 0.0) -> Window:
    """The same rankings: of the vectors of images that are the best of theirs, and of the others, the axes."""
    records = [
        {"id": row["id"], "prompt": row["prompt"], "generations": row["media_uris"], "ranking": row["ranking"]}
        for row in rows(DATA / "feedback_imagereward_sample.jsonl")
    ]
    found, drawn = window_of("imagereward", *records), np.random.default_rng(4)
    winners = {
        min(one.feedback.judged, key=lambda judged: (judged.place, judged.item_id)).item_id for one in found.said
    }
    axes = [drawn.choice(best if one.item_id in winners else others) for one in found.changes]
    made = np.eye(128)[axes] + noise * drawn.standard_normal((len(axes), 128))
    return window(*found.changes, vectors=made, said=found.said)


def prompted_videos() -> Window:
    """Crafted: 40 videos as of Movie Gen, some with labels."""
    return window_of("movie-gen", *crafted.prompts())


@cache
def realistic(name: str) -> Mapping[str, Sequence[Figure]]:
    """The figures of each signal of a cell on its window, computed once."""
    return figures(REALISTIC[name](), name)


REALISTIC: Final[Mapping[str, Callable[[], Window]]] = {
    "I text": crawled_text,
    "I code": crawled_code,
    "I image": crawled_images,
    "I video": crawled_videos,
    "II text": ranked_texts,
    "II code": expert_code,
    "II image": expert_images,
    "II video": expert_videos,
    "III text": synthetic_text,
    "III code": synthetic_code,
    "III image": synthetic_images,
    "III video": synthetic_videos,
    "IV text": judged_pairs,
    "IV code": mended_programs,
    "IV image": ranked_images,
    "IV video": prompted_videos,
}
