"""Windows for tests of signals: changes as a namespace would have them, without a store."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME
from epistream.indexer.conflicts import Conflict, Party
from epistream.indexer.signals import CELLS, Cell, Figure, Said, Window
from epistream.v1 import knowledge_pb2 as pb

SECOND_US: Final = 1_000_000


def change(
    item_id: str,
    content: str,
    origin: pb.Origin.ValueType = pb.ORIGIN_CRAWLED,
    modality: pb.Modality.ValueType = pb.MODALITY_TEXT,
    *,
    producer: str = "alice",
    parents: Sequence[str] = (),
    attributes: Mapping[str, str] | None = None,
    details: Mapping[str, Any] | None = None,
    media: Sequence[pb.Media] = (),
    at_us: int = 0,
    **fields: Any,
) -> pb.Change:
    """A version in answers. `fields` are further ones of `Knowledge`; `version` is the change's."""
    version = fields.pop("version", 1)
    provenance = pb.Provenance(producer=producer, derived_from=parents, generator=fields.pop("generator", ""))
    known = pb.Knowledge(origin=origin, modality=modality, content=content, provenance=provenance, **fields)
    known.attributes.update(attributes or {})
    if details:
        known.details.update(details)
    if media:
        known.media.CopyFrom(media[0])
        known.further_media.extend(media[1:])
    made = pb.Change(item_id=item_id, version=version, kind=pb.CHANGE_KIND_ADMITTED, knowledge=known)
    made.commit_time.FromMicroseconds(at_us)
    return made


def part(uri: str, start: float | None = None, end: float | None = None, role: str = "") -> pb.Media:
    """An image, a video, or a part of one."""
    made = pb.Media(uri=uri, role=role)
    if start is not None:
        made.start.FromNanoseconds(round(start * 1e9))
    if end is not None:
        made.end.FromNanoseconds(round(end * 1e9))
    return made


def said(
    kind: pb.FeedbackKind.ValueType,
    *judged: pb.Judged,
    rater: str = "r1",
    rater_type: pb.RaterType.ValueType = pb.RATER_TYPE_HUMAN,
    at_us: int = 0,
    details: Mapping[str, float] | None = None,
    **fields: Any,
) -> Said:
    """What a rater says."""
    made = pb.Submission()
    made.feedback.CopyFrom(pb.Feedback(kind=kind, judged=judged, rater=rater, rater_type=rater_type, **fields))
    if details:
        made.details.update(details)
    return Said(made, at_us)


def preferred(better: str, worse: str, rater: str = "r1") -> Said:
    """A person's choice between two items."""
    return said(
        pb.FEEDBACK_KIND_PAIRWISE, pb.Judged(item_id=better, place=1), pb.Judged(item_id=worse, place=2), rater=rater
    )


def yes_or_no(item_id: str, yes: bool, rater: str = "r1", aspect: str = "", **fields: Any) -> Said:
    """A person's answer, or another rater's."""
    judged = pb.Judged(item_id=item_id, score=float(yes))
    return said(pb.FEEDBACK_KIND_BINARY, judged, rater=rater, aspect=aspect, **fields)


def conflict(*item_ids: str, opened_us: int = 0) -> Conflict:
    """An open conflict between items."""
    return Conflict(1, opened_us, None, tuple(Party(item_id, 0, gone=False) for item_id in item_ids))


def executed(item_id: str, verdict: str, at_us: int = 0, **details: float) -> Said:
    """A verdict of an executor."""
    return yes_or_no(
        item_id,
        verdict == "verified",
        rater="sandbox",
        rater_type=pb.RATER_TYPE_EXECUTOR,
        degree=verdict,
        at_us=at_us,
        details=details,
    )


def window(*changes: pb.Change, vectors: Any = None, **fields: Any) -> Window:
    """The window of these changes, oldest first; without `vectors` none has one."""
    rows = np.zeros((len(changes), 2)) if vectors is None else np.asarray(vectors, np.float64).reshape(len(changes), -1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return Window(changes=changes, vectors=unit.astype(np.float32), threshold=fields.pop("threshold", 0.95), **fields)


def window_of(work: str, *records: Any, **fields: Any) -> Window:
    """The window that a published work's records make, by its adapter."""
    sent = [one for record in records for one in submissions(BY_NAME[work], record)]
    items = [one for one in sent if not one.HasField("feedback")]
    return window(*map(_admitted, items), said=[Said(one, 0) for one in sent if one.HasField("feedback")], **fields)


def only(found: Iterable[Figure] | Figure) -> Figure:
    """The only figure of a signal that has one for each producer."""
    [figure] = [found] if isinstance(found, Figure) else found
    return figure


def cell(name: str) -> Cell:
    """A cell of the table, such as `I text`."""
    [found] = [one for one in CELLS if one.name == name]
    return found


def figures(found: Window, name: str) -> dict[str, list[Figure]]:
    """The figures of a cell, by signal."""
    measured = {signal.name: signal.measure(found) for signal in cell(name).signals}
    return {signal: [told] if isinstance(told, Figure) else list(told) for signal, told in measured.items()}


def _admitted(one: pb.Submission) -> pb.Change:
    known = pb.Knowledge(
        origin=one.origin,
        modality=one.modality,
        content=one.content,
        attributes=one.attributes,
        provenance=one.provenance,
        prompt=one.prompt,
        further_media=one.further_media,
    )
    for name in ("media", "tests", "details"):
        if one.HasField(name):
            getattr(known, name).CopyFrom(getattr(one, name))
    generation = int(one.origin == pb.ORIGIN_SYNTHETIC)
    return pb.Change(
        item_id=one.item_id, version=1, kind=pb.CHANGE_KIND_ADMITTED, knowledge=known, generation=generation
    )
