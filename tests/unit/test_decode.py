"""decode: what can be read is read in four formats, what cannot is refused with the path of the field."""

import json
import struct
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from epistream.indexer import rules
from epistream.indexer.decode import decode, digest
from epistream.indexer.model import Decoded, Malformed, Position, Record
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.canonical import fingerprint
from epistream.wire.limits import SUBMISSION_BYTES_MAX
from tests.support.bad_input import (
    BAD_INPUT,
    EVENT,
    FRAME,
    JSON,
    PROTOBUF,
    BadInput,
    Headers,
    good_json,
    good_submission,
)
from tests.support.fuzzing import examples
from tests.support.golden_submissions import Golden, golden_submissions

GOOD = good_submission().SerializeToString()


def from_kafka(value: bytes | None, headers: Headers = ()) -> Record:
    return Record(value, 0, headers, position=Position("submissions", 0, 0))


def from_grpc(value: bytes) -> Record:
    return Record(value, 0)


def accepted(record: Record) -> Decoded:
    decoded = decode(record)
    assert isinstance(decoded, Decoded), decoded.violations
    assert decoded.record is record
    return decoded


def refused(record: Record) -> Malformed:
    malformed = decode(record)
    assert isinstance(malformed, Malformed)
    assert malformed.record is record
    return malformed


def paths(malformed: Malformed) -> list[str]:
    return [violation.field for violation in malformed.violations]


# Bad input.


@pytest.mark.parametrize("bad", BAD_INPUT, ids=lambda bad: bad.name)
def test_bad_input_is_refused_with_the_path_of_what_is_wrong(bad: BadInput) -> None:
    malformed = refused(from_kafka(bad.value, bad.headers))
    assert (malformed.reason, tuple(paths(malformed))) == (bad.reason, bad.fields)
    assert all(len(violation.description) > 10 for violation in malformed.violations)


@pytest.mark.parametrize("bad", [bad for bad in BAD_INPUT if bad.over_grpc], ids=lambda bad: bad.name)
def test_bad_protobuf_is_refused_alike_over_grpc(bad: BadInput) -> None:
    assert bad.value is not None
    malformed = refused(from_grpc(bad.value))
    assert (malformed.reason, tuple(paths(malformed))) == (bad.reason, bad.fields)


@pytest.mark.parametrize("value", [good_json(), FRAME + GOOD], ids=["JSON", "Confluent frame"])
def test_grpc_brings_nothing_but_plain_protobuf(value: bytes) -> None:
    assert refused(from_grpc(value)).reason == pb.REASON_MALFORMED


def test_all_wrong_fields_are_told() -> None:
    submission = good_submission()
    submission.namespace = "Facts"
    submission.origin = 9  # type: ignore[assignment]
    submission.provenance.producer = ""
    submission.attributes["a\0"] = "\0"
    submission.embedding.float32 = b"123"
    submission.provenance.time.nanos = -1
    malformed = refused(from_grpc(submission.SerializeToString()))
    assert paths(malformed) == [
        "namespace",
        "origin",
        r'attributes["a\u0000"]',
        r'attributes["a\u0000"]',
        "provenance.producer",
        "provenance.time.nanos",
        "embedding.float32",
    ]


def test_all_wrong_fields_of_json_are_told() -> None:
    tree = json.loads(good_json())
    tree |= {"origin": "EXPERT", "colour": "red", "media": 5, "retraction": "no"}
    tree["provenance"] |= {"derivedFrom": ["a", 1, None], "time": 5, "author": "ada"}
    malformed = refused(from_kafka(json.dumps(tree).encode(), JSON))
    assert sorted(paths(malformed)) == [
        "colour",
        "media",
        "origin",
        "provenance.author",
        "provenance.derived_from[1]",
        "provenance.derived_from[2]",
        "provenance.time",
        "retraction",
    ]


@pytest.mark.parametrize("headers", [(), JSON], ids=["protobuf", "JSON"])
def test_no_more_violations_are_told_than_anybody_reads(headers: Headers) -> None:
    submission = good_submission()
    submission.attributes.clear()
    for number in range(64):
        submission.attributes[f"k{number}"] = "\0"
    value = submission.SerializeToString()
    if headers:
        value = b"{" + b",".join(b'"k%d": 1' % number for number in range(64)) + b"}"
    assert len(refused(from_kafka(value, headers)).violations) == rules.VIOLATIONS_MAX


@pytest.mark.parametrize("size", [SUBMISSION_BYTES_MAX, SUBMISSION_BYTES_MAX + 1])
def test_a_record_may_have_one_mebibyte(size: int) -> None:
    submission = good_submission()
    unknown = size - len(GOOD) - 5
    value = submission.SerializeToString() + b"\xa2\x06" + _varint(unknown) + b"x" * unknown
    assert len(value) == size
    assert isinstance(decode(from_grpc(value)), Decoded if size == SUBMISSION_BYTES_MAX else Malformed)


def _varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14])


@pytest.mark.parametrize(("ahead_us", "taken"), [(-1, True), (86_400_000_000, True), (86_400_000_001, False)])
def test_nothing_begins_to_hold_more_than_a_day_after_it_came(ahead_us: int, taken: bool) -> None:
    dated, now_us = good_submission(), 1_700_000_000_000_000
    dated.valid_from.FromMicroseconds(now_us + ahead_us)
    decoded = decode(Record(dated.SerializeToString(), now_us))
    assert isinstance(decoded, Decoded) == taken
    if isinstance(decoded, Malformed):
        assert (decoded.reason, paths(decoded)) == (pb.REASON_INVALID, ["valid_from"])
        assert "2023-11-15T22:13:20.000001Z" in decoded.violations[0].description


def test_limits_are_reached_before_they_are_passed() -> None:
    submission = good_submission()
    submission.namespace = "n" * 100
    submission.submission_id = submission.item_id = submission.provenance.producer = "水" * 200
    submission.content = "é" * 131_072
    submission.attributes.clear()
    for number in range(64):
        submission.attributes[f"{number:0>100}"] = "v" * 1000
    submission.provenance.derived_from[:] = ["p" * 200] * 64
    submission.provenance.time.seconds = 7_258_118_399
    submission.expected_version = 2**63 - 1
    submission.embedding.float32 = struct.pack("<8192f", *[3e38] * 8192)
    accepted(from_grpc(submission.SerializeToString()))


def test_who_sent_it_is_told_as_far_as_it_can_be_read() -> None:
    cut = refused(from_kafka(GOOD[:-1]))
    assert (cut.namespace, cut.producer, cut.submission_id) == ("bad-input", "ada", "s-1")
    early = refused(from_kafka(GOOD[:30]))
    assert (early.namespace, early.producer, early.submission_id) == ("bad-input", "", "s-1")
    in_json = refused(from_kafka(good_json().replace(b'"ORIGIN_EXPERT"', b'"EXPERT"'), JSON))
    assert (in_json.namespace, in_json.producer, in_json.submission_id) == ("bad-input", "ada", "s-1")
    submission = good_submission()
    submission.submission_id = "s" * 100_000
    invalid = refused(from_kafka(submission.SerializeToString()))
    assert (invalid.namespace, invalid.producer, invalid.submission_id) == ("bad-input", "ada", "s" * 200)


# Good input.


@pytest.mark.parametrize("golden", golden_submissions(), ids=lambda golden: golden.name)
def test_submissions_of_every_release_are_read_and_hashed_as_they_were(golden: Golden) -> None:
    decoded = accepted(golden.record())
    assert (decoded.fingerprint, decoded.digest) == (golden.fingerprint, golden.digest)


@pytest.mark.parametrize("golden", golden_submissions()[:-1], ids=lambda golden: golden.name)
def test_a_submission_is_the_same_in_every_format(golden: Golden) -> None:
    assert accepted(golden.record()).submission == good_submission()


@pytest.mark.parametrize(
    "content_type",
    [
        "application/protobuf",
        "application/x-protobuf",
        "Application/Protobuf",
        'application/x-protobuf; messageType="epistream.v1.Submission"',
    ],
)
@pytest.mark.parametrize("value", [GOOD, FRAME + GOOD], ids=["plain", "framed"])
def test_protobuf_is_taken_under_its_names(content_type: str, value: bytes) -> None:
    headers = (("Content-Type", content_type.encode()), ("traceparent", b"\xff\xfe"))
    assert accepted(from_kafka(value, headers)).submission == good_submission()


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=UTF-8", "APPLICATION/JSON"])
def test_json_is_taken_under_its_names(content_type: str) -> None:
    headers = (("content-type", content_type.encode()),)
    assert accepted(from_kafka(good_json(), headers)).submission == good_submission()


def test_json_is_known_by_its_brace_and_may_use_the_names_of_the_proto() -> None:
    text = json_format.MessageToJson(good_submission(), preserving_proto_field_name=True)
    assert "submission_id" in text
    assert accepted(from_kafka(f" \r\n\t{text}\n".encode())).submission == good_submission()


def test_null_in_json_is_unset() -> None:
    text = good_json().replace(b'"item-1"', b"null").replace(b'"AQID"', b"null")
    submission = good_submission()
    submission.item_id, submission.provenance.signature = "", b""
    assert accepted(from_kafka(text, JSON)).submission == submission


def test_a_cloud_event_fills_only_what_the_data_leaves_open() -> None:
    event = (*EVENT, ("ce_time", b"2026-01-31T12:00:00Z"), ("ce_partitionkey", b"\xff"))
    assert accepted(from_kafka(GOOD, event)).submission == good_submission()

    bare = good_submission()
    bare.ClearField("submission_id")
    bare.ClearField("provenance")
    bare.ClearField("submitted_time")
    for value in (bare.SerializeToString(), json_format.MessageToJson(bare).encode(), FRAME + bare.SerializeToString()):
        filled = accepted(from_kafka(value, event)).submission
        assert filled.submission_id == "event-1"
        assert filled.provenance.producer == "//lab.example/writer"
        assert filled.submitted_time.ToJsonString() == "2026-01-31T12:00:00Z"


@pytest.mark.parametrize("schema", [b"https://schemas.example/ids/7", b"x:epistream.v1.Submission", b""])
def test_a_schema_that_is_ours_or_unknown_is_no_matter(schema: bytes) -> None:
    accepted(from_kafka(GOOD, (*EVENT, ("ce_dataschema", schema))))


def test_what_a_cloud_event_fills_follows_the_rules_too() -> None:
    bare = good_submission()
    bare.submission_id = ""
    event = tuple(dict([*EVENT, ("ce_id", b"x" * 201)]).items())
    malformed = refused(from_kafka(bare.SerializeToString(), event))
    assert (malformed.reason, paths(malformed)) == (pb.REASON_INVALID, ["submission_id"])


def test_fields_of_later_versions_are_ignored() -> None:
    unknown = b"\xa2\x06\x05later" + b"\xa8\x06\x01"
    decoded = accepted(from_kafka(GOOD + unknown))
    assert decoded.digest == digest(good_submission())


def test_a_retraction_needs_no_content() -> None:
    submission = pb.Submission(
        namespace="facts",
        submission_id="s-2",
        item_id="item-1",
        origin=pb.ORIGIN_EXPERT,
        provenance=pb.Provenance(producer="ada"),
        retraction=True,
    )
    decoded = accepted(from_grpc(submission.SerializeToString()))
    assert decoded.fingerprint == fingerprint(pb.MODALITY_TEXT, "")


def test_an_image_is_known_by_its_digest_and_caption() -> None:
    submission = good_submission()
    submission.modality = pb.MODALITY_IMAGE
    media = pb.Media(uri="s3://bucket/kettle.png", digest=f"sha256:{'0a' * 32}", media_type="image/png")
    submission.media.CopyFrom(media)
    decoded = accepted(from_grpc(submission.SerializeToString()))
    assert decoded.fingerprint == fingerprint(pb.MODALITY_IMAGE, submission.content, [media])


def test_long_text_in_scripts_with_many_marks_is_taken() -> None:
    submission = good_submission()
    submission.content = "น้ำเดือดที่อุณหภูมิ ๑๐๐ องศา " * 1000 + "e" + "\u0301" * 30
    accepted(from_grpc(submission.SerializeToString()))


# The digest.


def test_the_digest_covers_every_field_but_the_embedding_and_the_time_of_sending() -> None:
    seen = {digest(good_submission())}
    for field in pb.Submission.DESCRIPTOR.fields:
        submission = good_submission()
        submission.ClearField(field.name)  # type: ignore[arg-type]
        if submission == good_submission():
            continue
        same = digest(submission) in seen
        assert same == (field.name in {"embedding", "submitted_time"}), field.name
        seen.add(digest(submission))


def test_the_digest_does_not_depend_on_the_order_of_attributes() -> None:
    one, other = good_submission(), good_submission()
    one.attributes.clear()
    other.attributes.clear()
    for number in range(20):
        one.attributes[f"k{number}"] = other.attributes[f"k{19 - number}"] = ""
    assert digest(one) == digest(other)


def test_decoding_leaves_the_embedding_and_the_time_in_the_submission() -> None:
    assert accepted(from_grpc(GOOD)).submission.SerializeToString(deterministic=True) == (
        good_submission().SerializeToString(deterministic=True)
    )


# Anything at all.


def check(record: Record) -> Decoded | Malformed:
    """decode, and what must hold of any answer."""
    outcome = decode(record)
    assert outcome.record is record
    if isinstance(outcome, Decoded):
        assert not rules.violations(outcome.submission)
        assert len(outcome.fingerprint) == len(outcome.digest) == 32
        return outcome
    assert 1 <= len(outcome.violations) <= rules.VIOLATIONS_MAX
    assert outcome.reason in {pb.REASON_MALFORMED, pb.REASON_INVALID}
    receipt = pb.Receipt(namespace=outcome.namespace, producer=outcome.producer, submission_id=outcome.submission_id)
    for violation in outcome.violations:
        assert violation.description
        assert len(violation.description) < 1000
        receipt.violations.add(field=violation.field, description=violation.description)
    return outcome


header_values = st.one_of(
    st.sampled_from(
        [b"application/json", b"application/protobuf", b"text/plain", b"1.0", b"2026-01-31T12:00:00Z", b""]
    ),
    st.binary(max_size=20),
)
header_names = st.sampled_from(
    ["content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_dataschema", "Content-Type", "x"]
)
any_headers = st.one_of(
    st.just(()),
    st.sampled_from([JSON, PROTOBUF, EVENT]),
    st.lists(st.tuples(header_names, header_values), max_size=7).map(tuple),
)
positions = st.sampled_from([None, Position("submissions", 0, 0)])


@examples(300)
@given(st.binary(max_size=400), any_headers, positions)
def test_any_bytes_with_any_headers_get_an_answer(value: bytes, headers: Headers, position: Position | None) -> None:
    check(Record(value, 0, headers, position=position))


good_records = st.sampled_from([(golden.value, golden.headers) for golden in golden_submissions()])
cuts = st.tuples(st.integers(0, 700), st.integers(0, 12), st.binary(max_size=6))


@examples(300)
@given(good_records, st.lists(cuts, min_size=1, max_size=4))
def test_any_damage_to_a_good_record_gets_an_answer(
    good: tuple[bytes, Headers], damage: list[tuple[int, int, bytes]]
) -> None:
    value, headers = good
    for at, length, put in damage:
        value = value[:at] + put + value[at + length :]
    check(from_kafka(value, headers))


names = st.one_of(
    st.sampled_from([name for field in pb.Submission.DESCRIPTOR.fields for name in (field.name, field.json_name)]),
    st.sampled_from(["producer", "derivedFrom", "time", "signature", "float32", "values", "uri", "digest"]),
    st.text(max_size=5),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(10**400, 10**401),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["ORIGIN_EXPERT", "2023-11-14T22:13:20Z", "AAAA", "\ud800", "1e400", "9" * 30]),
)
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=5)),
    max_leaves=20,
)


@examples(300)
@given(st.dictionaries(names, trees, max_size=6))
def test_any_json_gets_an_answer(tree: dict[str, object]) -> None:
    check(from_kafka(json.dumps(tree).encode(), JSON))
    check(from_kafka(json.dumps(json.loads(good_json()) | tree).encode(), JSON))


characters = st.characters(codec="utf-8")
words = st.text(characters, max_size=8)
times = st.builds(Timestamp, seconds=st.integers(-(2**63), 2**63 - 1), nanos=st.integers(-(2**31), 2**31 - 1))
any_submissions = st.builds(
    pb.Submission,
    namespace=st.one_of(st.just("facts"), words),
    submission_id=words,
    item_id=words,
    origin=st.integers(-(2**31), 2**31 - 1),
    modality=st.integers(-2, 6),
    content=words,
    media=st.none() | st.builds(pb.Media, uri=words, digest=words, media_type=words),
    attributes=st.dictionaries(words, words, max_size=3),
    provenance=st.builds(
        pb.Provenance, producer=words, time=st.none() | times, derived_from=st.lists(words, max_size=3)
    ),
    embedding=st.none()
    | st.builds(pb.Embedding, float32=st.binary(max_size=9), values=st.lists(st.floats(width=32), max_size=3)),
    expected_version=st.none() | st.integers(0, 2**64 - 1),
    retraction=st.booleans(),
    submitted_time=st.none() | times,
)


@examples(300)
@given(any_submissions)
def test_any_submission_gets_an_answer(submission: pb.Submission) -> None:
    check(from_grpc(submission.SerializeToString()))


trees = st.recursive(
    st.none() | st.booleans() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
)


@examples(300)
@given(st.dictionaries(words, trees, max_size=4))
def test_details_are_taken_where_json_can_say_them(details: dict[str, Any]) -> None:
    submission = good_submission()
    submission.details.update(details)
    outcome = check(from_grpc(submission.SerializeToString()))
    try:
        json_format.MessageToJson(submission)
    except json_format.SerializeToJsonError:
        assert isinstance(outcome, Malformed)
        assert all(path.startswith("details[") for path in paths(outcome))
    else:
        assert isinstance(outcome, Decoded)


good_submissions = st.builds(
    pb.Submission,
    namespace=st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,20}\Z"),
    submission_id=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1, max_size=20),
    origin=st.sampled_from([pb.ORIGIN_EXPERT, pb.ORIGIN_SYNTHETIC]),
    modality=st.sampled_from([pb.MODALITY_TEXT, pb.MODALITY_CODE]),
    content=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50).map(lambda text: f"x{text}"),
    attributes=st.dictionaries(st.text("abc é", min_size=1), st.text("abc\n", max_size=20), max_size=3),
    provenance=st.builds(pb.Provenance, producer=st.just("ada"), signature=st.binary(max_size=9)),
    embedding=st.none() | st.builds(pb.Embedding, values=st.lists(st.floats(1, 100, width=32), min_size=1, max_size=5)),
    expected_version=st.none() | st.integers(0, 2**63 - 1),
    submitted_time=st.none()
    | st.builds(Timestamp, seconds=st.integers(0, 7_258_118_399), nanos=st.integers(0, 999_999_999)),
)


@examples(300)
@given(good_submissions)
def test_every_good_submission_comes_through_every_format_unchanged(submission: pb.Submission) -> None:
    value = submission.SerializeToString()
    in_json = json_format.MessageToJson(submission).encode()
    records = [
        from_grpc(value),
        from_kafka(value),
        from_kafka(FRAME + value),
        from_kafka(in_json),
        from_kafka(value, EVENT),
    ]
    answers = [accepted(record) for record in records]
    assert all(answer.submission == submission for answer in answers)
    assert {answer.digest for answer in answers} == {digest(submission)}
    assert {answer.fingerprint for answer in answers} == {fingerprint(submission.modality, submission.content)}
