"""What a model would make of the corpus: copies, other forms, other words, contradictions, and new statements.

Each is labelled with what should become of it. The gate never sees the labels: the demonstration compares them with
what the gate decided, and reports both. What is expected of a rewording is the best outcome, a merge; one whose cosine
to its original is below the threshold is rightly admitted as new knowledge, and one that the same-claim check cannot
prove equal is rightly kept apart. A contradiction must never be merged. Of new statements a few may be held
for how they look, as of people's own would be (docs/gate.md, Plausibility).
"""

import enum
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from epistream.clients.demo.corpus import Fact
from epistream.clients.producer import submission
from epistream.v1 import knowledge_pb2 as pb

PRODUCER: Final = "variant-writer"
GENERATOR: Final = "epistream.clients.demo.variants"


class Kind(enum.Enum):
    """How a variant was made."""

    COPY = "copy"
    """The same text."""
    FORM = "other form"
    """White space, a full stop, quotation marks, dashes, a capital."""
    REWORDING = "other words"
    """A word for another that says the same wherever it stands."""
    CONTRADICTION = "contradiction"
    """Something else about the same thing: a number, a negation, a direction, an identifier."""
    NEW = "new"
    """Something that the corpus does not say."""


EXPECTED: Final[Mapping[Kind, "pb.Outcome.ValueType"]] = {
    Kind.COPY: pb.OUTCOME_MERGED,
    Kind.FORM: pb.OUTCOME_MERGED,
    Kind.REWORDING: pb.OUTCOME_MERGED,
    Kind.CONTRADICTION: pb.OUTCOME_HELD,
    Kind.NEW: pb.OUTCOME_ADMITTED,
}
"""What should become of each kind."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A synthetic statement."""

    kind: Kind
    how: str
    """What was done, in a word or two: `number`, `white space`."""
    original: str
    """The item id of the fact that it was made of; empty when there is none."""
    item_id: str
    """Its own; empty for all but new knowledge."""
    text: str

    @property
    def expected(self) -> "pb.Outcome.ValueType":
        """What should become of it."""
        return EXPECTED[self.kind]


Rewrite: TypeAlias = Callable[[str], str]
"""Makes a text into another; gives the same text back where it cannot."""


def make_variants(chosen: Sequence[Fact], every: Iterable[Fact], count: int) -> list[Variant]:
    """About `count` variants, as many of each kind, always the same ones.

    Each of the chosen facts is the original of one variant at most. Of kinds that few facts lend themselves to there
    are fewer.

    Args:
        chosen: the facts that are expert knowledge.
        every: the whole corpus, which new statements are about.
        count: how many.
    """
    each = max(1, count // len(Kind))
    known = {_folded(fact.text) for fact in chosen}
    left = sorted(chosen, key=lambda fact: hashlib.sha256(b"variant of " + fact.name.encode()).digest())
    made: list[Variant] = []
    for kind in (
        Kind.REWORDING,
        Kind.CONTRADICTION,
        Kind.FORM,
        Kind.COPY,
    ):  # the hardest to find an original for come first
        variants = list(itertools.islice(_rewritten(left, kind, known), each))
        made += variants
        taken = {variant.original for variant in variants}
        left = [fact for fact in left if fact.item_id not in taken]
    return made + _new_statements(every)[:each]


def as_submission(variant: Variant, namespace: str) -> pb.Submission:
    """The variant as synthetic knowledge."""
    return submission(
        variant.text,
        namespace=namespace,
        producer=PRODUCER,
        origin="SYNTHETIC",
        item_id=variant.item_id,
        generator=GENERATOR,
        derived_from=[variant.original] if variant.original else [],
        attributes={"variant": variant.kind.value},
    )


def _rewritten(facts: Iterable[Fact], kind: Kind, known: Collection[str]) -> Iterator[Variant]:
    """Variants of one kind, the ways of making them taking turns, each made of another fact."""
    taken: set[str] = set()

    def of_way(way: str) -> Iterator[Variant]:
        for fact in facts:
            text = _WAYS[kind][way](fact.text)
            is_variant = text != fact.text or kind is Kind.COPY
            if fact.name not in taken and is_variant and (kind is not Kind.CONTRADICTION or _folded(text) not in known):
                taken.add(fact.name)
                yield Variant(kind, way, fact.item_id, "", text)

    ways = [of_way(way) for way in _WAYS[kind]]
    for turn in itertools.zip_longest(*ways):
        yield from (variant for variant in turn if variant is not None)


def _new_statements(every: Iterable[Fact]) -> list[Variant]:
    """What the documentation holds, counted: true, and said in no docstring."""
    counts: dict[str, Counter[str]] = {}
    for fact in every:
        counts.setdefault(fact.module, Counter())[fact.kind] += 1
    statements = []
    for module, kinds in sorted(counts.items(), key=lambda pair: hashlib.sha256(pair[0].encode()).digest()):
        if sum(kinds.values()) < 2:
            continue
        listed = ", ".join(
            f"{kinds[kind]} {one if kinds[kind] == 1 else many}" for kind, one, many in _NOUNS if kinds[kind]
        )
        text = f"Counted over its docstrings, Python's standard library documents in `{module}`: {listed}."
        original = f"python:{module}" if kinds["module"] else ""
        statements.append(Variant(Kind.NEW, "count", original, f"count:{module}", text))
    return statements


_NOUNS: Final = (
    ("class", "class", "classes"),
    ("function", "function", "functions"),
    ("method", "method", "methods"),
    ("property", "property", "properties"),
)


def _folded(text: str) -> str:
    return " ".join(text.lower().split())


def _replaced(*pairs: tuple[str, str]) -> Rewrite:
    """Replaces the first that occurs of the words or phrases by its partner, once, after the signature.

    Whole words, in the case in which they are written here.
    """
    both_ways = [ordered for one, other in pairs for ordered in ((one, other), (other, one))]
    compiled = [
        (re.compile(rf"(?<![\w'`.*-]){re.escape(old)}(?![\w'`(*-]|\.\w| not\b)"), new) for old, new in both_ways
    ]

    def rewrite(body: str) -> str:
        for pattern, new in compiled:
            changed = pattern.sub(new, body, count=1)
            if changed != body:
                return changed
        return body

    return _in_body(rewrite)


def _more_space(body: str) -> str:
    return body.replace(". ", ".\n\n  ").replace(" the ", "  the ", 1) + "  "


def _full_stop(body: str) -> str:
    if body.endswith("."):
        return body[:-1]
    return body + "." if body[-1:].isalnum() else body


def _quotation_marks(body: str) -> str:
    return re.sub(r'"([^"]*)"', "\u201c\\1\u201d", body) if body.count('"') % 2 == 0 else body


def _apostrophe(body: str) -> str:
    return re.sub(r"(?<=\w)'(?=(?:s|t|re|ll|ve)\b)", "\u2019", body)


def _other_number(body: str) -> str:
    """The first number that stands alone, doubled and one more; where there is none, the first number word, another."""
    changed = re.sub(r"(?<![\w.#-])(\d{1,6})(?![\w.-]*\w)", lambda found: str(2 * int(found[1]) + 1), body, count=1)
    if changed != body:
        return changed
    return re.sub(r"\b(zero|one|two|three|first|second)\b", lambda found: _OTHER_NUMBER_WORDS[found[1]], body, count=1)


_OTHER_NUMBER_WORDS: Final = {
    "zero": "one",
    "one": "two",
    "two": "three",
    "three": "four",
    "first": "second",
    "second": "third",
}


def _other_arguments(text: str) -> str:
    """The first two plain parameters of the signature, changed over."""
    return re.sub(r"^([\w.]+)\((\w+), (\w+)(?=[,)])", r"\1(\3, \2", text)


def _lower_case(body: str) -> str:
    return body[0].lower() + body[1:] if re.match("[A-Z][a-z]+ ", body) else body


def _in_body(rewrite: Callable[[str], str]) -> Rewrite:
    """Rewrites what comes after the name and the signature."""

    def rewrite_body(text: str) -> str:
        head, separator, body = text.partition(": ")
        return head + separator + rewrite(body)

    return rewrite_body


_WAYS: Final[Mapping[Kind, Mapping[str, Rewrite]]] = {
    Kind.COPY: {"the same": lambda text: text},
    Kind.FORM: {
        "white space": _in_body(_more_space),
        "full stop": _in_body(_full_stop),
        "quotation marks": _in_body(_quotation_marks),
        "apostrophe": _in_body(_apostrophe),
        "small letter": _in_body(_lower_case),
    },
    Kind.REWORDING: {
        "contraction": _replaced(
            ("does not", "doesn't"),
            ("is not", "isn't"),
            ("do not", "don't"),
            ("cannot", "can not"),
            ("are not", "aren't"),
        ),
        "spelling": _replaced(
            ("color", "colour"), ("behavior", "behaviour"), ("initialize", "initialise"), ("serialized", "serialised")
        ),
        "synonym": _replaced(
            ("until", "till"),
            ("for example", "for instance"),
            ("allows", "permits"),
            ("while", "whilst"),
            ("prior to", "before"),
            ("perhaps", "maybe"),
        ),
    },
    Kind.CONTRADICTION: {
        "number": _in_body(_other_number),
        "negation": _replaced(
            ("is not", "is"),
            ("does not", "does"),
            ("will be", "will not be"),
            ("can be", "cannot be"),
            ("must be", "must not be"),
            ("should be", "should not be"),
            ("are", "are not"),
            ("Return", "Never return"),
            ("Returns", "Never returns"),
        ),
        "opposite": _replaced(
            ("True", "False"),
            ("true", "false"),
            ("before", "after"),
            ("left", "right"),
            ("maximum", "minimum"),
            ("lowercase", "uppercase"),
            ("add", "remove"),
            ("Add", "Remove"),
            ("start", "end"),
            ("all", "no"),
            ("with", "without"),
        ),
        "order of arguments": _other_arguments,
    },
}
"""For each kind the ways in which its variants are made, by name."""
