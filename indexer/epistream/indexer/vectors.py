"""Vectors that somebody sent: what is wrong with them, and what they are at length one.

Many are looked at together. One by one, NumPy would let go of Python's lock and ask for it again in each, and beside a
busy thread every time waits for its turn.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.model import Vector
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import FieldViolation, InvalidInput

DIMENSION_MAX: Final = 8192
_LENGTH_MIN: Final = float(np.finfo(np.float32).tiny)
"""Below the smallest normal float32 a vector's numbers have too few digits left to give a direction."""

_Numbers: TypeAlias = NDArray[np.float32]


def form_violations(embedding: pb.Embedding, field: str) -> Iterator[FieldViolation]:
    """What is wrong with the form of a vector that somebody sent as `field`, whatever its numbers are."""
    if bool(embedding.float32) == bool(embedding.values):
        found = "both are set" if embedding.values else "neither is set"
        yield FieldViolation(field, f"exactly one of float32 and values is needed, {found}")
    elif len(embedding.float32) % 4:
        text = f"expected four bytes a dimension, found {len(embedding.float32)} bytes"
        yield FieldViolation(_form(embedding, field), text)
    elif (dimension := dimension_of(embedding)) > DIMENSION_MAX:
        yield FieldViolation(_form(embedding, field), f"at most {DIMENSION_MAX} dimensions, found {dimension}")


def dimension_of(embedding: pb.Embedding) -> int:
    """How many numbers a vector has whose form is right."""
    return len(embedding.float32) // 4 or len(embedding.values)


def unit_vectors(embeddings: Sequence[pb.Embedding], field: str) -> list[Vector | FieldViolation]:
    """Each vector that somebody sent as `field`, scaled to length one, or what is wrong with its numbers.

    Their form must be right (`form_violations`).
    """
    units: list[Vector | FieldViolation] = [FieldViolation(field, "")] * len(embeddings)
    by_dimension: defaultdict[int, list[int]] = defaultdict(list)
    for place, embedding in enumerate(embeddings):
        by_dimension[dimension_of(embedding)].append(place)
    for places in by_dimension.values():
        numbers = np.stack([_numbers(embeddings[place]) for place in places])
        with np.errstate(all="ignore"):  # what comes of numbers that are not finite is not used
            wide = numbers.astype(np.float64)  # in which no square overflows
            lengths = np.sqrt(np.square(wide).sum(axis=1))
            right = np.isfinite(lengths) & (lengths >= _LENGTH_MIN)
            rows = (wide / lengths[:, None]).astype(np.float32)
        for row, place in enumerate(places):
            wrong = None if right[row] else _violation(numbers[row], float(lengths[row]), embeddings[place], field)
            units[place] = wrong or rows[row]
    return units


def vector_of(embedding: pb.Embedding, field: str = "embedding") -> Vector:
    """The vector that somebody sent as `field`, scaled to length one.

    Raises:
        InvalidInput: it is no vector.
    """
    wrong = list(form_violations(embedding, field))
    if not wrong:
        [unit] = unit_vectors([embedding], field)
        if not isinstance(unit, FieldViolation):
            return unit
        wrong = [unit]
    raise InvalidInput("; ".join(f"{v.field}: {v.description}" for v in wrong), *wrong)


def _numbers(embedding: pb.Embedding) -> _Numbers:
    if embedding.float32:
        return np.frombuffer(embedding.float32, "<f4")
    return np.array(embedding.values, np.float32)


def _violation(numbers: _Numbers, length: float, embedding: pb.Embedding, field: str) -> FieldViolation:
    form = _form(embedding, field)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if not wrong.size:
        return FieldViolation(form, f"a vector needs a direction: its length is {length:g}")
    where = f"{form}[{wrong[0]}]" if embedding.values else form
    found = f"number {wrong[0]} is {numbers[wrong[0]]}, and {wrong.size} of {numbers.size} are not"
    return FieldViolation(where, f"every number must be finite: {found}")


def _form(embedding: pb.Embedding, field: str) -> str:
    return f"{field}.float32" if embedding.float32 else f"{field}.values"
