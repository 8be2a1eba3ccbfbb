"""What people think of the images that models make: the records that works of two stages share."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from epistream.clients.sources.drafts import Draft, Item, Judged, Part, Verdict, preference
from epistream.clients.sources.record import Fields, Json, digest
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.limits import PLACE_MAX

_LABELS: Final = {(1.0, 0.0): False, (0.0, 1.0): True, (0.5, 0.5): None}
"""Whether the second image is the better one; None for a tie."""
_RATINGS: Final = {
    "overall_rating": "",
    "image_text_alignment_rating": "alignment",
    "fidelity_rating": "fidelity",
}
"""The aspect that each rating of ImageRewardDB is of; an empty one is the whole."""
_RATER: Final = "expert"
"""Where nobody is named."""


def pick_a_pic(record: Fields) -> Iterator[Draft]:
    """A row of Pick-a-Pic: two images of one caption, and which of them a user chose.

    What else it says is about the comparison, and stands at the choice: the images may be known from other rows, and
    then nothing new is kept of them. Where nobody chose, it stands at the images.
    """
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
            details={} if has_label else rest,
        )
    if labels is not None:
        second = _LABELS[labels]
        better, worse = (images[1][0], images[0][0]) if second else (images[0][0], images[1][0])
        yield preference(better, worse, rater=user, tie=second is None, time=time, details=rest)


def image_reward(record: Fields) -> Iterator[Draft]:
    """A prompt, its images, and their order by an expert, 1 for the best; ties are equal.

    One of `refl_data.json` is a prompt and an image alone; one of ImageRewardDB an image with an expert's ratings, or
    the images of a prompt, which stand there one after the other, with their order.
    """
    if record.has("text"):
        yield _of_prompt(record)
    elif record.has("generations"):
        yield from _ranked(record)
    elif record.has("rows"):
        yield from _rated_together(record)
    else:
        yield from _rated(record, record.name("rater", _RATER), {})[1]


def _of_prompt(record: Fields) -> Item:
    path = record.address("image")
    return _image(path, record.text("text"), Part(uri=path), record.rest())


def _ranked(record: Fields) -> Iterator[Draft]:
    key, prompt = record.name("id"), record.text("prompt")
    paths = record.texts("generations", 2)
    places = record.places("ranking", len(paths))
    rater, rest = record.name("rater", _RATER), record.rest()
    for i, path in enumerate(paths):
        yield _image(f"{key}/{i}", prompt, Part(uri=path), rest)
    judged = tuple(Judged(f"{key}/{i}", place) for i, place in enumerate(places))
    yield Verdict(kind=pb.FEEDBACK_KIND_RANKING, judged=judged, rater=rater)


def _rated_together(record: Fields) -> Iterator[Draft]:
    rows, rater = record.objects("rows", 2), record.name("rater", _RATER)
    raters = [row.name("rater", rater) for row in rows]
    ranked = Counter(one for row, one in zip(rows, raters, strict=True) if "rank" in row)
    ranks = [
        row.integer("rank", 1, PLACE_MAX) if "rank" in row and ranked[one] > 1 else None
        for row, one in zip(rows, raters, strict=True)
    ]
    rest = record.rest()
    rated = [_rated(row, one, rest) for row, one in zip(rows, raters, strict=True)]
    for kind in (Item, Verdict):
        yield from (draft for _, drafts in rated for draft in drafts if isinstance(draft, kind))
    by_rater: defaultdict[str, list[Judged]] = defaultdict(list)
    for one, (key, _), rank in zip(raters, rated, ranks, strict=True):
        if rank is not None:
            by_rater[one].append(Judged(key, rank))
    for one, judged in by_rater.items():
        yield Verdict(kind=pb.FEEDBACK_KIND_RANKING, judged=tuple(judged), rater=one)


def _rated(record: Fields, rater: str, more: Mapping[str, Json]) -> tuple[str, list[Draft]]:
    """The key of an image, the image and its ratings. Of one alone its place stays in the details."""
    prompt_id, content = record.name("prompt_id"), record.text("prompt")
    data, path = record.image("image") if record.has("image") else (None, record.address("image_path"))
    key = f"{prompt_id}/{path or digest(data)}"
    scores = {aspect: record.number(name, 1, 7) for name, aspect in _RATINGS.items() if name in record}
    if not scores:
        raise record.wrong("overall_rating", "a rating from 1 to 7")
    details = {"prompt_id": prompt_id, **record.rest(), **more}
    drafts: list[Draft] = [_image(key, content, Part(uri=path or f"{key}.webp", content=data), details)]
    for aspect, score in scores.items():
        judged = (Judged(key, score=score),)
        drafts.append(Verdict(kind=pb.FEEDBACK_KIND_RATING, judged=judged, rater=rater, aspect=aspect, scale=(1, 7)))
    return key, drafts


def _image(key: str, prompt: str, part: Part, details: Mapping[str, Json]) -> Item:
    """An image that a model made of a prompt."""
    return Item(
        key=key,
        content=prompt,
        origin=pb.ORIGIN_COLLABORATIVE,
        modality=pb.MODALITY_IMAGE,
        media=(part,),
        details=details,
    )


def _choice(record: Fields, i: int) -> tuple[str, Part, str]:
    """The key of an image, the image, and the model that made it."""
    uid = record.name(f"image_{i}_uid")
    content, path = record.image(f"jpg_{i}")
    url = record.maybe_address(f"image_{i}_url") or path or f"{uid}.jpg"
    return (
        uid,
        Part(uri=url, media_type="image/jpeg" if content else "", content=content),
        record.maybe_name(f"model_{i}"),
    )
