"""The templates of a mapping file: texts with fields of the record in braces, by their paths."""

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from epistream.clients.sources.record import Json, UnreadableRecord, shown
from epistream.wire.errors import EpistreamError

EACH: Final = "each"
"""What the entry of a list is called, where a mapping goes through one."""
Path: TypeAlias = tuple[str, ...]
"""Names of fields and numbers of places in lists, from the outermost to the innermost."""


class WrongMapping(EpistreamError):
    """A mapping file does not say how records become submissions."""

    default_reason = "USAGE"


@dataclass(frozen=True, slots=True)
class Template:
    """A text with fields in it."""

    parts: tuple[tuple[str, Path], ...]
    """Texts, each with the path of the field after it; the last one's is empty where the text ends with it."""

    @classmethod
    def parse(cls, value: Json, path: str) -> "Template":
        """The template that stands at `path` of a mapping file. Raises WrongMapping."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise WrongMapping(f"{path}: expected a text, found {shown(value)}")
        try:
            parts = list(string.Formatter().parse(str(value)))
        except ValueError as error:
            raise WrongMapping(f"{path}: expected a text with fields such as {{name}}: {error}") from error
        for _, field, spec, conversion in parts:
            if field is not None and (not field.strip() or spec or conversion):
                raise WrongMapping(
                    f"{path}: expected fields such as {{name}} or {{answers.0.text}}, found {shown(value)}"
                )
        return cls(tuple((literal, tuple((field or "").split(".")) if field else ()) for literal, field, _, _ in parts))

    @property
    def paths(self) -> set[Path]:
        """The fields that it names."""
        return {path for _, path in self.parts if path}

    def text(self, record: Json) -> str | None:
        """What it says of a record; None where that lacks a part of it. Raises UnreadableRecord."""
        said = [(literal, _text(record, path) if path else "") for literal, path in self.parts]
        return None if any(value is None for _, value in said) else "".join(f"{one}{value}" for one, value in said)

    def value(self, record: Json) -> Json:
        """The value of the field where it is nothing but one field; else what it says. Raises as `text`."""
        if len(self.parts) == 1 and not self.parts[0][0] and self.parts[0][1]:
            return found(record, self.parts[0][1])
        return self.text(record)


def field_path(value: Json, path: str) -> Path:
    """The path of a field, which stands at `path` of a mapping file without braces. Raises WrongMapping."""
    if not isinstance(value, str) or not value.strip() or "{" in value:
        raise WrongMapping(
            f"{path}: expected the path of a field, such as answers, without braces, found {shown(value)}"
        )
    return tuple(value.split("."))


def found(record: Json, path: Path) -> Json:
    """What stands at a path; None where nothing does."""
    value = record
    for step in path:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list | tuple) and step.isdecimal() and len(step) < 10:
            value = value[int(step)] if int(step) < len(value) else None
        else:
            return None
    return value


def entries(record: Mapping[str, Json], path: Path) -> list[Json]:
    """The entries of the list at a path; none where nothing stands there. Raises UnreadableRecord: it is no list."""
    value = found(record, path)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise UnreadableRecord(".".join(path), "a list", shown(value))
    return list(value)


def view(record: Mapping[str, Json], entry: Json) -> dict[str, Json]:
    """A record as templates see it while they go through a list."""
    return {**record, EACH: entry}


def rest(value: Json, paths: Iterable[Path]) -> Json:
    """What no path names; None where nothing is left. Of a list of which something is left, all is kept."""
    paths = set(paths)
    if not paths or () in paths:
        return None if paths else value
    if isinstance(value, Mapping):
        left = {key: rest(each, _below(paths, key)) for key, each in value.items()}
        return {key: each for key, each in left.items() if each is not None} or None
    if isinstance(value, list | tuple):
        return value if any(rest(each, _below(paths, str(i))) is not None for i, each in enumerate(value)) else None
    return value


def plain_value(value: Json, path: Path) -> str:
    """A text or a number as text. Raises UnreadableRecord: it is something else."""
    if isinstance(value, Mapping | list | tuple | bytes):
        raise UnreadableRecord(".".join(path), "a text or a number", shown(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def names_and_meanings(value: Json, path: str, allowed: Sequence[str]) -> Mapping[str, Any]:
    """An object with none but the allowed keys. Raises WrongMapping."""
    if not isinstance(value, Mapping):
        raise WrongMapping(f"{path}: expected names and what they mean, found {shown(value)}")
    for key in value:
        if key not in allowed:
            raise WrongMapping(f"{path}: nothing is called {key!r}; expected {', '.join(allowed)}")
    return value


def choice(value: Json, path: str, allowed: Sequence[str]) -> str:
    """One of some words, whatever its case. Raises WrongMapping."""
    if not isinstance(value, str) or value.upper() not in allowed:
        raise WrongMapping(f"{path}: expected one of {', '.join(allowed)}, found {shown(value)}")
    return value.upper()


def _text(record: Json, path: Path) -> str | None:
    value = found(record, path)
    return None if value is None else plain_value(value, path)


def _below(paths: Iterable[Path], step: str) -> Iterator[Path]:
    return (path[1:] for path in paths if path[0] == step)
