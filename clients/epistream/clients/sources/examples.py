"""An invented record of each work, as its format's reader reads it. Tests write them in the published formats, too."""

from typing import Final

from epistream.clients.sources.record import Json

COMMON_CRAWL: Final[Json] = {
    "headers": {
        "WARC-Type": "conversion",
        "WARC-Target-URI": "https://lakes.example/x",
        "WARC-Date": "2024-05-01T10:00:00Z",
        "WARC-Record-ID": "<urn:uuid:6f1c0c4e-0b52-4f0c-9a7d-1f6f3f7b2a10>",
        "WARC-Refers-To": "<urn:uuid:0a6a3c62-58a9-4b5b-8e22-9e7a2f8f0c11>",
        "WARC-Block-Digest": "sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ",
        "WARC-Identified-Content-Language": "eng",
        "Content-Type": "text/plain",
        "Content-Length": "22",
    },
    "text": "Lake X is 12 km long.\n",
}
C4: Final[Json] = {
    "text": "Basic air cleaners need a new filter every three months.",
    "timestamp": "2019-04-25T12:57:54Z",
    "url": "https://homes.example/air",
}
CODEX: Final[Json] = {
    "repo": "o/r",
    "path": "a/b.py",
    "commit": "4c1e9d0",
    "content": "def area(w, h):\n    return w * h\n",
}
THE_STACK: Final[Json] = {
    "hexsha": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    "size": 33,
    "ext": "py",
    "lang": "Python",
    "max_stars_repo_path": "a/b.py",
    "max_stars_repo_name": "o/r",
    "max_stars_repo_head_hexsha": "4c1e9d0a1b2c3d4e5f60718293a4b5c6d7e8f901",
    "max_stars_repo_licenses": ["MIT", "Apache-2.0"],
    "max_stars_count": 12,
    "max_stars_repo_stars_event_min_datetime": "2021-03-04T05:06:07.000Z",
    "max_stars_repo_stars_event_max_datetime": "2022-03-04T05:06:07.000Z",
    "content": "def area(w, h):\n    return w * h\n",
    "avg_line_length": 15.5,
    "max_line_length": 17,
    "alphanum_fraction": 0.66,
}
LAION: Final[Json] = {
    "URL": "https://i.example/1.jpg",
    "TEXT": "IMG_2847",
    "WIDTH": 640,
    "HEIGHT": 480,
    "similarity": 0.281,
    "hash": -5013455612,
    "punsafe": 0.01,
    "pwatermark": 0.2,
    "LANGUAGE": "en",
    "LICENSE": "?",
}
WEBVID: Final[Json] = {
    "videoid": "21",
    "contentUrl": "https://v.example/21.mp4",
    "duration": "PT00H00M12S",
    "page_dir": "012001_012050",
    "name": "Waves at dusk",
}
KINETICS: Final[Json] = {
    "label": "climbing a rope",
    "youtube_id": "AbC12345678",
    "time_start": "12",
    "time_end": "22",
    "split": "train",
    "is_cc": "0",
}
INSTRUCT_GPT: Final[Json] = {
    "prompt": "Explain tides.",
    "demonstration": "The moon pulls the sea towards it.",
    "labeler": "L7",
}
LLAMA: Final[Json] = {
    "prompt": "May I mix bleach and vinegar?",
    "chosen": "No: it makes chlorine gas.",
    "rejected": "Yes, it cleans better.",
    "degree": "slightly better",
    "safety": "preferred_safe",
    "batch": "w12",
}
HUMAN_EVAL: Final[Json] = {
    "task_id": "HumanEval/900",
    "prompt": 'def inc(x):\n    """One more."""\n',
    "canonical_solution": "    return x + 1\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
    "entry_point": "inc",
}
MBPP: Final[Json] = {
    "task_id": 901,
    "text": "Write a function to add two numbers.",
    "code": "def add(a, b):\n    return a + b",
    "test_setup_code": "",
    "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
    "challenge_test_list": ["assert add(-1, 1) == 0"],
}
APPS: Final[Json] = {
    "problem_id": "0007",
    "question": "Sum n numbers.",
    "solutions": '["n = input()\\nprint(sum(map(int, input().split())))\\n"]',
    "input_output": '{"inputs": ["2\\n1 2\\n"], "outputs": ["3\\n"]}',
    "metadata": '{"difficulty": "introductory", "url": "https://problems.example/7"}',
    "starter_code": "",
}
PICK_A_PIC: Final[Json] = {
    "are_different": True,
    "best_image_uid": "a1",
    "caption": "a red fox",
    "created_at": "2023-02-03T04:05:06",
    "has_label": True,
    "image_0_uid": "a1",
    "image_0_url": "https://p.example/a1.png",
    "image_1_uid": "b2",
    "image_1_url": "https://p.example/b2.png",
    "jpg_0": b"\xff\xd8fox\xff\xd9",
    "jpg_1": b"\xff\xd8cat\xff\xd9",
    "label_0": 1.0,
    "label_1": 0.0,
    "model_0": "sdxl",
    "model_1": "sd-1.5",
    "ranking_id": 17,
    "user_id": 42,
    "num_example_per_prompt": 3,
}
MAGIC_BRUSH: Final[Json] = {
    "img_id": "139",
    "turn_index": 2,
    "source_img": {"bytes": b"\x89PNG before", "path": "139-output1.png"},
    "mask_img": {"bytes": b"\x89PNG mask", "path": "139-mask2.png"},
    "instruction": "move the cup left of the plate",
    "target_img": {"bytes": b"\x89PNG after", "path": "139-output2.png"},
}
RT_1: Final[Json] = {
    "file": "fractal20220817_data-train.tfrecord-00000-of-00001",
    "offset": 0,
    "features": {
        "steps/observation/natural_language_instruction": [b"pick apple", b"pick apple"],
        "steps/observation/image": [b"\x89PNG 1", b"\x89PNG 2"],
        "steps/action/world_vector": [0.5, 0.0, 0.25, 0.0, 1.0, 0.75],
        "steps/action/gripper_closedness_action": [0.0, 1.0],
        "steps/reward": [0.0, 1.0],
        "steps/is_first": [1, 0],
        "steps/is_last": [0, 1],
        "steps/is_terminal": [0, 1],
    },
}
MOBILE_ALOHA: Final[Json] = {
    "file": "episode_7.hdf5",
    "attributes": {"sim": False, "compress": True},
    "datasets": {
        "/action": {"shape": [5, 14], "type": "float32"},
        "/base_action": {"shape": [5, 2], "type": "float32"},
        "/compress_len": {"shape": [2, 5], "type": "float32"},
        "/observations/effort": {"shape": [5, 14], "type": "float32"},
        "/observations/images/cam_high": {"shape": [5, 64], "type": "uint8"},
        "/observations/images/cam_left_wrist": {"shape": [5, 64], "type": "uint8"},
        "/observations/qpos": {"shape": [5, 14], "type": "float32"},
        "/observations/qvel": {"shape": [5, 14], "type": "float32"},
    },
    "task": "wipe the wine off the table",
}
SELF_INSTRUCT: Final[Json] = {
    "instruction": "Name three rivers.",
    "input": "In Europe.",
    "output": "Rhine, Danube, Volga.",
    "most_similar": {"List rivers.": 0.61},
    "avg_similarity_score": 0.12,
    "request_idx": 4,
}
PHI: Final[Json] = {
    "topic": "recursion",
    "audience": "novice",
    "text": "A function that calls itself needs a case that does not.",
}
EVOL_INSTRUCT: Final[Json] = {
    "file": "alpaca_evol_instruct_70k.json",
    "instruction": "Now also handle negative numbers.",
    "output": "def root(x):\n    return complex(x) ** 0.5",
    "evolved_from": "e12",
    "op": "deepen",
}
OSS_INSTRUCT: Final[Json] = {
    "lang": "python",
    "raw_index": 5,
    "index": 11,
    "seed": "x = sorted(a)",
    "openai_fingerprint": "fp_0a1b",
    "problem": "Sort a list of words by length.",
    "solution": "```python\ndef by_length(words):\n    return sorted(words, key=len)\n```",
}
DALLE_3: Final[Json] = {
    "alt": "dog",
    "caption": "a wet golden retriever shakes itself beside a lake at sunset",
    "generator": "captioner-1",
    "url": "https://i.example/dog.png",
}
SHARE_GPT_4_VIDEO: Final[Json] = {
    "video_id": "v1",
    "video_path": "part/v1.mp4",
    "timestamp": ["00:00:00.000", "00:00:02.000"],
    "keyframe": [0, 48],
    "captions": [
        {"idx": "1", "content": "A cup stands on a table."},
        {"idx": "2", "content": "It tips over."},
        {"idx": "-1", "content": "A cup stands on a table and tips over."},
    ],
    "zip_folder": "part.zip",
}
MIRA_DATA: Final[Json] = {
    "index": "0",
    "video_id": "x",
    "start_frame": "0",
    "end_frame": "2160",
    "main_object_caption": "A red car.",
    "background_caption": "A hall.",
    "style_caption": "Realistic.",
    "camera_caption": "It pans slowly.",
    "short_caption": "A car show.",
    "dense_caption": "A red car turns on a platform in a crowded hall.",
    "fps": "30",
}
CONSTITUTIONAL_AI: Final[Json] = {
    "prompt": "How do I get even with a colleague?",
    "initial": "Delete his files.",
    "critique": "The answer helps to do harm.",
    "revision": "Talk to him, or to somebody who can mediate.",
    "principle": "harmful0",
}
SUPER_BRAIN: Final[Json] = {
    "dyad": "u7+m2",
    "prompt_gen": 3,
    "parent": "p2",
    "fitness": {"task": 0.8, "cost": 0.3},
    "heuristic": "Check units first.",
}
RLEF: Final[Json] = {
    "prompt": "Return the last element.",
    "tests": ["assert last([1, 2]) == 2"],
    "turns": [
        {"code": "def last(a):\n    return a[len(a)]", "public": "2/3, IndexError"},
        {"code": "def last(a):\n    return a[-1]", "public": "3/3"},
    ],
    "private": "9/10",
}
CODE_CONTESTS: Final[Json] = {
    "name": "1575_A. Doubling",
    "description": "Double a number.",
    "public_tests": [{"input": "3\n", "output": "6\n"}],
    "private_tests": [{"input": "0\n", "output": "0\n"}],
    "generated_tests": [{"input": "-1\n", "output": "-2\n"}],
    "source": 2,
    "difficulty": 7,
    "solutions": [{"language": 3, "solution": "print(2 * int(input()))"}],
    "incorrect_solutions": [{"language": 2, "solution": "int main() {}"}],
    "cf_contest_id": 1575,
    "cf_index": "A",
    "cf_rating": 800,
    "cf_tags": ["math"],
    "time_limit": {"seconds": "2"},
    "memory_limit_bytes": "256000000",
}
IMAGE_REWARD: Final[Json] = {
    "id": "000-1",
    "prompt": "a fox",
    "generations": ["images/a.webp", "images/b.webp", "images/c.webp"],
    "ranking": [2, 1, 2],
}
PICK_A_PIC_V2: Final[Json] = {
    **PICK_A_PIC,
    "created_at": "2023-06-07T08:09:10",
    "image_0_uid": "c3",
    "image_1_uid": "d4",
    "best_image_uid": "",
    "label_0": 0.5,
    "label_1": 0.5,
}
MOVIE_GEN: Final[Json] = {"prompt": "a ball bounces down the stairs", "concept": "physics", "motion_level": "high"}
VIDEO_PHYSICS: Final[Json] = {
    "videopath": "videos/a.mp4",
    "caption": "An apple falls.",
    "sa": "1",
    "pc": "0",
    "rule": "Objects do not pass through the table.",
}
