"""The cells of images: what alternative texts lack, where things stand, what captions invent, and whose taste wins."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from epistream.indexer.signals.figure import PARTS_MAX, Figure, largest, mean, missing, share
from epistream.indexer.signals.window import Window, field_names, number, texts
from epistream.indexer.signals.words import content_words, is_english, is_generic, objects, spatial_relations
from epistream.indexer.spectrum import ITEMS_MIN, diversity
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.canonical import media_of

WEAK_BELOW: Final = 0.28
"""LAION-5B kept English pairs from this cosine of CLIP ViT-B/32 on; for other models it means nothing."""
CLIP_SCALE: Final = 2.5
STYLES_MAX: Final = 100
"""So many style words are looked at for their concentration: the most frequent."""

_SIMILARITY: Final = ("similarity", "clip_similarity")
_DETECTED: Final = ("detections", "objects")
_GROUNDS: Final = ("mask", "box", "bbox", "coordinates", "region", "polygon", "points", "segmentation")
_STYLE_PARTS: Final = re.compile(r"[,|;]")
_STYLE_WORDS_MAX: Final = 3
_NO_SUPPLIED: Final = "no crawled image brings the cosine of its image and text: vectors of images are not made here"
_NO_PAIR: Final = "no caption in the window is derived from a crawled alternative text"


def alignment(window: Window) -> Figure:
    """How well crawled alternative texts fit their images: the cosine of CLIP that the source supplies, on average.

        align = cos(image, text)   of `details.similarity`, as LAION publishes it

    Range -1 to 1. Unit: cosine. Source: Schuhmann et al. 2022 (arXiv 2210.08402).
    """
    return mean(_supplied(window), _NO_SUPPLIED)


def clip_score(window: Window) -> Figure:
    """The same as CLIPScore: 2.5 max(cos, 0), on average.

    Range 0 to 2.5. Unit: CLIPScore. Source: Hessel et al. 2021 (arXiv 2104.08718).
    """
    return mean([CLIP_SCALE * max(cosine, 0.0) for cosine in _supplied(window)], _NO_SUPPLIED)


def weak_alignment(window: Window) -> Figure:
    """The share of crawled alternative texts whose supplied cosine is below 0.28, the bar of CLIP ViT-B/32.

    Range 0 to 1. Unit: share. Source: Schuhmann et al. 2022 (arXiv 2210.08402).
    """
    found = _supplied(window)
    return share(sum(cosine < WEAK_BELOW for cosine in found), len(found), _NO_SUPPLIED)


def generic_alt(window: Window) -> Figure:
    """The share of crawled alternative texts that say nothing: a file's name, `image of …`, under three content words.

    Of those that are English, as far as can be told. Range 0 to 1. Unit: share. Source: own; `words.is_generic`.
    """
    cell = window.cell(pb.ORIGIN_CRAWLED, pb.MODALITY_IMAGE)
    alts = [window.content(place) for place in cell if is_english(window.changes[place].knowledge)]
    return share(sum(map(is_generic, alts)), len(alts), "no crawled image with an English text in the window")


def text_alignment(window: Window) -> Figure:
    """How near crawled alternative texts are to the captions that were made of them, on average.

        cos(e(alt), e(caption)),   e: the namespace's encoder

    Range -1 to 1. Unit: cosine. Source: own.
    """
    pairs = [(p, alt) for p, alt in _captions(window) if window.has_vector(p) and window.has_vector(alt)]
    return mean([float(window.vectors[p] @ window.vectors[alt]) for p, alt in pairs], _NO_PAIR)


def text_coverage(window: Window) -> Figure:
    """How much of what a caption speaks of its alternative text speaks of, too, on average.

        |objects(caption) & words(alt)| / |objects(caption)|,   objects: heads of noun phrases

    Range 0 to 1. Unit: share. Source: own; `words.objects`.
    """
    found = [
        len(spoken & set(content_words(window.content(alt)))) / len(spoken)
        for place, alt in _captions(window)
        if (spoken := objects(window.content(place)))
    ]
    return mean(found, _NO_PAIR)


def grounded(window: Window) -> Figure:
    """The share of experts' spatial relations whose item also shows where: with a mask, a box or coordinates.

        #relations of items with such a medium or field / #relations

    Range 0 to 1. Unit: share. Source: own; MagicBrush's mask (Zhang et al. 2023, arXiv 2306.10012) as the pattern.
    """
    shown = relations = 0
    for place in window.cell(pb.ORIGIN_EXPERT, pb.MODALITY_IMAGE):
        knowledge = window.changes[place].knowledge
        count = spatial_relations(knowledge.content)
        relations += count
        shown += count if count and _is_grounded(knowledge) else 0
    return share(shown, relations, "no expert's image says where something is")


def invented_objects(window: Window) -> Figure:
    """How much of what synthetic captions speak of nobody saw, on average.

        CHAIR_i = |objects(caption) minus (words(alt) U detections)| / |objects(caption)|

    Of captions derived from an alternative text, or with `details.detections`. Without a tagger or synonyms: compare it
    over time, not with published figures. Range 0 to 1. Unit: share. Source: Rohrbach et al. 2018 (arXiv 1809.02156).
    """
    found = []
    for place in window.cell(pb.ORIGIN_SYNTHETIC, pb.MODALITY_IMAGE):
        seen = {word for parent in _of_images(window, place) for word in content_words(window.content(parent))}
        seen.update(
            word for said in texts(window.changes[place].knowledge.details, *_DETECTED) for word in content_words(said)
        )
        spoken = objects(window.content(place))
        if seen and spoken:
            found.append(len(spoken - seen) / len(spoken))
    return mean(found, "no synthetic caption has an alternative text or detections to compare with")


def generation(window: Window) -> Figure:
    """How many models deep synthetic captions are, on average: 1 + the largest of the parents' generations.

    As the journal has it. `parts` has each generation's share. Range 1 to ∞. Unit: generations. Source: own; `lineage`.
    """
    cell = window.cell(pb.ORIGIN_SYNTHETIC, pb.MODALITY_IMAGE)
    found = [window.changes[place].generation for place in cell if window.changes[place].generation]
    whole = mean([float(value) for value in found], "no synthetic image in the window says its generation")
    return replace(whole, parts=largest(Counter(map(str, found)), len(found))) if found else whole


def judged_correct(window: Window) -> Figure:
    """The share of model judges' answers that a synthetic image is as its caption says.

    Yes-or-no feedback of models (RATER_TYPE_AI). Range 0 to 1. Unit: share.
    Source: DrawBench, as DALL-E 3 publishes it.
    """
    cell = {window.changes[place].item_id for place in window.cell(pb.ORIGIN_SYNTHETIC, pb.MODALITY_IMAGE)}
    scores = [
        said.feedback.judged[0].score
        for said in window.said
        if said.feedback.kind == pb.FEEDBACK_KIND_BINARY
        and said.feedback.rater_type == pb.RATER_TYPE_AI
        and said.feedback.judged[0].item_id in cell
    ]
    return share(sum(score == 1 for score in scores), len(scores), "no model judged a synthetic image")


def style_concentration(window: Window) -> Iterator[Figure]:
    """How much a producer's prompts ask for the same styles.

        HHI = Σ p_i²,   p_i: share of style word i among all uses of the 100 most frequent

    Style words are the content words of a prompt's modifiers: what stands behind its first comma, in parts of at most
    three content words. Range 0 to 1. Unit: share squared. Source: Herfindahl 1950.
    """
    for producer, prompts in _styles(window):
        counts = [n for _, n in Counter(word for words in prompts for word in words).most_common(STYLES_MAX)]
        total = sum(counts)
        if total:
            yield Figure(value=sum((n / total) ** 2 for n in counts), items=len(prompts), producer=producer)
        else:
            yield missing("no prompt has modifiers", len(prompts), producer)


def top_style_share(window: Window) -> Iterator[Figure]:
    """The share of a producer's prompts with at least one of its ten most frequent style words.

    `parts` has these words, each with the share of prompts that have it. Style words: see `style_concentration`.
    Range 0 to 1. Unit: share. Source: own.
    """
    for producer, prompts in _styles(window):
        counts = Counter(word for words in prompts for word in words)
        top = {word for word, _ in sorted(counts.items(), key=lambda part: (-part[1], part[0]))[:PARTS_MAX]}
        found = share(sum(not top.isdisjoint(words) for words in prompts), len(prompts), "", producer)
        yield replace(found, parts=largest(counts, len(prompts)))


def win_diversity(window: Window) -> Figure:
    """How diverse the images are that people prefer, against all that they were shown.

        VS_1(preferred) / VS_1(all shown),   the same number of each: of every comparison its best and its worst

    From comparisons and rankings by people, of images whose vectors differ from their rivals': vectors of captions are
    the same for all images of a prompt and say nothing. Range 0 to 1.2. Unit: ratio. Source: Friedman & Dieng 2023.
    """
    pairs = [pair for said in window.said for pair in _best_and_worst(window, said.feedback)]
    if len(pairs) < ITEMS_MIN:
        reason = f"fewer than {ITEMS_MIN} comparisons of images that have vectors of their own"
        return missing(reason, len(pairs))
    preferred = [best for best, _ in pairs]
    shown = [pair[at % 2] for at, pair in enumerate(pairs)]
    ratio = diversity(window.vectors[preferred]).vendi / diversity(window.vectors[shown]).vendi
    return Figure(value=ratio, items=len(pairs))


def _supplied(window: Window) -> list[float]:
    cell = window.cell(pb.ORIGIN_CRAWLED, pb.MODALITY_IMAGE)
    found = [number(window.changes[place].knowledge.details, *_SIMILARITY) for place in cell]
    return [cosine for cosine in found if cosine is not None and math.isfinite(cosine) and -1 <= cosine <= 1]


def _captions(window: Window) -> Iterator[tuple[int, int]]:
    """The captions of images, each with the crawled alternative text that it was derived from."""
    for place in window.places(pb.MODALITY_IMAGE):
        for parent in _of_images(window, place):
            if window.changes[parent].knowledge.origin == pb.ORIGIN_CRAWLED:
                yield place, parent


def _of_images(window: Window, place: int) -> list[int]:
    """The parents that are images."""
    parents = window.parents(place)
    return [parent for parent in parents if window.changes[parent].knowledge.modality == pb.MODALITY_IMAGE]


def _is_grounded(knowledge: pb.Knowledge) -> bool:
    told = {media.role.lower() for media in media_of(knowledge)} | set(field_names(knowledge.details))
    return any(ground in told for ground in _GROUNDS)


def _styles(window: Window) -> Iterator[tuple[str, list[frozenset[str]]]]:
    """Of each producer of collaborative images the style words of each of its prompts; the same prompt counts once."""
    for producer, places in window.by_producer(window.cell(pb.ORIGIN_COLLABORATIVE, pb.MODALITY_IMAGE)):
        prompts = dict.fromkeys(window.content(place) for place in places)
        yield producer, [frozenset(_style_words(prompt)) for prompt in prompts]


def _style_words(prompt: str) -> Iterator[str]:
    for part in _STYLE_PARTS.split(prompt)[1:]:
        found = [word for word in content_words(part) if len(word) > 1]
        if len(found) <= _STYLE_WORDS_MAX:
            yield from found


def _best_and_worst(window: Window, feedback: pb.Feedback) -> Iterator[tuple[int, int]]:
    if feedback.rater_type != pb.RATER_TYPE_HUMAN:
        return
    placed: Sequence[pb.Judged] = [
        one for one in feedback.judged if one.HasField("place") and window.is_a(one.item_id, pb.MODALITY_IMAGE)
    ]
    if len(placed) < 2:
        return
    order = sorted(placed, key=lambda one: (one.place, one.item_id))
    best, worst = window.by_item[order[0].item_id], window.by_item[order[-1].item_id]
    differ = window.has_vector(best) and window.has_vector(worst)
    if differ and order[0].place < order[-1].place and (window.vectors[best] != window.vectors[worst]).any():
        yield best, worst
