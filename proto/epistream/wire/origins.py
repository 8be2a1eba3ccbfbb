"""Who answers for knowledge."""

from typing import Final

from epistream.v1 import knowledge_pb2 as pb

PEOPLE: Final = frozenset({pb.ORIGIN_EXPERT, pb.ORIGIN_COLLABORATIVE})
"""The origins of what people answer for. It goes ahead of all other (docs/decisions/0022)."""
