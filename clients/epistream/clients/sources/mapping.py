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
of it. What no template names is kept as `details`.

`media` is a list of images and videos, or parts of them. `start` and `end` are seconds, times such as `00:01:02.5`, or
durations in ISO 8601; `digest` is a SHA-256 in hexadecimal digits, or the field that holds the bytes.

    media:
      - uri: "{clip.file}"
        digest: "{clip.sha256}"
        start: "{clip.from}"
        end: "{clip.to}"

A record is one item. With `each` it is several: it names, without braces, a list whose entries are an item each, or
several fields that are. Templates call the entry `each`; an id that does not name it ends with its number.

    each: [chosen, rejected]
    content: "{each}"
    standing: [positive, negative]
"""

import functools
import hashlib
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Final

from epistream.clients.sources import judgements, templates
from epistream.clients.sources.drafts import Draft, Item, Part
from epistream.clients.sources.formats.files import FORMATS, PROBLEM_FOLDERS, Format
from epistream.clients.sources.formats.piece import needed, reading
from epistream.clients.sources.judgements import Judgement
from epistream.clients.sources.moments import seconds
from epistream.clients.sources.record import Fields, Json, UnreadableRecord, digest, shown
from epistream.clients.sources.spread import Place, Spread
from epistream.clients.sources.templates import EACH, Path, Template, WrongMapping, field_path, names_and_meanings
from epistream.clients.sources.work import STAGES, Work
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.limits import JUDGED_MAX

_TEMPLATES: Final = ("content", "id", "prompt", "source", "time", "generator", "producer", "licence")
MEDIA_KEYS: Final = ("uri", "role", "media_type", "digest", "start", "end")
_TESTS: Final = ("language", "setup", "check", "entry_point", "asserts")
KEYS: Final = (
    "work",
    "origin",
    "modality",
    "stage",
    "format",
    "each",
    "media",
    "attributes",
    "standing",
    "derived_from",
    "tests",
    "feedback",
    *_TEMPLATES,
)
_NAME_CHARACTERS: Final = frozenset(string.ascii_lowercase + string.digits + "-._")
_BY_FORMAT: Final = {kind.name.lower(): kind for kind in FORMATS}
_SHA_256: Final = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


def load(path: FilePath) -> Work:
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
    said = names_and_meanings(said, name, KEYS)
    for key in ("work", "origin", "modality"):
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
        adapter=_mapping(said, name, pb.Origin.Value(f"ORIGIN_{origin}"), pb.Modality.Value(f"MODALITY_{modality}")),
        mapping=digest(said),
    )


@dataclass(frozen=True, kw_only=True)
class _Mapping:
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
            if not 1 <= len(values) <= JUDGED_MAX:
                raise UnreadableRecord(".".join(self.each[0]), f"a list of 1 to {JUDGED_MAX}", f"one of {len(values)}")
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
        found = [*self.fields.values(), *self.labels.values(), *self.parents, *self.tests.values()]
        found += [one for part in self.media for one in part.values()]
        others = [*self.feedback, *([self.standing] if self.standing is not None else [])]
        return {path for one in [*found, *others] for path in one.paths}


def _mapping(
    said: Mapping[str, Json], name: str, origin: "pb.Origin.ValueType", modality: "pb.Modality.ValueType"
) -> _Mapping:
    where = f"{name}: "
    feedback = [
        judgements.parse(each, f"feedback[{i}]", f"{where}feedback[{i}]", several="each" in said)
        for i, each in enumerate(_list(said, "feedback", name))
    ]
    if "content" not in said and not (feedback and all(one.items is not None for one in feedback)):
        raise WrongMapping(f"{where}content: required, unless there is `feedback` that names its `items`")
    return _Mapping(
        origin=origin,
        modality=modality,
        each=_each(said, name),
        listed=isinstance(said.get("each"), str),
        fields={key: Template.parse(said[key], f"{where}{key}") for key in _TEMPLATES if key in said},
        labels={
            key: Template.parse(value, f"{where}attributes.{key}")
            for key, value in _table(said, "attributes", name).items()
        },
        standing=Spread.parse(said["standing"], "standing", f"{where}standing") if "standing" in said else None,
        parents=tuple(
            Template.parse(value, f"{where}derived_from[{i}]")
            for i, value in enumerate(_list(said, "derived_from", name))
        ),
        media=tuple(
            {
                key: Template.parse(value, f"{where}media[{i}].{key}")
                for key, value in names_and_meanings(part, f"{where}media[{i}]", MEDIA_KEYS).items()
            }
            for i, part in enumerate(_list(said, "media", name))
        ),
        tests={
            key: Template.parse(value, f"{where}tests.{key}")
            for key, value in names_and_meanings(said.get("tests", {}), f"{where}tests", _TESTS).items()
        },
        feedback=tuple(feedback),
    )


def _each(said: Mapping[str, Json], name: str) -> tuple[Path, ...]:
    if "each" not in said:
        return ()
    value = said["each"]
    if not isinstance(value, list):
        return (field_path(value, f"{name}: each"),)
    if not value:
        raise WrongMapping(f"{name}: each: expected the path of a list, or a list of fields, found a list of 0")
    return tuple(field_path(one, f"{name}: each[{i}]") for i, one in enumerate(value))


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


def _table(said: Mapping[str, Json], key: str, name: str) -> Mapping[str, Json]:
    value = said.get(key, {})
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
