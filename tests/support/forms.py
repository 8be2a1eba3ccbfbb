"""R1 on thousands of sentences: each written in other forms, and whether the claim is still the same. No encoder."""

import re
from collections.abc import Callable

from epistream.indexer.claim import claim_of, compare
from epistream.v1 import knowledge_pb2 as pb
from tests.support.asked import Share, share
from tests.support.samples import STREAMS, rows
from tests.support.updating import STATEMENTS

_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")


def _without_separators(sentence: str) -> str:
    return _GROUPED.sub(lambda number: number[0].replace(",", ""), sentence)


def _day_first(sentence: str) -> str:
    return re.sub(rf"\b({_MONTH}) (\d\d?), (\d{{4}})", r"\2 \1 \3", sentence)


def _month_first(sentence: str) -> str:
    return re.sub(rf"\b(\d\d?) ({_MONTH}),? (\d{{4}})", r"\2 \1, \3", sentence)


FORMS: dict[str, Callable[[str], str]] = {
    "in capitals": str.upper,
    "percent in letters": lambda sentence: re.sub(r"(?<=\d) ?%", " percent", sentence),
    "numbers without separators": _without_separators,
    "day before month": _day_first,
    "month before day": _month_first,
    "more white space": lambda sentence: sentence.replace(" ", "  ") + " ",
    "round quotation marks": lambda sentence: re.sub('"([^"]*)"', "\u201c\\1\u201d", sentence).replace("'", "\u2019"),
}
"""What is done to a sentence, and how."""


def known_again() -> dict[str, Share]:
    """Of the sentences of the samples that a form changes, those that are the same claim in it."""
    texts = [row["text"] for row in rows(STREAMS)] + [row["statement"] for row in rows(STATEMENTS)]
    parts = {part.strip() for text in texts for part in re.split(r"(?<=[.!?])\s+|\n+", text)}
    sentences = sorted(part for part in parts if 30 < len(part) < 300)
    return {
        name: share(_is_same(sentence, form(sentence)) for sentence in sentences if form(sentence) != sentence)
        for name, form in FORMS.items()
    }


def _is_same(one: str, other: str) -> bool:
    return compare(claim_of(pb.MODALITY_TEXT, one), claim_of(pb.MODALITY_TEXT, other)).same
