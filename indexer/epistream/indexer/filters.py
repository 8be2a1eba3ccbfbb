"""Which knowledge a filter lets through, and how large a filter may be."""

from typing import Final

from epistream.indexer.rules import ATTRIBUTES_MAX
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import InvalidInput
from epistream.wire.limits import ID_CHARACTERS_MAX, VALUE_CHARACTERS_MAX, WORD_CHARACTERS_MAX

ENTRIES_MAX: Final = 256
"""Origins, modalities, producers and attributes together: each change that is pushed is compared with them."""


def check(filter: pb.Filter, field: str) -> None:  # noqa: A002 - the word of the contract
    """Raise InvalidInput where a request's filter is larger than one may be; `field` is its place in the request."""
    entries = len(filter.origins) + len(filter.modalities) + len(filter.producers) + len(filter.attributes)
    if entries > ENTRIES_MAX:
        raise InvalidInput.at(
            field, f"at most {ENTRIES_MAX} origins, modalities, producers and attributes together, found {entries}"
        )
    if len(filter.attributes) > ATTRIBUTES_MAX:
        raise InvalidInput.at(f"{field}.attributes", f"at most {ATTRIBUTES_MAX}, found {len(filter.attributes)}")
    for part, what, characters_max, texts in (
        ("producers", "a name", ID_CHARACTERS_MAX, filter.producers),
        ("attributes", "a key", WORD_CHARACTERS_MAX, filter.attributes),
        ("attributes", "a value", VALUE_CHARACTERS_MAX, filter.attributes.values()),
    ):
        longest = max(map(len, texts), default=0)
        if longest > characters_max:
            raise InvalidInput.at(f"{field}.{part}", f"{what} has at most {characters_max} characters, found {longest}")


def is_empty(filter: pb.Filter) -> bool:  # noqa: A002 - the word of the contract
    """Whether it lets everything through."""
    return not (filter.origins or filter.modalities or filter.producers or filter.attributes)


def matches(filter: pb.Filter, knowledge: pb.Knowledge) -> bool:  # noqa: A002 - the word of the contract
    """Whether every part of `filter` that is set lets `knowledge` through."""
    return (
        (not filter.origins or knowledge.origin in filter.origins)
        and (not filter.modalities or knowledge.modality in filter.modalities)
        and (not filter.producers or knowledge.provenance.producer in filter.producers)
        and all(knowledge.attributes.get(name) == value for name, value in filter.attributes.items())
    )
