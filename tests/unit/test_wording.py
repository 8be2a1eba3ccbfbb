"""Wording: people's texts have an order and repeat little, noise does not, and what cannot be told is not passed."""

import itertools
import random
import statistics
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epistream.indexer.spectrum import drawn
from epistream.indexer.wording import _PARTS, ORDER_MIN, Wording, _above_chance, _tokens
from tests.support.fuzzing import examples
from tests.support.samples import STREAMS, needs_samples, rows

PLAIN = [
    "The lake is twelve kilometres long, and the river that leaves it runs to the north.",
    "In the winter the lake is frozen, and the people of the village walk to the other side.",
    "The village was founded by the monks of the abbey in the year of the great flood.",
    "The river was moved in the year that the mill was built, to the west of the village.",
] * 10


@given(st.integers(4, 6), st.integers(0, 2**32 - 1))
@examples(30)
def test_it_is_the_mean_and_the_deviation_over_all_orders(inner: int, seed: int) -> None:
    weights = np.random.default_rng(seed).integers(0, 9, (inner + 2, inner + 2), np.int16)

    orders = [(0, *order, inner + 1) for order in itertools.permutations(range(1, inner + 1))]
    told = [float(weights[order[:-1], order[1:]].sum()) for order in np.array(orders)]

    expected = (told[0] - statistics.fmean(told)) / statistics.pstdev(told)
    assert _above_chance(weights) == pytest.approx(expected)


def test_where_all_orders_tell_the_same_there_is_none() -> None:
    assert _above_chance(np.full((9, 9), 3, np.int16)) == 0


def test_an_order_tells_more_than_chance_and_a_repetition_less_than_people() -> None:
    wording = Wording(PLAIN)

    told = wording.read(PLAIN[1])
    assert told.order > ORDER_MIN
    assert told.doubt == ""
    assert told.repetition_rank == 1
    again = wording.read("lake " * 40)
    assert again.order == 0
    assert again.repetition == pytest.approx(38 / 39)
    assert (again.repetition_rank or 1) < 0.1


@pytest.mark.parametrize("text", ["pump pump pump", "Pump, pump. PUMP! pump", "pump,pump;pump", "> > > >"])
def test_r21_a_word_again_and_again_repeats_whatever_stands_between(text: str) -> None:
    assert (Wording(PLAIN).read(text).repetition or 0) >= 0.4


def test_how_much_order_is_asked_is_learnt_from_people() -> None:
    lists = [" ".join(random.Random(seed).sample("abcdefghijklmnopqrstuvwxyz", 20)) for seed in range(200)]
    longer = Wording([" ".join(PLAIN[place : place + 4]) for place in range(len(PLAIN) - 4)])
    shuffled = " ".join(random.Random(1).sample(words := PLAIN[0].split(), len(words)))

    assert longer.telling is not None
    assert longer.read("The lake is long.").doubt == "TOO_SHORT"
    assert longer.read(shuffled).doubt == "NO_ORDER"
    assert longer.read("zrtl " * longer.telling).doubt == "NO_ORDER", "of a long text whatever it is made of"
    assert longer.read("zrtl " * (longer.telling - 1)).doubt == "TOO_SHORT"
    assert Wording(lists).telling is None
    assert Wording(lists[1:]).read(lists[0]).doubt == "ANCHORS_UNORDERED"
    assert Wording([]).read(PLAIN[0]).repetition_rank is None


def test_r21_english_is_known_before_a_window_has_taught_it() -> None:
    names = ["Anna Karenina", "Middlemarch", "Moby-Dick", "Ulysses"]
    text = "the price of the new machine is higher than that of the old one, but it needs less oil"
    shuffled = "oil the but less new than of higher is that old one, the machine it of needs price the"

    assert Wording(names).read(text).order > ORDER_MIN
    assert Wording(names).read(shuffled).order < 2


@pytest.mark.parametrize("word", ["a", "!!", "(a-b).", "\u201ca\u201d", "a!b!c", "", "a" + "!" * 9_990 + "a"])
def test_a_word_stands_between_the_signs_around_it(word: str) -> None:
    """In time that grows with its length: the signs within the longest of these took a second."""
    parts = _PARTS.fullmatch(word)

    assert parts is not None
    assert parts[2] == word.strip("!().\u201c\u201d")


@given(st.text(st.characters(max_codepoint=127), max_size=300))
def test_the_words_of_ascii_are_those_of_any_text(text: str) -> None:
    assert _tokens(text) == _tokens(f"{text} \u00e9")[:-1]


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    worded = Wording(PLAIN).read(text)

    assert np.isfinite(worded.order)
    assert worded.repetition_rank is None or 0 < worded.repetition_rank <= 1


@pytest.mark.parametrize(
    "text", [PLAIN[2], "Élan vital, naïve and sure, the pump, the pump, the pump, the pump is old."]
)
def test_form_changes_nothing(text: str) -> None:
    wording = Wording(PLAIN)

    assert wording.read(unicodedata.normalize("NFD", text).replace(" ", " \n" * 3_000)) == wording.read(text)


@needs_samples
def test_r21_an_order_by_chance_is_rare() -> None:
    texts = _people()
    wording = Wording(texts[:260])
    assert wording.telling is not None
    long = [words for text in texts if len(words := text.split()) >= wording.telling]
    draw = random.Random(5)

    read = [wording.read(_shuffled(words, draw)).order for words in draw.choices(long, k=2000)]

    assert sum(found >= ORDER_MIN for found in read) <= 1


@needs_samples
@pytest.mark.parametrize(
    "text",
    [
        "- Scales\n- Chords\n- Harmony\n- Rhythm\n- Form\n- Composition",
        "battery, wire, resistor, board, sensor, solder, screw, case",
        "Der Preis der neuen Maschine ist höher als jener der alten, doch sie braucht dafür viel weniger Öl.",
        "qwp zxrt vbnm lkjh gfds poiu ytre mnbv qazw sxed crfv tgby hnuj",
    ],
)
def test_of_words_that_follow_nothing_known_a_short_text_has_no_order_to_lack(text: str) -> None:
    assert Wording(_people()[:260]).read(text).doubt == "TOO_SHORT"


@needs_samples
@pytest.mark.parametrize(("window", "passed_max"), [(260, 0.42), (100, 0.55)])
def test_r21_most_short_noise_has_less_order_than_people_and_what_people_say_hardly_ever(
    window: int, passed_max: float
) -> None:
    texts = _people()
    wording, others, draw = Wording(texts[:window]), [text.split()[:20] for text in texts[window:]], random.Random(5)

    held = [wording.read(" ".join(words)).doubt == "NO_ORDER" for words in others]
    passed = [wording.read(_shuffled(words, draw)).doubt != "NO_ORDER" for words in others]

    assert statistics.fmean(held) <= 0.05
    assert statistics.fmean(passed) <= passed_max, "of at most 20 words; of whole texts fewer"


def _people() -> list[str]:
    texts = [str(row["text"]) for row in rows(STREAMS) if row["origin"] != "synthetic"]
    return [texts[place] for place in drawn(len(texts), 1)]


def _shuffled(words: list[str], draw: random.Random) -> str:
    return " ".join(draw.sample(words, len(words)))
