"""Which knowledge a filter lets through."""

from epistream.v1 import knowledge_pb2 as pb


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
