"""From the bytes of a record to a submission: which of the four formats it is in, and reading it. Pure.

A record of gRPC (no headers, no position) is plain protobuf. Of a Kafka record the headers say:

    content-type                                         first byte    format
    application/protobuf, application/x-protobuf         0x00          Confluent-framed protobuf
    the same                                             other         plain protobuf
    application/json                                                   the protobuf's JSON form
    none                                                 `{` *         the protobuf's JSON form
    none                                                 0x00          Confluent-framed protobuf
    none                                                 other         plain protobuf

    * the first that is no white space

No submission in protobuf that follows the rules begins like JSON, and no protobuf message begins with 0x00.

Headers that begin with `ce_` make it a CloudEvent in binary mode: `ce_specversion` must be 1.0, `ce_id`, `ce_source`
and `ce_type` must be there, and the data is in one of the formats above. `ce_id` fills an empty `submission_id`,
`ce_source` an empty `provenance.producer`, `ce_time` an unset `submitted_time`; what the data says itself wins.
`ce_type` may be any word of the producer's. A `ce_dataschema` that names another message of Epistream's, or another
version, is refused; one that names none is not looked at.

Names of headers are taken without regard to case. Headers that are not named here are not looked at.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from epistream.indexer import jsonform, wireform
from epistream.indexer.model import Record
from epistream.indexer.texts import shown
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import FieldViolation

MESSAGE: Final = pb.Submission.DESCRIPTOR.full_name
MESSAGE_INDEXES: Final = ([0], [list(pb.DESCRIPTOR.message_types_by_name).index("Submission")])
"""Where Submission stands in the schema that a Confluent serializer registered: alone in it, or in knowledge.proto."""

_INDEXES_MAX: Final = 8
"""How much of a path in a schema is read: messages are not nested deeper."""
_PROTOBUF: Final = frozenset({"application/protobuf", "application/x-protobuf"})
_JSON: Final = "application/json"
_NEEDED: Final = ("ce_specversion", "ce_id", "ce_source", "ce_type")
_KNOWN: Final = frozenset({"content-type", "ce_time", "ce_dataschema", *_NEEDED})
_CHARSET: Final = re.compile(r"""charset\s*=\s*["']?([^\s;"']+)""", re.IGNORECASE)
_NO_SENSE: Final = FieldViolation("", f"read as protobuf, these bytes are no {MESSAGE}")
_LOOKS_LIKE_JSON: Final = FieldViolation(
    "", f"{_NO_SENSE.description}; they look like JSON: over Kafka, send the header content-type: {_JSON}"
)
_OWN_MESSAGE: Final = re.compile(r"epistream\.v\d+\.\w+")


class Unreadable(Exception):
    """The bytes are not what they are said to be.

    Attributes:
        violations: what is wrong, at least one.
        glimpse: what could be read all the same.
    """

    def __init__(self, violations: Iterable[FieldViolation], glimpse: pb.Submission | None = None) -> None:
        self.violations = tuple(violations)
        self.glimpse = glimpse if glimpse is not None else pb.Submission()
        super().__init__("; ".join(violation.description for violation in self.violations))


def read(value: bytes, record: Record) -> pb.Submission:
    """The submission that `value`, the bytes of `record`, holds, with what the headers of a CloudEvent add.

    Raises:
        Unreadable: the bytes or headers are wrong.
    """
    if record.position is None and not record.headers:
        return _plain(value)
    headers = _known(record.headers)
    event = any(name.lower().startswith("ce_") for name, _ in record.headers)
    time = _check_event(headers) if event else None
    submission = _data(value, headers.get("content-type", ""))
    if event:
        submission.submission_id = submission.submission_id or headers["ce_id"]
        submission.provenance.producer = submission.provenance.producer or headers["ce_source"]
        if time is not None and not submission.HasField("submitted_time"):
            submission.submitted_time.CopyFrom(time)
    return submission


def _data(value: bytes, content_type: str) -> pb.Submission:
    media_type, _, parameters = content_type.partition(";")
    match media_type.strip().lower():
        case "" if value.lstrip(b" \t\r\n").startswith(b"{"):
            return _json(value)
        case "":
            return _protobuf(value)
        case kind if kind in _PROTOBUF:
            return _protobuf(value)
        case kind if kind == _JSON:
            charset = _CHARSET.search(parameters)
            if charset is not None and charset[1].lower() not in {"utf-8", "utf8", "us-ascii"}:
                raise _header("content-type", f"JSON is UTF-8, found the charset {shown(charset[1])}")
            return _json(value)
        case kind if kind.startswith("application/cloudevents"):
            raise _header(
                "content-type",
                "CloudEvents are taken in binary mode: attributes in ce_ headers, the data alone as value",
            )
        case kind:
            raise _header("content-type", f"expected application/protobuf or application/json, found {shown(kind)}")


def _protobuf(value: bytes) -> pb.Submission:
    return _plain(_unframed(value) if value.startswith(b"\0") else value)


def _plain(value: bytes) -> pb.Submission:
    try:
        return pb.Submission.FromString(value)
    except DecodeError as error:
        survey = wireform.survey(value)
        wrong = _LOOKS_LIKE_JSON if value.startswith(b"{") else survey.violation or _NO_SENSE
        raise Unreadable([wrong], survey.glimpse) from error


def _unframed(value: bytes) -> bytes:
    """What stands behind Confluent's frame.

    The frame is 0x00, the schema's id in four bytes, and the path of the message in the schema: zigzag varints with
    their number before them, where a single 0x00 stands for the path [0]. The id is not looked up.
    """
    try:
        count, at = _zigzag(value, 5)
        indexes = [] if count else [0]
        for _ in range(min(count, _INDEXES_MAX)):
            index, at = _zigzag(value, at)
            indexes.append(index)
    except wireform.Torn as torn:
        raise Unreadable([FieldViolation("", f"the Confluent frame is cut off at byte {torn.at}")]) from None
    if indexes not in MESSAGE_INDEXES:
        text = f"the Confluent frame must point to {MESSAGE}, at {MESSAGE_INDEXES}, found {indexes}"
        raise Unreadable([FieldViolation("", text)])
    return value[at:]


def _zigzag(value: bytes, at: int) -> tuple[int, int]:
    number, end = wireform.varint(value, at)
    return (number >> 1) ^ -(number & 1), end


def _json(value: bytes) -> pb.Submission:
    submission = pb.Submission()
    violations = jsonform.merge(value, submission)
    if violations:
        raise Unreadable(violations, submission)
    return submission


def _known(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """The headers that mean something here, names in lower case."""
    known: dict[str, str] = {}
    for given, value in headers:
        name = given.lower()
        if name not in _KNOWN:
            continue
        try:
            text = (value or b"").decode()
        except UnicodeDecodeError as error:
            raise _header(name, f"must be UTF-8: {error.reason} at byte {error.start}") from error
        if known.setdefault(name, text) != text:
            raise _header(name, f"given twice: {shown(known[name])} and {shown(text)}")
    return known


def _check_event(headers: Mapping[str, str]) -> Timestamp | None:
    """Check the attributes of a CloudEvent. Its time, if it has one."""
    missing = [name for name in _NEEDED if not headers.get(name)]
    if missing:
        raise Unreadable(
            FieldViolation(_path(name), "a CloudEvent in binary mode has the headers " + ", ".join(_NEEDED))
            for name in missing
        )
    if headers["ce_specversion"] != "1.0":
        raise _header("ce_specversion", f"expected 1.0, found {shown(headers['ce_specversion'])}")
    named = _OWN_MESSAGE.search(headers.get("ce_dataschema", ""))
    if named is not None and named[0] != MESSAGE:
        raise _header("ce_dataschema", f"expected {MESSAGE}, found {shown(named[0])}")
    if not headers.get("ce_time"):
        return None
    time = Timestamp()
    try:
        time.FromJsonString(headers["ce_time"])
    except ValueError as error:
        found = shown(headers["ce_time"])
        raise _header("ce_time", f"expected a time such as 2026-01-31T12:00:00Z, found {found}") from error
    return time


def _header(name: str, description: str) -> Unreadable:
    return Unreadable([FieldViolation(_path(name), description)])


def _path(name: str) -> str:
    return f'headers["{name}"]'
