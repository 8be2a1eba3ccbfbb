"""The demonstration's corpus: real, the same every time, safe to read, and nothing in it of the machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from epistream.clients.demo import corpus
from epistream.clients.demo.corpus import TEXT_CHARACTERS_MAX, Fact, as_submission, choose, read_corpus
from epistream.indexer import rules
from epistream.v1 import knowledge_pb2 as pb


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    return read_corpus()


def test_there_are_thousands_of_facts_each_with_its_own_name_and_text(facts: list[Fact]) -> None:
    assert len(facts) > 3000
    assert len({fact.name for fact in facts}) == len(facts)
    assert len({fact.text for fact in facts}) == len(facts)
    assert {fact.kind for fact in facts} == {"module", "class", "function", "method", "property"}


def test_every_text_is_one_short_line_with_the_name_in_it(facts: list[Fact]) -> None:
    for fact in facts:
        assert len(fact.text) <= TEXT_CHARACTERS_MAX + 2, fact
        assert fact.name in fact.text, fact
        assert len(fact.text.splitlines()) == 1, fact


def test_well_known_objects_are_there_under_their_shortest_names(facts: list[Fact]) -> None:
    texts = {fact.name: fact.text for fact in facts}
    assert texts["os.path.join"].startswith("os.path.join(a, *p): Join two or more pathname components")
    assert texts["len"] == "len(obj, /): Return the number of items in a container."
    assert texts["str.join"].startswith("str.join(iterable, /): Concatenate")
    assert texts["asyncio.Queue"].startswith("asyncio.Queue: A queue")
    assert texts["textwrap"].startswith("The module textwrap: ")
    assert not {"asyncio.queues.Queue", "posixpath.join", "builtins.len"} & set(texts)


def test_reading_again_gives_the_same(facts: list[Fact]) -> None:
    assert read_corpus() == facts


def test_no_text_tells_of_the_machine(facts: list[Fact]) -> None:
    secrets = {value for value in os.environ.values() if len(value) > 20}
    for fact in facts:
        assert not re.search(r" at 0x[0-9a-f]{6,}", fact.text), fact
        assert sys.prefix not in fact.text, fact
        assert not any(secret in fact.text for secret in secrets), fact.name


def test_reading_prints_nothing_warns_of_nothing_and_opens_nothing() -> None:
    program = (
        "import sys\n"
        "from epistream.clients.demo.corpus import read_corpus\n"
        "assert read_corpus()\n"
        "opening = {'antigravity', 'this', 'tkinter', 'turtle', 'idlelib', 'readline', 'test', 'torch'}\n"
        "assert not opening & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_modules_that_fail_and_modules_that_only_bear_a_librarys_name_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ends_the_process.py").write_text("raise SystemExit('no')\n")
    (tmp_path / "is_broken.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "is_an_impostor.py").write_text('"""Not of the library."""\ndef f():\n    """Do it."""\n')
    names = frozenset({"textwrap", "ends_the_process", "is_broken", "is_an_impostor", "is_not_there"})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "stdlib_module_names", names)
    assert {fact.module for fact in read_corpus()} == {"textwrap", "os.path"}


def test_defaults_that_say_nothing_of_themselves_are_dots() -> None:
    def documented(
        a: object = 5, b: object = "x", c: object = object(), d: object = dict(os.environ), e: object = sys.executable
    ) -> None:
        """Do it."""

    signature = corpus._signature(documented, is_method=False)
    assert signature == "(a=5, b='x', c=..., d=..., e=...)"


def test_a_long_text_ends_with_a_sentence_or_says_that_it_goes_on() -> None:
    long = "name: " + "A sentence of a few words. " * 30
    assert corpus._bounded(long).endswith("words.")
    assert corpus._bounded("name: " + "word " * 200).endswith("word …")
    assert corpus._bounded("name: Short.") == "name: Short."


def test_a_choice_is_even_repeatable_and_has_what_must_be_in_it(facts: list[Fact]) -> None:
    chosen = choose(facts, 500, always=("zlib.crc32",))
    assert chosen == choose(facts, 500, always=("zlib.crc32",))
    assert len(chosen) == 500
    assert "zlib.crc32" in {fact.name for fact in chosen}
    order = {fact.name: place for place, fact in enumerate(facts)}
    places = [order[fact.name] for fact in chosen]
    assert places == sorted(places)
    assert all(any(low <= place < low + 500 for place in places) for low in range(0, len(facts) - 500, 500))
    assert {fact.name for fact in choose(facts, 100)} <= {fact.name for fact in choose(facts, 200)}
    assert choose(facts, 10**6) == facts


def test_a_fact_is_submitted_as_expert_knowledge_that_the_service_takes(facts: list[Fact]) -> None:
    made = as_submission(facts[0], "docs")
    assert made.origin == pb.ORIGIN_EXPERT
    assert made.item_id == f"python:{facts[0].name}"
    assert dict(made.attributes) == {"module": facts[0].module, "kind": facts[0].kind}
    assert made.submission_id == as_submission(facts[0], "docs").submission_id
    assert [rules.violations(as_submission(fact, "docs")) for fact in facts] == [()] * len(facts)
