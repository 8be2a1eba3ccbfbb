"""Records for the mapping files that docs/sources.md shows, and those mapping files as works. All are invented."""

from typing import Any, Final

import yaml

from epistream.clients.sources import judgements, mapping
from epistream.clients.sources.mapping import parse
from epistream.clients.sources.work import Work
from tests.support.sources_reference import examples

ANSWERED: Final[dict[str, Any]] = {
    "annotator": "ada",
    "answers": [
        {
            "text": "A",
            "rank": 2,
            "ratings": [{"user": "u1", "stars": 3, "said": "so so"}, {"user": "u2", "stars": 1.5}],
        },
        {"text": "B", "rank": 1, "ratings": None},
        {"text": "C", "rank": 2, "ratings": [{"user": "u1", "stars": 5}]},
    ],
}
"""Answers with their places, and the ratings of several people."""
CLIP: Final[dict[str, Any]] = {
    "clip": {"file": "a.mp4", "sha256": "AB" * 32, "from": "00:01:02.5", "to": 65, "fps": 30},
    "text": "A cup tips over.",
}
"""A part of a recording."""
COMPARED: Final = {"model_a": "a", "model_b": "b", "question": 4, "winner": "model_b", "judge": "j", "turn": 1}
"""Which of two items is the better one."""
_LEAST: Final = {"work": "w", "origin": "EXPERT", "modality": "TEXT", "content": "{text}"}


def mapped() -> list[tuple[Work, Any]]:
    """Works of mapping files, each with a record."""
    _, media, each = (yaml.safe_load(one) for one in examples(mapping))
    several, compared = (yaml.safe_load(one) for one in examples(judgements))
    said = [
        ({"modality": "VIDEO", **media}, CLIP),
        (each, {"chosen": "Yes.", "rejected": "No."}),
        (several, ANSWERED),
        ({**compared, "content": "{turn}"}, COMPARED),
    ]
    return [
        (parse({**_LEAST, **more, "work": f"mapped-{i}"}, "x.yaml"), record) for i, (more, record) in enumerate(said)
    ]
