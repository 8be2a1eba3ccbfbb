"""A published work: what it is, how its records are published, and what is made of one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from epistream.clients.sources.drafts import Draft
from epistream.clients.sources.formats.files import Format
from epistream.clients.sources.record import Fields
from epistream.v1 import knowledge_pb2 as pb

Adapter: TypeAlias = Callable[[Fields], Iterable[Draft]]
"""What a record says: items, each after those that it was derived from, and the verdicts on them after them. Raises
UnreadableRecord when the record is not as the work publishes it."""
STAGES: Final = {
    "I": "crawl: collected from the web",
    "II": "annotation: written or judged by people",
    "III": "synthesis: made by models",
    "IV": "collaboration: made by people, models and programs together",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One published work."""

    name: str
    """As on the command line, such as `c4`: also the name of its producer and the beginning of its item ids."""
    title: str
    stage: str
    """I, II, III or IV."""
    modality: "pb.Modality.ValueType"
    origin: "pb.Origin.ValueType"
    """Of its main item; what stands beside it may have another."""
    formats: tuple[Format, ...]
    """What its files can be read as."""
    first: str = ""
    """A regular expression of the names of files that others were derived from, and that are read before them."""
    published: str
    """What a record is, in a line."""
    in_details: str = ""
    """What of it only `details` has, since submissions have no field for it."""
    licence: str = ""
    """An SPDX identifier; empty where each record has its own, or nobody has said."""
    unpublished: str = ""
    """What the authors keep to themselves, and whose shape the adapter follows then; empty when all is published."""
    adapter: Adapter
    mapping: str = ""
    """The digest of the mapping file that describes it; empty for a work of the table."""
