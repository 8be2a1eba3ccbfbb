"""A look at protobuf bytes that the library refused: where they go wrong, and what can be read before that.

The library says that a message is wrong, not where. This walk is used on refused bytes only.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import FieldViolation

# The wire types of protobuf's encoding. 3 and 4 begin and end a group, 6 and 7 do not exist.
_VARINT: Final = 0
_LENGTH: Final = 2
_FIXED32: Final = 5
_WIDTHS: Final = {1: 8, _FIXED32: 4}
_VARINT_BYTES_MAX: Final = 10
_STRUCT: Final = "google.protobuf.Struct"
"""Its values hold such messages again, without end: not looked into."""
_FIELDS_MAX: Final = 10_000
"""How many fields are looked at: 1 MiB of empty ones would take seconds."""


class Torn(Exception):
    """The bytes end, or stop making sense, in the middle of a field.

    Attributes:
        path: the innermost field that is known to be torn; empty when no field was begun.
        at: the byte from the beginning of the message.
    """

    def __init__(self, path: str, at: int) -> None:
        super().__init__(f"{path} at byte {at}")
        self.path, self.at = path, at


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found in refused bytes."""

    violation: FieldViolation | None
    """The first thing that is wrong; None when this walk finds nothing."""
    glimpse: pb.Submission
    """The namespace, producer and submission id, as far as they come before it."""


def survey(value: bytes) -> Survey:
    """What is wrong with the bytes of a Submission, and what can be read all the same. Never raises."""
    glimpse = pb.Submission()
    try:
        fields = _fields(value, 0, len(value), pb.Submission.DESCRIPTOR, "")
        for path, found in itertools.islice(fields, _FIELDS_MAX):
            try:
                text = found.decode()
            except UnicodeDecodeError as error:
                where = f"invalid UTF-8: byte 0x{found[error.start]:02x} at {error.start}, {error.reason}"
                return Survey(FieldViolation(path, where), glimpse)
            match path:
                case "namespace":
                    glimpse.namespace = text
                case "submission_id":
                    glimpse.submission_id = text
                case "provenance.producer":
                    glimpse.provenance.producer = text
                case _:
                    pass
    except Torn as torn:
        what = f"read as protobuf, these bytes are cut off or corrupt at byte {torn.at} of {len(value)}"
        return Survey(FieldViolation(torn.path, what), glimpse)
    return Survey(None, glimpse)


def varint(data: bytes, at: int, end: int | None = None, path: str = "") -> tuple[int, int]:
    """The unsigned varint at `at`, and where it ends.

    Raises:
        Torn: it does not end before `end`, or is longer than 64 bits need.
    """
    number = 0
    last = min(len(data) if end is None else end, at + _VARINT_BYTES_MAX)
    for place in range(at, last):
        number |= (data[place] & 0x7F) << 7 * (place - at)
        if data[place] < 0x80:
            return number, place + 1
    raise Torn(path, last)


def _fields(data: bytes, at: int, end: int, message: Descriptor, path: str) -> Iterator[tuple[str, bytes]]:
    """The path of each field of a message and of the messages in it, in the order of the wire; of strings the bytes.

    Ends at a group: no message has one.

    Raises:
        Torn: the wire format is broken, after all fields before that were yielded.
    """
    repeats: Counter[int] = Counter()
    while at < end:
        tag, begin = varint(data, at, end, path)
        number, wire = tag >> 3, tag & 7
        field = message.fields_by_number.get(number)
        name = _path(path, field, repeats[number]) if field is not None else path
        text = b""
        repeats[number] += 1
        if not number or wire > _FIXED32:
            raise Torn(path, at)
        if wire == _VARINT:
            _, at = varint(data, begin, end, name)
        elif wire == _LENGTH:
            length, start = varint(data, begin, end, name)
            at = start + length
            if field is not None and field.message_type is not None and field.message_type.full_name != _STRUCT:
                yield from _fields(data, start, min(at, end), field.message_type, name)
            elif field is not None and field.type == FieldDescriptor.TYPE_STRING and at <= end:
                text = data[start:at]
        elif wire in _WIDTHS:
            at = begin + _WIDTHS[wire]
        else:
            return
        if at > end:
            raise Torn(name, end)
        yield name, text


def _path(parent: str, field: FieldDescriptor, index: int) -> str:
    if field.containing_type is not None and field.containing_type.GetOptions().map_entry:
        return parent
    name = f"{parent}.{field.name}" if parent else field.name
    return f"{name}[{index}]" if field.is_repeated and field.type == FieldDescriptor.TYPE_STRING else name
