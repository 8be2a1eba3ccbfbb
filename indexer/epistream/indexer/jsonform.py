"""The protobuf's JSON form, read strictly and with a path for everything that is wrong.

The library converts the values. This walk stands above it because the library stops at the first mistake, says where
only sometimes, lets a field that is given under both of its names win the second time, and takes as base64 what is
not. The form is that of https://protobuf.dev/programming-guides/json/: keys in camel case or as in the .proto, null
means unset.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from epistream.indexer.rules import VIOLATIONS_MAX
from epistream.indexer.texts import shown
from epistream.indexer.vectors import DIMENSION_MAX
from epistream.wire.errors import FieldViolation

DEPTH_MAX: Final = 16
"""Of objects and arrays in each other. A submission has four, and more only in `details`."""
ELEMENTS_MAX: Final = DIMENSION_MAX
"""Of one object or array. No field of a submission takes more."""

_TOKEN: Final = re.compile(r'"(?:[^"\\]++|\\.?)*+"?|[\[{]|[\]}]', re.DOTALL)
"""A string or a bracket. Possessive: a string without an end is not tried again from each of its quotes."""
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_HALF: Final = re.compile("[\ud800-\udfff]")
"""Half of a character. JSON's escapes can say it, no text has it."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
_EXPECTED: Final = {
    FieldDescriptor.TYPE_STRING: "a string of Unicode characters",
    FieldDescriptor.TYPE_BYTES: "a string in base64",
    FieldDescriptor.TYPE_BOOL: "true or false",
    FieldDescriptor.TYPE_UINT32: "a whole number from 0 to 4294967295",
    FieldDescriptor.TYPE_UINT64: "a whole number that is not negative, or a string with one",
    FieldDescriptor.TYPE_FLOAT: "a number that float32 can hold",
    FieldDescriptor.TYPE_DOUBLE: "a number",
}
_WHOLE: Final = {
    "google.protobuf.Timestamp": "a time such as 2026-01-31T12:00:00Z",
    "google.protobuf.Duration": "seconds such as 1.5s",
    "google.protobuf.Struct": "an object of strings of Unicode characters, finite numbers, true, false, null, arrays"
    " and objects, no key given twice",
}
"""Messages with a JSON form of their own, which the library reads as a whole."""


_REFUSED: Final = frozenset[str]()
_WHOLE_MAX: Final = 2**53
"""A Struct's numbers are float64: it holds whole numbers up to this exactly. A longer one is given as a string."""


@dataclass(frozen=True, slots=True)
class _Object:
    """A JSON object as it was written: a dictionary would hide a key that is given twice."""

    pairs: list[tuple[str, Any]]


def merge(value: bytes, message: Message) -> list[FieldViolation]:
    """Set the fields of `message` from its JSON form.

    Returns what is wrong, at most VIOLATIONS_MAX, with paths in the names of the .proto; empty when all was read. Then
    some of what is right may be set all the same. Raises nothing, whatever the bytes.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return [FieldViolation("", f"JSON is UTF-8: byte 0x{value[error.start]:02x} at {error.start}: {error.reason}")]
    if _deeper_than(DEPTH_MAX, text):
        return [FieldViolation("", f"at most {DEPTH_MAX} objects and arrays in each other")]
    try:
        tree = json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        return [FieldViolation("", f"these bytes are no JSON: {error}")]
    except ValueError:
        return [FieldViolation("", "a whole number in it has more digits than can be read")]
    found: list[FieldViolation] = []
    for violation in _merge(tree, message, ""):
        found.append(violation)
        if len(found) == VIOLATIONS_MAX:
            break
    return found


def _merge(tree: object, message: Message, path: str) -> Iterator[FieldViolation]:
    """Set the fields of a message. Its plain fields are converted in one go, and one by one only if that fails."""
    if not isinstance(tree, _Object):
        yield FieldViolation(path, f"expected an object, found {_shown(tree)}")
        return
    fields = _fields(message.DESCRIPTOR)
    seen: set[str] = set()
    leaves: dict[str, object] = {}
    for name, value in tree.pairs:
        field = fields.get(name)
        if field is None:
            known = ", ".join(known.json_name for known in message.DESCRIPTOR.fields)
            yield FieldViolation(_at(path, name), f"there is no such field, only {known}")
            continue
        where = _at(path, field.name)
        if field.name in seen:
            yield FieldViolation(where, "given twice")
        seen.add(field.name)
        if value is None:
            continue
        if _is_map(field):
            yield from _merge_map(value, message, field, where)
        elif _is_nested(field) and field.is_repeated:
            yield from _merge_list(value, message, field, where)
        elif _is_nested(field):
            part = getattr(message, field.name)
            part.SetInParent()
            yield from _merge(value, part, where)
        else:
            leaves[field.name] = _plain(value) if isinstance(value, _Object) else value
    yield from _merge_leaves(leaves, message, path)


def _merge_map(value: object, message: Message, field: FieldDescriptor, path: str) -> Iterator[FieldViolation]:
    if not isinstance(value, _Object):
        yield FieldViolation(path, f"expected an object with strings, found {_shown(value)}")
        return
    if len(value.pairs) > ELEMENTS_MAX:
        yield FieldViolation(path, f"at most {ELEMENTS_MAX} entries, found {len(value.pairs)}")
        return
    entries: dict[str, object] = {}
    for key, entry in value.pairs:
        if key in entries:
            yield FieldViolation(f"{path}[{shown(key)}]", "given twice")
        entries[key] = entry
    if not _set(message, {field.name: entries}):
        for key, entry in entries.items():
            if not _set(message, {field.name: {key: entry}}):
                yield FieldViolation(
                    f"{path}[{shown(key)}]", f"expected a string of Unicode characters, found {_shown(entry)}"
                )


def _merge_list(value: object, message: Message, field: FieldDescriptor, path: str) -> Iterator[FieldViolation]:
    if not isinstance(value, list):
        yield FieldViolation(path, f"expected an array, found {_shown(value)}")
    elif len(value) > ELEMENTS_MAX:
        yield FieldViolation(path, f"at most {ELEMENTS_MAX} elements, found {len(value)}")
    else:
        parts = getattr(message, field.name)
        for index, element in enumerate(value):
            yield from _merge(element, parts.add(), f"{path}[{index}]")


def _plain(value: object) -> object:
    """A JSON value with dictionaries for objects; one with a key that is given twice becomes what no Struct holds."""
    match value:
        case _Object(pairs):
            plain = {key: _plain(one) for key, one in pairs}
            return plain if len(plain) == len(pairs) else _REFUSED
        case list():
            return [_plain(one) for one in value]
        case _:
            return value


def _merge_leaves(leaves: dict[str, object], message: Message, path: str) -> Iterator[FieldViolation]:
    if _set(message, leaves):
        return
    for name, value in leaves.items():
        field, where = _fields(message.DESCRIPTOR)[name], _at(path, name)
        if isinstance(value, list) and len(value) > ELEMENTS_MAX:
            yield FieldViolation(where, f"at most {ELEMENTS_MAX} elements, found {len(value)}")
        elif _set(message, {name: value}):
            continue
        elif field.is_repeated and isinstance(value, list):
            for index, element in enumerate(value):
                if not _set(message, {name: [element]}):
                    yield FieldViolation(f"{where}[{index}]", f"expected {_expected(field)}, found {_shown(element)}")
        else:
            expected = "an array" if field.is_repeated else _expected(field)
            yield FieldViolation(where, f"expected {expected}, found {_shown(value)}")


def _set(message: Message, values: dict[str, object]) -> bool:
    """Let the library set fields that hold no messages. False when a value is wrong: some may be set then."""
    fields = _fields(message.DESCRIPTOR)
    if not all(_is_strict(value, fields[name]) for name, value in values.items()):
        return False
    try:
        ParseDict(values, message)
    except (ParseError, OverflowError):
        return False
    return True


def _is_strict(value: object, field: FieldDescriptor) -> bool:
    """False for a value that the library takes though it is none of the field's type, or that is too long to try."""
    match value:
        case bool():
            return field.type == FieldDescriptor.TYPE_BOOL
        case float():
            return field.type != FieldDescriptor.TYPE_ENUM
        case str() if _HALF.search(value):
            return False  # as the name of an enum's value it makes the library raise SystemError
        case str():
            return field.type != FieldDescriptor.TYPE_BYTES or _BASE64.fullmatch(value) is not None
        case list():
            return len(value) <= ELEMENTS_MAX and all(_is_strict(element, field) for element in value)
        case dict() if _kind(field) == "google.protobuf.Struct":
            return _is_strict_struct(value)
        case _:
            return True


def _is_strict_struct(value: object) -> bool:
    """Whether the library takes a value of a Struct as it is: it would take NaN, and round long whole numbers."""
    match value:
        case bool() | None:
            return True
        case str():
            return not _HALF.search(value)
        case int():
            return abs(value) <= _WHOLE_MAX
        case float():
            return math.isfinite(value)
        case list():
            return len(value) <= ELEMENTS_MAX and all(map(_is_strict_struct, value))
        case dict():
            return all(isinstance(key, str) and _is_strict_struct(key) for key in value) and all(
                map(_is_strict_struct, value.values())
            )
        case _:
            return False


def _deeper_than(depth_max: int, text: str) -> bool:
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth > depth_max:
                return True
        elif token[0] in "]}":
            depth -= 1
    return False


@cache
def _fields(message: Descriptor) -> Mapping[str, FieldDescriptor]:
    """The fields of a message by either of their names."""
    return {name: field for field in message.fields for name in (field.name, field.json_name)}


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _is_nested(field: FieldDescriptor) -> bool:
    """Whether it is a message that is read field by field."""
    return field.message_type is not None and _kind(field) not in _WHOLE


def _kind(field: FieldDescriptor) -> str:
    """The full name of a field's message; empty where it holds none."""
    return field.message_type.full_name if field.message_type is not None else ""


def _expected(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return "one of " + ", ".join(value.name for value in field.enum_type.values if value.number)
    return _WHOLE.get(_kind(field)) or _EXPECTED[field.type]


def _shown(value: object) -> str:
    match value:
        case _Object() | dict():
            return "an object"
        case list():
            return "an array"
        case _:
            return shown(value)


def _at(path: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        return f"{path}[{shown(name)}]"
    return f"{path}.{name}" if path else name
