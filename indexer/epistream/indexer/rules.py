"""The rules of a submission's fields, one by one and together. Pure.

What a namespace adds to them, and the numbers of an embedding, are embed's to check.

Every wrong field is found, not only the first, and each is named by its path in the submission: `provenance.producer`,
`attributes["lang"]`, `embedding.float32`.
"""

import itertools
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from epistream.indexer.model import AUTHORITY
from epistream.indexer.vectors import form_violations
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import FieldViolation

CONTENT_BYTES_MAX: Final = 256 * 1024
ID_CHARACTERS_MAX: Final = 200
"""Of a submission id, an item id, a producer's name; and of a generator's and a licence's."""
ADDRESS_CHARACTERS_MAX: Final = 2000
"""Of a source and of a URI."""
SIGNATURE_BYTES_MAX: Final = 4096
PARENTS_MAX: Final = 64
ATTRIBUTES_MAX: Final = 64
KEY_CHARACTERS_MAX: Final = 100
VALUE_CHARACTERS_MAX: Final = 1000
VERSION_MAX: Final = 2**63 - 1
"""The store's integers are signed."""
TIME_SECONDS_END: Final = 7_258_118_400
"""2200-01-01T00:00:00Z. Times begin with 1970."""
COMBINING_MARKS_MAX: Final = 30
"""In a row. Unicode's stream-safe text allows 30 (UAX #15, section 13). Putting text into NFC takes time that grows
with the square of the longest run: 40,000 marks in a row took 2.4 seconds."""
SHORT_CHARACTERS: Final = 4096
"""Text up to this length is put into NFC in 13 ms whatever is in it, so its marks need not be counted."""
VIOLATIONS_MAX: Final = 32
"""More are not told."""
SHOWN_CHARACTERS: Final = 60
"""How much of a wrong value is quoted."""

_NAMESPACE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
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


def shown(value: object) -> str:
    """A value as a person may see it in a message: as JSON, and short."""
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        value = f"{value[:SHOWN_CHARACTERS]}…"
    text = json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()
    return text if isinstance(value, str) or len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _violations(submission: pb.Submission) -> Iterator[FieldViolation]:
    yield from _names(submission)
    yield from _kind(submission)
    if submission.retraction:
        yield from _retraction(submission)
    else:
        yield from _content(submission)
    yield from _attributes(submission)
    yield from _provenance(submission.provenance)
    if submission.HasField("embedding") and not submission.retraction:
        yield from form_violations(submission.embedding, "embedding")
    if submission.expected_version > VERSION_MAX:
        yield FieldViolation("expected_version", f"at most {VERSION_MAX}, found {submission.expected_version}")
    if submission.HasField("submitted_time"):
        yield from _time("submitted_time", submission.submitted_time)


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
    yield from _line("submission_id", submission.submission_id, ID_CHARACTERS_MAX)
    yield from _line("item_id", submission.item_id, ID_CHARACTERS_MAX)


def _kind(submission: pb.Submission) -> Iterator[FieldViolation]:
    origin, modality = submission.origin, submission.modality
    if not origin:
        yield FieldViolation("origin", f"required: one of {_ORIGINS}")
    elif origin not in AUTHORITY:
        yield FieldViolation("origin", f"expected one of {_ORIGINS}, found {origin}")
    if modality in _WRITTEN or modality in _SEEN:
        return
    if modality:
        yield FieldViolation("modality", f"expected one of {_MODALITIES}, found {modality}")
    elif not submission.retraction:
        yield FieldViolation("modality", f"required: one of {_MODALITIES}")


def _content(submission: pb.Submission) -> Iterator[FieldViolation]:
    content, modality = submission.content, submission.modality
    if not content or content.isspace():
        what = "the caption" if modality in _SEEN else "the text or code"
        yield FieldViolation("content", f"required: {what}, found {'white space only' if content else 'nothing'}")
    elif "\0" in content:
        yield FieldViolation("content", f"the NUL character is not allowed, found at character {content.index(chr(0))}")
    if 4 * len(content) > CONTENT_BYTES_MAX and len(content.encode()) > CONTENT_BYTES_MAX:
        yield FieldViolation("content", f"at most {CONTENT_BYTES_MAX} bytes of UTF-8, found {len(content.encode())}")
    elif len(content) > SHORT_CHARACTERS and not content.isascii() and _most_marks(content) > COMBINING_MARKS_MAX:
        yield FieldViolation(
            "content", f"at most {COMBINING_MARKS_MAX} combining marks in a row, found {_most_marks(content)}"
        )
    if submission.HasField("media"):
        if modality in _WRITTEN:
            yield FieldViolation("media", f"must be unset for {pb.Modality.Name(modality)}")
        else:
            yield from _media(submission.media)
    elif modality in _SEEN:
        yield FieldViolation("media", f"required for {pb.Modality.Name(modality)}: where a consumer fetches it")


def _media(media: pb.Media) -> Iterator[FieldViolation]:
    if not media.uri:
        yield FieldViolation("media.uri", "required: where a consumer fetches it")
    elif len(media.uri) <= ADDRESS_CHARACTERS_MAX and not _URI.fullmatch(media.uri):
        yield FieldViolation("media.uri", f"expected a URI with a scheme and no white space, found {shown(media.uri)}")
    else:
        yield from _line("media.uri", media.uri, ADDRESS_CHARACTERS_MAX)
    if media.digest and not _DIGEST.fullmatch(media.digest):
        yield FieldViolation(
            "media.digest",
            f"expected 'sha256:' and 64 lower-case hexadecimal digits, or nothing, found {shown(media.digest)}",
        )
    if media.media_type and not _MEDIA_TYPE.fullmatch(media.media_type):
        yield FieldViolation(
            "media.media_type",
            f"expected an IANA media type such as image/png, or nothing, found {shown(media.media_type)}",
        )


def _retraction(submission: pb.Submission) -> Iterator[FieldViolation]:
    if not submission.item_id:
        yield FieldViolation("item_id", "required for a retraction: the item to take back")
    if submission.content:
        yield FieldViolation("content", "must be empty for a retraction")
    for field in ("media", "embedding"):
        if submission.HasField(field):
            yield FieldViolation(field, "must be unset for a retraction")


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
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
        yield f"a key has 1 to {KEY_CHARACTERS_MAX} characters, found {len(key)}"
    elif _CONTROL.search(key):
        yield "a key has no control characters and no line ends"
    if len(value) > VALUE_CHARACTERS_MAX:
        yield f"a value has at most {VALUE_CHARACTERS_MAX} characters, found {len(value)}"
    elif "\0" in value:
        yield "the NUL character is not allowed in a value"


def _provenance(provenance: pb.Provenance) -> Iterator[FieldViolation]:
    if not provenance.producer:
        yield FieldViolation("provenance.producer", "required: the name of the producer")
    yield from _line("provenance.producer", provenance.producer, ID_CHARACTERS_MAX)
    yield from _line("provenance.source", provenance.source, ADDRESS_CHARACTERS_MAX)
    yield from _line("provenance.generator", provenance.generator, ID_CHARACTERS_MAX)
    yield from _line("provenance.licence", provenance.licence, ID_CHARACTERS_MAX)
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
            yield from _line(path, item_id, ID_CHARACTERS_MAX)
    if len(provenance.signature) > SIGNATURE_BYTES_MAX:
        found = len(provenance.signature)
        yield FieldViolation("provenance.signature", f"at most {SIGNATURE_BYTES_MAX} bytes, found {found}")


def _line(field: str, text: str, characters_max: int) -> Iterator[FieldViolation]:
    """The rules of a name or address, which may be empty: short, and on one line."""
    if len(text) > characters_max:
        yield FieldViolation(field, f"at most {characters_max} characters, found {len(text)}")
    elif (found := _CONTROL.search(text)) is not None:
        yield FieldViolation(
            field,
            f"no control characters or line ends are allowed, found U+{ord(found[0]):04X} at character {found.start()}",
        )


def _time(field: str, time: Timestamp) -> Iterator[FieldViolation]:
    if not 0 <= time.seconds < TIME_SECONDS_END:
        yield FieldViolation(field, f"expected a time from 1970 to 2199, found {time.seconds} seconds since 1970")
    if not 0 <= time.nanos < 1_000_000_000:
        yield FieldViolation(f"{field}.nanos", f"expected 0 to 999999999, found {time.nanos}")


def _most_marks(text: str) -> int:
    """The length of the longest run of combining marks."""
    runs = itertools.groupby(text, lambda character: unicodedata.combining(character) > 0)
    return max((sum(1 for _ in run) for marks, run in runs if marks), default=0)
