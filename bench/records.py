"""The records that the benchmarks send: statements of 80 to 400 characters with vectors, made from a seed.

Nine in ten are new. One in twenty says what an earlier one says in another form, and one in twenty the same with
another number: both near enough to be compared as claims, so that the benchmark pays for what the service does on
real streams.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns

NAMESPACE: Final = "bench"
DIMENSION: Final = 384
ENCODER: Final = ns.Encoder(model="none", dimension=DIMENSION)
"""Of a namespace whose records bring their vectors."""
TOPICS: Final = 2_000
AGAIN_SHARE: Final = 0.05
CHANGED_SHARE: Final = 0.05

_PLACES: Final = [
    "Aachen",
    "Bergen",
    "Cadiz",
    "Delft",
    "Eger",
    "Faro",
    "Ghent",
    "Hanko",
    "Ivrea",
    "Jena",
    "Kotor",
    "Leiden",
    "Malmo",
    "Namur",
    "Oulu",
    "Porto",
    "Riga",
    "Split",
    "Tartu",
    "Uppsala",
]
_THINGS: Final = [
    "pump",
    "valve",
    "turbine",
    "boiler",
    "crane",
    "conveyor",
    "furnace",
    "compressor",
    "mixer",
    "press",
    "lathe",
    "kiln",
    "dryer",
    "sieve",
    "filter",
    "chiller",
]
_DOES: Final = [
    "delivers {} litres per minute",
    "draws {} kilowatts",
    "runs at {} degrees",
    "is inspected every {} days",
    "weighs {} kilograms",
]
_MORE: Final = [
    "The figure was taken at the {} site in the morning shift.",
    "Operators at {} record it in the log before they hand over.",
    "A spare is kept in the {} store, next to the gauges.",
    "The limit follows from the tests that were done at {} last spring.",
    "Staff in {} stop the line first when it is exceeded.",
]


@dataclass(frozen=True, slots=True)
class Made:
    """One record."""

    submission: pb.Submission
    vector: NDArray[np.float32]


def make_records(count: int, seed: int = 7) -> Iterator[Made]:
    """`count` records, the same for the same seed. Their submissions carry no embedding."""
    chance, numbers = random.Random(seed), np.random.default_rng(seed)
    topics = numbers.standard_normal((TOPICS, DIMENSION))
    kept: list[tuple[str, int, NDArray[np.float64]]] = []
    for number in range(count):
        kind = chance.random()
        if kept and kind < AGAIN_SHARE + CHANGED_SHARE:
            text, figure, near = chance.choice(kept)
            if kind < AGAIN_SHARE:
                text = text[0].lower() + text[1:-1]
            else:
                text = text.replace(f" {figure} ", f" {figure + chance.randint(1, 9)} ", 1)
            vector = near + 0.15 * np.linalg.norm(near) / np.sqrt(DIMENSION) * numbers.standard_normal(DIMENSION)
        else:
            text, figure = _statement(chance, number)
            vector = topics[chance.randrange(TOPICS)] + numbers.standard_normal(DIMENSION)
            kept.append((text, figure, vector))
        yield Made(_submission(text, number), (vector / np.linalg.norm(vector)).astype(np.float32))


def _statement(chance: random.Random, number: int) -> tuple[str, int]:
    """A statement of 80 to 400 characters and the figure in it."""
    figure = chance.randint(10, 9_999)
    thing, place = chance.choice(_THINGS), chance.choice(_PLACES)
    text = f"In {place}, {thing} number {number} {chance.choice(_DOES).format(figure)} under full load."
    length = chance.randint(80, 400)
    while True:
        more = chance.choice(_MORE).format(chance.choice(_PLACES))
        if len(text) > 80 and len(text) + 1 + len(more) > length:
            return text, figure
        text = f"{text} {more}"


def _submission(text: str, number: int) -> pb.Submission:
    return pb.Submission(
        namespace=NAMESPACE,
        submission_id=f"record-{number}",
        origin=pb.ORIGIN_COLLABORATIVE if number % 4 == 0 else pb.ORIGIN_EXPERT,
        modality=pb.MODALITY_TEXT,
        content=text,
        attributes={"line": str(number % 16), "kind": "figure"},
        provenance=pb.Provenance(producer=f"plant-{number % 8}", source="bench/records.py"),
    )
