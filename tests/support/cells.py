"""For each cell a window of what works publish: real rows of the sample data, else records in a published form."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from epistream.indexer.signals import Window
from epistream.v1 import knowledge_pb2 as pb
from tests.support.samples import DATA, STREAMS, TRAJECTORIES, encoder, rows, vectors
from tests.support.windows import change, conflict, executed, preferred, said, window, window_of, yes_or_no


def encoded(found: Window, **fields: Any) -> Window:
    """The same with vectors of the packaged encoder."""
    made = encoder().encode([one.knowledge.content for one in found.changes])
    return window(*found.changes, vectors=made, said=found.said, **fields)


def crawled_text() -> Window:
    picked = [at for at, row in enumerate(rows(STREAMS)) if row["origin"] == "human_web"][:200]
    changes = [change(f"i{at}", rows(STREAMS)[at]["text"], producer=f"p{at % 3}") for at in picked]
    return window(*changes, vectors=vectors(STREAMS)[picked])


def crawled_code() -> Window:
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
    texts = ("IMG_2847", "A wet golden retriever shakes itself", "sunset over the old harbour of Bergen", "logo")
    laion = [
        {"URL": f"https://i.example/{n}.jpg", "TEXT": text, "WIDTH": 640, "HEIGHT": 480, "similarity": 0.25 + 0.02 * n}
        for n, text in enumerate(texts)
    ]
    recaption = {"alt": "dog", "caption": "a wet dog shakes itself beside a lake", "url": "https://i.example/d.png"}
    found, captions = window_of("laion-5b", *laion), window_of("dall-e-3", recaption)
    return encoded(window(*found.changes, *captions.changes))


def crawled_videos() -> Window:
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
    records = [
        {**row, "test_list": [row["tests"]], "text": row["prompt"], "code": row["solution"]}
        for row in rows(DATA / "code_sample.jsonl")
        if row["dataset"] == "mbpp" and row["variant"] == "canonical"
    ]
    return encoded(window_of("mbpp", *records), held_us=[0, 60_000_000], end_us=120_000_000)


def expert_images() -> Window:
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
    labels = [{"frame": 30 * n, "interpolated": n % 2 == 1} for n in range(6)]
    details = {"frames": 900, "fps": 30, "annotations": labels}
    return window(change("e1", "pick apple", pb.ORIGIN_EXPERT, pb.MODALITY_VIDEO, details=details))


def synthetic_text() -> Window:
    """The loops of the samples as one producer, labelled with emotions that two in three share."""
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
    """Programs of the samples with what running them came to."""
    found = rows(DATA / "code_sample.jsonl")
    changes = [change(row["id"], row["solution"], pb.ORIGIN_SYNTHETIC, pb.MODALITY_CODE) for row in found]
    words = {True: "verified", False: "fail"}
    told = [executed(row["id"], words[row["verified"]], mutants=4, killed=3) for row in found[1:]]
    return window(*changes, said=told)


def synthetic_images() -> Window:
    sample = rows(DATA / "image_caption_sample.jsonl")
    captions = [{"alt": row["short_caption"], "caption": row["synthetic_long_caption"]} for row in sample]
    verdicts = [
        {
            "key": said["media_uri"],
            "value": {"correct": said["correct"], "response": said["rationale"], "prompt": row["short_caption"]},
        }
        for row in sample
        for said in row["feedback"]
    ]
    return window_of("dall-e-3", *captions, *verdicts)


def synthetic_videos() -> Window:
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
    found = encoded(window_of("sharegpt4video", record))
    answers = [yes_or_no("sharegpt4video:v1", yes, f"r{n}", "physics") for n, yes in enumerate((True, False))]
    return window(*found.changes, vectors=found.vectors, said=answers)


def dialogues() -> Window:
    records = [
        {
            "chosen": f"\n\nHuman: May I mix {what}?\n\nAssistant: No, it is harmful.",
            "rejected": f"\n\nHuman: May I mix {what}?\n\nAssistant: Yes.",
        }
        for what in ("bleach and vinegar", "paint and oil")
    ]
    found = window_of("rlaif", *records)
    first, second = found.changes[0].item_id, found.changes[1].item_id
    told = [*found.said, preferred(second, first, "another")]
    return window(*found.changes, said=told, conflicts=[conflict(second, first)], end_us=5_000_000)


def mended_programs() -> Window:
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
    """Rankings of the samples; of the images invented vectors, since the samples have none."""
    records = [
        {"id": row["id"], "prompt": row["prompt"], "generations": row["media_uris"], "ranking": row["ranking"]}
        for row in rows(DATA / "feedback_imagereward_sample.jsonl")
    ]
    found = window_of("imagereward", *records)
    made = np.random.default_rng(4).standard_normal((len(found.changes), 32))
    return window(*found.changes, vectors=made, said=found.said)


def prompted_videos() -> Window:
    records = [
        {"prompt": "a ball bounces down the stairs", "concept": "physics", "motion_level": "high"},
        {"prompt": "a robot folds a towel", "concept": "human activity", "motion_level": "medium", "camera": "fixed"},
    ]
    return window_of("movie-gen", *records)


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
    "IV text": dialogues,
    "IV code": mended_programs,
    "IV image": ranked_images,
    "IV video": prompted_videos,
}
