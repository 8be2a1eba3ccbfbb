"""The anchor windows: which items they have, from when on, and that they stay what they are."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from epistream.indexer.anchors import Anchor, Anchors, prompt_key
from epistream.indexer.commit import Draft, write
from epistream.indexer.engine import Engine
from epistream.indexer.spectrum import Missing
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import InvalidInput
from tests.support.knowing import NAMESPACE, commit, commit_in_batches, open_engine, retraction, submission

ITEMS = 64


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(tmp_path)
    policy(engine, anchor_items=ITEMS)
    yield engine
    engine.close()


def policy(engine: Engine, **values: int) -> None:
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=ns_pb.Policy(**values)))  # type: ignore[arg-type]


def said(engine: Engine, numbers: range, *, modality: pb.Modality.ValueType = pb.MODALITY_TEXT, **more: object) -> None:
    """Texts of these numbers are committed, each of an item of its own."""
    sent = []
    for number in numbers:
        one = submission(f"Text {number}.", id=f"{modality} {number}", item=f"{modality}-{number}", **more)  # type: ignore[arg-type]
        one.modality, one.prompt = modality, f"Question  {number}?"
        sent.append(one)
    commit(engine, *sent)


def window(
    engine: Engine,
    at: int | None = None,
    modality: pb.Modality.ValueType = pb.MODALITY_TEXT,
    anchors: Anchors | None = None,
) -> Anchor | Missing:
    state = engine.namespaces.state(NAMESPACE)
    with engine.store.reader() as catalog:
        return (anchors or engine.anchors).of(catalog, state.config, modality, state.head if at is None else at)


def whole(found: Anchor | Missing) -> Anchor:
    assert isinstance(found, Anchor)
    return found


def test_there_is_no_window_until_enough_is_said_by_people(engine: Engine) -> None:
    said(engine, range(ITEMS - 1))
    said(engine, range(1000, 1100), origin=pb.ORIGIN_SYNTHETIC)
    assert window(engine) == Missing("NO_ANCHORS", ITEMS - 1)

    said(engine, range(ITEMS - 1, ITEMS))

    found = whole(window(engine))
    assert found.contents == tuple(f"Text {number}." for number in range(ITEMS))
    assert found.lengths == tuple(map(len, found.contents))
    assert found.prompts == tuple(prompt_key(f"Question {number}?") for number in range(ITEMS))
    assert found.revisions == (*range(1, ITEMS), 100 + ITEMS)


def test_it_holds_from_its_last_revision_on(engine: Engine) -> None:
    said(engine, range(ITEMS + 10))

    assert window(engine, ITEMS - 1) == Missing("NO_ANCHORS", ITEMS - 1)
    assert isinstance(window(engine, ITEMS), Anchor)


def test_each_item_is_in_it_once_and_by_its_first_version_that_is_not_synthetic(engine: Engine) -> None:
    commit(engine, submission("Said by a model.", id="s", item="one", origin=pb.ORIGIN_SYNTHETIC))
    commit(engine, submission("Said by Ada.", id="a", item="one"), submission("Said by her again.", id="b", item="one"))
    said(engine, range(ITEMS - 1))

    found = whole(window(engine))

    assert found.contents[:2] == ("Said by Ada.", "Text 0.")
    assert found.revisions[0] == 2


def test_it_stays_as_it_is_whatever_comes_and_goes(engine: Engine) -> None:
    said(engine, range(ITEMS))
    before = whole(window(engine))

    commit(engine, retraction("1-3", id="gone"), submission("Text 4, put right.", id="new", item="1-4"))
    said(engine, range(ITEMS, 2 * ITEMS))

    assert whole(window(engine)) is before
    afresh = whole(window(engine, anchors=Anchors()))
    assert (afresh.digest, afresh.revisions) == (before.digest, before.revisions)
    assert np.array_equal(afresh.vectors, before.vectors)


def test_it_is_the_same_however_often_it_was_asked_for_before(engine: Engine) -> None:
    for number in range(ITEMS):
        said(engine, range(number, number + 1))
        window(engine)

    assert whole(window(engine)).digest == whole(window(engine, anchors=Anchors())).digest


def test_modalities_have_windows_of_their_own(engine: Engine) -> None:
    said(engine, range(ITEMS))
    said(engine, range(5), modality=pb.MODALITY_CODE)

    assert isinstance(window(engine), Anchor)
    assert window(engine, modality=pb.MODALITY_CODE) == Missing("NO_ANCHORS", 5)


def test_an_operator_freezes_a_newer_one(engine: Engine) -> None:
    said(engine, range(2 * ITEMS))
    old = whole(window(engine))

    policy(engine, anchor_after=ITEMS)

    new = whole(window(engine))
    assert new.revisions == tuple(range(ITEMS + 1, 2 * ITEMS + 1))
    assert new.digest != old.digest
    policy(engine, anchor_after=0)
    assert whole(window(engine)).digest == old.digest


def test_one_that_is_to_begin_later_is_whole_at_the_same_entry_whatever_the_batches(tmp_path: Path) -> None:
    people = [submission(f"Text {number}.", id=f"{number}", item=f"{number}") for number in range(ITEMS + 20)]
    models = [submission(f"Said {number}.", id=f"s-{number}", origin=pb.ORIGIN_SYNTHETIC) for number in range(6)]
    # A model speaks when as many have spoken as a window has, some of them too early, and when it is whole.
    sent = [*people[: ITEMS + 5], *models[:3], *people[ITEMS + 5 :], *models[3:]]
    told = []
    for size in (1, len(sent)):
        engine = open_engine(tmp_path / str(size))
        policy(engine, anchor_items=ITEMS, anchor_after=10)
        receipts = commit_in_batches(engine, sent, size)
        told.append([receipt.figures for receipt in receipts if receipt.submission_id.startswith("s-")])
        assert whole(window(engine)).revisions[0] == 11
        engine.close()
    assert told[0] == told[1]
    assert [figures.HasField("plausibility") for figures in told[0]] == [False] * 3 + [True] * 3


def test_what_it_is_asked_for_is_made_once(engine: Engine) -> None:
    said(engine, range(ITEMS))
    found = whole(window(engine))

    assert found.human is found.human
    assert found.wording is found.wording
    assert found.neighbourhood is found.human.neighbourhood
    assert found.human.pair_ids == found.prompts


def test_prompts_that_differ_in_form_only_are_one() -> None:
    assert prompt_key("What  is\nit?") == prompt_key(" What is it?")
    assert prompt_key("What is it?") != prompt_key("What is this?")
    assert prompt_key(" ") == ""


@pytest.mark.parametrize("items", [0, 63, 10_001])
def test_a_window_of_another_size_is_refused(engine: Engine, items: int) -> None:
    with pytest.raises(InvalidInput, match="64 to 10000"):
        policy(engine, anchor_items=items)


def test_a_policy_that_was_recorded_before_there_were_anchors_has_the_defaults(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    recorded = engine.namespaces.state(NAMESPACE).recorded
    recorded.policy.CopyFrom(ns_pb.Policy(near_duplicate_threshold=0.9, retained_revisions=10))
    draft = Draft(1, *engine.store.journal.last(), {})
    draft.add_record(1, journal_pb2.JournalRecord(namespace=recorded))
    write(engine.store, draft, ())
    engine.close()

    engine = Engine(tmp_path)

    policy = engine.namespaces.state(NAMESPACE).config.policy
    assert (policy.anchor_items, policy.anchor_after) == (500, 0)
    assert (policy.near_duplicate_threshold, policy.retained_revisions) == (0.9, 10)
    engine.close()
