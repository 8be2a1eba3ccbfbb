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

import string
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Final

from epistream.clients.sources import judgements
from epistream.clients.sources.formats.files import FORMATS, PROBLEM_FOLDERS, Format
from epistream.clients.sources.formats.piece import needed, reading
from epistream.clients.sources.mapped import Mapped
from epistream.clients.sources.record import Json, digest, shown
from epistream.clients.sources.spread import Spread
from epistream.clients.sources.templates import Path, Template, WrongMapping, choice, field_path, names_and_meanings
from epistream.clients.sources.work import STAGES, Work
from epistream.v1 import knowledge_pb2 as pb

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
    origin = choice(said["origin"], f"{name}: origin", [each.removeprefix("ORIGIN_") for each in pb.Origin.keys()[1:]])
    if origin == "SYNTHETIC" and "generator" not in said:
        raise WrongMapping(f"{name}: generator: required with the origin SYNTHETIC: the model that made it")
    modality = choice(
        said["modality"], f"{name}: modality", [each.removeprefix("MODALITY_") for each in pb.Modality.keys()[1:]]
    )
    return Work(
        name=work,
        title=work,
        stage=choice(said["stage"], f"{name}: stage", list(STAGES)) if "stage" in said else "",
        modality=pb.Modality.Value(f"MODALITY_{modality}"),
        origin=pb.Origin.Value(f"ORIGIN_{origin}"),
        formats=_formats(said, name),
        published=f"as {name} says",
        adapter=_mapping(said, name, pb.Origin.Value(f"ORIGIN_{origin}"), pb.Modality.Value(f"MODALITY_{modality}")),
        mapping=_digest(said),
    )


def _digest(said: Json) -> str:
    """Stands for all that is said. YAML takes `yes` and `7` for other things than words, and all cannot be sorted."""
    try:
        return digest(said)
    except TypeError:
        return digest(_by_words(said))


def _by_words(said: Json) -> Json:
    """The same with texts for names, as `Spread` has them."""
    if isinstance(said, Mapping):
        words = (str(name).lower() if isinstance(name, bool) else str(name) for name in said)
        return dict(zip(words, map(_by_words, said.values()), strict=True))
    return [_by_words(each) for each in said] if isinstance(said, list) else said


def _mapping(
    said: Mapping[str, Json], name: str, origin: "pb.Origin.ValueType", modality: "pb.Modality.ValueType"
) -> Mapped:
    where = f"{name}: "
    feedback = [
        judgements.parse(each, f"feedback[{i}]", f"{where}feedback[{i}]", several="each" in said)
        for i, each in enumerate(_list(said, "feedback", name))
    ]
    if "content" not in said and not (feedback and all(one.items is not None for one in feedback)):
        raise WrongMapping(f"{where}content: required, unless there is `feedback` that names its `items`")
    return Mapped(
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


def _formats(said: Mapping[str, Json], name: str) -> tuple[Format, ...]:
    """The one that is said, or any that a file's name tells; of TFRecord and folders the shape is not known."""
    if "format" not in said:
        return tuple(kind for kind in FORMATS if kind.name not in {"TFRecord of protobuf", PROBLEM_FOLDERS.name})
    wanted = said["format"]
    if not isinstance(wanted, str) or wanted.lower() not in _BY_FORMAT:
        raise WrongMapping(f"{name}: format: expected one of {', '.join(_BY_FORMAT)}, found {shown(wanted)}")
    return (_BY_FORMAT[wanted.lower()],)
