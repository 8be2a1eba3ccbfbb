"""R22: consumers get a share of what is real, whatever comes in; what is too much is put off, never lost."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from epistream.indexer import store as stores
from epistream.indexer.collapse import FLOOR_WINDOW
from epistream.indexer.engine import Engine
from epistream.indexer.moment import AT_EACH
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import review_service_pb2 as api
from epistream.wire.errors import Conflict
from tests.support.knowing import (
    NAMESPACE,
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


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = apart(open_engine(tmp_path))
    yield opened
    opened.close()


def apart(engine: Engine, floor: float | None = None) -> Engine:
    """With a policy under which nothing is near enough to be compared, nor held for how it looks."""
    wanted = ns_pb.Policy(near_duplicate_threshold=1.0, real_share_floor=floor, guard=ns_pb.GUARD_MEASURE)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=wanted))
    return engine


def stream(
    synthetic: Sequence[bool], begin: int = 0, modality: pb.Modality.ValueType = pb.MODALITY_TEXT
) -> list[pb.Submission]:
    made_or_said = [
        submission(
            f"{number}: so it is.",
            id=f"s-{number}",
            item=f"i-{number}",
            origin=pb.ORIGIN_SYNTHETIC if made else pb.ORIGIN_EXPERT,
        )
        for number, made in enumerate(synthetic, begin)
    ]
    for one in made_or_said:
        one.modality = modality
    return made_or_said


def mixed(count: int, chance: np.random.Generator) -> list[pb.Submission]:
    """Texts, of which three in four are synthetic, and one program in three, of which nine in ten are."""
    codes = (chance.random(count) < 1 / 3).tolist()
    modalities = [pb.MODALITY_CODE if code else pb.MODALITY_TEXT for code in codes]
    synthetic = (chance.random(count) < np.where(codes, 0.95, 0.75)).tolist()
    return [stream([made], number, of)[0] for number, (made, of) in enumerate(zip(synthetic, modalities, strict=True))]


def delivered(engine: Engine, modality: pb.Modality.ValueType | None = None) -> list[tuple[str, bool]]:
    """What subscribers get, of a modality, in order: the item, and whether it is synthetic."""
    with engine.store.reader() as catalog:
        changes = [pb.Change.FromString(one.change) for one in catalog.changes(1, 0, 10**9, 10**9)]
    return [
        (change.item_id, change.knowledge.origin == pb.ORIGIN_SYNTHETIC)
        for change in changes
        if modality in (None, change.knowledge.modality)
    ]


def put_off(engine: Engine) -> list[str]:
    return [held.decision.held.item_id for held in pending(engine, pb.REASON_DEFERRED)]


def test_r22_at_nine_in_ten_synthetic_every_thousand_has_its_share_and_nothing_is_lost(engine: Engine) -> None:
    synthetic = (np.random.default_rng(4).random(4000) < 0.92).tolist()

    receipts = commit_in_batches(engine, stream(synthetic), 100)

    got = delivered(engine)
    real = np.array([not made for _, made in got])
    shares = np.convolve(real, np.ones(FLOOR_WINDOW), "valid") / FLOOR_WINDOW
    assert shares.min() >= 0.1
    waiting = put_off(engine)
    assert {item for item, _ in got} | set(waiting) == {f"i-{number}" for number in range(4000)}
    assert len(got) + len(waiting) == 4000
    assert waiting, "more came than the share allows"
    for kind in (True, False):  # in their order
        numbers = [int(item.removeprefix("i-")) for item, made in got if made == kind]
        assert numbers == sorted(numbers)
    first = next(r for r in receipts if r.reason == pb.REASON_DEFERRED)
    assert first.outcome == pb.OUTCOME_HELD
    assert first.figures.real_share < 0.1


@pytest.mark.parametrize("size", [1, 7, 300])
def test_the_outcome_does_not_depend_on_how_a_stream_is_cut(tmp_path: Path, size: int) -> None:
    chance = np.random.default_rng(5)
    sent = stream([True] * 920 + (chance.random(300) < 0.8).tolist())
    sent += stream([True] * 20, 600)  # what was put off, and said again by others
    for number, one in enumerate(sent[1220:]):
        one.submission_id, one.provenance.producer = f"again-{number}", "others"
    dumps = []
    for name, cut in (("cut", size), ("whole", len(sent))):
        engine = apart(open_engine(tmp_path / name, HandClock()))
        commit_in_batches(engine, sent, cut)
        dumps.append(list(engine.store.logical_dump()))
        engine.close()

    assert dumps[0] == dumps[1]


def test_r22_every_thousand_of_each_modality_has_its_share_too(engine: Engine) -> None:
    sent = mixed(6000, np.random.default_rng(6))
    commit_in_batches(engine, sent, 100)

    for modality in (None, pb.MODALITY_TEXT, pb.MODALITY_CODE):
        real = np.array([not made for _, made in delivered(engine, modality)])
        assert len(real) > FLOOR_WINDOW
        assert (np.convolve(real, np.ones(FLOOR_WINDOW), "valid") / FLOOR_WINDOW).min() >= 0.1
    waiting = pending(engine, pb.REASON_DEFERRED)
    assert {held.decision.held.modality for held in waiting} == {pb.MODALITY_CODE}
    assert len(delivered(engine)) + len(waiting) == 6000
    for made in (True, False):  # of each modality in their order
        numbers = [int(item.removeprefix("i-")) for item, was in delivered(engine, pb.MODALITY_CODE) if was == made]
        assert numbers == sorted(numbers)


def test_what_waits_of_one_modality_holds_up_no_other(engine: Engine) -> None:
    commit_in_batches(engine, stream([True] * 903, 0, pb.MODALITY_CODE), 500)
    commit_in_batches(engine, stream([False] * 200, 1000), 500)
    assert put_off(engine) == ["i-900", "i-901", "i-902"], "people's texts make no room for programs"

    (text,) = commit(engine, *stream([True], 2000))
    (code,) = commit(engine, *stream([True], 2001, pb.MODALITY_CODE))
    assert (text.outcome, code.reason) == (pb.OUTCOME_ADMITTED, pb.REASON_DEFERRED)
    assert text.figures.real_share > 0.1 > code.figures.real_share

    commit_in_batches(engine, stream([False] * 99, 3000, pb.MODALITY_CODE), 500)
    assert put_off(engine) == ["i-900", "i-901", "i-902", "i-2001"]
    commit(engine, *stream([False], 4000, pb.MODALITY_CODE))
    assert put_off(engine) == []
    assert [item for item, _ in delivered(engine)][-4:] == ["i-900", "i-901", "i-902", "i-2001"]


@pytest.mark.parametrize("size", [1, 40])
def test_several_modalities_are_decided_alike_however_a_stream_is_cut_and_after_a_restart(
    tmp_path: Path, size: int
) -> None:
    chance = np.random.default_rng(7)
    sent = [*stream([True] * 800, 5000, pb.MODALITY_CODE), *stream([True] * 150, 6000), *mixed(400, chance)]
    dumps = []
    for name, cut in (("cut", size), ("whole", len(sent))):
        engine = apart(open_engine(tmp_path / name, HandClock()))
        commit_in_batches(engine, sent[:1000], cut)
        assert put_off(engine)
        if name == "cut":
            engine.close()
            for file in (tmp_path / name / "index").iterdir():
                file.unlink()
            engine = Engine(tmp_path / name, clock=HandClock())
        commit_in_batches(engine, sent[1000:], cut)
        dumps.append(list(engine.store.logical_dump()))
        engine.close()

    assert dumps[0] == dumps[1]


def test_what_was_put_off_waits_for_no_person_unless_one_asks(engine: Engine) -> None:
    commit_in_batches(engine, stream([True] * 903), 500)

    everything = api.ListReviewsRequest(namespace=NAMESPACE)
    assert engine.reviews.list_reviews(everything).pending_count == 0
    asked = api.ListReviewsRequest(namespace=NAMESPACE, reasons=[pb.REASON_DEFERRED])
    reviews = engine.reviews.list_reviews(asked).reviews
    assert {review.item_id for review in reviews} == {"i-900", "i-901", "i-902"}


def test_what_was_put_off_survives_a_restart_with_its_vector_and_its_place(engine: Engine, tmp_path: Path) -> None:
    sent = stream([True] * 905)
    commit_in_batches(engine, sent, 500)
    assert put_off(engine) == [f"i-{number}" for number in range(900, 905)]
    engine.close()

    again = Engine(tmp_path, clock=HandClock())
    commit(again, *stream([True], 2000))
    assert put_off(again)[-1] == "i-2000", "it waits behind the others"
    commit(again, *stream([False], 3000))

    got = delivered(again)
    assert got[-1] == ("i-3000", False), "the window is full of synthetic ones until older ones leave it"
    for number in range(100):
        commit(again, *stream([False], 4000 + number))
    assert put_off(again) == []
    items = [item for item, _ in delivered(again)]
    places = [items.index(f"i-{number}") for number in (900, 901, 904, 2000)]
    assert places == sorted(places)
    with again.store.reader() as catalog:
        revision = items.index("i-900") + 1
        kept = catalog.committed(1, revision)
    assert kept.embedding == sent[900].embedding.float32
    (receipt,) = commit(again, sent[900])
    assert (receipt.outcome, receipt.reason, receipt.earlier) == (pb.OUTCOME_ADMITTED, pb.REASON_RELEASED, True)
    again.close()


def test_a_person_is_never_put_off_and_a_namespace_may_be_synthetic_alone(engine: Engine) -> None:
    apart(engine, 1.0)
    held, taken = commit(engine, *stream([True, False]))
    assert (held.reason, taken.outcome) == (pb.REASON_DEFERRED, pb.OUTCOME_ADMITTED)

    apart(engine, 0.0)
    assert engine.pipeline.let_go(NAMESPACE) == 1
    assert engine.pipeline.let_go(NAMESPACE) == 0
    assert delivered(engine) == [("i-1", False), ("i-0", True)]
    (free,) = commit(engine, *stream([True], 5))
    assert free.outcome == pb.OUTCOME_ADMITTED


@pytest.mark.parametrize("named", [True, False])
def test_what_somebody_else_says_waits_no_longer_unless_it_names_an_item(engine: Engine, *, named: bool) -> None:
    apart(engine, 1.0)
    (sent,) = stream([True])
    if not named:
        sent.ClearField("item_id")
    (waits,) = commit(engine, sent)
    assert waits.reason == pb.REASON_DEFERRED
    (said,) = commit(engine, submission("0: so it is.", id="said", item="said"))
    assert said.outcome == pb.OUTCOME_ADMITTED

    apart(engine, 0.0)

    assert put_off(engine) == (["i-0"] if named else [])
    assert engine.pipeline.let_go(NAMESPACE) == named
    (again,) = commit(engine, sent)
    assert again.outcome == (pb.OUTCOME_MERGED if named else pb.OUTCOME_HELD)


def test_what_a_person_has_let_in_is_not_counted_among_those_that_wait(engine: Engine) -> None:
    commit_in_batches(engine, stream([True] * 903 + [False] * 99), 501)
    assert put_off(engine) == ["i-900", "i-901", "i-902"]
    first = pending(engine, pb.REASON_DEFERRED)[0]

    engine.pipeline.release([ruling(engine, first)])

    assert delivered(engine)[-3:] == [("i-900", False), ("i-901", True), ("i-902", True)]
    assert put_off(engine) == []


def test_what_a_person_has_rejected_does_not_go_on(engine: Engine) -> None:
    apart(engine, 1.0)
    commit(engine, *stream([True, True]))
    apart(engine, 0.0)
    first = pending(engine, pb.REASON_DEFERRED)[0]

    (receipt,) = engine.pipeline.release([ruling(engine, first, admits=False)])

    assert receipt.outcome == pb.OUTCOME_REJECTED
    assert delivered(engine) == [("i-1", True)]
    assert put_off(engine) == []


def test_what_goes_on_by_itself_is_not_decided_a_second_time(engine: Engine) -> None:
    apart(engine, 1.0)
    commit(engine, *stream([True, True]))
    apart(engine, 0.0)

    with pytest.raises(Conflict, match="s-1 of alice is not held any more"):
        engine.pipeline.release([ruling(engine, one) for one in pending(engine, pb.REASON_DEFERRED)])

    assert delivered(engine) == []


def test_what_is_brought_back_needs_room_too(engine: Engine) -> None:
    commit_in_batches(engine, stream([True] * 900), 500)
    commit(engine, retraction("i-0", id="r-0", origin=pb.ORIGIN_SYNTHETIC))
    again = stream([True])[0]
    again.submission_id = "again"

    (receipt,) = commit(engine, again)

    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_HELD, pb.REASON_DEFERRED)
    commit_in_batches(engine, stream([False] * 100, 1000), 500)
    assert delivered(engine)[-1] == ("i-0", True)


def test_r22_what_an_item_says_again_from_another_time_on_needs_room_too(engine: Engine) -> None:
    commit_in_batches(engine, stream([True] * 899), 500)
    first, later = (submission("X", id=f"x-{n}", item="x", origin=pb.ORIGIN_SYNTHETIC) for n in range(2))
    first.valid_from.FromMicroseconds(1)
    later.valid_from.FromMicroseconds(2)

    receipts = commit(engine, first, later)

    assert [receipt.reason for receipt in receipts] == [pb.REASON_NEW, pb.REASON_DEFERRED]
    assert receipts[1].figures.real_share < 0.1
    commit_in_batches(engine, stream([False] * 100, 1000), 500)
    assert delivered(engine)[-1] == ("x", True)
    assert put_off(engine) == []


@pytest.mark.parametrize(
    ("origin", "producer", "ends"),
    [
        (pb.ORIGIN_SYNTHETIC, "alice", True),
        (pb.ORIGIN_CRAWLED, "web", True),
        (pb.ORIGIN_SYNTHETIC, "mallory", False),
    ],
)
def test_what_is_taken_back_while_it_is_put_off_does_not_go_on(
    engine: Engine, origin: pb.Origin.ValueType, producer: str, *, ends: bool
) -> None:
    apart(engine, 1.0)
    sent = stream([True, True])
    commit(engine, *sent)

    (receipt,) = commit(engine, retraction("i-0", id="r", origin=origin, producer=producer))
    apart(engine, 0.0)
    engine.pipeline.let_go(NAMESPACE)

    if not ends:
        assert receipt.reason == pb.REASON_UNKNOWN_ITEM
        assert [item for item, _ in delivered(engine)] == ["i-0", "i-1"]
        return
    assert (receipt.outcome, receipt.reason, receipt.item_id) == (pb.OUTCOME_MERGED, pb.REASON_ALREADY_RETRACTED, "i-0")
    assert delivered(engine) == [("i-1", True)]
    assert put_off(engine) == []
    again, _ = commit(engine, *sent)
    assert (again.outcome, again.reason, again.earlier) == (pb.OUTCOME_REJECTED, pb.REASON_RETRACTION, True)
    assert stores.check(engine.store) == []


def test_a_version_that_was_put_off_does_not_bring_back_what_was_taken_back_since(engine: Engine) -> None:
    commit(engine, *stream([True]))
    apart(engine, 1.0)
    newer = submission("0: so it is now.", id="newer", item="i-0", origin=pb.ORIGIN_SYNTHETIC)
    (waits,) = commit(engine, newer)
    assert waits.reason == pb.REASON_DEFERRED

    commit(engine, retraction("i-0", id="r"))
    apart(engine, 0.0)

    assert engine.pipeline.let_go(NAMESPACE) == 0
    assert engine.namespaces.get(NAMESPACE).item_count == 0


@pytest.mark.parametrize("size", [1, 2])
def test_what_is_taken_back_is_so_however_a_stream_is_cut(tmp_path: Path, size: int) -> None:
    sent = [*stream([True, True]), retraction("i-0", id="r", origin=pb.ORIGIN_SYNTHETIC), *stream([False], 5)]
    sent += [retraction("i-0", id="again", origin=pb.ORIGIN_SYNTHETIC)]
    dumps = []
    for name, cut in (("cut", size), ("whole", len(sent))):
        engine = apart(open_engine(tmp_path / name, HandClock()), 1.0)
        commit_in_batches(engine, sent, cut)
        dumps.append(list(engine.store.logical_dump()))
        assert put_off(engine) == ["i-1"]
        engine.close()

    assert dumps[0] == dumps[1]


def test_what_a_new_policy_has_room_for_does_not_all_go_on_in_the_commit_of_another(engine: Engine) -> None:
    apart(engine, 1.0)
    commit(engine, *stream([True] * 10))
    apart(engine, 0.0)

    commit(engine, *stream([False, False], 10))

    order = ["i-10", "i-0", "i-1", "i-11", "i-2", "i-3"]
    assert [item for item, _ in delivered(engine)] == order
    assert engine.pipeline.let_go(NAMESPACE) == 6
    assert put_off(engine) == []


def test_copies_take_up_no_room_and_do_not_all_go_on_in_the_commit_of_another(engine: Engine) -> None:
    """There is room for one synthetic version in a thousand; who makes it does not wait for all that were put off."""
    apart(engine, 0.999)
    commit(engine, *stream([True]))
    copies = [submission("It is.", id=f"c-{n}", item=f"c-{n}", origin=pb.ORIGIN_SYNTHETIC) for n in range(40)]
    commit(engine, *copies)
    people = iter(stream([False] * 2002, 10_000))
    commit_in_batches(engine, list(islice(people, 998)), 500)
    assert len(put_off(engine)) == 40
    commit(engine, next(people))
    assert len(put_off(engine)) == 39, "the first of them is a version"
    assert engine.pipeline.behind() == []
    commit_in_batches(engine, list(islice(people, 998)), 500)
    assert len(put_off(engine)) == 39

    commit(engine, next(people))

    assert len(put_off(engine)) == 39 - AT_EACH, "the others say the same"
    assert engine.pipeline.behind() == [NAMESPACE]
    assert engine.pipeline.let_go(NAMESPACE) == 39 - AT_EACH
    assert (engine.pipeline.behind(), put_off(engine)) == ([], [])
    assert sum(made for _, made in delivered(engine)) == 2


def test_what_goes_on_is_compared_with_what_went_on_before_it(engine: Engine) -> None:
    policy = ns_pb.Policy(real_share_floor=1.0, guard=ns_pb.GUARD_MEASURE)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    said = ("The limit is 50 mg.", "The limit is 50 mg", "The limit is 50 mg .")
    same = direction(1, 2, 3)
    commit(engine, *[submission(text, id=text, origin=pb.ORIGIN_SYNTHETIC, vector=same) for text in said])
    assert len(put_off(engine)) == 3
    policy.real_share_floor = 0.0
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))

    assert engine.pipeline.let_go(NAMESPACE) == 3

    assert engine.namespaces.get(NAMESPACE).item_count == 1
