"""R24: where synthetic knowledge comes from decides before what it says."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from epistream.indexer import lineage, moment, pipeline
from epistream.indexer.engine import Engine
from epistream.indexer.store import check
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.collapsing import ALL_KINDS, kinds
from tests.support.knowing import (
    NAMESPACE,
    START_US,
    HandClock,
    commit,
    commit_in_batches,
    direction,
    open_engine,
    pending,
    retraction,
    ruling,
    submission,
)
from tests.support.rehearsing import Life, rehearsed


@pytest.fixture(params=[1, 100], ids=["one by one", "one batch"])
def size(request: pytest.FixtureRequest) -> int:
    """How many are committed at once: it makes no difference."""
    assert isinstance(request.param, int)
    return request.param


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_engine(tmp_path)
    yield opened
    opened.close()


def made(item: str, *parents: str, content: str = "", generator: str | None = None) -> pb.Submission:
    """Synthetic knowledge that was derived from items."""
    return submission(
        content or f"{item}: so a model says.",
        id=f"s-{item}",
        item=item,
        origin=pb.ORIGIN_SYNTHETIC,
        generator=generator,
        derived_from=parents,
    )


def human(item: str) -> pb.Submission:
    return submission(f"{item}: so a person says.", id=f"s-{item}", item=item)


def found(receipts: list[pb.Receipt]) -> list[tuple[str, int]]:
    return [(pb.Reason.Name(r.reason).removeprefix("REASON_"), r.figures.generation) for r in receipts]


def test_r24_a_generation_is_one_and_the_largest_of_its_parents(engine: Engine, size: int) -> None:
    sent = [human("a"), made("b", "a"), made("c", "a", "b"), made("d"), made("e", "c"), human("f")]

    receipts = commit_in_batches(engine, sent, size)

    assert found(receipts) == [("NEW", 0), ("NEW", 1), ("NEW", 2), ("NEW", 1), ("GENERATION", 3), ("NEW", 0)]
    assert [r.outcome for r in receipts][4] == pb.OUTCOME_HELD
    assert receipts[4].figures.generation_max == 2
    changes = engine.store.reader()
    with changes as catalog:
        kept = [pb.Change.FromString(one.change).generation for one in catalog.changes(1, 0, 100, 100)]
    assert kept == [0, 1, 2, 1, 0]


def test_r24_the_cap_is_policy(engine: Engine) -> None:
    commit(engine, human("a"), made("b", "a"), made("c", "b"))
    policy = ns_pb.Policy(generation_max=3)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))

    (third, fourth) = commit(engine, made("d", "c"), made("e", "d"))

    assert found([third, fourth]) == [("NEW", 3), ("GENERATION", 4)]


def test_r24_without_a_generator_it_is_quarantined(engine: Engine) -> None:
    (held,) = commit(engine, made("b", generator=""))

    assert (held.outcome, held.reason) == (pb.OUTCOME_HELD, pb.REASON_NO_GENERATOR)

    policy = ns_pb.Policy(require_generator=False)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    (taken,) = commit(engine, made("c", generator=""))
    assert taken.outcome == pb.OUTCOME_ADMITTED


def test_r24_unknown_and_retracted_parents_are_quarantined(engine: Engine, size: int) -> None:
    sent = [human("a"), made("b", "a", "lost"), human("gone"), retraction("gone", id="r"), made("c", "gone")]

    receipts = commit_in_batches(engine, sent, size)

    assert found(receipts)[1] == ("UNKNOWN_PARENT", 1)
    assert list(receipts[1].figures.unknown_parents) == ["lost"]
    assert found(receipts)[4][0] == "UNKNOWN_PARENT"
    assert list(receipts[4].figures.unknown_parents) == ["gone"]


def test_r24_cycles_are_quarantined(engine: Engine, size: int) -> None:
    first, second = made("a"), made("b", "a")
    again = made("a", "b", content="Another version, made from what was made of it.")
    again.submission_id = "again"
    own = made("b", "b", content="A version that is made from the one before.")
    own.submission_id = "own"

    receipts = commit_in_batches(engine, [first, second, again, own], size)

    assert [reason for reason, _ in found(receipts)] == ["NEW", "NEW", "CYCLE", "CYCLE"]


@pytest.mark.parametrize("name", ["", "a"])
def test_r24_what_comes_back_of_what_was_made_of_it_is_a_cycle_also_without_a_name(
    engine: Engine, size: int, name: str
) -> None:
    taken_back = retraction("a", id="back")
    taken_back.origin, taken_back.provenance.producer = pb.ORIGIN_SYNTHETIC, made("a").provenance.producer
    again = made(name, "b", content=made("a").content)
    again.submission_id = "again"

    receipts = commit_in_batches(engine, [made("a"), made("b", "a"), taken_back, again], size)

    assert [reason for reason, _ in found(receipts)] == ["NEW", "NEW", "RETRACTION", "CYCLE"]


def test_ancestors_are_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "_ANCESTORS_MAX", 3)
    policy = ns_pb.Policy(generation_max=100)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    commit(engine, made("x"), made("i0"), *(made(f"i{n}", f"i{n - 1}") for n in range(1, 6)))
    again = made("x", "i5", content="x, once more")
    again.submission_id = "again"

    assert found(commit(engine, again))[0][0] == "CYCLE"


def test_a_parent_that_was_merged_is_known_by_its_own_name(engine: Engine, size: int) -> None:
    same = human("twin")
    same.content, same.item_id = "a: so a person says.", "twin"
    sent = [human("a"), same, made("b", "twin")]

    receipts = commit_in_batches(engine, sent, size)

    assert receipts[1].outcome == pb.OUTCOME_MERGED
    assert found(receipts)[2] == ("NEW", 1)


def test_a_cycle_over_what_was_merged_is_found(engine: Engine, size: int) -> None:
    """`b` was made of `twin`, which is the other name of `a`: so `a` would be made of itself."""
    twin = made("twin", content="a: so a model says.")
    sent = [made("a"), twin, made("b", "twin"), made("a", "b", content="a: so it says now.")]
    sent[-1].submission_id = "newer"

    receipts = commit_in_batches(engine, sent, size)

    assert [reason for reason, _ in found(receipts)] == ["NEW", "SAME_CONTENT", "NEW", "CYCLE"]


def test_what_was_another_s_name_and_becomes_an_item_is_not_made_of_itself(engine: Engine, size: int) -> None:
    """`b` was made of `twin`, another name of `a` by then: so an item `twin` would be made of itself."""
    twin = made("twin", content="a: so a model says.")
    own, other = (made("twin", parent, content=f"twin, of {parent}, says something else.") for parent in ("b", "twin"))
    own.submission_id, other.submission_id = "own", "other"
    sent = [made("a"), twin, made("b", "twin"), own, other, made("c", "a")]

    receipts = commit_in_batches(engine, sent, size)

    assert [reason for reason, _ in found(receipts)] == ["NEW", "SAME_CONTENT", "NEW", "CYCLE", "CYCLE", "NEW"]


def test_what_somebody_let_in_before_its_parent_is_not_that_parent_s_own(engine: Engine, size: int) -> None:
    commit(engine, made("x", "y"))
    (held,) = pending(engine)
    (let_in,) = engine.pipeline.release([ruling(engine, held)])

    receipts = commit_in_batches(engine, [made("y", "x"), made("z", "x")], size)

    assert let_in.outcome == pb.OUTCOME_ADMITTED
    assert [reason for reason, _ in found(receipts)] == ["CYCLE", "NEW"]


def test_what_is_new_is_not_held_for_the_number_of_its_ancestors(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "_ANCESTORS_MAX", 3)
    items = [human(f"i{n}") for n in range(6)]

    receipts = commit(engine, *items, made("x", *(item.item_id for item in items)))

    assert found(receipts)[-1] == ("NEW", 1)


def test_where_it_comes_from_is_asked_before_what_it_says(engine: Engine) -> None:
    commit(engine, submission("Lead is heavy.", id="1", item="lead", vector=direction(1)))

    (held,) = commit(engine, made("copy", "lost", content="Lead is heavy."))

    assert held.reason == pb.REASON_UNKNOWN_PARENT


def test_only_synthetic_knowledge_has_parents_that_must_be_known(engine: Engine) -> None:
    essay = submission("An essay on what was said.", id="1", derived_from=["a book"])

    assert found(commit(engine, essay)) == [("NEW", 0)]


def test_what_the_newest_version_was_derived_from_is_known(engine: Engine) -> None:
    revised = made("c", content="c is derived from nothing any more.")
    revised.submission_id = "revised"
    commit(engine, human("a"), made("b", "a"), made("c", "a"), made("d", "b"), revised)

    with engine.store.reader() as catalog:
        assert catalog.parents(1, "bcd") == {"b": ["a"], "d": ["b"]}


def test_what_is_sent_again_is_not_traced_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = made("a"), made("b", "a")
    again = made("a", "b", content="a: so it says now.", generator="other")
    again.submission_id = "again"
    commit(engine, first, second, again)
    traced: list[pb.Submission] = []

    def trace(sent: pb.Submission, *_: object) -> lineage.Lineage:
        traced.append(sent)
        return lineage.NO_MODEL

    monkeypatch.setattr(moment, "trace", trace)
    receipts = commit(engine, first, second, again)

    assert all(receipt.earlier for receipt in receipts)
    assert traced == []


def test_a_child_that_came_before_its_parents_goes_on_when_the_last_of_them_is_known(engine: Engine, size: int) -> None:
    sent = [made("c", "b"), made("b", "a", "z"), human("a"), human("z"), made("other", "lost")]

    receipts = commit_in_batches(engine, sent, size)

    orphan = "UNKNOWN_PARENT"
    assert [reason for reason, _ in found(receipts)] == [orphan, orphan, "NEW", "NEW", orphan]
    again = commit(engine, *sent[:2])
    assert [(r.outcome, *one) for r, one in zip(again, found(again), strict=True)] == [
        (pb.OUTCOME_ADMITTED, "RELEASED", 2),
        (pb.OUTCOME_ADMITTED, "RELEASED", 1),
    ]
    with engine.store.reader() as catalog:
        changes = [pb.Change.FromString(one.change) for one in catalog.changes(1, 0, 100, 100)]
    assert [change.item_id for change in changes] == ["a", "z", "b", "c"]
    assert [held.decision.held.item_id for held in pending(engine)] == ["other"]


@pytest.mark.parametrize("cut", [1, 7])
def test_what_comes_before_its_parents_is_decided_alike_however_a_stream_is_cut(tmp_path: Path, cut: int) -> None:
    chance = np.random.default_rng(9)
    sent = [human(f"i{n}") if n < 20 else made(f"i{n}", f"i{n // 2}", f"i{n - 7}") for n in range(90)]
    chance.shuffle(sent)
    policy = ns_pb.Policy(generation_max=4, real_share_floor=0.985, near_duplicate_threshold=1.0)
    dumps, again = [], []
    for name, size in (("cut", cut), ("whole", len(sent))):
        opened = open_engine(tmp_path / name, HandClock(START_US + 5))
        opened.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
        commit_in_batches(opened, sent, size)
        dumps.append(list(opened.store.logical_dump()))
        again.append({reason for reason, _ in found(commit(opened, *sent))})
        assert check(opened.store) == []
        opened.close()

    assert dumps[0] == dumps[1]
    assert again[0] >= {"RELEASED", "GENERATION", "DEFERRED", "UNKNOWN_PARENT"}
    result = rehearsed(tmp_path / "whole", tmp_path / "rehearsed")
    assert (result.differences, result.left_out, result.other_figures) == ([], {}, 0)


def test_what_goes_on_with_one_parent_is_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (moment, pipeline):
        monkeypatch.setattr(module, "AT_ONCE", 2)
    commit(engine, *(made(f"c{n}", "a") for n in range(5)))

    commit(engine, human("a"))
    assert [held.decision.held.item_id for held in pending(engine)] == ["c2", "c3", "c4"]
    newer = submission("a: so a person says now.", id="newer", item="a")
    commit(engine, newer)
    assert [held.decision.held.item_id for held in pending(engine)] == ["c4"]


def test_children_whose_other_parent_never_comes_hold_up_no_others(
    engine: Engine, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (moment, pipeline):
        monkeypatch.setattr(module, "AT_ONCE", 2)
    waiting = [made(f"w{n}", "a", "never") for n in range(5)]
    sent = [*waiting, made("c0", "a"), made("c1", "a", "b"), human("b"), human("a"), made("c2", "a")]

    receipts = commit_in_batches(engine, sent, size)

    assert found(receipts)[5:7] == [("UNKNOWN_PARENT", 1)] * 2
    assert [held.decision.held.item_id for held in pending(engine)] == [f"w{n}" for n in range(5)]
    assert check(engine.store) == []


def test_a_child_goes_on_by_the_other_name_of_a_parent_that_comes_back(engine: Engine, size: int) -> None:
    """`twin` was merged into `a`, so what names it knows `a`, and waits for it while it is taken back."""
    twin = submission("a: so a person says.", id="twin", item="twin")
    back = submission("a: so a person says.", id="back", item="a")
    sent = [human("a"), twin, retraction("a", id="r"), made("child", "twin"), back, made("later", "twin")]

    receipts = commit_in_batches(engine, sent, size)

    assert found(receipts)[3:] == [("UNKNOWN_PARENT", 1), ("REINSTATEMENT", 0), ("NEW", 1)]
    assert found(commit(engine, sent[3])) == [("RELEASED", 1)]
    assert check(engine.store) == []


def test_a_child_goes_on_when_its_parent_is_merged_or_comes_back(engine: Engine, size: int) -> None:
    twin = submission("a: so a person says.", id="twin", item="twin")
    back = submission("b: so a person says.", id="back", item="b")
    sent = [human("a"), human("b"), retraction("b", id="r"), made("of-twin", "twin"), made("of-b", "b"), twin, back]

    receipts = commit_in_batches(engine, sent, size)

    assert [reason for reason, _ in found(receipts)][3:5] == ["UNKNOWN_PARENT"] * 2
    assert [reason for reason, _ in found(commit(engine, *sent[3:5]))] == ["RELEASED"] * 2


def test_a_child_goes_on_when_its_parent_promotes_what_a_model_said_and_knows_it_by_its_own_name(
    engine: Engine, size: int
) -> None:
    model = submission("The limit is 5 mg.", id="m", item="m", vector=direction(1), origin=pb.ORIGIN_SYNTHETIC)
    person = submission("the limit is 5 mg", id="p", item="p", vector=direction(1, 0.05))
    sent = [model, made("before", "p"), person, made("after", "p")]

    receipts = commit_in_batches(engine, sent, size)

    assert found(receipts)[1:] == [("UNKNOWN_PARENT", 1), ("PROMOTION", 0), ("NEW", 1)]
    assert found(commit(engine, sent[1])) == [("RELEASED", 1)]


def test_a_child_that_a_person_has_rejected_does_not_go_on(engine: Engine) -> None:
    commit(engine, made("b", "a"))
    engine.pipeline.release([ruling(engine, one, admits=False) for one in pending(engine)])

    commit(engine, human("a"))

    assert found(commit(engine, made("b", "a")))[0][0] == "REVIEW_REJECTED"


def test_a_child_that_is_put_off_when_its_parent_comes_is_rehearsed_decision_by_decision(tmp_path: Path) -> None:
    life = Life(tmp_path / "lived")
    life.change(real_share_floor=1.0)
    at = kinds(ALL_KINDS, 9, 5)
    orphan = submission("An orphan.", id="1", vector=at[1], origin=pb.ORIGIN_SYNTHETIC, derived_from=["late"])
    life.say(*(submission(f"It is {n}.", id=f"w-{n}", vector=at[n], origin=pb.ORIGIN_SYNTHETIC) for n in range(2, 6)))
    life.engine.namespaces.update_policy(
        ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=ns_pb.Policy(real_share_floor=0.5))
    )
    late = submission("It comes late.", id="late", item="late", vector=at[6])
    more = [submission(f"More {n}.", id=f"more-{n}", vector=at[n]) for n in (7, 8)]

    life.say(orphan, late, *more)

    request = know.ExplainRequest(namespace=NAMESPACE, producer="alice", submission_id="1")
    told = [one.receipt.reason for one in life.engine.knowledge.explain(request).explanations]
    assert told == [pb.REASON_UNKNOWN_PARENT, pb.REASON_DEFERRED, pb.REASON_RELEASED]
    life.engine.close()
    result = rehearsed(tmp_path / "lived", tmp_path / "rehearsed")
    assert (result.differences, result.left_out, result.other_figures) == ([], {}, 0)
