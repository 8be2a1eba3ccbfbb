"""How large a filter may be."""

import pytest

from epistream.indexer.filters import check
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import InvalidInput

_EXPERT, _TEXT = pb.ORIGIN_EXPERT, pb.MODALITY_TEXT


def attributes(count: int) -> dict[str, str]:
    return {f"key {number}": "value" for number in range(count)}


@pytest.mark.parametrize(
    "largest",
    [
        pb.Filter(),
        pb.Filter(producers=["p" * 200] * 256),
        pb.Filter(origins=[_EXPERT] * 64, modalities=[_TEXT] * 64, producers=["p"] * 64, attributes=attributes(64)),
        pb.Filter(attributes={"k" * 100: "v" * 1000}),
    ],
    ids=["empty", "producers", "all parts", "characters"],
)
def test_the_largest_filters_are_taken(largest: pb.Filter) -> None:
    check(largest, "filter")


@pytest.mark.parametrize(
    ("larger", "field", "bound"),
    [
        (pb.Filter(origins=[_EXPERT] * 257), "filter", "256"),
        (pb.Filter(modalities=[_TEXT] * 257), "filter", "256"),
        (pb.Filter(producers=["p"] * 257), "filter", "256"),
        (pb.Filter(origins=[_EXPERT] * 100, producers=["p"] * 100, attributes=attributes(57)), "filter", "256"),
        (pb.Filter(attributes=attributes(65)), "filter.attributes", "64"),
        (pb.Filter(producers=["p", "p" * 201]), "filter.producers", "200"),
        (pb.Filter(attributes={"k" * 101: ""}), "filter.attributes", "100"),
        (pb.Filter(attributes={"k": "v" * 1001}), "filter.attributes", "1000"),
    ],
)
def test_what_is_larger_is_refused_with_the_bound(larger: pb.Filter, field: str, bound: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(larger, field="filter")
    (violation,) = refused.value.violations
    assert violation.field == field
    assert f"at most {bound} " in f"{violation.description} ".replace(",", " ")
