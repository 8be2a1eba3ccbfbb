"""Kinds of bad input, as data: what is sent, and what the receipt must say. Used on decode, over gRPC and over Kafka.

`BAD_INPUT` is wrong by itself, whatever the service knows. `UNFIT_INPUT` is wrong for a namespace: it holds where there
is no namespace `UNKNOWN_NAMESPACE`, and where the namespace `NAMESPACE` takes embeddings of another dimension than 3.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from epistream.v1 import knowledge_pb2 as pb

NAMESPACE: Final = "bad-input"
UNKNOWN_NAMESPACE: Final = "no-such-namespace"

JSON: Final = (("content-type", b"application/json"),)
PROTOBUF: Final = (("content-type", b"application/protobuf"),)
EVENT: Final = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"event-1"),
    ("ce_source", b"//lab.example/writer"),
    ("ce_type", b"knowledge.written"),
)
FRAME: Final = b"\0\0\0\0\x07\0"
"""Confluent's, with the schema id 7 and the short form of the path [0]."""

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class BadInput:
    """One kind of bad input."""

    name: str
    value: bytes | None
    """What is sent; None for a Kafka tombstone."""
    headers: Headers
    reason: pb.Reason.ValueType
    fields: tuple[str, ...]
    """The paths of all violations, in their order; an empty path is the whole record."""
    over_grpc: bool
    """Whether it is answered alike over gRPC: it is plain protobuf without headers."""


def good_submission() -> pb.Submission:
    """A submission with every field set, and nothing wrong with it by itself."""
    return pb.Submission(
        namespace=NAMESPACE,
        submission_id="s-1",
        item_id="item-1",
        origin=pb.ORIGIN_EXPERT,
        modality=pb.MODALITY_TEXT,
        content="Water boils at 100 °C at sea level.",
        attributes={"lang": "en", "topic": "physics"},
        provenance=pb.Provenance(
            producer="ada",
            source="https://example.org/water",
            time=Timestamp(seconds=1_700_000_000),
            generator="",
            derived_from=["item-0"],
            licence="CC-BY-4.0",
            signature=b"\1\2\3",
        ),
        embedding=pb.Embedding(float32=struct.pack("<3f", 1, 2, 2)),
        expected_version=0,
        submitted_time=Timestamp(seconds=1_700_000_001, nanos=5),
    )


def good_json() -> bytes:
    """The same in JSON."""
    return json_format.MessageToJson(good_submission(), sort_keys=True).encode()


def _protobuf(
    name: str, change: Callable[[pb.Submission], object], *fields: str, reason: pb.Reason.ValueType = pb.REASON_INVALID
) -> BadInput:
    """A good submission with one thing put wrong."""
    submission = good_submission()
    change(submission)
    return BadInput(name, submission.SerializeToString(), (), reason, fields, over_grpc=True)


def _bytes(name: str, value: bytes | None, *fields: str, headers: Headers = (), over_grpc: bool = False) -> BadInput:
    """Bytes that cannot be read."""
    return BadInput(name, value, headers, pb.REASON_MALFORMED, fields or ("",), over_grpc)


def _json(name: str, old: str, new: str, *fields: str) -> BadInput:
    """Good JSON with one thing put wrong."""
    text = good_json().decode()
    assert old in text, old
    return _bytes(name, text.replace(old, new, 1).encode(), *fields, headers=JSON)


def _event(name: str, *headers: tuple[str, bytes], without: str = "", field: str) -> BadInput:
    """A good submission with wrong headers of a CloudEvent."""
    given = {name: value for name, value in EVENT if name != without} | dict(headers)
    return _bytes(name, good_submission().SerializeToString(), f'headers["{field}"]', headers=tuple(given.items()))


def _set(path: str, value: object) -> Callable[[pb.Submission], None]:
    """Sets a field by its path."""

    def change(submission: pb.Submission) -> None:
        *parents, name = path.split(".")
        message: object = submission
        for parent in parents:
            message = getattr(message, parent)
        setattr(message, name, value)

    return change


def _clear(name: str) -> Callable[[pb.Submission], None]:
    return lambda submission: submission.ClearField(name)  # type: ignore[arg-type]


def _vector(*numbers: float) -> Callable[[pb.Submission], None]:
    return _set("embedding.float32", struct.pack(f"<{len(numbers)}f", *numbers))


def _numbers(*numbers: float) -> Callable[[pb.Submission], None]:
    return lambda submission: submission.embedding.CopyFrom(pb.Embedding(values=numbers))


def _retracted(submission: pb.Submission) -> None:
    """Makes it a retraction that is right."""
    submission.retraction = True
    for name in ("modality", "content", "media", "embedding"):
        submission.ClearField(name)


def _image(submission: pb.Submission) -> None:
    """Makes it an image that is right."""
    submission.modality = pb.MODALITY_IMAGE
    submission.media.uri = "https://example.org/kettle.png"


def _code(submission: pb.Submission) -> None:
    """Makes it code with tests, that is right."""
    submission.modality = pb.MODALITY_CODE
    submission.tests.CopyFrom(pb.Tests(language="python", asserts=["assert add(1, 2) == 3"]))


def _judging(**changed: object) -> Callable[[pb.Submission], None]:
    """Makes it feedback that is right but for what is changed: a rating of 4 out of 5."""

    def change(submission: pb.Submission) -> None:
        for name in ("item_id", "modality", "content", "embedding", "expected_version"):
            submission.ClearField(name)
        rating = {
            "kind": pb.FEEDBACK_KIND_RATING,
            "judged": [pb.Judged(item_id="item-1", score=4)],
            "rater": "r1",
            "rater_type": pb.RATER_TYPE_HUMAN,
            "scale_min": 1,
            "scale_max": 5,
        }
        submission.feedback.CopyFrom(pb.Feedback(**rating | changed))  # type: ignore[arg-type] # as the caller says

    return change


_PAIR: Final = [pb.Judged(item_id="a", place=1), pb.Judged(item_id="b", place=2)]


def _span(start: int, end: int) -> Callable[[pb.Submission], None]:
    return _then(_set("media.start.seconds", start), _set("media.end.seconds", end))


def _then(
    first: Callable[[pb.Submission], object], then: Callable[[pb.Submission], object]
) -> Callable[[pb.Submission], None]:
    def change(submission: pb.Submission) -> None:
        first(submission)
        then(submission)

    return change


_GOOD: Final = good_submission().SerializeToString()

BAD_INPUT: Final = (
    # Fields that are missing.
    _protobuf("no namespace", _clear("namespace"), "namespace"),
    _protobuf("no submission id", _clear("submission_id"), "submission_id"),
    _protobuf("no origin", _clear("origin"), "origin"),
    _protobuf("no modality", _clear("modality"), "modality"),
    _protobuf("no content", _clear("content"), "content"),
    _protobuf("no provenance", _clear("provenance"), "provenance.producer"),
    _protobuf("no producer", _set("provenance.producer", ""), "provenance.producer"),
    BadInput(
        "nothing at all",
        b"",
        (),
        pb.REASON_INVALID,
        ("namespace", "submission_id", "origin", "modality", "content", "provenance.producer"),
        over_grpc=True,
    ),
    # Names.
    _protobuf("a namespace in capitals", _set("namespace", "Facts"), "namespace"),
    _protobuf("a namespace that is a path", _set("namespace", "../facts"), "namespace"),
    _protobuf("a namespace of 101 characters", _set("namespace", "n" * 101), "namespace"),
    _protobuf("a submission id of 201 characters", _set("submission_id", "s" * 201), "submission_id"),
    _protobuf("a line end in a submission id", _set("submission_id", "s\n1"), "submission_id"),
    _protobuf("a NUL in an item id", _set("item_id", "item\0"), "item_id"),
    _protobuf("an escape character in a producer", _set("provenance.producer", "\x1b[31mada"), "provenance.producer"),
    _protobuf("a source of 2,001 characters", _set("provenance.source", "s" * 2001), "provenance.source"),
    _protobuf("a licence of 201 characters", _set("provenance.licence", "l" * 201), "provenance.licence"),
    _protobuf("a signature of 4,097 bytes", _set("provenance.signature", b"s" * 4097), "provenance.signature"),
    _protobuf("65 parents", lambda s: s.provenance.derived_from.extend(["item-0"] * 64), "provenance.derived_from"),
    _protobuf("a parent without a name", lambda s: s.provenance.derived_from.append(""), "provenance.derived_from[1]"),
    # Kinds.
    _protobuf("an unknown origin", _set("origin", 77), "origin"),
    _protobuf("an unknown modality", _set("modality", 77), "modality"),
    # Content.
    _protobuf("content of white space", _set("content", " \t\n\u3000"), "content"),
    _protobuf("a NUL in the content", _set("content", "Water\0boils."), "content"),
    _protobuf("content of more than 256 KiB", _set("content", "x" * (256 * 1024 + 1)), "content"),
    _protobuf("content of more than 256 KiB in few characters", _set("content", "水" * 90_000), "content"),
    _protobuf("a tower of 100,000 accents", _set("content", "a" + "\u0301\u0327" * 50_000), "content"),
    BadInput(
        "a record of more than 1 MiB",
        pb.Submission(namespace=NAMESPACE, content="x" * 1024 * 1024).SerializeToString(),
        (),
        pb.REASON_INVALID,
        ("",),
        over_grpc=True,
    ),
    # Media.
    _protobuf("what holds from the year 9999 on", lambda s: s.valid_from.FromSeconds(253_402_300_799), "valid_from"),
    _protobuf("an image without media", _set("modality", pb.MODALITY_IMAGE), "media"),
    _protobuf("a text with media", lambda s: s.media.CopyFrom(pb.Media(uri="https://example.org")), "media"),
    _protobuf("media without a URI", _then(_image, _set("media.uri", "")), "media.uri"),
    _protobuf("media at no URI", _then(_image, _set("media.uri", "kettle.png")), "media.uri"),
    _protobuf("media of 2,001 characters", _then(_image, _set("media.uri", f"x:{'y' * 1999}")), "media.uri"),
    _protobuf("a digest in capitals", _then(_image, _set("media.digest", f"sha256:{'A' * 64}")), "media.digest"),
    _protobuf("a digest of another kind", _then(_image, _set("media.digest", "md5:00")), "media.digest"),
    _protobuf("a media type that is none", _then(_image, _set("media.media_type", "png")), "media.media_type"),
    _protobuf("an image without a caption", _then(_image, _clear("content")), "content"),
    _protobuf("a role of two lines", _then(_image, _set("media.role", "a\nb")), "media.role"),
    _protobuf("a part that ends before it begins", _then(_image, _span(5, 4)), "media.end"),
    _protobuf("a part that begins before the beginning", _then(_image, _span(-1, 4)), "media.start"),
    _protobuf("further media of a text", lambda s: s.further_media.add(uri="x:y"), "further_media"),
    _protobuf(
        "65 further media",
        _then(_image, lambda s: s.further_media.extend([pb.Media(uri="x:y")] * 65)),
        "further_media",
    ),
    _protobuf("a further medium without a URI", _then(_image, lambda s: s.further_media.add()), "further_media[0].uri"),
    # Prompts, tests, details.
    _protobuf("a NUL in the prompt", _set("prompt", "a\0b"), "prompt"),
    _protobuf("a prompt of more than 256 KiB", _set("prompt", "x" * (256 * 1024 + 1)), "prompt"),
    _protobuf("a text with tests", _then(_code, _set("modality", pb.MODALITY_TEXT)), "tests"),
    _protobuf("tests in no language", _then(_code, _set("tests.language", "")), "tests.language"),
    _protobuf("tests without a test", _then(_code, lambda s: s.tests.ClearField("asserts")), "tests"),
    _protobuf("a check of nothing", _then(_code, _set("tests.check", "def check(f): ...")), "tests.entry_point"),
    _protobuf("1,001 asserts", _then(_code, lambda s: s.tests.asserts.extend(["assert 1"] * 1000)), "tests.asserts"),
    _protobuf("details of more than 64 KiB", lambda s: s.details.update({"x": "x" * 65536}), "details"),
    _protobuf(
        "details with numbers that are none",
        lambda s: s.details.update({"x": [1, {"y": float("nan")}, float("-inf")]}),
        'details["x"][1]["y"]',
        'details["x"][2]',
    ),
    _protobuf(
        "a number that is none behind long names",
        lambda s: s.details.update({"x" * 60: {"y" * 500: {"z" * 60: {"a": float("inf")}}}}),
        f'details["{"x" * 60}"]["{"y" * 60}…"]["{"z" * 60}"]…',
    ),
    # Feedback.
    _protobuf("feedback with content", _then(_judging(), _set("content", "x")), "content"),
    _protobuf("feedback that is a retraction", _then(_judging(), _set("retraction", True)), "retraction"),
    _protobuf("feedback without an origin", _then(_judging(), _clear("origin")), "origin"),
    _protobuf("feedback of no kind", _judging(kind=0), "feedback.kind"),
    _protobuf("feedback of nobody", _judging(rater=""), "feedback.rater"),
    _protobuf("feedback of an unknown kind of rater", _judging(rater_type=7), "feedback.rater_type"),
    _protobuf("a rating of two items", _judging(judged=_PAIR), "feedback.judged"),
    _protobuf("a rating without a score", _judging(judged=[pb.Judged(item_id="a")]), *["feedback.judged[0].score"] * 2),
    _protobuf(
        "a score beyond the scale", _judging(judged=[pb.Judged(item_id="a", score=6)]), "feedback.judged[0].score"
    ),
    _protobuf(
        "a scale from 5 to 1", _judging(scale_min=5, scale_max=1), "feedback.judged[0].score", "feedback.scale_max"
    ),
    _protobuf(
        "half a yes",
        _judging(kind=pb.FEEDBACK_KIND_BINARY, judged=[pb.Judged(item_id="a", score=0.5)]),
        "feedback.judged[0].score",
    ),
    _protobuf(
        "a ranking without a place",
        _judging(kind=pb.FEEDBACK_KIND_RANKING, judged=[*_PAIR, pb.Judged(item_id="c")]),
        "feedback.judged[2].place",
    ),
    _protobuf(
        "a third of two places",
        _judging(kind=pb.FEEDBACK_KIND_PAIRWISE, judged=[_PAIR[0], pb.Judged(item_id="b", place=3)]),
        "feedback.judged[1].place",
    ),
    _protobuf(
        "a place before the first",
        _judging(kind=pb.FEEDBACK_KIND_RANKING, judged=[_PAIR[0], pb.Judged(item_id="b", place=0)]),
        "feedback.judged[1].place",
    ),
    _protobuf("a critique without words", _judging(kind=pb.FEEDBACK_KIND_CRITIQUE), "feedback.rationale"),
    _protobuf(
        "a scale with one end", _then(_judging(), lambda s: s.feedback.ClearField("scale_min")), "feedback.scale_max"
    ),
    # What the producer could not read.
    _protobuf(
        "a record that its producer could not read",
        _set("unreadable.reason", "line 7 is no JSON"),
        "unreadable",
        reason=pb.REASON_MALFORMED,
    ),
    # Attributes.
    _protobuf("an attribute without a key", lambda s: s.attributes.update({"": "x"}), 'attributes[""]'),
    _protobuf(
        "a key of 101 characters",
        lambda s: s.attributes.update({"k" * 101: "x"}),
        f'attributes["{"k" * 60}…"]',
    ),
    _protobuf("a line end in a key", lambda s: s.attributes.update({"a\nb": "x"}), r'attributes["a\nb"]'),
    _protobuf("a value of 1,001 characters", lambda s: s.attributes.update({"k": "x" * 1001}), 'attributes["k"]'),
    _protobuf("a NUL in a value", lambda s: s.attributes.update({"k": "\0"}), 'attributes["k"]'),
    _protobuf("65 attributes", lambda s: s.attributes.update({f"k{i}": "" for i in range(63)}), "attributes"),
    # Embedding.
    _protobuf("an embedding of nothing", lambda s: s.embedding.ClearField("float32"), "embedding"),
    _protobuf("an embedding in both forms", lambda s: s.embedding.values.append(1), "embedding"),
    _protobuf("an embedding of 11 bytes", _set("embedding.float32", b"x" * 11), "embedding.float32"),
    _protobuf("an embedding of 8,193 dimensions", _vector(*[1.0] * 8193), "embedding.float32"),
    _protobuf("8,193 numbers", _numbers(*[1.0] * 8193), "embedding.values"),
    # Versions and times.
    _protobuf("a version beyond 63 bits", _set("expected_version", 2**63), "expected_version"),
    _protobuf("a time before 1970", _set("provenance.time.seconds", -1), "provenance.time"),
    _protobuf("a time in the year 2200", _set("submitted_time.seconds", 7_258_118_400), "submitted_time"),
    _protobuf("a second of too many nanoseconds", _set("submitted_time.nanos", 10**9), "submitted_time.nanos"),
    # Retractions.
    _protobuf("a retraction of nothing", _then(_retracted, _clear("item_id")), "item_id"),
    _protobuf("a retraction with content", _then(_retracted, _set("content", "no")), "content"),
    _protobuf("a retraction with media", _then(_retracted, _set("media.uri", "x:y")), "media"),
    _protobuf("a retraction with an embedding", _then(_retracted, _vector(1, 2, 2)), "embedding"),
    _protobuf("a retraction without an origin", _then(_retracted, _clear("origin")), "origin"),
    # Bytes that are no protobuf.
    _bytes("a frame cut off in the last field", _GOOD[:-1], "submitted_time.nanos", over_grpc=True),
    _bytes("a frame cut off in the content", _GOOD[:60], "content", over_grpc=True),
    _bytes("garbage behind a submission", _GOOD + b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", over_grpc=True),
    _bytes("random bytes", bytes(range(255, 0, -1)), over_grpc=True),
    _bytes("invalid UTF-8 in the namespace", b"\x0a\x02\xc3\x28" + _GOOD, "namespace", over_grpc=True),
    _bytes("invalid UTF-8 in the producer", _GOOD.replace(b"ada", b"a\xffa"), "provenance.producer", over_grpc=True),
    _bytes(
        "invalid UTF-8 in a parent",
        _GOOD.replace(b"item-0", b"item-\xff"),
        "provenance.derived_from[0]",
        over_grpc=True,
    ),
    _bytes("invalid UTF-8 in an attribute", _GOOD.replace(b"physics", b"\xe2\x82sics"), "attributes", over_grpc=True),
    _bytes("a group that does not end", b"\x0b" * 200, over_grpc=True),
    # Records that only Kafka has.
    _bytes("a tombstone", None),
    _bytes("an unknown content type", _GOOD, 'headers["content-type"]', headers=(("content-type", b"text/plain"),)),
    _bytes("a content type that is no text", _GOOD, 'headers["content-type"]', headers=(("content-type", b"\xff"),)),
    _bytes(
        "two content types",
        _GOOD,
        'headers["content-type"]',
        headers=(*PROTOBUF, ("Content-Type", b"application/json")),
    ),
    _bytes("protobuf that is said to be JSON", _GOOD, headers=JSON),
    _bytes("JSON that is said to be protobuf", good_json(), headers=PROTOBUF),
    _bytes(
        "a CloudEvent in structured mode",
        b"{}",
        'headers["content-type"]',
        headers=(("content-type", b"application/cloudevents+json"),),
    ),
    # Confluent frames.
    _bytes("a frame without a schema id", b"\0\0\0"),
    _bytes("a frame without a message", b"\0\0\0\0\x07"),
    _bytes("a frame that points to another message", b"\0\0\0\0\x07\x02\x02" + _GOOD),
    _bytes("a frame that points to a nested message", b"\0\0\0\0\x07\x04\x06\0" + _GOOD),
    _bytes("a frame that points before the first message", b"\0\0\0\0\x07\x02\x01" + _GOOD),
    _bytes("a good frame around a cut submission", FRAME + _GOOD[:-1], "submitted_time.nanos"),
    _bytes("two frames", FRAME + FRAME + _GOOD),
    # JSON.
    _bytes("JSON without an end", good_json()[:-1], headers=JSON),
    _bytes("garbage behind JSON", good_json() + b" {}", headers=JSON),
    _bytes("a JSON array", b"[]", headers=JSON),
    _bytes("a JSON null", b"null", headers=JSON),
    _bytes("JSON that is not UTF-8", '{"namespace": "é"}'.encode("latin-1"), headers=JSON),
    _bytes("JSON in UTF-16", good_json().decode().encode("utf-16"), headers=JSON),
    _bytes(
        "JSON in another charset",
        good_json(),
        'headers["content-type"]',
        headers=(("content-type", b"application/json; charset=latin-1"),),
    ),
    _bytes("100,000 arrays in each other", b'{"media": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", headers=JSON),
    _bytes("17 objects in each other", b'{"a":' * 17 + b"1" + b"}" * 17),
    _bytes("a string of quotes without an end", b'{"' + rb"\"" * 400_000, headers=JSON),
    _bytes("a number of 5,000 digits", b'{"expectedVersion": ' + b"9" * 5000 + b"}", headers=JSON),
    _json("an unknown field", '"namespace"', '"name_space": 1, "namespace"', "name_space"),
    _json("an unknown field within", '"producer"', '"author": 1, "producer"', "provenance.author"),
    _json("an unknown field of odd name", '"namespace"', r'"a\u0000b": 1, "namespace"', r'["a\u0000b"]'),
    _json("a field twice", '"namespace"', '"namespace": "x", "namespace"', "namespace"),
    _json("a field under both of its names", '"submissionId"', '"submission_id": "x", "submissionId"', "submission_id"),
    _json("an attribute twice", '"lang"', '"lang": "de", "lang"', 'attributes["lang"]'),
    _json("an attribute that is a number", '"physics"', "7", 'attributes["topic"]'),
    _json("an attribute that is null", '"physics"', "null", 'attributes["topic"]'),
    _json("a name that is a number", '"bad-input"', "5", "namespace"),
    _json("half a character", '"bad-input"', r'"\ud800"', "namespace"),
    _json("an origin that is a word of nobody's", '"ORIGIN_EXPERT"', '"EXPERT"', "origin"),
    _json("an origin with half a character", '"ORIGIN_EXPERT"', r'"\ud800"', "origin"),
    _json("an origin that is true", '"ORIGIN_EXPERT"', "true", "origin"),
    _json("a time that is none", '"2023-11-14T22:13:20Z"', '"yesterday"', "provenance.time"),
    _json("a time without a zone", '"2023-11-14T22:13:20Z"', '"2023-11-14T22:13:20"', "provenance.time"),
    _json("a parent that is a number", '"item-0"', '"item-0", 5', "provenance.derived_from[1]"),
    _json("parents that are no array", '[\n      "item-0"\n    ]', '"item-0"', "provenance.derived_from"),
    _json("a version below zero", '"expectedVersion": "0"', '"expectedVersion": -1', "expected_version"),
    _json("a version and a half", '"expectedVersion": "0"', '"expectedVersion": 1.5', "expected_version"),
    _json("a signature that is no base64", '"AQID"', '"!!!!"', "provenance.signature"),
    _json("a provenance that is a string", '"provenance": {', '"media": "x", "provenance": {', "media"),
    _bytes("a NaN in details", b'{"details": {"a": [NaN]}}', "details", headers=JSON),
    _bytes("a key twice in details", b'{"details": {"a": {"b": 1, "b": 2}}}', "details", headers=JSON),
    _bytes("half a character in details", rb'{"details": {"\ud800": 1}}', "details", headers=JSON),
    _bytes("a long whole number in details", b'{"details": {"a": 9007199254740993}}', "details", headers=JSON),
    _bytes("details that are an array", b'{"details": [1]}', "details", headers=JSON),
    _bytes("a span that is a number", b'{"media": {"start": 5}}', "media.start", headers=JSON),
    _bytes("further media that are no array", b'{"furtherMedia": {"uri": "x:y"}}', "further_media", headers=JSON),
    _bytes("a further medium that is a word", b'{"furtherMedia": ["x:y"]}', "further_media[0]", headers=JSON),
    _bytes("a place below one", b'{"feedback": {"judged": [{"place": -1}]}}', "feedback.judged[0].place", headers=JSON),
    _bytes("a NaN in JSON", b'{"embedding": {"values": [1, NaN]}}', "embedding.values[1]", headers=JSON),
    _bytes("a number beyond float32", b'{"embedding": {"values": [1e39]}}', "embedding.values[0]", headers=JSON),
    _bytes("a number of 401 digits", b'{"embedding": {"values": [1' + b"0" * 400 + b"]}}", "embedding.values[0]"),
    _bytes("a number that is a word", b'{"embedding": {"values": [1, 2, "x"]}}', "embedding.values[2]"),
    _bytes("100,000 numbers", b'{"embedding": {"values": [' + b"1," * 100_000 + b"1]}}", "embedding.values"),
    # CloudEvents in binary mode.
    _event("an event without an id", without="ce_id", field="ce_id"),
    _event("an event without a source", without="ce_source", field="ce_source"),
    _event("an event without a type", without="ce_type", field="ce_type"),
    _event("an event without a version", without="ce_specversion", field="ce_specversion"),
    _event("an event of another version", ("ce_specversion", b"0.3"), field="ce_specversion"),
    _event("an event with an id that is no text", ("ce_id", b"\xff"), field="ce_id"),
    _event("an event at no time", ("ce_time", b"noon"), field="ce_time"),
    _event("an event of another message", ("ce_dataschema", b"x:epistream.v2.Submission"), field="ce_dataschema"),
)

UNFIT_INPUT: Final = (
    _protobuf(
        "an unknown namespace",
        _set("namespace", UNKNOWN_NAMESPACE),
        "namespace",
        reason=pb.REASON_UNKNOWN_NAMESPACE,
    ),
    _protobuf(
        "a retraction in an unknown namespace",
        _then(_retracted, _set("namespace", UNKNOWN_NAMESPACE)),
        "namespace",
        reason=pb.REASON_UNKNOWN_NAMESPACE,
    ),
    _protobuf("an embedding of 3 dimensions", _vector(1, 2, 2), "embedding"),
    _protobuf("3 numbers", _numbers(1, 2, 2), "embedding"),
)

BAD_NUMBERS: Final = (
    _protobuf("a NaN in an embedding", _vector(1, float("nan"), 0), "embedding.float32"),
    _protobuf("an infinity in an embedding", _vector(1, 0, float("-inf")), "embedding.float32"),
    _protobuf("a NaN among numbers", _numbers(1, 0, 0, float("nan")), "embedding.values[3]"),
    _protobuf("an embedding of zeros", _vector(0, 0, -0.0), "embedding.float32"),
    _protobuf("an embedding too short to have a direction", _vector(1e-45, 0, 0), "embedding.float32"),
)
"""Embeddings that are wrong for every namespace that takes some. Their form is right, so decode lets them pass."""
