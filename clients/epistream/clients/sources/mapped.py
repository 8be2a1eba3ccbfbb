"""The adapter that a mapping file describes: what its templates make of a record."""

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from epistream.clients.sources import templates
from epistream.clients.sources.drafts import Draft, Item, Part
from epistream.clients.sources.judgements import Judgement
from epistream.clients.sources.moments import seconds
from epistream.clients.sources.record import Fields, Json, UnreadableRecord, shown
from epistream.clients.sources.spread import Place, Spread
from epistream.clients.sources.templates import EACH, Path, Template
from epistream.v1 import knowledge_pb2 as pb

_SHA_256: Final = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """An adapter that a mapping file describes."""

    origin: "pb.Origin.ValueType"
    modality: "pb.Modality.ValueType"
    each: tuple[Path, ...]
    """The path of a list whose entries are an item each, or those of several fields that are."""
    listed: bool
    """Whether it is a list."""
    fields: Mapping[str, Template]
    labels: Mapping[str, Template]
    standing: Spread | None
    parents: tuple[Template, ...]
    media: tuple[Mapping[str, Template], ...]
    tests: Mapping[str, Template]
    feedback: tuple[Judgement, ...]

    def __call__(self, record: Fields) -> Iterator[Draft]:
        """The items of a record, and the verdicts on them."""
        whole, key = record.rest(), record.digest()
        has_items = "content" in self.fields
        places = [self._place(key, *each) for each in self._entries(whole)] if has_items else []
        for place in places:
            yield self._item(whole, place)
        left = {} if has_items else templates.rest(whole, self._named) or {}
        for judgement in self.feedback:
            yield from judgement.verdicts(whole, places, left)

    def _entries(self, whole: Mapping[str, Json]) -> list[tuple[int, int, Mapping[str, Json]]]:
        """Of each item its number, of how many, and what templates see."""
        if not self.each:
            return [(0, 1, whole)]
        if self.listed:
            values = templates.entries(whole, self.each[0])
            if not values:
                raise UnreadableRecord(".".join(self.each[0]), "a list of one or more", "one of none")
        else:
            values = [templates.found(whole, each) for each in self.each]
        numbered = enumerate(values)
        return [(i, len(values), templates.view(whole, value)) for i, value in numbered if value not in (None, "")]

    def _place(self, digest_of_record: str, number: int, count: int, seen: Mapping[str, Json]) -> Place:
        """The id of an item. Where it does not say which entry it is of, the entry's number does."""
        key = digest_of_record
        if "id" in self.fields:
            key = Fields({"id": self._required("id", seen)}).name("id")
        named = "id" in self.fields and any(path[0] == EACH for path in self.fields["id"].paths)
        return Place(f"{key}/{number}" if self.each and not named else key, number, count, seen)

    def _required(self, key: str, seen: Mapping[str, Json]) -> str:
        said = self.fields[key].text(seen)
        if said is None:
            lacking = ", ".join(sorted(".".join(path) for path in self.fields[key].paths))
            raise UnreadableRecord(key, f"the fields that it names: {lacking}", "a record that lacks one")
        return said

    def _item(self, whole: Mapping[str, Json], place: Place) -> Item:
        seen = place.view
        made = {key: one.text(seen) or "" for key, one in self.fields.items() if key not in ("content", "id")}
        checked = Fields({**made, "content": self._required("content", seen)})
        standing = self.standing.of([place])[0] if self.standing is not None else None
        if standing not in (None, "positive", "negative"):
            raise UnreadableRecord("standing", "positive or negative", shown(standing))
        return Item(
            key=place.key,
            content=checked.text("content"),
            origin=self.origin,
            modality=self.modality,
            prompt=checked.words("prompt"),
            source=checked.maybe_address("source"),
            time=checked.maybe_time("time"),
            producer=checked.maybe_name("producer"),
            generator=checked.maybe_name("generator"),
            parents=tuple(parent for one in self.parents if (parent := one.text(seen))),
            licence=checked.maybe_name("licence"),
            media=tuple(_part(part, seen, f"media[{i}]") for i, part in enumerate(self.media)),
            tests=_tests({key: one.text(seen) or "" for key, one in self.tests.items()}) if self.tests else None,
            labels={key: one.text(seen) or "" for key, one in self.labels.items()},
            negative=standing == "negative",
            details=self._left(whole, seen),
        )

    def _left(self, whole: Mapping[str, Json], seen: Mapping[str, Json]) -> Mapping[str, Json]:
        """What nothing names: of the record, and as `each` of the entry."""
        if not self.each:
            return templates.rest(whole, self._named) or {}
        left = templates.rest(whole, {path for path in self._named if path[0] != EACH}.union(self.each)) or {}
        of_entry = templates.rest(seen[EACH], {path[1:] for path in self._named if path[0] == EACH})
        return {**left, EACH: of_entry} if isinstance(of_entry, Mapping) else left

    @functools.cached_property
    def _named(self) -> set[Path]:
        """The fields that are named anywhere."""
        found: list[Template | Spread | Judgement] = [*self.fields.values(), *self.labels.values(), *self.parents]
        found += [*self.tests.values(), *self.feedback, *([] if self.standing is None else [self.standing])]
        found += [one for part in self.media for one in part.values()]
        return {path for one in found for path in one.paths}


def _part(part: Mapping[str, Template], seen: Mapping[str, Json], path: str) -> Part:
    said = Fields({key: one.text(seen) or "" for key, one in part.items() if key != "digest"}, path)
    role = said.maybe_name("role")
    return Part(
        uri=said.address("uri"),
        role=role[:100],
        media_type=said.maybe_name("media_type"),
        digest=_digest(part["digest"].value(seen), f"{path}.digest") if "digest" in part else "",
        start_seconds=seconds(said, "start") if "start" in said else None,
        end_seconds=seconds(said, "end") if "end" in said else None,
    )


def _digest(value: Json, path: str) -> str:
    """That of a text as it is, that of bytes made."""
    if value is None or value == "":
        return ""
    if isinstance(value, bytes):
        return f"sha256:{hashlib.sha256(value).hexdigest()}"
    said = _SHA_256.fullmatch(value) if isinstance(value, str) else None
    if said is None:
        raise UnreadableRecord(path, "64 hexadecimal digits of SHA-256, or the bytes themselves", shown(value))
    return f"sha256:{said[1].lower()}"


def _tests(said: dict[str, str]) -> pb.Tests:
    """Statements are separated by line ends."""
    return pb.Tests(
        language=said.get("language", "") or "python",
        setup=said.get("setup", ""),
        check=said.get("check", ""),
        entry_point=said.get("entry_point", ""),
        asserts=[line for line in said.get("asserts", "").splitlines() if line.strip()],
    )
