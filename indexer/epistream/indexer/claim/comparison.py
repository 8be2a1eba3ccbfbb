"""Do two contents make the same claim?

The matcher nominates pairs whose embeddings are close. No closeness tells a conflict from a paraphrase: "the limit is
5 mg" and "the limit is 50 mg" are nearer to each other than most rewordings. So this check decides, and it decides by
one rule: **two contents make the same claim if nothing but form is left that differs.** It does not look for conflicts
and therefore cannot miss a kind of conflict; it looks for known differences of form, takes them out, and keeps apart
whatever still differs. A wrong merge loses knowledge, a missed merge costs a row.

1. `claim_of` turns a content into facts, once: `prose` takes out the form of words, numbers, dates and sentences, by
   the tables in `words` and `measures`; `source` takes out the form of code.
2. `compare` compares two sequences of facts. Order counts: `A calls B` is not `B calls A`.

An example:

    a  On 3 November 2010, the Board of Alba didn't approve more than 1,000 kg per day.
    b  On Nov 3rd, 2010 the Board of Alba did not approve greater than 1000 kg/day
    c  On 3 November 2010, the Board of Alba did approve more than 1,000 kg per day.

    a, b   on  @2010-11-03  board  of  alba  did  not  approve  >  =1000 kg/day
    c      on  @2010-11-03  board  of  alba  did  approve  >  =1000 kg/day

a and b are the same claim. a and c are not, and the comparison says `negation: didn't | did`.

Sameness holds between all contents with equal facts, so merging one into another never merges a third by chance; only
capitals are treated more loosely, since a capital at the beginning of a sentence may or may not be that of a name, and
a text all in capitals does not tell at all.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Final

from epistream.indexer.claim import words
from epistream.indexer.claim.facts import (
    ANY,
    CODE,
    COMPATIBLE,
    DATE,
    LINE,
    QUANTITY,
    SHOUTED,
    SHOUTED_NOUN,
    TIME,
    TITLE,
    UPPER,
    Facts,
)
from epistream.indexer.claim.order import is_moment
from epistream.indexer.claim.prose import read_prose
from epistream.indexer.claim.source import read_source
from epistream.v1 import knowledge_pb2 as pb

DIFFERENCES_MAX: Final = 8
_READ_CHARACTERS_MAX: Final = 8192
"""How far a content is read for facts, about 1,500 words. What lies beyond must be equal but for white space."""
_READ_AGAIN_CHARACTERS: Final = 256
"""How much before the place where reading stops must be equal, too: a word may depend on those behind it."""
_FACTS_MAX: Final = 512
"""How many facts a claim keeps as they are. The others and what was not read it keeps as a digest."""
_SHOWN_CHARACTERS_MAX: Final = 60
_SHOUTED: Final = frozenset([SHOUTED, SHOUTED_NOUN])
_GAP_BEFORE: Final = re.compile(r" (?=[.,;:%°/)\]\u2013-])")
_GAP_AFTER: Final = re.compile(r"(?<=[$€£¥₹(\[/°\u2013-]) ")
_SIGN_LETTERS_MAX: Final = 3
"""A word of at most so many letters, capitals and small ones mixed, may be the sign of a unit."""
_OPERATORS: Final = frozenset(["", "=", ">", "<"])
_EXPLAINED_FACTS_MAX: Final = 256
"""How many facts of each side are looked at to say what differs. The answer itself looks at all."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one content asserts: a sequence of facts. Extracted once; to be kept by the caller for comparisons."""

    modality: pb.Modality.ValueType
    """Contents of two modalities are never the same claim."""
    keys: tuple[str, ...]
    """The facts in canonical form; what must be equal."""
    shown: tuple[str, ...]
    """Each fact as it was written, for people."""
    cases: str
    """How each fact is written, one letter each: see `facts.COMPATIBLE`."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer."""

    same: bool
    """Whether both contents make the same claim."""
    differences: tuple[str, ...]
    """Where they differ, for people: `number: 5 mg | 50 mg`. At most eight; empty if they are the same."""


def claim_of(modality: pb.Modality.ValueType, content: str) -> Claim:
    """What a content asserts. For images and videos, the content is the caption.

    Pure; raises nothing, whatever the text.

    >>> claim_of(pb.MODALITY_TEXT, "The limit isn't 5.0mg.").keys
    ('limit', 'is', 'not', '=5 mg')
    """
    is_code = modality == pb.MODALITY_CODE
    end = _read_end(content, "\n" if is_code else " ")
    rest = content[max(end - _READ_AGAIN_CHARACTERS, 0) :] if end < len(content) else ""
    facts = read_source(content[:end]) if is_code else read_prose(content[:end])
    if not facts.keys:
        facts = Facts([content[:end]], [content[:end]], ANY)
    if len(facts.keys) > _FACTS_MAX or end < len(content):
        facts = _abridged(facts, rest.rstrip() if is_code else " ".join(rest.split()))
    return Claim(modality, tuple(facts.keys), tuple(facts.shown), facts.cases)


def _read_end(content: str, gap: str) -> int:
    """Where to stop reading: at the end, or in a long content at a gap between words or lines."""
    if len(content) <= _READ_CHARACTERS_MAX:
        return len(content)
    end = content.rfind(gap, 0, _READ_CHARACTERS_MAX)
    return end if end > 0 else _READ_CHARACTERS_MAX


def _abridged(facts: Facts, rest: str) -> Facts:
    """The first facts, and one that stands for all the others and for the rest of the content."""
    others = "\0".join([facts.cases[_FACTS_MAX:], *facts.keys[_FACTS_MAX:], rest])
    digest = hashlib.sha256(others.encode("utf-8", "surrogatepass")).hexdigest()
    keys = [*facts.keys[:_FACTS_MAX], digest]
    return Facts(keys, [*facts.shown[:_FACTS_MAX], "…"], facts.cases[:_FACTS_MAX] + ANY)


def compare(a: Claim, b: Claim) -> Comparison:
    """Whether two claims are the same, and if not, where they differ.

    Pure and symmetric in `same`; the sides of each difference are in the order of the arguments.

    >>> text = pb.MODALITY_TEXT
    >>> compare(claim_of(text, "The limit is 5 mg."), claim_of(text, "The limit is not 50 mg.")).differences
    ('number: 5 mg | 50 mg', 'negation: is | is not')
    """
    if a.modality == b.modality and a.keys == b.keys:
        if a.cases == b.cases or all(
            one == other or one + other in COMPATIBLE for one, other in zip(a.cases, b.cases, strict=True)
        ):
            return Comparison(same=True, differences=())
        return Comparison(same=False, differences=tuple(islice(_case_differences(a, b), DIFFERENCES_MAX)))
    if _is_one_shouted(a, b):
        return Comparison(same=True, differences=())
    return Comparison(same=False, differences=tuple(islice(_differences(a, b), DIFFERENCES_MAX)))


def _is_one_shouted(a: Claim, b: Claim) -> bool:
    """Whether one is the other in capitals, which do not tell names and identifiers from words, nor `us` from `US`.

    What stands behind a number that is no year may be the sign of a unit, so there the keys decide; and so may `mW`
    wherever it stands.
    """
    if a.modality != b.modality or len(a.keys) != len(b.keys):
        return False
    cases = a.cases + b.cases
    if SHOUTED not in cases and SHOUTED_NOUN not in cases:
        return False
    before = (ANY, ANY)
    for key, other, one_case, other_case, one_shown, other_shown in zip(
        a.keys, b.keys, a.cases, b.cases, a.shown, b.shown, strict=True
    ):
        if key == other:
            if one_case != other_case and one_case + other_case not in COMPATIBLE:
                return False
        elif (
            _SHOUTED.isdisjoint(one_case + other_case)
            or one_shown.lower() != other_shown.lower()
            or any(fact[:1] == QUANTITY and not is_moment(fact) for fact in before)
            or _may_be_sign(one_shown)
            or _may_be_sign(other_shown)
        ):
            return False
        before = (key, other)
    return True


def _may_be_sign(shown: str) -> bool:
    """Whether a fact was written with capitals and small letters as signs of units are: `mW`, `kHz`."""
    is_mixed = not (shown.isupper() or shown.islower() or shown.istitle())
    return is_mixed and len(shown) <= _SIGN_LETTERS_MAX and shown.isalpha()


def _case_differences(a: Claim, b: Claim) -> Iterator[str]:
    for at, (one, other) in enumerate(zip(a.cases, b.cases, strict=True)):
        if one != other and one + other not in COMPATIBLE:
            yield _difference("name" if TITLE in one + other else "case", a.shown[at], b.shown[at])


def _differences(a: Claim, b: Claim) -> Iterator[str]:
    """What differs, the telling kinds first."""
    if a.modality != b.modality:
        yield _difference("modality", pb.Modality.Name(a.modality), pb.Modality.Name(b.modality))
    start, end = _common(a.keys, b.keys)
    ours = range(start, min(len(a.keys) - end, start + _EXPLAINED_FACTS_MAX))
    theirs = range(start, min(len(b.keys) - end, start + _EXPLAINED_FACTS_MAX))
    only_a = _leftover(a, ours, Counter(b.keys[at] for at in theirs))
    only_b = _leftover(b, theirs, Counter(a.keys[at] for at in ours))
    if not only_a and not only_b:
        yield _difference("order", _text(a, ours), _text(b, theirs))
        return
    for kind, one, other in sorted(_paired(a, only_a, b, only_b), key=lambda pair: _KINDS.index(pair[0])):
        yield _explained(kind, a, one, b, other, start)


def _common(a: Sequence[str], b: Sequence[str]) -> tuple[int, int]:
    """How many facts are the same at the beginning, and how many of the others at the end."""
    shorter = min(len(a), len(b))
    start = next((at for at in range(shorter) if a[at] != b[at]), shorter)
    end = next((at for at in range(shorter - start) if a[-1 - at] != b[-1 - at]), shorter - start)
    return start, end


def _leftover(claim: Claim, places: Sequence[int], others: Counter[str]) -> list[int]:
    """The places of the facts that the other side does not have."""
    left = []
    for at in places:
        key = claim.keys[at]
        if others[key] > 0:
            others[key] -= 1
        else:
            left.append(at)
    return left


# For people ----------------------------------------------------------------------------------------------------------

_KINDS: Final = ("number", "date", "time", "negation", "quantifier", "modal", "name", "code", "word", "symbol", "line")
"""The kinds of facts, the most telling first."""
_KIND_OF_PREFIX: Final = {QUANTITY: "number", DATE: "date", TIME: "time", CODE: "code", LINE: "line"}


def _kind(claim: Claim, at: int) -> str:
    key = claim.keys[at].strip()
    first = key[:1]
    if first in _KIND_OF_PREFIX and key[1:2] not in _OPERATORS:
        return _KIND_OF_PREFIX[first]
    if key in words.NEGATIONS:
        return "negation"
    if key in words.QUANTIFIERS:
        return "quantifier"
    if key in words.MODALS:
        return "modal"
    is_word = key.replace("-", "").isalpha()
    if claim.modality == pb.MODALITY_CODE:
        return "code"
    if claim.cases[at] in (TITLE, UPPER) or (is_word and first.isupper()):
        return "name"
    if is_word:
        return "word"
    return "code" if first.isalnum() or first == "_" else "symbol"


def _paired(
    a: Claim, only_a: Sequence[int], b: Claim, only_b: Sequence[int]
) -> Iterator[tuple[str, int | None, int | None]]:
    """What stands on one side beside what stands for it on the other: in order, or kind by kind."""
    if len(only_a) == len(only_b):
        for one, other in islice(zip(only_a, only_b, strict=True), DIFFERENCES_MAX):
            yield min(_kind(a, one), _kind(b, other), key=_KINDS.index), one, other
        return
    kinds_a, kinds_b = _by_kind(a, only_a), _by_kind(b, only_b)
    for kind in kinds_a | kinds_b:
        for one_of_a, one_of_b in zip_longest(kinds_a.get(kind, ()), kinds_b.get(kind, ())):
            yield kind, one_of_a, one_of_b


def _by_kind(claim: Claim, places: Sequence[int]) -> dict[str, list[int]]:
    kinds: dict[str, list[int]] = {}
    for at in places[: 2 * DIFFERENCES_MAX]:
        kinds.setdefault(_kind(claim, at), []).append(at)
    return kinds


def _explained(kind: str, a: Claim, one: int | None, b: Claim, other: int | None, start: int) -> str:
    """One difference: a fact of each side, or a fact of one side that the other lacks."""
    if one is not None and other is not None:
        key, other_key = a.keys[one], b.keys[other]
        if key.strip() == other_key.strip():
            spaced = (claim.shown[at - 1] + claim.keys[at] for claim, at in ((a, one), (b, other)))
            return _difference("white space", *(text.replace(" ", "·") for text in spaced))
        if kind == "number" and key.partition(" ")[0] == other_key.partition(" ")[0]:
            kind = "unit"
        elif kind == "word" and _is_opposite(key, other_key):
            kind = "negation"
        return _difference(kind, a.shown[one], b.shown[other])
    if kind == "negation":
        return _difference(kind, _denied(a, one, start), _denied(b, other, start))
    return _difference(kind, "" if one is None else a.shown[one], "" if other is None else b.shown[other])


def _is_opposite(key: str, other: str) -> bool:
    shorter, longer = sorted((key, other), key=len)
    return longer.endswith(shorter) and longer.removesuffix(shorter) in words.NEGATIVE_PREFIXES


def _denied(claim: Claim, at: int | None, start: int) -> str:
    """A negation with the word before it, or that word alone where the negation is missing: `is not`, `is`."""
    if at is None:
        return claim.shown[start - 1] if start else ""
    before = claim.shown[at - 1] if at else ""
    return claim.shown[at] if before == claim.shown[at] else f"{before} {claim.shown[at]}".strip()


def _text(claim: Claim, places: Sequence[int]) -> str:
    return " ".join(claim.shown[at] for at in places)


def _difference(kind: str, one: str, other: str) -> str:
    return f"{kind}: {_short(one)} | {_short(other)}"


def _short(text: str) -> str:
    text = _GAP_AFTER.sub("", _GAP_BEFORE.sub("", " ".join(text.split())))
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else text[: _SHOWN_CHARACTERS_MAX - 1] + "…"
