"""Signals of texts: what the crawl adds and who confirms it, and how synthetic text becomes alike."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from epistream.indexer.gain import left_out
from epistream.indexer.posterior import Posterior
from epistream.indexer.signals import Figure, Window, text
from epistream.v1 import knowledge_pb2 as pb
from tests.support.samples import STREAMS, needs_samples, rows, vectors
from tests.support.windows import change, only, window


def crawled(*contents: str, producers: Sequence[str], near: float = 1.0) -> Window:
    """Texts whose vectors have this cosine to each other, so nearly."""
    dimension = len(contents) + 1
    made = np.sqrt(1 - near) * np.eye(dimension)[: len(contents)] + np.sqrt(near) * np.eye(dimension)[-1]
    changes = [
        change(f"i{at}", content, producer=producer)
        for at, (content, producer) in enumerate(zip(contents, producers, strict=True))
    ]
    return window(*changes, vectors=made)


def test_what_is_left_out_gains_what_a_posterior_of_the_others_says() -> None:
    random = np.random.default_rng(1)
    found = random.standard_normal((30, 12))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    for place, gain in enumerate(left_out(found)):
        others = Posterior(12)
        for row in np.delete(found, place, axis=0):
            others.observe(row)
        assert gain == pytest.approx(others.gain(found[place]), abs=1e-12)


def test_a_crawled_text_gains_the_most_where_nothing_is_known_and_little_among_copies() -> None:
    alone = text.relative_gain(window(change("a", "One."), vectors=[1, 0]))
    assert alone.value == pytest.approx(1.0)
    copies = text.relative_gain(window(*(change(f"c{n}", "One.") for n in range(4)), vectors=[[1, 0]] * 4))
    assert copies.value == pytest.approx(math.log1p(1 / (1 + 3)) / math.log(2))
    assert copies.items == 4


def test_numbers_that_no_other_producer_has_are_unsupported() -> None:
    said = ("The dam is 40 m high and holds 9 km3.", "The dam is 40 m high.", "The dam holds 9 km3.")
    by_others = text.unsupported_numbers(crawled(*said, producers="abb"))
    assert by_others.value == 0
    apart = text.unsupported_numbers(crawled(said[0], "It rains.", producers="ab"))
    assert (apart.value, apart.items) == (1.0, 1)
    half = text.unsupported_numbers(crawled(said[0], "The dam is 40 m high.", producers="ab"))
    assert half.value == pytest.approx((0.5 + 0.0) / 2)
    merged = window(change("i0", said[0]), vectors=[1, 0], corroborations={"i0": {"bob"}})
    assert text.unsupported_numbers(merged).value == 0, "bob said the same, with its numbers"
    none = text.unsupported_numbers(crawled("It rains.", "It pours.", producers="ab"))
    assert (none.value, none.missing) == (None, "no crawled text with a number")


def test_r33_where_only_one_producer_speaks_nobody_can_support_or_corroborate_it() -> None:
    alone = crawled("The dam is 40 m high.", "The dam is 40 m high, they say.", producers="aa", near=0.99)
    for signal in (text.unsupported_numbers, text.uncorroborated_risk, text.corroboration):
        assert signal(alone).value is None
        assert signal(alone).missing == "no text of another producer to compare crawled texts with"
        assert signal(window(change("a", "One."))).missing == "no crawled text with a vector in the window"


def test_only_another_producer_that_makes_the_same_claim_corroborates() -> None:
    same = crawled("The limit is 5 mg.", "The limit is 5 mg", producers="ab", near=0.99)
    assert text.uncorroborated_risk(same).value == 0.5
    other_number = crawled("The limit is 5 mg.", "The limit is 50 mg.", producers="ab", near=0.99)
    assert text.uncorroborated_risk(other_number).value == 1.0
    assert text.corroboration(same).value == 1.0
    own = crawled("The limit is 5 mg.", "The limit is 5 mg", "It rains.", producers="aab", near=0.99)
    assert text.uncorroborated_risk(own).value == 1.0
    far = crawled("The limit is 5 mg.", "The limit is 5 mg", producers="ab", near=0.5)
    assert text.uncorroborated_risk(far).value == 1.0
    merged = window(change("a", "One."), vectors=[1, 0], corroborations={"a": {"alice", "bob", "carol"}})
    assert text.uncorroborated_risk(merged).value == pytest.approx(1 / 3)


def texts_of(people: int, synthetic: int, kinds: int) -> Window:
    """People's texts in all directions, and a producer's in a few."""
    random = np.random.default_rng(3)
    theirs = random.standard_normal((people, 24))
    own = random.standard_normal((kinds, 24))[random.integers(0, kinds, synthetic)]
    own = own + 0.05 * random.standard_normal(own.shape)
    changes = [change(f"h{n}", "word " * (5 + n % 7), pb.ORIGIN_EXPERT) for n in range(people)]
    changes += [change(f"s{n}", "word " * (5 + n % 7), pb.ORIGIN_SYNTHETIC, producer="model") for n in range(synthetic)]
    return window(*changes, vectors=np.concatenate([theirs, own]))


def test_a_producer_of_few_kinds_is_less_diverse_than_people_with_an_interval() -> None:
    few, many = texts_of(200, 120, kinds=3), texts_of(200, 120, kinds=120)
    narrow, wide = only(text.vendi_ratio(few)), only(text.vendi_ratio(many))
    assert narrow.value is not None
    assert wide.value is not None
    assert narrow.low is not None
    assert narrow.high is not None
    assert narrow.low < narrow.value < narrow.high < 0.5 < wide.value
    assert narrow.items == 120
    assert narrow.producer == "model"
    assert narrow.parts == (("unmatched prompts", 1.0), ("same lengths", 1.0))
    for ratio in (text.rke_ratio, text.vendi_inf_ratio):
        assert (only(ratio(few)).value or 0) < 0.6 * (only(ratio(many)).value or 0)


def test_a_producer_is_compared_with_texts_of_its_lengths_and_where_there_are_too_few_with_the_newest() -> None:
    def among(own_words: int) -> Figure:
        random = np.random.default_rng(4)
        kinds, every = random.standard_normal((3, 24))[np.arange(100) % 3], random.standard_normal((100, 24))
        made = np.concatenate([kinds + 0.05 * every, every, random.standard_normal((100, 24))])
        changes = [change(f"h{n}", "word " * (3 if n < 100 else 30), pb.ORIGIN_EXPERT) for n in range(200)]
        changes += [change(f"s{n}", "word " * own_words, pb.ORIGIN_SYNTHETIC, producer="model") for n in range(100)]
        return only(text.vendi_ratio(window(*changes, vectors=made)))

    short, long, between = among(3), among(30), among(9)
    assert [dict(found.parts).get("same lengths") for found in (short, long, between)] == [1.0, 1.0, None]
    assert [found.items for found in (short, long, between)] == [100, 100, 100]
    assert short.value is not None
    assert long.value == between.value == pytest.approx(1, abs=0.1)
    assert short.value > 2


def test_few_texts_are_not_compared() -> None:
    for found in (texts_of(10, 120, 3), texts_of(200, 10, 3)):
        figure = only(text.vendi_ratio(found))
        assert figure.value is None
        assert "fewer than 32 texts" in figure.missing


def test_a_producer_that_narrows_has_a_slope_below_zero() -> None:
    random = np.random.default_rng(5)
    made = []
    for kinds in (200, 60, 20):
        centres = random.standard_normal((kinds, 24))
        made.append(centres[random.integers(0, kinds, text.SPECTRUM_MAX)])
    found = np.concatenate(made)
    changes = [change(f"s{n}", "A word.", pb.ORIGIN_SYNTHETIC) for n in range(len(found))]
    narrowing = only(text.vendi_slope(window(*changes, vectors=found)))
    assert narrowing.value is not None
    assert narrowing.value < -0.05
    even = only(text.vendi_slope(window(*changes, vectors=random.standard_normal(found.shape))))
    assert even.value == pytest.approx(0, abs=0.03)
    few = only(text.vendi_slope(window(*changes[:600], vectors=found[:600])))
    assert few.value is None


def test_near_self_counts_texts_that_are_near_an_earlier_one_of_the_same_producer() -> None:
    changes = [change(f"s{n}", "Text.", pb.ORIGIN_SYNTHETIC) for n in range(4)]
    found = only(text.near_self(window(*changes, vectors=[[1, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1]])))
    assert (found.value, found.items) == (0.25, 4)
    alone = only(text.near_self(window(changes[0], vectors=[1, 0])))
    assert (alone.value, alone.missing) == (None, "only one text with a vector: there is none to be near to")


def test_distinct_3_is_the_share_of_different_runs_of_three_words() -> None:
    changes = [
        change("s1", "The cat sat down.", pb.ORIGIN_SYNTHETIC),
        change("s2", "the cat sat, up", pb.ORIGIN_SYNTHETIC),
        change("s3", "Yes.", pb.ORIGIN_SYNTHETIC),
    ]
    found = only(text.distinct_3(window(*changes, vectors=np.eye(3))))
    assert found.value == pytest.approx(3 / 4)


def test_emotions_need_labels_since_no_lexicon_is_shipped() -> None:
    def labelled(origin: pb.Origin.ValueType, *emotions: str) -> list[pb.Change]:
        return [
            change(f"{origin}-{n}", "Text.", origin, attributes={"emotion": emotion} if emotion else {})
            for n, emotion in enumerate(emotions)
        ]

    people = labelled(pb.ORIGIN_EXPERT, "joy", "fear", "anger", "joy")
    flat = labelled(pb.ORIGIN_SYNTHETIC, "joy", "joy", "joy", "fear")
    found = only(text.emotions(window(*people, *flat, vectors=np.eye(8))))
    theirs, own = 1.5 * math.log(2), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found.value == pytest.approx(own / theirs)
    silent = only(text.emotions(window(*people, *labelled(pb.ORIGIN_SYNTHETIC, "", ""), vectors=np.eye(6))))
    assert silent.value is None
    assert "no emotion lexicon is shipped" in silent.missing


@needs_samples
def test_on_matched_prompts_the_label_says_so_and_people_are_as_diverse_as_people() -> None:
    found, encoded = rows(STREAMS), vectors(STREAMS)
    seeds = [at for at, row in enumerate(found) if row["producer"] == "human_seed_authors"]
    changes = [change(f"h{at}", found[at]["text"], pb.ORIGIN_EXPERT, prompt=found[at]["prompt"]) for at in seeds]
    changes += [change(f"s{at}", found[at]["text"], pb.ORIGIN_SYNTHETIC, prompt=found[at]["prompt"]) for at in seeds]
    same = only(text.vendi_ratio(window(*changes, vectors=encoded[[*seeds, *seeds]])))
    assert same.parts == (("matched prompts", 1.0),)
    assert same.value == pytest.approx(1.0)
