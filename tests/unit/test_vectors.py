"""Vectors that somebody sent: told by their field what is wrong with them, and scaled, alone and together alike."""

import numpy as np
import pytest

from epistream.indexer.vectors import unit_vectors, vector_of
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import FieldViolation, InvalidInput


@pytest.mark.parametrize("numbers", [[3e38] * 8192, [1.2e-38, 0, 0], [1e-30] * 100, [5.0]])
def test_a_vector_is_scaled_to_length_one_without_overflow(numbers: list[float]) -> None:
    exact = np.array(numbers, np.float32).astype(np.float64)
    expected = exact / np.linalg.norm(exact)
    in_bytes = pb.Embedding(float32=np.array(numbers, "<f4").tobytes())
    for embedding in (in_bytes, pb.Embedding(values=numbers)):
        scaled = vector_of(embedding)
        assert scaled.dtype == np.float32
        assert scaled == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("embedding", "path"),
    [
        (pb.Embedding(), "vector"),
        (pb.Embedding(values=[1, float("inf")]), "vector.values[1]"),
        (pb.Embedding(float32=bytes(8)), "vector.float32"),
        (pb.Embedding(float32=b"\0\0\x81\x7f"), "vector.float32"),
    ],
    ids=["nothing", "infinity", "zeros", "signalling NaN"],
)
def test_a_wrong_vector_is_refused_under_the_name_of_its_field(embedding: pb.Embedding, path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        vector_of(embedding, "vector")
    assert [violation.field for violation in caught.value.violations] == [path]


def test_many_of_several_dimensions_are_what_each_is_alone() -> None:
    rng = np.random.default_rng(3)
    sent = [pb.Embedding(float32=rng.standard_normal(d).astype("<f4").tobytes()) for d in (3, 700, 3, 1, 700, 3)]
    sent[2] = pb.Embedding(values=[1, float("nan"), 2])
    units = unit_vectors(sent, "embedding")
    for place, (unit, embedding) in enumerate(zip(units, sent, strict=True)):
        if place == 2:
            assert isinstance(unit, FieldViolation)
            assert unit.field == "embedding.values[1]"
        else:
            assert isinstance(unit, np.ndarray)
            assert unit.tobytes() == vector_of(embedding).tobytes()


def test_of_none_there_are_none() -> None:
    assert unit_vectors([], "embedding") == []
