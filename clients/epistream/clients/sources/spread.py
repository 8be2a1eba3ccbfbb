"""What a mapping file says of each of several items: a text, a list of one for each, or the meaning of a word."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from epistream.clients.sources.record import Json, UnreadableRecord, shown
from epistream.clients.sources.templates import Path, Template, WrongMapping, plain_value


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item stands in its record."""

    key: str
    """Its name within the work."""
    number: int
    """Of its entry in the list, from 0."""
    count: int
    """How many entries there are."""
    view: Mapping[str, Json]
    """The record as templates see it there."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A value for each of several items."""

    path: str
    """As errors of records name it."""
    by: Template
    """The value, or a list of them, or a word."""
    listed: "tuple[Template, ...] | None" = None
    """One for each, in place of `by`."""
    meaning: "Mapping[str, Spread] | None" = None
    """What each word of `by` means."""

    @classmethod
    def parse(cls, value: Json, path: str, where: str) -> "Spread":
        """What stands at `where` of a mapping file, which errors of records call `path`. Raises WrongMapping."""
        if isinstance(value, list):
            listed = tuple(Template.parse(each, f"{where}[{i}]") for i, each in enumerate(value))
            return cls(path, Template(()), listed)
        if not isinstance(value, Mapping):
            return cls(path, Template.parse(value, where))
        if len(value) != 1 or not isinstance(next(iter(value.values())), Mapping):
            raise WrongMapping(
                f'{where}: expected one field and what its words mean, such as {{"{{winner}}": {{a: 1}}}}'
            )
        ((field, meaning),) = value.items()
        words = {
            str(word).lower() if isinstance(word, bool) else str(word): cls.parse(each, path, f"{where}.{word}")
            for word, each in meaning.items()
        }
        return cls(path, Template.parse(field, where), None, words)

    @property
    def paths(self) -> set[Path]:
        """The fields that it names."""
        inside = (self.listed or ()) if self.meaning is None else self.meaning.values()
        return self.by.paths.union(*(one.paths for one in inside))

    def of(self, group: Sequence[Place]) -> list[str | None]:
        """The value of each item; None where the record has none. Raises UnreadableRecord."""
        return [self.at(one) for one in group]

    def all(self, seen: Mapping[str, Json]) -> list[str]:
        """All the values that a record has. Raises UnreadableRecord."""
        if self.listed is not None:
            return [said for one in self.listed if (said := one.text(seen))]
        value = self.by.value(seen)
        if isinstance(value, list | tuple):
            return [self._plain(each) for each in value if each is not None]
        return [] if value is None else [self._plain(value)]

    def at(self, place: Place) -> str | None:
        """The value of one item. As `of`."""
        if self.meaning is not None:
            word = self.by.text(place.view)
            if not word:
                return None
            if word not in self.meaning:
                raise UnreadableRecord(self.path, f"one of {', '.join(self.meaning)}", shown(word))
            return self.meaning[word].at(place)
        if self.listed is not None:
            self._check(place, len(self.listed))
            return self.listed[place.number].text(place.view)
        value = self.by.value(place.view)
        if isinstance(value, list | tuple):
            self._check(place, len(value))
            return None if value[place.number] is None else self._plain(value[place.number])
        return None if value is None or value == "" else self._plain(value)

    def _check(self, place: Place, found: int) -> None:
        if found != place.count:
            raise UnreadableRecord(self.path, f"a list of {place.count}, one for each item", f"one of {found}")

    def _plain(self, value: Json) -> str:
        return plain_value(value, (self.path,))
