"""The same-claim check: what differs in any fact is kept apart, what differs in form only is merged."""

import doctest
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epistream.indexer.claim import Claim, Comparison, claim_of, compare, comparison
from epistream.indexer.claim.measures import UNITS
from epistream.indexer.claim.words import BOUNDS, EQUAL, PHRASES
from epistream.indexer.encoder import SentenceTransformerEmbedder
from epistream.v1 import knowledge_pb2 as pb
from tests.support.fuzzing import examples
from tests.unit.claim_pairs import DIFFERING, PARAPHRASES, Pair
from tests.unit.claim_pairs_code import CODE_DIFFERING, CODE_PARAPHRASES

DATA = Path(__file__).parents[3] / "shared" / "data"
THRESHOLD = 0.95
SENTENCES = [text for pair in (*DIFFERING, *PARAPHRASES) for text in (pair.a, pair.b)]
TEXTS = st.text(max_size=200) | st.sampled_from(SENTENCES)
MODALITIES = st.sampled_from([pb.MODALITY_TEXT, pb.MODALITY_CODE, pb.MODALITY_IMAGE, pb.MODALITY_VIDEO])


def text(content: str) -> Claim:
    return claim_of(pb.MODALITY_TEXT, content)


def code(content: str) -> Claim:
    return claim_of(pb.MODALITY_CODE, content)


def both_ways(a: Claim, b: Claim) -> Iterator[Comparison]:
    yield compare(a, b)
    yield compare(b, a)


# The table.


@pytest.mark.parametrize("pair", DIFFERING, ids=lambda pair: f"{pair.kind}: {pair.b}")
def test_statements_that_differ_in_a_fact_are_kept_apart(pair: Pair) -> None:
    for answer in both_ways(text(pair.a), text(pair.b)):
        assert not answer.same
        assert answer.differences


@pytest.mark.parametrize("pair", PARAPHRASES, ids=lambda pair: pair.b)
def test_statements_that_differ_in_form_are_the_same_claim(pair: Pair) -> None:
    for answer in both_ways(text(pair.a), text(pair.b)):
        assert answer == Comparison(same=True, differences=())


@pytest.mark.parametrize("pair", CODE_DIFFERING, ids=lambda pair: repr(pair.b))
def test_code_that_differs_in_a_token_is_kept_apart(pair: Pair) -> None:
    for answer in both_ways(code(pair.a), code(pair.b)):
        assert not answer.same
        assert answer.differences


@pytest.mark.parametrize("pair", CODE_PARAPHRASES, ids=lambda pair: repr(pair.b))
def test_code_that_differs_in_layout_is_the_same_claim(pair: Pair) -> None:
    for answer in both_ways(code(pair.a), code(pair.b)):
        assert answer.same


def test_the_table_is_large_and_of_many_kinds() -> None:
    assert len(DIFFERING) >= 120
    assert len(PARAPHRASES) >= 40
    assert {pair.kind for pair in DIFFERING} >= {"number", "unit", "negation", "name", "date", "direction", "order"}
    assert len(set(DIFFERING + PARAPHRASES)) == len(DIFFERING + PARAPHRASES)


@pytest.mark.slow
def test_the_default_encoder_nominates_every_paraphrase_of_the_table() -> None:
    encoder = SentenceTransformerEmbedder()
    try:
        a = encoder.encode([pair.a for pair in PARAPHRASES])
        b = encoder.encode([pair.b for pair in PARAPHRASES])
    finally:
        encoder.close()
    cosines = np.sum(a * b, axis=1)
    too_far = [pair for pair, cosine in zip(PARAPHRASES, cosines, strict=True) if cosine < THRESHOLD]
    assert not too_far
    assert all(compare(text(pair.a), text(pair.b)).same for pair in PARAPHRASES)


# What differs, for people.


@pytest.mark.parametrize(
    ("a", "b", "differences"),
    [
        ("The limit is 5 mg.", "The limit is 50 mg.", ("number: 5 mg | 50 mg",)),
        ("The limit is 5mg.", "The limit is 5 grams.", ("unit: 5mg | 5 grams",)),
        ("It ends on 3 May 2020.", "It ends on 5 May 2020.", ("date: 3 May 2020 | 5 May 2020",)),
        ("It leaves at 9:15 a.m.", "It leaves at 9:15 p.m.", ("time: 9:15 a.m. | 9:15 p.m.",)),
        ("The key is valid.", "The key is not valid.", ("negation: is | is not",)),
        ("The key isn't valid.", "The key is valid.", ("negation: isn't | is",)),
        ("The key is valid.", "The key is invalid.", ("negation: valid | invalid",)),
        ("The port is in Oslo.", "The port is in Bergen.", ("name: Oslo | Bergen",)),
        ("Records are retained.", "Records are deleted.", ("word: retained | deleted",)),
        ("All keys expire.", "Some keys expire.", ("quantifier: All | Some",)),
        ("It may rain.", "It must rain.", ("modal: may | must",)),
        ("A calls B.", "B calls A.", ("order: A calls B | B calls A",)),
        ("Use foo(a, b) here.", "Use foo(b, a) here.", ("code: foo(a, b) | foo(b, a)",)),
        ("He eats turkey.", "He eats Turkey.", ("name: turkey | Turkey",)),
        ("It is safe?", "It is safe.", ("symbol: ? | ",)),
        ("He met Baker.", "He met baker.", ("name: Baker | baker",)),
        ("The limit is 5 mg.", "The limit is not 50 mg.", ("number: 5 mg | 50 mg", "negation: is | is not")),
    ],
)
def test_the_differences_are_told_with_the_telling_kinds_first(a: str, b: str, differences: tuple[str, ...]) -> None:
    assert compare(text(a), text(b)).differences == differences


def test_at_most_eight_differences_are_told_and_none_is_long() -> None:
    a = text(" ".join(f"one{number}" for number in range(50)) + " " + "x" * 500)
    b = text(" ".join(f"two{number}" for number in range(50)) + " " + "y" * 500)
    differences = compare(a, b).differences
    assert len(differences) == 8
    assert all(len(difference) < 160 for difference in differences)


def test_white_space_in_code_is_shown() -> None:
    assert compare(code("rm -rf /tmp"), code("rm -rf / tmp")).differences == ("white space: /tmp | /·tmp",)


def test_the_examples_of_the_documentation_are_true() -> None:
    assert doctest.testmod(comparison).attempted > 0
    assert doctest.testmod(comparison).failed == 0


def test_the_worked_example_of_the_documentation_is_true() -> None:
    a, b, c = re.findall(r"^    [abc]  (On .*)$", comparison.__doc__ or "", re.MULTILINE)
    facts = re.search(r"a, b  (.*)", comparison.__doc__ or "")
    assert facts is not None
    assert text(a).keys == tuple(re.split(r" {2,}", facts[1].strip()))
    assert compare(text(a), text(b)).same
    assert compare(text(a), text(c)).differences == ("negation: didn't | did",)


# Kinds of content.


def test_contents_of_two_modalities_are_never_the_same_claim() -> None:
    caption = "a red car"
    for answer in both_ways(text(caption), claim_of(pb.MODALITY_IMAGE, caption)):
        assert answer == Comparison(same=False, differences=answer.differences)
        assert answer.differences[0].startswith("modality: ")


def test_a_caption_is_compared_as_text() -> None:
    a, b, c = (claim_of(pb.MODALITY_VIDEO, caption) for caption in ("A red car.", "a red car", "a blue car"))
    assert compare(a, b).same
    assert not compare(a, c).same


@pytest.mark.parametrize(("a", "b"), [("", "."), ("...", "!"), (" ", ""), ("the", "The the")])
def test_contents_that_claim_nothing_are_kept_apart(a: str, b: str) -> None:
    assert compare(text(a), text(a)).same
    assert not compare(text(a), text(b)).same


# Properties.


@given(MODALITIES, TEXTS)
def test_every_content_makes_its_own_claim(modality: pb.Modality.ValueType, content: str) -> None:
    claim = claim_of(modality, content)
    assert claim == claim_of(modality, content)
    assert compare(claim, claim_of(modality, content)) == Comparison(same=True, differences=())
    assert len(claim.keys) == len(claim.shown) == len(claim.cases) > 0
    assert all(claim.keys) or content == ""


@given(MODALITIES, TEXTS, TEXTS)
def test_the_answer_does_not_depend_on_the_order(modality: pb.Modality.ValueType, a: str, b: str) -> None:
    one, other = both_ways(claim_of(modality, a), claim_of(modality, b))
    assert one.same == other.same
    assert len(one.differences) <= 8
    assert one.same == (not one.differences)


@given(st.sampled_from(SENTENCES), st.data())
def test_a_not_put_in_anywhere_keeps_apart(sentence: str, data: st.DataObject) -> None:
    words = sentence.split()
    place = data.draw(st.integers(1, len(words) - 1)) if len(words) > 1 else 1
    assert not compare(text(sentence), text(" ".join([*words[:place], "not", *words[place:]]))).same


@given(st.sampled_from([sentence for sentence in SENTENCES if re.search("[0-9]", sentence)]), st.data())
def test_a_changed_digit_keeps_apart(sentence: str, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from([match.start() for match in re.finditer("[0-9]", sentence)]))
    digit = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != sentence[place]]))
    assert not compare(text(sentence), text(sentence[:place] + digit + sentence[place + 1 :])).same


NAME = re.compile(r"(?<=[a-z,] )(?!The\b)[A-Z][a-zé]+")


@given(st.sampled_from([sentence for sentence in SENTENCES if len(set(NAME.findall(sentence))) > 1]), st.data())
def test_two_names_that_change_places_keep_apart(sentence: str, data: st.DataObject) -> None:
    names = sorted(set(NAME.findall(sentence)))
    one, other = data.draw(st.sampled_from([(a, b) for a in names for b in names if a < b]))
    swapped = re.sub(rf"\b({one}|{other})\b", lambda match: other if match[0] == one else one, sentence)
    assert not compare(text(sentence), text(swapped)).same


def test_the_article_of_a_day_is_form() -> None:
    assert compare(text("He left on the 3rd of May 1996."), text("He left on 3 May 1996.")).same
    assert compare(text("He left on the third of May."), text("He left on third of May.")).same


@given(st.sampled_from(SENTENCES), st.data())
def test_a_word_left_out_keeps_apart_unless_it_is_the_article(sentence: str, data: st.DataObject) -> None:
    words = sentence.split()
    place = data.draw(st.integers(0, len(words) - 1))
    if words[place].lower() not in {"the", "that", "--", "\N{EM DASH}"}:
        assert not compare(text(sentence), text(" ".join(words[:place] + words[place + 1 :]))).same


SMALL_WORDS = """a A the The 5 mg May 2010 , . - ' " ( ) ? ! no not it 's n't one at least per % $"""


@given(st.lists(st.sampled_from(SMALL_WORDS.split())))
@examples(300)
def test_no_heap_of_small_words_breaks_it(pieces: list[str]) -> None:
    for joint in (" ", ""):
        claim = text(joint.join(pieces))
        assert compare(claim, claim).same


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "a ",
        "not a word, ",
        "1,",
        "5 mg ",
        '"',
        '\\"',
        "'''",
        "`",
        "(",
        "foo(",
        "-.",
        "!x",
        "a.b",
        "a@",
        "/a",
        "é",
        " -",
        "May 5 ",
        "twenty ",
    ],
)
@pytest.mark.parametrize("modality", [pb.MODALITY_TEXT, pb.MODALITY_CODE])
def test_a_mebibyte_takes_time_in_proportion(modality: pb.Modality.ValueType, unit: str) -> None:
    content = unit * (2**20 // len(unit))
    claim = claim_of(modality, content)
    assert compare(claim, claim_of(modality, content)).same
    assert not compare(claim, claim_of(modality, content + " end")).same


@pytest.mark.parametrize("before", [0, 600, 5_000, 100_000])
@pytest.mark.parametrize("behind", [0, 600, 5_000, 100_000])
def test_the_claim_of_a_long_content_is_short_and_still_knows_all_of_it(before: int, behind: int) -> None:
    contents = ["word " * before + fact + " word" * behind for fact in ("is safe", "is not safe", "is  safe")]
    a, b, c = map(text, contents)
    assert len(a.keys) < 600
    assert not compare(a, b).same
    assert compare(a, c).same


# The tables.


def test_no_canonical_form_has_another_canonical_form() -> None:
    chains = {form: canonical for form, canonical in EQUAL.items() if EQUAL.get(canonical, canonical) != canonical}
    assert not chains
    assert all(UNITS.get(unit, unit) == unit for unit in UNITS.values())


def test_no_phrase_begins_with_a_word_that_is_replaced_before_it() -> None:
    assert not (set(PHRASES) | set(BOUNDS)) & (set(EQUAL) - {"a"})


# Published pairs.


def published_pairs() -> list[dict[str, str]]:
    files = [DATA / "pairs_sample.jsonl", DATA / "pairs_mutations_sample.jsonl"]
    if not all(file.is_file() for file in files):
        pytest.skip(f"the sample data is not there: {DATA}")
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def test_no_published_pair_that_differs_in_a_fact_is_merged() -> None:
    rows = [row for row in published_pairs() if "duplicate" not in row["expect"]]
    merged = [row for row in rows for answer in both_ways(text(row["a"]), text(row["b"])) if answer.same]
    assert len(rows) > 1300
    assert not merged


def test_published_pairs_that_differ_in_form_are_merged() -> None:
    rows = [row for row in published_pairs() if row["expect"] == "duplicate"]
    merged = [row for row in rows if compare(text(row["a"]), text(row["b"])).same]
    assert len(rows) > 60
    assert len(merged) / len(rows) > 0.95
