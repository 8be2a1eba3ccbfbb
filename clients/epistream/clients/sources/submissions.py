"""Submissions of what a record says: the same record always makes the same ones, byte for byte.

Items come first, each after those that it was derived from, then a submission for each verdict on them. `details` holds
the fields of the record that are nowhere else, as they are; what is no JSON, or too long to keep, is replaced by its
length and digest.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from epistream.clients.sources.drafts import Item, Judged, Part, Verdict
from epistream.clients.sources.record import (
    Fields,
    Json,
    UnreadableRecord,
    checked_text,
    digest,
    is_line,
    plain,
    shown,
)
from epistream.clients.sources.work import Work
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.limits import (
    ADDRESS_CHARACTERS_MAX,
    DETAILS_BYTES_MAX,
    FURTHER_MEDIA_MAX,
    ID_CHARACTERS_MAX,
    PARENTS_MAX,
    RATIONALE_BYTES_MAX,
    SUBMISSION_BYTES_MAX,
    TESTS_MAX,
    VALUE_CHARACTERS_MAX,
    WORD_CHARACTERS_MAX,
)

TESTS_BYTES_MAX: Final = 256 * 1024
"""A submission has to fit into 1 MiB."""
_MEDIA_MAX: Final = 1 + FURTHER_MEDIA_MAX
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[^\s]+")
_BYTES_MAX: Final = SUBMISSION_BYTES_MAX - 1024
"""Its id, its namespace and its producer's name are still to come, 970 bytes at most."""
_ALL_BYTES_MAX: Final = 64 * 1024 * 1024
"""What a record may become: each item repeats what is said of all of them."""
_KEPT_IN_URI: Final = "/:?#[]@!$&'()*+,;=%~"


def submissions(work: Work, record: Json, media_base: str = "") -> tuple[pb.Submission, ...]:
    """What `record` says, as submissions for no namespace yet. Pure.

    Args:
        work: the work that the record is of.
        record: what its format's reader read.
        media_base: what stands before relative paths of media; the work's name and a colon when empty.

    Raises:
        UnreadableRecord: it is not as the work publishes it, or becomes too much.
    """
    made, room = list[pb.Submission](), _ALL_BYTES_MAX
    for draft in work.adapter(Fields(record)):
        one = _verdict(work, draft) if isinstance(draft, Verdict) else _item(work, draft, media_base)
        whole = one.SerializeToString(deterministic=True)
        if len(whole) > _BYTES_MAX:
            raise UnreadableRecord("", f"submissions of at most {_BYTES_MAX} bytes each", f"one of {len(whole)}")
        room -= len(whole)
        if room < 0:
            raise UnreadableRecord("", f"submissions of at most {_ALL_BYTES_MAX} bytes together", "more")
        one.submission_id = hashlib.sha256(whole).hexdigest()
        made.append(one)
    return tuple(made)


def item_id(work: Work, key: str) -> str:
    """The id of the item that a work knows by `key`; of one that is too long for an id, its digest stands there."""
    whole = f"{work.name}:{key}"
    return whole if is_line(whole, ID_CHARACTERS_MAX) else f"{work.name}:{digest(key)}"


def _item(work: Work, item: Item, media_base: str) -> pb.Submission:
    made = pb.Submission(
        item_id=item_id(work, item.key),
        origin=item.origin,
        modality=item.modality,
        content=checked_text(item.content, "content"),
        prompt=checked_text(item.prompt, "prompt") if item.prompt else "",
        attributes=_labels(work, item),
        provenance=_provenance(work, item),
    )
    media = [_media(work, part, media_base) for part in item.media]
    if len(media) > _MEDIA_MAX:
        raise UnreadableRecord("", f"at most {_MEDIA_MAX} images or videos", str(len(media)))
    if media:
        made.media.CopyFrom(media[0])
        made.further_media.extend(media[1:])
    details = dict(item.details)
    if item.tests is not None:
        made.tests.CopyFrom(item.tests)
        if left_out := _shorten(made.tests):
            details["tests_left_out"] = left_out
        if not (made.tests.cases or made.tests.asserts or made.tests.check):
            made.ClearField("tests")
    if details:
        made.details.update(_fitting(details))
    return made


def _verdict(work: Work, verdict: Verdict) -> pb.Submission:
    if len(verdict.rationale.encode()) > RATIONALE_BYTES_MAX:
        raise UnreadableRecord("", f"a rationale of at most {RATIONALE_BYTES_MAX} bytes", "a longer one")
    by_person = verdict.rater_type == pb.RATER_TYPE_HUMAN
    feedback = pb.Feedback(
        kind=verdict.kind,
        judged=[_judged(work, judged) for judged in verdict.judged],
        rater=verdict.rater,
        rater_type=verdict.rater_type,
        aspect=verdict.aspect[:WORD_CHARACTERS_MAX],
        rationale=verdict.rationale,
        degree=verdict.degree[:WORD_CHARACTERS_MAX],
    )
    if verdict.scale is not None:
        feedback.scale_min, feedback.scale_max = verdict.scale
    made = pb.Submission(
        origin=pb.ORIGIN_EXPERT if by_person else pb.ORIGIN_SYNTHETIC,
        provenance=pb.Provenance(
            producer=work.name, licence=work.licence, generator="" if by_person else verdict.rater
        ),
        feedback=feedback,
    )
    if verdict.time is not None:
        made.provenance.time.FromDatetime(verdict.time)
    if verdict.details:
        made.details.update(_fitting(verdict.details))
    return made


def _judged(work: Work, judged: Judged) -> pb.Judged:
    return pb.Judged(item_id=item_id(work, judged.key), place=judged.place, score=judged.score)


def _labels(work: Work, item: Item) -> dict[str, str]:
    standing = "negative" if item.negative else "positive"
    labels = {**item.labels, "stage": work.stage, "source_work": work.name, "standing": standing}
    return {k: v for k, v in labels.items() if v and len(v) <= VALUE_CHARACTERS_MAX and "\0" not in v}


def _provenance(work: Work, item: Item) -> pb.Provenance:
    parents = dict.fromkeys(item_id(work, parent) for parent in item.parents)
    if len(parents) > PARENTS_MAX:
        raise UnreadableRecord("", f"at most {PARENTS_MAX} items that it was derived from", str(len(parents)))
    made = pb.Provenance(
        producer=item.producer or work.name,
        source=item.source,
        generator=item.generator,
        derived_from=parents,
        licence=item.licence or work.licence,
    )
    if item.time is not None:
        made.time.FromDatetime(item.time)
    return made


def _media(work: Work, part: Part, media_base: str) -> pb.Media:
    uri = part.uri if _URI.fullmatch(part.uri) and "://" in part.uri else _located(work, part.uri, media_base)
    if len(uri) > ADDRESS_CHARACTERS_MAX:
        raise UnreadableRecord("", f"addresses of at most {ADDRESS_CHARACTERS_MAX} characters", str(len(uri)))
    made = pb.Media(uri=uri, role=part.role, media_type=part.media_type, digest=part.digest)
    if part.content is not None:
        made.digest = f"sha256:{hashlib.sha256(part.content).hexdigest()}"
    start, end = part.start_seconds, part.end_seconds
    if start is not None and end is not None and end < start:
        raise UnreadableRecord("", "a part that ends after it begins", f"{shown(start)} s to {shown(end)} s")
    if start is not None:
        made.start.CopyFrom(_duration(start))
    if end is not None:
        made.end.CopyFrom(_duration(end))
    return made


def _located(work: Work, path: str, media_base: str) -> str:
    """A URI of what a work gives: an address with blanks in it, or a path that is relative to where it is published."""
    if "://" in path and _URI.match(path):
        return quote(path, safe=_KEPT_IN_URI)
    return (media_base or f"{work.name}:") + quote(path.lstrip("/") or "/", safe="/#=&")


def _duration(seconds: float) -> Duration:
    made = Duration()
    made.FromNanoseconds(round(seconds * 1e6) * 1000)
    return made


def _shorten(tests: pb.Tests) -> int:
    """Leaves out the tests that do not fit into a submission beside the ones before; how many those are."""
    left_out = 0
    for kept in (tests.cases, tests.asserts):
        # Four bytes for the tag and the length of each.
        sizes = [4 + (len(one.encode()) if isinstance(one, str) else one.ByteSize()) for one in kept]
        room = TESTS_BYTES_MAX - max(tests.ByteSize() - sum(sizes) + 4 * len(sizes), 0)
        out, fit = [], 0
        for at, size in enumerate(sizes):
            if fit == TESTS_MAX or size > room:
                out.append(at)
            else:
                fit, room = fit + 1, room - size
        for at in reversed(out):
            del kept[at]
        left_out += len(out)
    if tests.ByteSize() > TESTS_BYTES_MAX:
        raise UnreadableRecord("tests", f"at most {TESTS_BYTES_MAX} bytes", str(tests.ByteSize()))
    return left_out


def _fitting(details: Mapping[str, Json]) -> dict[str, Json]:
    """The details, the largest of them replaced by their digests where all are too long."""
    kept: dict[str, Json] = {name: plain(value) for name, value in details.items()}
    sizes = {name: _size(name, value) for name, value in kept.items()}
    total = sum(sizes.values())
    if total <= DETAILS_BYTES_MAX:
        return kept
    for name in sorted(sizes, key=lambda each: (-sizes[each], each)):
        kept[name] = {"bytes": sizes[name], "sha256": digest(kept[name])}
        total += _size(name, kept[name]) - sizes[name]
        if total <= DETAILS_BYTES_MAX:
            return kept
    raise UnreadableRecord("", f"remaining fields of at most {DETAILS_BYTES_MAX} bytes", "more")


def _size(name: str, value: Json) -> int:
    made = Struct()
    made.update({name: value})
    return made.ByteSize()
