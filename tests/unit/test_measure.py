"""R21, R23, R7 through the pipeline: noise is not knowledge, and what is synthetic takes nobody's place."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from epistream.indexer import standing
from epistream.indexer.engine import Engine
from epistream.indexer.gain import Gains
from epistream.indexer.known import LOOK_AHEAD_MIN
from epistream.indexer.model import Embedded, Record
from epistream.indexer.posterior import Posterior
from epistream.indexer.standing import GAIN_DIMENSION_MAX
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import Broken
from tests.support.knowing import (
    DIMENSION,
    NAMESPACE,
    START_US,
    HandClock,
    commit,
    commit_in_batches,
    open_engine,
    submission,
)

ANCHORS = 64


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """With an anchor window: what people say lies around one direction."""
    opened = open_engine(tmp_path)
    policy = ns_pb.Policy(guard=ns_pb.GUARD_HOLD, anchor_items=ANCHORS, near_duplicate_threshold=1.0)
    opened.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    commit(opened, *(said(number, pb.ORIGIN_EXPERT) for number in range(ANCHORS)))
    yield opened
    opened.close()


def said(number: int, origin: pb.Origin.ValueType, *, far: bool = False, content: str = "") -> pb.Submission:
    """Knowledge near what people say, or far from it."""
    vector = np.random.default_rng(number).standard_normal(DIMENSION) * 0.1
    vector[1 if far else 0] += 1
    return submission(
        content or f"{number}: the valve of the pump is opened by hand before the pump is started.",
        id=f"{pb.Origin.Name(origin)}-{number}",
        origin=origin,
        vector=(vector / np.linalg.norm(vector)).astype(np.float32),
    )


def test_r21_what_lies_far_from_people_is_held_though_it_would_tell_the_most(engine: Engine) -> None:
    near, far = commit(engine, said(1000, pb.ORIGIN_SYNTHETIC), said(1001, pb.ORIGIN_SYNTHETIC, far=True))

    assert (far.outcome, far.reason) == (pb.OUTCOME_HELD, pb.REASON_IMPLAUSIBLE)
    assert "AT_RANDOM" in far.figures.doubts
    assert far.figures.gain > near.figures.gain
    assert far.figures.plausibility < 0.05 < near.figures.plausibility


@pytest.mark.parametrize("content", ["pump " * 40, "\n" * 10_000 + "pump " * 40, ("pump" + " " * 5_000) * 40])
def test_r21_one_word_again_and_again_is_held(engine: Engine, content: str) -> None:
    (held,) = commit(engine, said(1002, pb.ORIGIN_SYNTHETIC, content=content))

    assert held.reason == pb.REASON_IMPLAUSIBLE
    assert "REPEATS" in held.figures.doubts


def test_what_is_synthetic_is_looked_at_before_the_writer_gets_it_however_many_come(engine: Engine) -> None:
    sent = [said(2000 + number, pb.ORIGIN_SYNTHETIC) for number in range(LOOK_AHEAD_MIN)]

    prepared = engine.pipeline.prepare([Record(one.SerializeToString(), START_US) for one in sent])

    for one in prepared:
        assert isinstance(one, Embedded)
        assert one.nearby is not None
        assert one.looks is not None
        assert one.looks.plausibility is not None


def test_a_batch_is_measured_together(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A⁻¹ is read for many of it at once, and what was expected is not kept when it is decided."""
    commit(engine, said(1000, pb.ORIGIN_SYNTHETIC))  # from here on the posteriors are two
    looked: list[int] = []
    pull = Posterior._pull

    def counted(self: Posterior, asked: NDArray[np.float64]) -> NDArray[np.float64]:
        looked.append(len(asked))
        return pull(self, asked)

    monkeypatch.setattr(Posterior, "_pull", counted)
    origins = [pb.ORIGIN_SYNTHETIC, pb.ORIGIN_EXPERT]
    receipts = commit(engine, *(said(2000 + number, origins[number % 2]) for number in range(100)))
    gains = engine.namespaces.state(NAMESPACE).standing.gains

    assert sum(receipt.figures.HasField("gain") for receipt in receipts) == 50
    assert len(looked) <= 12, "each of the 50 in both posteriors would be 100"
    assert gains is not None
    assert (gains.known._expected, gains.human._expected) == ([], [])


def test_people_are_never_held_for_how_it_looks(engine: Engine) -> None:
    (taken,) = commit(engine, said(1003, pb.ORIGIN_CRAWLED, far=True, content="pump " * 40))

    assert taken.outcome == pb.OUTCOME_ADMITTED
    assert not taken.HasField("figures")


@pytest.mark.parametrize(
    ("guard", "too_little"),
    [
        (ns_pb.GUARD_HOLD, (pb.OUTCOME_HELD, pb.REASON_LOW_GAIN)),
        (ns_pb.GUARD_HOLD_NOISE, (pb.OUTCOME_HELD, pb.REASON_LOW_GAIN)),
        (ns_pb.GUARD_MEASURE, (pb.OUTCOME_ADMITTED, pb.REASON_NEW)),
    ],
    ids=["hold", "hold_noise", "measure"],
)
def test_what_is_worth_too_little_is_held_unless_it_is_only_measured(
    engine: Engine, guard: ns_pb.Guard.ValueType, too_little: tuple[pb.Outcome.ValueType, pb.Reason.ValueType]
) -> None:
    asked_nothing = worth_asked(engine, "nothing", guard, 0)
    worth = asked_nothing.figures.worth

    enough = worth_asked(engine, "enough", guard, worth)
    less = worth_asked(engine, "less", guard, math.nextafter(worth, 1))

    assert 0 < worth < asked_nothing.figures.gain <= 1
    for admitted in (asked_nothing, enough):
        assert (admitted.outcome, admitted.reason) == (pb.OUTCOME_ADMITTED, pb.REASON_NEW)
    assert (less.outcome, less.reason) == too_little
    assert less.figures.worth == worth < less.figures.worth_min


def worth_asked(engine: Engine, namespace: str, guard: ns_pb.Guard.ValueType, worth_min: float) -> pb.Receipt:
    """What becomes of one and the same submission of a model's, in a namespace that asks for so much."""
    policy = ns_pb.Policy(guard=guard, anchor_items=ANCHORS, near_duplicate_threshold=1.0, worth_min=worth_min)
    encoder = ns_pb.Encoder(model="none", dimension=DIMENSION)
    engine.namespaces.create(ns_pb.CreateNamespaceRequest(name=namespace, encoder=encoder, policy=policy))
    sent = [said(number, pb.ORIGIN_EXPERT) for number in range(ANCHORS)] + [said(1004, pb.ORIGIN_SYNTHETIC)]
    for one in sent:
        one.namespace = namespace
    return commit(engine, *sent)[-1]


@pytest.mark.parametrize(
    ("guard", "worth_min", "reason"),
    [
        (ns_pb.GUARD_HOLD, 0.0, pb.REASON_NEW),
        (ns_pb.GUARD_HOLD, 0.1, pb.REASON_LOW_GAIN),
        (ns_pb.GUARD_HOLD_NOISE, 0.1, pb.REASON_NEW),
    ],
)
def test_vectors_too_long_for_a_gain_are_held_only_where_a_worth_has_to_be_known(
    engine: Engine, guard: ns_pb.Guard.ValueType, worth_min: float, reason: pb.Reason.ValueType
) -> None:
    policy = ns_pb.Policy(guard=guard, anchor_items=ANCHORS, near_duplicate_threshold=1.0, worth_min=worth_min)
    encoder = ns_pb.Encoder(model="none", dimension=GAIN_DIMENSION_MAX + 1)
    engine.namespaces.create(ns_pb.CreateNamespaceRequest(name="long", encoder=encoder, policy=policy))
    commit(engine, *(lengthened(said(number, pb.ORIGIN_EXPERT)) for number in range(ANCHORS)))

    (receipt,) = commit(engine, lengthened(said(1000, pb.ORIGIN_SYNTHETIC)))

    assert receipt.reason == reason
    assert not receipt.figures.HasField("gain")
    assert not receipt.figures.HasField("worth")


def lengthened(short: pb.Submission) -> pb.Submission:
    """The same in the namespace of long vectors."""
    zeros = np.zeros(GAIN_DIMENSION_MAX + 1 - DIMENSION, "<f4")
    short.namespace, short.embedding.float32 = "long", short.embedding.float32 + zeros.tobytes()
    return short


def test_r33_without_anchors_there_is_no_plausibility_and_the_guard_holds(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    policy = ns_pb.Policy(guard=ns_pb.GUARD_HOLD)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))

    (held,) = commit(engine, said(1, pb.ORIGIN_SYNTHETIC))

    assert held.reason == pb.REASON_IMPLAUSIBLE
    assert list(held.figures.doubts) == ["NO_ANCHORS"]
    assert not held.figures.HasField("plausibility")
    assert not held.figures.HasField("worth")
    engine.close()


def test_r23_synthetic_knowledge_takes_nobody_s_place_and_makes_way(engine: Engine) -> None:
    human = submission("The limit is 5 mg.", id="h", item="limit")
    other = submission("The limit is 50 mg.", id="s", item="limit", origin=pb.ORIGIN_SYNTHETIC)
    same = submission("The limit is 5 mg.", id="t", origin=pb.ORIGIN_SYNTHETIC, producer="model")

    receipts = commit(engine, human, other, same)

    assert [r.outcome for r in receipts] == [pb.OUTCOME_ADMITTED, pb.OUTCOME_HELD, pb.OUTCOME_MERGED]
    policy = ns_pb.Policy(guard=ns_pb.GUARD_MEASURE)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    first = submission("The bridge is old.", id="u", origin=pb.ORIGIN_SYNTHETIC, producer="model")
    later = submission("The bridge is old.", id="v")
    made, promoted = commit(engine, first, later)
    assert (promoted.outcome, promoted.item_id) == (pb.OUTCOME_REVISED, made.item_id)


def test_what_decides_is_the_same_bits_after_a_restart_and_a_lost_file(tmp_path: Path) -> None:
    origins = [pb.ORIGIN_EXPERT, pb.ORIGIN_SYNTHETIC, pb.ORIGIN_EXPERT]
    sent = [said(number, origins[number % 3]) for number in range(150)]
    engine = open_engine(tmp_path / "whole", HandClock())
    commit_in_batches(engine, sent, 50)
    whole = gains_of(engine)
    engine.close()

    cut = open_engine(tmp_path / "cut", HandClock())
    commit_in_batches(cut, sent[:70], 7)
    cut.close()
    cut = Engine(tmp_path / "cut", clock=HandClock())
    commit_in_batches(cut, sent[70:], 7)
    assert gains_of(cut) == whole
    cut.close()
    (file,) = (tmp_path / "cut" / "index").glob("*.gains")
    for damage in (b"", b"x" * 100, file.read_bytes()[:-1]):
        file.write_bytes(damage)
        again = Engine(tmp_path / "cut", clock=HandClock())
        assert gains_of(again) == whole
        again.store.close()


@pytest.mark.parametrize("told", [True, False])
def test_damage_in_memory_does_not_outlive_the_process_and_is_told_by_the_next_rebuild(
    tmp_path: Path, told: bool
) -> None:
    sent = [said(number, pb.ORIGIN_EXPERT) for number in range(150)]
    engine = open_engine(tmp_path / "whole", HandClock())
    commit_in_batches(engine, sent, 50)
    whole = gains_of(engine)
    engine.close()

    damaged = open_engine(tmp_path / "damaged", HandClock())
    commit_in_batches(damaged, sent[:100], 10)
    gains = damaged.namespaces.state(NAMESPACE).standing.gains
    assert gains is not None
    assert gains.known._covariance is not None
    gains.known._covariance *= 0.5
    if told:
        gains.known._rebuild_every = 120
        with pytest.raises(Broken, match="the inverse was off by 0"):
            commit_in_batches(damaged, sent[100:], 10)
    damaged.close()
    again = Engine(tmp_path / "damaged", clock=HandClock())
    commit_in_batches(again, sent, 50)

    assert gains_of(again) == whole
    again.close()


def test_a_file_that_goes_wrong_while_the_journal_goes_on_from_it_is_left_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage too small to be seen when it is read; else each start would end alike."""
    engine = open_engine(tmp_path, HandClock())
    commit_in_batches(engine, [said(number, pb.ORIGIN_EXPERT) for number in range(100)], 50)
    whole = gains_of(engine)
    engine.close()
    damaged = Gains.from_bytes(whole)
    assert damaged.known._covariance is not None
    damaged.known._covariance *= 0.5
    damaged.known._rebuild_every = 101
    monkeypatch.setattr(standing, "_read", lambda *_: (damaged, 98))

    again = Engine(tmp_path, clock=HandClock())

    assert gains_of(again) == whole
    again.close()


@pytest.mark.parametrize("size", [1, 7, ANCHORS, 2 * ANCHORS])
def test_a_window_that_gets_whole_in_a_batch_counts_from_there_on(tmp_path: Path, size: int) -> None:
    origins = [pb.ORIGIN_EXPERT, pb.ORIGIN_SYNTHETIC]
    sent = [said(number, origins[number % 2]) for number in range(2 * ANCHORS + 20)]
    sent += [said(number, pb.ORIGIN_EXPERT) for number in range(0, 40, 2)]  # of items that are counted already
    for number, one in enumerate(sent):
        one.item_id, one.submission_id = one.submission_id, f"s-{number}"
    dumps = []
    for name, cut in (("cut", size), ("whole", len(sent))):
        opened = open_engine(tmp_path / name, HandClock())
        policy = ns_pb.Policy(guard=ns_pb.GUARD_HOLD, anchor_items=ANCHORS, near_duplicate_threshold=1.0)
        opened.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
        receipts = commit_in_batches(opened, sent, cut)
        dumps.append(list(opened.store.logical_dump()))
        opened.close()

    assert dumps[0] == dumps[1]
    doubts = [list(r.figures.doubts) for r in receipts if r.figures.generation]
    assert doubts.count(["NO_ANCHORS"]) == ANCHORS - 1, "until the window is whole, and not a moment longer"
    assert any(doubt != ["NO_ANCHORS"] for doubt in doubts)


def test_r7_the_same_again_moves_nothing(engine: Engine) -> None:
    before = gains_of(engine)

    commit(engine, *(said(number, pb.ORIGIN_EXPERT) for number in range(ANCHORS)))

    assert gains_of(engine) == before


def gains_of(engine: Engine) -> bytes:
    gains = engine.namespaces.state(NAMESPACE).standing.gains
    assert isinstance(gains, Gains)
    return gains.to_bytes()
