"""What people think of the images that models make: the records that works of two stages share."""

from collections.abc import Iterator
from typing import Final

from epistream.clients.sources.drafts import Draft, Item, Judged, Part, Verdict, preference
from epistream.clients.sources.record import Fields
from epistream.v1 import knowledge_pb2 as pb

_LABELS: Final = {(1.0, 0.0): False, (0.0, 1.0): True, (0.5, 0.5): None}
"""Whether the second image is the better one; None for a tie."""
RANKS_MAX: Final = 1000


def pick_a_pic(record: Fields) -> Iterator[Draft]:
    """A row of Pick-a-Pic: two images of one caption, and which of them a user chose."""
    caption, time, user = record.text("caption"), record.maybe_time("created_at"), record.name("user_id")
    images = [_choice(record, i) for i in (0, 1)]
    has_label = record.raw("has_label") is not False
    labels = (record.number("label_0", 0, 1), record.number("label_1", 0, 1)) if has_label else None
    if labels is not None and labels not in _LABELS:
        raise record.wrong("label_1", f"1, 0 or 0.5 that adds up to 1 with label_0, {labels[0]:g}")
    rest = record.rest()
    for key, part, model in images:
        yield Item(
            key=key,
            content=caption,
            origin=pb.ORIGIN_COLLABORATIVE,
            modality=pb.MODALITY_IMAGE,
            time=time,
            generator=model,
            media=(part,),
            labels={"model": model},
            details=rest,
        )
    if labels is not None:
        second = _LABELS[labels]
        better, worse = (images[1][0], images[0][0]) if second else (images[0][0], images[1][0])
        made = preference(better, worse, rater=user, tie=second is None)
        yield Verdict(kind=made.kind, judged=made.judged, rater=made.rater, time=time)


def ranked(record: Fields) -> Iterator[Draft]:
    """A record of ImageReward: a prompt, its images, and their order by an expert, 1 for the best; ties are equal.

    One of `refl_data.json` is a prompt and an image alone.
    """
    if record.has("text"):
        yield _of_prompt(record)
        return
    key, prompt = record.name("id"), record.text("prompt")
    paths = record.texts("generations", 2, RANKS_MAX)
    ranking = record.items("ranking", len(paths), len(paths))
    places = [_place(rank, record.path(f"ranking[{i}]")) for i, rank in enumerate(ranking)]
    rater, rest = record.name("rater", "expert"), record.rest()
    for i, path in enumerate(paths):
        yield Item(
            key=f"{key}/{i}",
            content=prompt,
            origin=pb.ORIGIN_COLLABORATIVE,
            modality=pb.MODALITY_IMAGE,
            media=(Part(uri=path),),
            details=rest,
        )
    judged = tuple(Judged(f"{key}/{i}", place) for i, place in enumerate(places))
    yield Verdict(kind=pb.FEEDBACK_KIND_RANKING, judged=judged, rater=rater)


def _of_prompt(record: Fields) -> Item:
    image = record.address("image")
    return Item(
        key=image,
        content=record.text("text"),
        origin=pb.ORIGIN_COLLABORATIVE,
        modality=pb.MODALITY_IMAGE,
        media=(Part(uri=image),),
        details=record.rest(),
    )


def _place(rank: object, path: str) -> int:
    return Fields({"rank": rank}, path).integer("rank", 1, RANKS_MAX)


def _choice(record: Fields, i: int) -> tuple[str, Part, str]:
    """The key of an image, the image, and the model that made it."""
    uid = record.name(f"image_{i}_uid")
    content = record.bytes_or_none(f"jpg_{i}")
    url = record.maybe_address(f"image_{i}_url") or f"{uid}.jpg"
    return (
        uid,
        Part(uri=url, media_type="image/jpeg" if content else "", content=content),
        record.maybe_name(f"model_{i}"),
    )
