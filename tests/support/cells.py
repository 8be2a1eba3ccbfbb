"""For each cell a window of what works publish: real rows of the sample data, else records in a published form.

The docstring of each says what it is of, in docs/signals.md, too.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np

from epistream.indexer.signals import Figure, Window
from epistream.v1 import knowledge_pb2 as pb
from tests.support.samples import DATA, STREAMS, TRAJECTORIES, encoder, rows, vectors
from tests.support.windows import change, conflict, executed, figures, preferred, said, window, window_of, yes_or_no

Row: TypeAlias = dict[str, Any]
CODE: Final = DATA / "code_sample.jsonl"
_VERDICTS: Final = {"pass": "verified", "fail_assert": "fail", "error": "error"}


def encoded(found: Window, **fields: Any) -> Window:
    """The same with vectors of the packaged encoder."""
    made = encoder().encode([one.knowledge.content for one in found.changes])
    return window(*found.changes, vectors=made, said=found.said, **fields)


def crawled_text() -> Window:
    """`streams_sample.jsonl`: the 264 texts of C4 and Wikipedia."""
    picked = [at for at, row in enumerate(rows(STREAMS)) if row["origin"] == "human_web"]
    changes = [change(f"i{at}", rows(STREAMS)[at]["text"], producer=rows(STREAMS)[at]["producer"]) for at in picked]
    return window(*changes, vectors=vectors(STREAMS)[picked])


def crawled_code() -> Window:
    """Crafted: nine files of three repositories, as of Codex."""
    licence = "# This file is part of a project.\n# Use it as its licence says.\nimport os\nimport sys\nimport json\n"
    records = [
        {"repo": f"o/r{n}", "path": f"pack/{name}.py", "content": licence + body}
        for n in range(3)
        for name, body in (
            ("paths", "def root():\n    return os.getcwd()\n"),
            ("use", "from .paths import root\nfrom .lost import x\nprint(json.dumps(root()), undefined_name)\n"),
            ("broken", "def f(:\n"),
        )
    ]
    return window_of("codex", *records)


def crawled_images() -> Window:
    """`image_caption_sample.jsonl`: 70 short captions and the long ones made of them; crafted: the cosines of four."""
    texts = ("IMG_2847", "A wet golden retriever shakes itself", "sunset over the old harbour of Bergen", "logo")
    laion = [
        {"URL": f"https://i.example/{n}.jpg", "TEXT": text, "WIDTH": 640, "HEIGHT": 480, "similarity": 0.25 + 0.02 * n}
        for n, text in enumerate(texts)
    ]
    return encoded(window(*window_of("laion-5b", *laion).changes, *recaptions().changes))


def recaptions() -> Window:
    records = [
        {"alt": row["short_caption"], "caption": row["synthetic_long_caption"]}
        for row in rows(DATA / "image_caption_sample.jsonl")
    ]
    return window_of("dall-e-3", *records)


def crawled_videos() -> Window:
    """Crafted: three clips, as of Kinetics-400."""
    records = [
        {
            "key": f"v{n}",
            "value": {
                "annotations": {"label": label, "segment": [10.0, 20.0]},
                "duration": 40.0,
                "subset": "training",
                "url": f"https://v.example/{n}",
            },
        }
        for n, label in enumerate(("climbing a rope", "riding a mule", "reading a book"))
    ]
    return window_of("kinetics-400", *records)


def ranked_texts() -> Window:
    """Crafted: 40 rankings of four answers, as of InstructGPT."""
    records = [
        {
            "prompt": f"Explain the tide at place {n}.",
            "outputs": [f"The moon pulls the sea at {n}. " * (1 + (k * 7 + n) % 5) for k in range(4)],
            "rank": [1 + (k + n) % 4 for k in range(4)],
            "labeler": f"L{n % 3}",
        }
        for n in range(40)
    ]
    found = window_of("instruct-gpt", *records)
    first = found.said[0].feedback.judged
    others = [preferred(first[0].item_id, first[1].item_id, rater) for rater in ("L8", "L9")]
    return window(*found.changes, said=[*found.said, *others])


def expert_code() -> Window:
    """`code_sample.jsonl`: 80 programs of people, one a minute, and 34 mutants of them; crafted: two that wait."""
    programs = [
        change(row["id"], row["solution"], pb.ORIGIN_EXPERT, pb.MODALITY_CODE, at_us=n * 60_000_000)
        for n, row in enumerate(row for row in rows(CODE) if row["variant"] == "canonical")
    ]
    derived = [
        change(mutant["id"], mutant["solution"], pb.ORIGIN_SYNTHETIC, pb.MODALITY_CODE, parents=[seed])
        for seed, mutants in mutants_of().items()
        for mutant in mutants
    ]
    ran = [executed(row["id"], _VERDICTS[row["executed"]]) for row in rows(CODE) if row["variant"] != "canonical"]
    found = window(*programs, *derived, said=ran)
    return encoded(found, held_us=[0, 60_000_000], end_us=120_000_000)


def mutants_of() -> Mapping[str, Sequence[Row]]:
    """The mutants of each program of the samples that has any, by its id."""
    tasks = {(row["dataset"], row["task_id"]): row["id"] for row in rows(CODE) if row["variant"] == "canonical"}
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows(CODE):
        if row["variant"] != "canonical":
            found[tasks[row["dataset"], row["task_id"]]].append(row)
    return found


def expert_images() -> Window:
    """Crafted: two edits with a mask, as of MagicBrush, and an image without any."""
    records = [
        {
            "img_id": f"{n}",
            "turn_index": 1,
            "source_img": {"bytes": b"before"},
            "mask_img": {"bytes": b"mask"} if n else None,
            "target_img": {"bytes": b"after"},
            "instruction": "move the cup left of the plate",
        }
        for n in range(3)
    ]
    found = window_of("magicbrush", *records)
    return window(*found.changes[1:], change("bare", "a jug behind a bowl", pb.ORIGIN_EXPERT, pb.MODALITY_IMAGE))


def expert_videos() -> Window:
    """Crafted: a video of 900 frames, six of them labelled."""
    labels = [{"frame": 30 * n, "interpolated": n % 2 == 1} for n in range(6)]
    details = {"frames": 900, "fps": 30, "annotations": labels}
    return window(change("e1", "pick apple", pb.ORIGIN_EXPERT, pb.MODALITY_VIDEO, details=details))


def synthetic_text() -> Window:
    """`collapse_trajectory_sample.jsonl`: its loops as one producer, and their human texts; crafted: the emotions."""
    picked = [at for at, row in enumerate(rows(TRAJECTORIES)) if row["generation"] == 0]
    picked += [at for at, row in enumerate(rows(TRAJECTORIES)) if row["generation"] > 0]
    changes = [
        change(
            f"t{at}",
            rows(TRAJECTORIES)[at]["text"],
            pb.ORIGIN_SYNTHETIC if (loop := rows(TRAJECTORIES)[at]["generation"] > 0) else pb.ORIGIN_CRAWLED,
            producer="loop" if loop else "web",
            attributes={"emotion": "calm" if loop and at % 3 else ("joy", "fear", "anger")[at % 3]},
        )
        for at in picked
    ]
    return window(*changes, vectors=vectors(TRAJECTORIES)[picked])


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
    """`image_caption_sample.jsonl`: 70 captions that a model made of short ones, and a model's verdicts on images."""
    verdicts = [
        {
            "key": said["media_uri"],
            "value": {"correct": said["correct"], "response": said["rationale"], "prompt": row["short_caption"]},
        }
        for row in rows(DATA / "image_caption_sample.jsonl")
        for said in row["feedback"]
    ]
    judged = window_of("dall-e-3", *verdicts)
    return window(*recaptions().changes, *judged.changes, said=judged.said)


def synthetic_videos() -> Window:
    """Crafted: a video of three segments, as of ShareGPT4Video; `video_physics_feedback_sample.jsonl`: the physics."""
    record = {
        "video_id": "v1",
        "video_path": "v1.mp4",
        "timestamp": [0.0, 2.0, 4.0, 6.0],
        "keyframe": [0, 48, 96, 144],
        "captions": [
            {"idx": f"{n}", "content": text}
            for n, text in enumerate(("A cup stands on a table.", "A cup slides on a table.", "The cup tips over."), 1)
        ],
    }
    physics = [
        {"videopath": row["media_uri"], "caption": row["text"], "pc": row["feedback"]["physical_commonsense"]}
        for row in rows(DATA / "video_physics_feedback_sample.jsonl")
    ]
    judged = window_of("sora-physics", *physics)
    return encoded(window(*window_of("sharegpt4video", record).changes, *judged.changes, said=judged.said))


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
    """Crafted: a program that is mended after its tests failed, as of RLEF."""
    record = {
        "prompt": "Return the last element.",
        "tests": ["assert last([1, 2]) == 2"],
        "turns": [
            {"code": "def last(a):\n    return a[len(a)]", "public": "0/1"},
            {"code": "def last(a):\n    return a[-1]"},
        ],
        "private": "9/10",
    }
    found = window_of("rlef", record)
    judged = pb.Judged(item_id=found.changes[0].item_id, score=0.5)
    survival = said(
        pb.FEEDBACK_KIND_RATING, judged, rater_type=pb.RATER_TYPE_EXECUTOR, aspect="regression", scale_max=1
    )
    return window(*found.changes, said=[*found.said, survival])


def ranked_images() -> Window:
    """`feedback_imagereward_sample.jsonl`: 127 rankings and their prompts; crafted: random vectors of the images."""
    records = [
        {"id": row["id"], "prompt": row["prompt"], "generations": row["media_uris"], "ranking": row["ranking"]}
        for row in rows(DATA / "feedback_imagereward_sample.jsonl")
    ]
    found = window_of("imagereward", *records)
    made = np.random.default_rng(4).standard_normal((len(found.changes), 32))
    return window(*found.changes, vectors=made, said=found.said)


def prompted_videos() -> Window:
    """Crafted: two videos, as of Movie Gen."""
    records = [
        {"prompt": "a ball bounces down the stairs", "concept": "physics", "motion_level": "high"},
        {"prompt": "a robot folds a towel", "concept": "human activity", "motion_level": "medium", "camera": "fixed"},
    ]
    return window_of("movie-gen", *records)


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
