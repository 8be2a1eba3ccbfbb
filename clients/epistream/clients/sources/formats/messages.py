"""The protobuf messages that works publish, made from tables of their fields, and read into what JSON can say.

`Example` is TensorFlow's `tf.train.Example` (`tensorflow/core/example/example.proto`), `ContestProblem` that of
CodeContests (`contest_problem.proto` of google-deepmind/code_contests). Only the wire form counts, so the fields have
their names and numbers, and the rest is left out.
"""

import functools
from collections.abc import Mapping
from typing import Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from epistream.clients.sources.record import Json

_PACKAGE: Final = "epistream.sources"
_MESSAGES: Final[Mapping[str, Mapping[int, str]]] = {
    "BytesList": {1: "repeated bytes value"},
    "FloatList": {1: "repeated float value"},
    "Int64List": {1: "repeated int64 value"},
    "Feature": {1: "BytesList bytes_list", 2: "FloatList float_list", 3: "Int64List int64_list"},
    "Entry": {1: "string key", 2: "Feature value"},
    "Features": {1: "repeated Entry feature"},
    "Example": {1: "Features features"},
    "Test": {1: "string input", 2: "string output"},
    "Solution": {1: "int32 language", 2: "string solution"},
    "Limit": {1: "int64 seconds", 2: "int32 nanos"},
    "ContestProblem": {
        1: "string name",
        2: "string description",
        4: "repeated Test public_tests",
        5: "repeated Test private_tests",
        6: "int32 source",
        7: "int32 difficulty",
        8: "repeated Solution solutions",
        10: "int32 cf_contest_id",
        12: "string cf_index",
        13: "float cf_points",
        14: "int32 cf_rating",
        15: "repeated string cf_tags",
        18: "repeated Test generated_tests",
        19: "repeated Solution incorrect_solutions",
        20: "bool is_description_translated",
        21: "string untranslated_description",
        29: "Limit time_limit",
        30: "int64 memory_limit_bytes",
        31: "string input_file",
        32: "string output_file",
    },
}
_TYPES: Final = descriptor_pb2.FieldDescriptorProto


@functools.cache
def message_class(name: str) -> type[Message]:
    """The class of a message of the table."""
    file = descriptor_pb2.FileDescriptorProto(name="epistream/sources.proto", package=_PACKAGE, syntax="proto2")
    for message, fields in _MESSAGES.items():
        made = file.message_type.add(name=message)
        for number, said in fields.items():
            made.field.append(_field(number, said.split()))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def example_record(payload: bytes) -> dict[str, list[Json]]:
    """The features of an Example by name: lists of bytes, numbers or integers.

    Raises:
        google.protobuf.message.DecodeError: it is none.
    """
    example: Json = message_class("Example").FromString(payload)
    found: dict[str, list[Json]] = {}
    for entry in example.features.feature:
        kind = next((name for name in ("bytes_list", "float_list", "int64_list") if entry.value.HasField(name)), None)
        found[entry.key] = [] if kind is None else list(getattr(entry.value, kind).value)
    return found


def contest_problem_record(payload: bytes) -> dict[str, Json]:
    """A ContestProblem by the names of its fields. Raises as `example_record`."""
    problem = message_class("ContestProblem").FromString(payload)
    return MessageToDict(problem, preserving_proto_field_name=True)


def _field(number: int, words: list[str]) -> descriptor_pb2.FieldDescriptorProto:
    *repeated, kind, name = words
    made = _TYPES(name=name, number=number, label=_TYPES.LABEL_REPEATED if repeated else _TYPES.LABEL_OPTIONAL)
    if kind in _MESSAGES:
        made.type, made.type_name = _TYPES.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        made.type = _TYPES.Type.Value(f"TYPE_{kind.upper()}")
    return made
