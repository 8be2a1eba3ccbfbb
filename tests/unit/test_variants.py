"""The demonstration's variants: each differs from its original as its label says, and the labels are right."""

from collections import Counter

import pytest

from epistream.clients.demo import variants
from epistream.clients.demo.corpus import Fact, choose, read_corpus
from epistream.clients.demo.variants import Kind, Variant, as_submission, make_variants
from epistream.indexer import rules
from epistream.indexer.claim import claim_of, compare
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.canonical import fingerprint


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    return read_corpus()


@pytest.fixture(scope="module")
def made(facts: list[Fact]) -> list[Variant]:
    return make_variants(choose(facts, 3000), facts, 600)


def print_of(text: str) -> bytes:
    return fingerprint(pb.MODALITY_TEXT, text)


def text_of(facts: list[Fact], item_id: str) -> str:
    return next(fact.text for fact in facts if fact.item_id == item_id)


def test_there_are_as_many_of_each_kind_and_every_way_is_used(made: list[Variant]) -> None:
    assert Counter(variant.kind for variant in made) == dict.fromkeys(Kind, 120)
    used = {(variant.kind, variant.how) for variant in made if variant.kind is not Kind.NEW}
    assert used == {(kind, how) for kind, ways in variants._WAYS.items() for how in ways}


def test_they_are_the_same_every_time_and_of_different_originals(facts: list[Fact], made: list[Variant]) -> None:
    assert make_variants(choose(facts, 3000), facts, 600) == made
    originals = [variant.original for variant in made if variant.kind is not Kind.NEW]
    assert len(set(originals)) == len(originals)


def test_copies_and_changes_of_white_space_are_the_same_content(facts: list[Fact], made: list[Variant]) -> None:
    same = [variant for variant in made if variant.kind is Kind.COPY or variant.how == "white space"]
    assert len(same) > 120
    for variant in same:
        assert print_of(variant.text) == print_of(text_of(facts, variant.original))


def test_everything_else_is_content_that_no_fact_has(facts: list[Fact], made: list[Variant]) -> None:
    known = {print_of(fact.text) for fact in facts}
    for variant in made:
        if variant.kind is not Kind.COPY and variant.how != "white space":
            assert print_of(variant.text) not in known, variant


def test_a_rewritten_text_keeps_the_name_that_it_is_about(facts: list[Fact], made: list[Variant]) -> None:
    names = {fact.item_id: fact.name for fact in facts}
    for variant in made:
        if variant.kind is not Kind.NEW:
            assert names[variant.original] in variant.text


def test_no_way_of_contradicting_passes_for_the_same_claim(facts: list[Fact]) -> None:
    tried = 0
    for fact in facts:
        claim = claim_of(pb.MODALITY_TEXT, fact.text)
        for how, rewrite in variants._WAYS[Kind.CONTRADICTION].items():
            text = rewrite(fact.text)
            if text != fact.text:
                tried += 1
                assert not compare(claim_of(pb.MODALITY_TEXT, text), claim).same, (how, fact.text, text)
    assert tried > 3000


def test_new_statements_count_what_there_is(facts: list[Fact], made: list[Variant]) -> None:
    counted = next(v for v in make_variants(facts, facts, 2000) if v.item_id == "count:textwrap")
    kinds = Counter(fact.kind for fact in facts if fact.module == "textwrap")
    assert f"{kinds['function']} functions" in counted.text
    assert f"{kinds['class']} class" in counted.text
    assert {variant.item_id for variant in made if variant.kind is not Kind.NEW} == {""}


def test_numbers_and_arguments_are_changed_where_they_stand_alone() -> None:
    number, arguments = (variants._WAYS[Kind.CONTRADICTION][how] for how in ("number", "order of arguments"))
    assert number("f(x=1): Take 3 of IPv4 or 7.") == "f(x=1): Take 7 of IPv4 or 7."
    assert number("f(): The first one.") == "f(): The second one."
    assert number("f(): Nothing to count.") == "f(): Nothing to count."
    assert arguments("f(a, b, c=1): Add.") == "f(b, a, c=1): Add."
    assert arguments("f(a): See g(x, y).") == "f(a): See g(x, y)."


def test_few_facts_give_few_variants(facts: list[Fact]) -> None:
    few = make_variants(choose(facts, 60), facts, 12)
    assert 5 <= len(few) <= 10
    assert {variant.kind for variant in make_variants([], facts, 50)} == {Kind.NEW}


def test_a_variant_is_submitted_as_synthetic_knowledge_that_the_service_takes(
    facts: list[Fact], made: list[Variant]
) -> None:
    chosen = {fact.item_id for fact in facts}
    for variant in made:
        submission = as_submission(variant, "docs")
        assert submission.origin == pb.ORIGIN_SYNTHETIC
        assert rules.violations(submission) == ()
        assert set(submission.provenance.derived_from) <= chosen
        assert submission.provenance.generator
