"""The cells of images: what alternative texts lack, where things stand, what captions invent, and whose taste wins."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from epistream.indexer.signals.figure import Figure, largest, mean, missing, newest, share
from epistream.indexer.signals.window import Window, field_names, number, texts
from epistream.indexer.signals.words import content_words, is_english, is_generic, objects, spatial_relations
from epistream.indexer.spectrum import ITEMS_MIN, diversity
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.canonical import media_of

SIMILARITY_MODEL: Final = "similarity_model"
"""The attribute in which producers name the model whose cosine they supply."""
WEAK_BELOW: Final = {"ViT-B/32": 0.28, "openai/clip-vit-base-patch32": 0.28}
"""By model: LAION-5B kept English pairs from this cosine on. One model under two names; for others nobody has a bar."""
CLIP_SCALE: Final = 2.5
STYLES_MAX: Final = 100
"""So many styles are looked at for their concentration: the most frequent."""

_SIMILARITY: Final = ("similarity", "clip_similarity")
_DETECTED: Final = ("detections", "objects")
_GROUNDS: Final = ("mask", "box", "bbox", "coordinates", "region", "polygon", "points", "segmentation")
_STYLE_PARTS: Final = re.compile(r"[,|;]")
_STYLE_WORDS_MAX: Final = 3
_NO_SUPPLIED: Final = "no crawled image brings the cosine of its image and text: vectors of images are not made here"
_NO_PROMPT: Final = "no prompt has words"
_NO_PAIR: Final = "no caption in the window is derived from a crawled alternative text"


def alignment(window: Window) -> Figure:
    """How well crawled alternative texts fit their images: the cosine of CLIP that the source supplies, on average.

        align = cos(image, text)   of `details.similarity`, as LAION publishes it

    Range -1 to 1. Unit: cosine. Source: Schuhmann et al. 2022 (arXiv 2210.08402).
    """
    return mean([cosine for _, cosine in _supplied(window)], _NO_SUPPLIED)


def clip_score(window: Window) -> Figure:
    """The same as CLIPScore, on average.

        2.5 max(cos(image, text), 0)   of `details.similarity`

    Range 0 to 2.5. Unit: CLIPScore. Source: Hessel et al. 2021 (arXiv 2104.08718).
    """
    return mean([CLIP_SCALE * max(cosine, 0.0) for _, cosine in _supplied(window)], _NO_SUPPLIED)


def weak_alignment(window: Window) -> Figure:
    """The share of crawled alternative texts that LAION-5B would have dropped: below the bar of the model.

        |{cos(image, text) < 0.28}| / |texts with a cosine of CLIP ViT-B/32|

    A bar belongs to a model: only those count whose attribute `similarity_model` is `ViT-B/32`, or
    `openai/clip-vit-base-patch32`, which is the same one. Range 0 to 1. Unit: share.
    Source: Schuhmann et al. 2022 (arXiv 2210.08402).
    """
    supplied = _supplied(window)
    found = [cosine < WEAK_BELOW[model] for model, cosine in supplied if model in WEAK_BELOW]
    reason = "no supplied cosine says that it is of CLIP ViT-B/32: a bar belongs to its model"
    return share(sum(found), len(found), reason if supplied else _NO_SUPPLIED)


def generic_alt(window: Window) -> Figure:
    """The share of crawled alternative texts that say nothing.

        |{a file's name, or `image of …`, or #content words < 3}| / |English texts|

    Of those that are English, as far as can be told. `parts` has the newest items whose text says nothing.
    Range 0 to 1. Unit: share. Source: own; `words.is_generic`.
    """
    cell = window.cell(pb.ORIGIN_CRAWLED, pb.MODALITY_IMAGE)
    asked = [place for place in cell if is_english(window.changes[place].knowledge)]
    hits = [window.changes[place].item_id for place in asked if is_generic(window.content(place))]
    found = share(len(hits), len(asked), "no crawled image with an English text in the window")
    return replace(found, parts=newest(hits, len(asked)))


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

    All content words of an alternative text count, not its nouns alone: without a tagger a fragment such as `dog red`
    has no phrase to take the head of. Range 0 to 1. Unit: share. Source: own; `words.objects`.
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
    """How many models deep synthetic captions are, on average.

        generation = 1 + max over parents of their generation,   0 for people's

    As the journal has it. `parts` has each generation's share. Range 1 to ∞. Unit: generations. Source: own; `lineage`.
    """
    cell = window.cell(pb.ORIGIN_SYNTHETIC, pb.MODALITY_IMAGE)
    found = [window.changes[place].generation for place in cell if window.changes[place].generation]
    whole = mean([float(value) for value in found], "no synthetic image in the window says its generation")
    return replace(whole, parts=largest(Counter(map(str, found)), len(found))) if found else whole


def judged_correct(window: Window) -> Figure:
    """The share of model judges' answers that a synthetic image is as its caption says.

        |answers of yes| / |answers|

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

        HHI = Σ p_i²,   p_i: share of style i among all uses of the 100 most frequent; a prompt uses each once

    Styles are the n-grams, n = 1 to 3, of the content words of a prompt's modifiers: what stands behind its first
    comma, in parts of at most three content words. `octane render` is three styles: each word, and both. `parts` has
    the most frequent, each with the share of prompts that have it. Range 0 to 1. Unit: share squared.
    Source: Herfindahl 1950.
    """
    for producer, prompts in _modifiers(window):
        uses = Counter(style for prompt in prompts for style in _styles(prompt, _STYLE_WORDS_MAX))
        counts = [n for _, n in uses.most_common(STYLES_MAX)]
        total = sum(counts)
        if total:
            hhi = math.fsum((n / total) ** 2 for n in counts)
            yield Figure(value=hhi, items=len(prompts), producer=producer, parts=largest(uses, len(prompts)))
        else:
            yield missing("no prompt has modifiers", len(prompts), producer)


def top_style_share(window: Window) -> Iterator[Figure]:
    """The share of a producer's prompts with at least one of its ten most frequent style words.

        |prompts with a word of the top ten| / |prompts|

    Style words are the styles of one word, see `style_concentration`; a prompt without modifiers has none. `parts` has
    these words, each with the share of prompts that have it. Range 0 to 1. Unit: share. Source: own.
    """
    for producer, prompts in _modifiers(window):
        words = [_styles(prompt, 1) for prompt in prompts]
        uses = Counter(word for of_prompt in words for word in of_prompt)
        top = {word for word, _ in largest(uses, len(prompts))}
        found = share(sum(not top.isdisjoint(of_prompt) for of_prompt in words), len(prompts), _NO_PROMPT, producer)
        yield replace(found, parts=largest(uses, len(prompts))) if prompts else found


def win_diversity(window: Window) -> Figure:
    """How diverse the images are that people prefer, against all that they were shown.

        VS_1(preferred) / VS_1(shown),   of every comparison or ranking its best; its best and its worst in turn

    From comparisons and rankings by people, of images whose vectors differ from their rivals': vectors of captions are
    the same for all images of a prompt and say nothing. So it needs vectors of the images, which no imported set brings
    by itself: there is no figure for these until a producer sends embeddings. As many on both sides, since VS_1 grows
    with the number: so not all that were shown, but the best of each on one side, the best and the worst in turn on the
    other. Range 0 to ∞. Unit: ratio. Source: Friedman & Dieng 2023.
    """
    pairs = [pair for said in window.said for pair in _best_and_worst(window, said.feedback)]
    if len(pairs) < ITEMS_MIN:
        reason = f"fewer than {ITEMS_MIN} comparisons of images that have vectors of their own"
        return missing(reason, len(pairs))
    preferred = [best for best, _ in pairs]
    shown = [pair[at % 2] for at, pair in enumerate(pairs)]
    ratio = diversity(window.vectors[preferred]).vendi / diversity(window.vectors[shown]).vendi
    return Figure(value=ratio, items=len(pairs))


def _supplied(window: Window) -> list[tuple[str, float]]:
    """The cosines that sources supply, each with the model that it is of, or an empty name."""
    found = []
    for place in window.cell(pb.ORIGIN_CRAWLED, pb.MODALITY_IMAGE):
        knowledge = window.changes[place].knowledge
        cosine = number(knowledge.details, *_SIMILARITY)
        if cosine is not None and -1 <= cosine <= 1:
            found.append((knowledge.attributes.get(SIMILARITY_MODEL, ""), cosine))
    return found


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


def _modifiers(window: Window) -> Iterator[tuple[str, list[list[list[str]]]]]:
    """Of each producer of collaborative images its prompts that have words; the same prompt counts once.

    Of each prompt its modifiers, those that are no longer than a style, and of each of these the content words.
    """
    for producer, places in window.by_producer(window.cell(pb.ORIGIN_COLLABORATIVE, pb.MODALITY_IMAGE)):
        prompts = dict.fromkeys(window.content(place) for place in places)
        parts = [_STYLE_PARTS.split(prompt)[1:] for prompt in prompts if content_words(prompt)]
        found = [[[word for word in content_words(part) if len(word) > 1] for part in of_prompt] for of_prompt in parts]
        yield producer, [[words for words in of_prompt if len(words) <= _STYLE_WORDS_MAX] for of_prompt in found]


def _styles(modifiers: list[list[str]], words_max: int) -> set[str]:
    """The n-grams of a prompt's modifiers, of up to so many words."""
    return {
        " ".join(words[at : at + size])
        for words in modifiers
        for size in range(1, words_max + 1)
        for at in range(len(words) - size + 1)
    }


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
