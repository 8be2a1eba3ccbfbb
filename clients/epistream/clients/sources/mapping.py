"""Mapping files: how records that are of no work of the table become submissions, in YAML.

    work: clinic-notes            # names the source, and begins the item ids
    origin: EXPERT
    modality: TEXT
    content: "{note.text}"        # a field of the record, by its path
    id: "{ward}-{number}"         # a template of several; without one it is the record's digest
    time: "{written}"
    licence: CC-BY-4.0            # a constant
    attributes:
      ward: "{ward}"

`{{` and `}}` stand for braces. A path goes by the names of fields and the numbers of places in lists, such as
`{answers.0.text}`. Content and id have to be in every record; any other field is left out where the record lacks a part
of it. The fields that no template names are kept as `details`.
"""

import string
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from epistream.clients.sources.drafts import Draft, Item, Part
from epistream.clients.sources.formats.files import FORMATS, PROBLEM_FOLDERS, Format
from epistream.clients.sources.formats.piece import needed, reading
from epistream.clients.sources.record import Fields, Json, UnreadableRecord, digest, shown
from epistream.clients.sources.work import STAGES, Work
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import EpistreamError

_TEMPLATES: Final = ("content", "id", "prompt", "source", "time", "generator", "producer", "licence")
_MEDIA: Final = ("uri", "role", "media_type")
_TESTS: Final = ("language", "setup", "check", "entry_point", "asserts")
KEYS: Final = (
    "work",
    "origin",
    "modality",
    "stage",
    "format",
    "media",
    "attributes",
    "derived_from",
    "tests",
    *_TEMPLATES,
)
_NAME_CHARACTERS: Final = frozenset(string.ascii_lowercase + string.digits + "-._")
_BY_FORMAT: Final = {kind.name.lower(): kind for kind in FORMATS}

_Template = Callable[[Json], str | None]
"""What a template says of a record; None where the record lacks a part of it."""


class WrongMapping(EpistreamError):
    """A mapping file does not say how records become submissions."""

    default_reason = "USAGE"


def load(path: Path) -> Work:
    """The work that a mapping file describes.

    Raises:
        WrongMapping: it is no mapping; the message says where and why.
        CannotRead: the file cannot be read.
        NeedsExtra: PyYAML is not installed.
    """
    yaml = needed("yaml", "a mapping file")
    with reading(path):
        text = path.read_text("utf-8")
    try:
        said = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise WrongMapping(f"{path} is not YAML: {error}") from error
    return parse(said, str(path))


def parse(said: Json, name: str) -> Work:
    """The work that `said` describes, read from the file `name`. Raises WrongMapping."""
    said = _mapping(said, name, KEYS)
    for key in ("work", "origin", "modality", "content"):
        if key not in said:
            raise WrongMapping(f"{name}: {key}: required")
    work = said["work"]
    if not isinstance(work, str) or not work or set(work) - _NAME_CHARACTERS or len(work) > 60:
        raise WrongMapping(f"{name}: work: expected 1 to 60 of a-z, 0-9, '-', '_' and '.', found {shown(work)}")
    origin = _choice(said, "origin", name, [each.removeprefix("ORIGIN_") for each in pb.Origin.keys()[1:]])
    if origin == "SYNTHETIC" and "generator" not in said:
        raise WrongMapping(f"{name}: generator: required with the origin SYNTHETIC: the model that made it")
    modality = _choice(said, "modality", name, [each.removeprefix("MODALITY_") for each in pb.Modality.keys()[1:]])
    return Work(
        name=work,
        title=work,
        stage=_choice(said, "stage", name, list(STAGES)) if "stage" in said else "",
        modality=pb.Modality.Value(f"MODALITY_{modality}"),
        origin=pb.Origin.Value(f"ORIGIN_{origin}"),
        formats=_formats(said, name),
        published=f"as {name} says",
        adapter=_adapter(said, name, pb.Origin.Value(f"ORIGIN_{origin}"), pb.Modality.Value(f"MODALITY_{modality}")),
        mapping=digest(said),
    )


def _adapter(
    said: Mapping[str, Json], name: str, origin: "pb.Origin.ValueType", modality: "pb.Modality.ValueType"
) -> Callable[[Fields], Iterator[Draft]]:
    used: set[str] = set()

    def template(value: Json, path: str) -> _Template:
        return _template(value, f"{name}: {path}", used)

    fields = {key: template(said[key], key) for key in _TEMPLATES if key in said}
    labels = {key: template(value, f"attributes.{key}") for key, value in _table(said, "attributes", name).items()}
    parents = [template(value, f"derived_from[{i}]") for i, value in enumerate(_list(said, "derived_from", name))]
    media = [
        {
            key: template(value, f"media[{i}].{key}")
            for key, value in _mapping(part, f"{name}: media[{i}]", _MEDIA).items()
        }
        for i, part in enumerate(_list(said, "media", name))
    ]
    tests = {key: template(value, f"tests.{key}") for key, value in _table(said, "tests", name, _TESTS).items()}

    def adapt(record: Fields) -> Iterator[Draft]:
        whole = record.rest()
        found = {key: one(whole) for key, one in fields.items()}
        for key in ("content", "id"):
            if key in found and found[key] is None:
                raise UnreadableRecord(key, f"the fields that {shown(said[key])} names", "a record that lacks one")
        made = {key: value or "" for key, value in found.items()}
        checked = Fields(made)
        yield Item(
            key=checked.name("id") if "id" in fields else record.digest(),
            content=checked.text("content"),
            origin=origin,
            modality=modality,
            prompt=checked.words("prompt"),
            source=checked.maybe_address("source"),
            time=checked.maybe_time("time"),
            producer=checked.maybe_name("producer"),
            generator=checked.maybe_name("generator"),
            parents=tuple(parent for one in parents if (parent := one(whole))),
            licence=checked.maybe_name("licence"),
            media=tuple(_part({key: one(whole) or "" for key, one in part.items()}) for part in media),
            tests=_tests({key: one(whole) or "" for key, one in tests.items()}) if tests else None,
            labels={key: one(whole) or "" for key, one in labels.items()},
            details={key: value for key, value in whole.items() if key not in used},
        )

    return adapt


def _template(value: Json, path: str, used: set[str]) -> _Template:
    """The template of a text; `used` gains the fields that it names."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise WrongMapping(f"{path}: expected a text, found {shown(value)}")
    try:
        parts = list(string.Formatter().parse(str(value)))
    except ValueError as error:
        raise WrongMapping(f"{path}: expected a text with fields such as {{name}}: {error}") from error
    for _, field, spec, conversion in parts:
        if field is not None and (not field.strip() or spec or conversion):
            raise WrongMapping(f"{path}: expected fields such as {{name}} or {{answers.0.text}}, found {shown(value)}")
        used |= {field.partition(".")[0]} if field else set()

    def say(record: Json) -> str | None:
        said = [(literal, _found(record, field) if field else "") for literal, field, _, _ in parts]
        return None if any(value is None for _, value in said) else "".join(f"{one}{value}" for one, value in said)

    return say


def _found(record: Json, path: str) -> str | None:
    """What stands at a path, as text; None where nothing does."""
    value = record
    for step in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list | tuple) and step.isdecimal() and len(step) < 10:
            value = value[int(step)] if int(step) < len(value) else None
        else:
            value = None
    if value is None:
        return None
    if isinstance(value, Mapping | list | tuple | bytes):
        raise UnreadableRecord(path, "a text or a number", shown(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _part(said: dict[str, str]) -> Part:
    fields = Fields(said)
    return Part(uri=fields.address("uri"), role=fields.maybe_name("role")[:100], media_type=said.get("media_type", ""))


def _tests(said: dict[str, str]) -> pb.Tests:
    """Statements are separated by line ends."""
    return pb.Tests(
        language=said.get("language", "") or "python",
        setup=said.get("setup", ""),
        check=said.get("check", ""),
        entry_point=said.get("entry_point", ""),
        asserts=[line for line in said.get("asserts", "").splitlines() if line.strip()],
    )


def _mapping(value: Json, name: str, allowed: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise WrongMapping(f"{name}: expected names and what they mean, found {shown(value)}")
    for key in value:
        if key not in allowed:
            raise WrongMapping(f"{name}: nothing is called {key!r}; expected {', '.join(allowed)}")
    return value


def _table(said: Mapping[str, Json], key: str, name: str, allowed: tuple[str, ...] = ()) -> Mapping[str, Json]:
    value = said.get(key, {})
    if allowed:
        return _mapping(value, f"{name}: {key}", allowed)
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for each in value):
        raise WrongMapping(f"{name}: {key}: expected names and what they mean, found {shown(value)}")
    return value


def _list(said: Mapping[str, Json], key: str, name: str) -> list[Json]:
    value = said.get(key, [])
    if not isinstance(value, list):
        raise WrongMapping(f"{name}: {key}: expected a list, found {shown(value)}")
    return value


def _choice(said: Mapping[str, Json], key: str, name: str, allowed: list[str]) -> str:
    value = said[key]
    if not isinstance(value, str) or value.upper() not in allowed:
        raise WrongMapping(f"{name}: {key}: expected one of {', '.join(allowed)}, found {shown(value)}")
    return value.upper()


def _formats(said: Mapping[str, Json], name: str) -> tuple[Format, ...]:
    """The one that is said, or any that a file's name tells; of TFRecord and folders the shape is not known."""
    if "format" not in said:
        return tuple(kind for kind in FORMATS if kind.name not in {"TFRecord of protobuf", PROBLEM_FOLDERS.name})
    wanted = said["format"]
    if not isinstance(wanted, str) or wanted.lower() not in _BY_FORMAT:
        raise WrongMapping(f"{name}: format: expected one of {', '.join(_BY_FORMAT)}, found {shown(wanted)}")
    return (_BY_FORMAT[wanted.lower()],)
