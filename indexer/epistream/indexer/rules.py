"""The rules of a submission's fields, one by one and together. Pure. Those of feedback are in `feedback_rules`.

What a namespace adds to them, and the numbers of an embedding, are embed's to check.

Every wrong field is found, not only the first, and each is named by its path in the submission: `provenance.producer`,
`attributes["lang"]`, `embedding.float32`.
"""

import itertools
import math
import re
from collections.abc import Iterator
from typing import Final

from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from epistream.indexer import feedback_rules
from epistream.indexer.model import AUTHORITY
from epistream.indexer.texts import line, prose, shown, unset
from epistream.indexer.vectors import form_violations
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import FieldViolation
from epistream.wire.limits import (
    ADDRESS_CHARACTERS_MAX,
    CONTENT_BYTES_MAX,
    CONTROL,
    DETAILS_BYTES_MAX,
    FURTHER_MEDIA_MAX,
    ID_CHARACTERS_MAX,
    LANGUAGE,
    PARENTS_MAX,
    SPAN_SECONDS_MAX,
    TESTS_MAX,
    TIME_END,
    VALUE_CHARACTERS_MAX,
    WORD_CHARACTERS_MAX,
)

SIGNATURE_BYTES_MAX: Final = 4096
ATTRIBUTES_MAX: Final = 64
VERSION_MAX: Final = 2**63 - 1
"""The store's integers are signed."""
_TIME_SECONDS_END: Final = TIME_END.timestamp()
_AHEAD_US: Final = 24 * 60 * 60 * 1_000_000
"""A producer's clock may be ahead, and its day begins before the service's does."""
VIOLATIONS_MAX: Final = 32
"""More are not told."""

_PATH_CHARACTERS_MAX: Final = 200
"""Of the path to a number of `details`: a name in it may be as long as all of them."""

_NOT_FINITE: Final = re.compile(rb"\x11.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)
"""What is in the bytes of a `Struct` with a number that is none: the tag of `number_value`, and a float64 with nothing
but ones in its exponent. Other bytes may look like that too."""
_NAMESPACE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9.+_-]{1,100}/[A-Za-z0-9.+_-]{1,100}")
_ORIGINS: Final = ", ".join(name for name, origin in pb.Origin.items() if origin)
_MODALITIES: Final = ", ".join(name for name, modality in pb.Modality.items() if modality)
_WRITTEN: Final = frozenset({pb.MODALITY_TEXT, pb.MODALITY_CODE})
_SEEN: Final = frozenset({pb.MODALITY_IMAGE, pb.MODALITY_VIDEO})


def violations(submission: pb.Submission) -> tuple[FieldViolation, ...]:
    """What is wrong with the fields, at most VIOLATIONS_MAX; empty when all is right."""
    return tuple(itertools.islice(_violations(submission), VIOLATIONS_MAX))


def ahead(submission: pb.Submission, received_us: int) -> tuple[FieldViolation, ...]:
    """What is wrong with `valid_from` at the time when the submission came, microseconds since 1970; empty if nothing.

    A head is what holds now. What begins in a future that is far enough would be the head for good: whatever holds from
    now on came late beside it.
    """
    if not submission.HasField("valid_from") or submission.valid_from.ToMicroseconds() <= received_us + _AHEAD_US:
        return ()
    text = (
        f"expected a time not later than a day from now, found {submission.valid_from.ToJsonString()}: the newest"
        " version is what holds now; send it when it does"
    )
    return (FieldViolation("valid_from", text),)


def _violations(submission: pb.Submission) -> Iterator[FieldViolation]:
    yield from _names(submission)
    if submission.HasField("feedback"):
        yield from _origin(submission)
        yield from feedback_rules.violations(submission)
    else:
        yield from _kind(submission)
        yield from _retraction(submission) if submission.retraction else _content(submission)
    if submission.HasField("details"):
        yield from _details(submission.details)
    yield from _attributes(submission)
    yield from _provenance(submission.provenance)
    if submission.HasField("embedding") and not submission.retraction:
        yield from form_violations(submission.embedding, "embedding")
    if submission.expected_version > VERSION_MAX:
        yield FieldViolation("expected_version", f"at most {VERSION_MAX}, found {submission.expected_version}")
    if submission.HasField("submitted_time"):
        yield from _time("submitted_time", submission.submitted_time)
    if submission.HasField("valid_from"):
        yield from _valid_from(submission.valid_from)


def _names(submission: pb.Submission) -> Iterator[FieldViolation]:
    namespace = submission.namespace
    if not namespace:
        yield FieldViolation("namespace", "required: the name of an existing namespace")
    elif not _NAMESPACE.fullmatch(namespace):
        yield FieldViolation(
            "namespace",
            "expected 1 to 100 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit, "
            f"found {shown(namespace)}",
        )
    if not submission.submission_id:
        yield FieldViolation("submission_id", "required: the producer's own id of this submission")
    yield from line("submission_id", submission.submission_id, ID_CHARACTERS_MAX)
    yield from line("item_id", submission.item_id, ID_CHARACTERS_MAX)


def _origin(submission: pb.Submission) -> Iterator[FieldViolation]:
    if not submission.origin:
        yield FieldViolation("origin", f"required: one of {_ORIGINS}")
    elif submission.origin not in AUTHORITY:
        yield FieldViolation("origin", f"expected one of {_ORIGINS}, found {submission.origin}")


def _kind(submission: pb.Submission) -> Iterator[FieldViolation]:
    yield from _origin(submission)
    modality = submission.modality
    if modality in _WRITTEN or modality in _SEEN:
        return
    if modality:
        yield FieldViolation("modality", f"expected one of {_MODALITIES}, found {modality}")
    elif not submission.retraction:
        yield FieldViolation("modality", f"required: one of {_MODALITIES}")


def _content(submission: pb.Submission) -> Iterator[FieldViolation]:
    modality = submission.modality
    if not submission.content or submission.content.isspace():
        what = "the caption" if modality in _SEEN else "the text or code"
        found = "white space only" if submission.content else "nothing"
        yield FieldViolation("content", f"required: {what}, found {found}")
    else:
        yield from prose("content", submission.content, CONTENT_BYTES_MAX)
    yield from prose("prompt", submission.prompt, CONTENT_BYTES_MAX)
    if submission.HasField("media"):
        if modality in _WRITTEN:
            yield FieldViolation("media", f"must be unset for {pb.Modality.Name(modality)}")
        else:
            yield from _media("media", submission.media)
    elif modality in _SEEN:
        yield FieldViolation("media", f"required for {pb.Modality.Name(modality)}: where a consumer fetches it")
    if submission.further_media:
        yield from _further_media(submission)
    if submission.HasField("tests"):
        yield from _tests(submission)


def _further_media(submission: pb.Submission) -> Iterator[FieldViolation]:
    if not submission.HasField("media"):
        yield FieldViolation("further_media", "must be empty where `media` is unset: that is the first")
    elif len(submission.further_media) > FURTHER_MEDIA_MAX:
        yield FieldViolation("further_media", f"at most {FURTHER_MEDIA_MAX}, found {len(submission.further_media)}")
    else:
        for index, media in enumerate(submission.further_media):
            yield from _media(f"further_media[{index}]", media)


def _media(path: str, media: pb.Media) -> Iterator[FieldViolation]:
    if not media.uri:
        yield FieldViolation(f"{path}.uri", "required: where a consumer fetches it")
    elif len(media.uri) <= ADDRESS_CHARACTERS_MAX and not _URI.fullmatch(media.uri):
        found = shown(media.uri)
        yield FieldViolation(f"{path}.uri", f"expected a URI with a scheme and no white space, found {found}")
    else:
        yield from line(f"{path}.uri", media.uri, ADDRESS_CHARACTERS_MAX)
    if media.digest and not _DIGEST.fullmatch(media.digest):
        yield FieldViolation(
            f"{path}.digest",
            f"expected 'sha256:' and 64 lower-case hexadecimal digits, or nothing, found {shown(media.digest)}",
        )
    if media.media_type and not _MEDIA_TYPE.fullmatch(media.media_type):
        yield FieldViolation(
            f"{path}.media_type",
            f"expected an IANA media type such as image/png, or nothing, found {shown(media.media_type)}",
        )
    yield from line(f"{path}.role", media.role, WORD_CHARACTERS_MAX)
    yield from _span(path, media)


def _span(path: str, media: pb.Media) -> Iterator[FieldViolation]:
    """The rules of the part of a recording that is meant."""
    for field in ("start", "end"):
        duration = getattr(media, field)
        if not (0 <= duration.seconds <= SPAN_SECONDS_MAX and 0 <= duration.nanos < 1_000_000_000):
            found = f"{duration.seconds} seconds and {duration.nanos} nanoseconds"
            yield FieldViolation(f"{path}.{field}", f"expected 0 to {SPAN_SECONDS_MAX} seconds, found {found}")
    start, end = (media.start.seconds, media.start.nanos), (media.end.seconds, media.end.nanos)
    if media.HasField("end") and end < start:
        yield FieldViolation(f"{path}.end", "must not be before `start`")


def _tests(submission: pb.Submission) -> Iterator[FieldViolation]:
    tests = submission.tests
    if submission.modality != pb.MODALITY_CODE:
        yield FieldViolation("tests", "must be unset for anything but MODALITY_CODE")
        return
    if not LANGUAGE.fullmatch(tests.language):
        found = shown(tests.language)
        yield FieldViolation("tests.language", f"required: a language in lower case, such as python, found {found}")
    if not (tests.asserts or tests.check or tests.cases):
        yield FieldViolation("tests", "at least one of `asserts`, `check` and `cases` must be set")
    for name, count in (("asserts", len(tests.asserts)), ("cases", len(tests.cases))):
        if count > TESTS_MAX:
            yield FieldViolation(f"tests.{name}", f"at most {TESTS_MAX}, found {count}")
    if tests.check and not tests.entry_point:
        yield FieldViolation("tests.entry_point", "required with `check`: the function that it is given")
    yield from line("tests.entry_point", tests.entry_point, ID_CHARACTERS_MAX)


def _retraction(submission: pb.Submission) -> Iterator[FieldViolation]:
    if not submission.item_id:
        yield FieldViolation("item_id", "required for a retraction: the item to take back")
    if submission.content:
        yield FieldViolation("content", "must be empty for a retraction")
    unfit = ("media", "embedding", "prompt", "tests", "further_media", "details", "valid_from")
    yield from unset(submission, unfit, "a retraction")


def _attributes(submission: pb.Submission) -> Iterator[FieldViolation]:
    attributes = submission.attributes
    if not attributes:
        return
    if len(attributes) > ATTRIBUTES_MAX:
        yield FieldViolation("attributes", f"at most {ATTRIBUTES_MAX}, found {len(attributes)}")
        return
    for key, value in attributes.items():
        for description in _attribute(key, value):
            yield FieldViolation(f"attributes[{shown(key)}]", description)


def _attribute(key: str, value: str) -> Iterator[str]:
    if not 1 <= len(key) <= WORD_CHARACTERS_MAX:
        yield f"a key has 1 to {WORD_CHARACTERS_MAX} characters, found {len(key)}"
    elif CONTROL.search(key):
        yield "a key has no control characters and no line ends"
    if len(value) > VALUE_CHARACTERS_MAX:
        yield f"a value has at most {VALUE_CHARACTERS_MAX} characters, found {len(value)}"
    elif "\0" in value:
        yield "the NUL character is not allowed in a value"


def _details(details: Struct) -> Iterator[FieldViolation]:
    """The rules of what else the source says. JSON has no other numbers than finite ones; messages have."""
    if details.ByteSize() > DETAILS_BYTES_MAX:
        yield FieldViolation("details", f"at most {DETAILS_BYTES_MAX} bytes, found {details.ByteSize()}")
    elif _NOT_FINITE.search(details.SerializeToString()):  # 30 times as quick as to look at each value
        yield from _not_finite(details)


def _not_finite(details: Struct) -> Iterator[FieldViolation]:
    """The numbers that are none, by their keys and their places in arrays."""
    way: list[object] = [None]
    waiting: list[Iterator[tuple[object, Value]]] = [iter(details.fields.items())]
    while waiting:
        way[-1], value = next(waiting[-1], (None, None))
        if value is None:
            waiting.pop()
            way.pop()
            continue
        kind = value.WhichOneof("kind")
        if kind == "struct_value":
            waiting.append(iter(value.struct_value.fields.items()))
            way.append(None)
        elif kind == "list_value":
            waiting.append(iter(enumerate(value.list_value.values)))
            way.append(None)
        elif kind == "number_value" and not math.isfinite(value.number_value):
            path = f"details{''.join(f'[{shown(step)}]' for step in way)}"
            path = path if len(path) <= _PATH_CHARACTERS_MAX else f"{path[:_PATH_CHARACTERS_MAX]}…"
            yield FieldViolation(path, f"expected a finite number, found {value.number_value}")


def _provenance(provenance: pb.Provenance) -> Iterator[FieldViolation]:
    if not provenance.producer:
        yield FieldViolation("provenance.producer", "required: the name of the producer")
    yield from line("provenance.producer", provenance.producer, ID_CHARACTERS_MAX)
    yield from line("provenance.source", provenance.source, ADDRESS_CHARACTERS_MAX)
    yield from line("provenance.generator", provenance.generator, ID_CHARACTERS_MAX)
    yield from line("provenance.licence", provenance.licence, ID_CHARACTERS_MAX)
    if provenance.HasField("time"):
        yield from _time("provenance.time", provenance.time)
    if len(provenance.derived_from) > PARENTS_MAX:
        found = len(provenance.derived_from)
        yield FieldViolation("provenance.derived_from", f"at most {PARENTS_MAX} item ids, found {found}")
    else:
        for index, item_id in enumerate(provenance.derived_from):
            path = f"provenance.derived_from[{index}]"
            if not item_id:
                yield FieldViolation(path, "an item id is not empty")
            yield from line(path, item_id, ID_CHARACTERS_MAX)
    if len(provenance.signature) > SIGNATURE_BYTES_MAX:
        found = len(provenance.signature)
        yield FieldViolation("provenance.signature", f"at most {SIGNATURE_BYTES_MAX} bytes, found {found}")


def _valid_from(time: Timestamp) -> Iterator[FieldViolation]:
    try:
        time.ToMicroseconds()
    except ValueError:
        found = f"{time.seconds} seconds and {time.nanos} nanoseconds since 1970"
        yield FieldViolation("valid_from", f"expected a time in the years 1 to 9999, found {found}")


def _time(field: str, time: Timestamp) -> Iterator[FieldViolation]:
    if not 0 <= time.seconds < _TIME_SECONDS_END:
        yield FieldViolation(field, f"expected a time from 1970 to 2199, found {time.seconds} seconds since 1970")
    if not 0 <= time.nanos < 1_000_000_000:
        yield FieldViolation(f"{field}.nanos", f"expected 0 to 999999999, found {time.nanos}")
