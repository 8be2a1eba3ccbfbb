"""The collapse watch over a store: which windows are due, what is kept of them, and that the journal decides it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from epistream.indexer import generated
from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.collapsing import (
    ALL_KINDS,
    EVERY,
    FEW_KINDS,
    ITEMS,
    by_definition,
    collapsed,
    kinds,
    opened,
    raised,
    said,
    texts,
)
from tests.support.knowing import NAMESPACE, START_US, HandClock, commit, pending, ruling, submission, watch


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = opened(tmp_path / "store")
    yield engine
    engine.close()


def of(found: list[pb.CollapseAlarm], producer: str = "gpt") -> list[pb.CollapseAlarm]:
    return [one for one in found if one.producer == producer]


def known(engine: Engine) -> list[pb.CollapseAlarm]:
    with engine.store.reader() as catalog:
        return generated.alarms(catalog, engine.namespaces.state(NAMESPACE).config.number)


def test_windows_end_at_each_multiple_of_the_accepted_versions_whatever_the_batches(engine: Engine) -> None:
    said(engine, kinds(ALL_KINDS, ITEMS), "People", "ada")
    said(engine, kinds(ALL_KINDS, EVERY - 1, 1), "One")
    assert of(watch(engine)) == []

    said(engine, kinds(ALL_KINDS, 10, 5), "People again", "ada")
    said(engine, kinds(ALL_KINDS, 2 * EVERY, 2), "Two")

    found = watch(engine)
    assert [(one.accepted, one.revision) for one in of(found)] == [
        (EVERY, ITEMS + EVERY + 10),
        (2 * EVERY, ITEMS + 2 * EVERY + 10),
    ]
    assert [one.items for one in of(found)] == [EVERY, ITEMS]
    assert watch(engine) == []


def test_who_only_repeats_itself_wakes_the_watch_and_makes_a_window(engine: Engine) -> None:
    collapsed(engine)
    watch(engine)
    woken = threading.Event()
    engine.feed.subscribe_to_commits(woken.set)
    again = texts(kinds(FEW_KINDS, EVERY, 1), "Few kinds")
    for one in again:
        one.submission_id += " again"

    assert {receipt.outcome for receipt in commit(engine, *again)} == {pb.OUTCOME_MERGED}

    assert woken.is_set()
    assert [(one.accepted, one.revision) for one in of(watch(engine))] == [(3 * EVERY, ITEMS + 2 * EVERY)]


def test_who_says_less_is_noticed_and_who_says_as_much_is_not(engine: Engine) -> None:
    collapsed(engine)
    said(engine, kinds(ALL_KINDS, 2 * EVERY, 2), "All kinds", "llama")

    found = watch(engine)

    assert [one.on for one in of(found)] == [True, True]
    assert [one.on for one in of(found, "llama")] == [False, False]
    last = of(found)[-1]
    assert (last.since_revision, last.since_time.ToMicroseconds()) == (ITEMS + EVERY, START_US)
    assert [figures.order for figures in last.ratios] == [0.5, 1, 2, np.inf]
    assert all(figures.low < figures.ratio < figures.high for figures in last.ratios)
    assert list(last.recent) == [one.ratios[1].ratio for one in of(found)]
    assert "gpt" in raised(engine)
    assert "llama" not in raised(engine)


def test_r15_after_ten_thousand_records_the_figures_are_those_of_a_computation_from_nothing(engine: Engine) -> None:
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=ns_pb.Policy(watch_every=10_000)))
    people, made = kinds(ALL_KINDS, ITEMS), kinds(ALL_KINDS, 10_000, 1)
    said(engine, people, "People", "ada")
    said(engine, made, "Very many")  # longer than people's: nothing is compared by length

    (found,) = of(watch(engine))

    expected = by_definition(made[-ITEMS:], people)
    assert (found.accepted, found.items) == (10_000, ITEMS)
    assert [figures.score for figures in found.ratios] == pytest.approx(expected.scores, rel=1e-9)


def test_the_alarm_is_cleared_after_three_windows_as_diverse_as_people(engine: Engine) -> None:
    collapsed(engine)
    watch(engine)
    said(engine, kinds(ALL_KINDS, 5 * EVERY, 3), "All kinds again")

    found = of(watch(engine))

    assert [one.on for one in found] == [True, True, True, False, False]
    assert found[-1].since_revision == found[-2].revision
    assert "gpt" not in raised(engine)


def test_without_enough_of_people_there_is_a_reason_and_no_figure(engine: Engine) -> None:
    said(engine, kinds(ALL_KINDS, ITEMS - 1), "People", "ada")
    said(engine, kinds(FEW_KINDS, EVERY, 1), "Few kinds")

    (found,) = of(watch(engine))

    assert (found.missing, found.items, found.on, found.windows) == ("NO_ANCHORS", ITEMS - 1, False, 0)
    assert not found.ratios
    assert not found.HasField("support")
    assert not found.HasField("near_self")


def test_people_who_came_after_the_end_of_a_window_do_not_count(engine: Engine) -> None:
    said(engine, kinds(ALL_KINDS, ITEMS - 1), "People", "ada")
    said(engine, kinds(FEW_KINDS, EVERY, 1), "Few kinds")
    said(engine, kinds(ALL_KINDS, 1, 7), "The last of people", "ada")

    assert [one.missing for one in of(watch(engine))] == ["NO_ANCHORS"]


def test_what_was_merged_is_in_the_window_by_what_it_was_merged_into(engine: Engine) -> None:
    """Who says the same again and again has no versions, and says less all the same."""
    said(engine, kinds(ALL_KINDS, ITEMS), "People", "ada")
    said(engine, kinds(ALL_KINDS, EVERY // 2, 1), "Said once")
    for time in range(3):
        again = texts(kinds(ALL_KINDS, EVERY // 2, 1), "Said once")
        for number, one in enumerate(again):
            one.submission_id = f"again {time} {number}"
        assert {receipt.outcome for receipt in commit(engine, *again)} == {pb.OUTCOME_MERGED}

    found = of(watch(engine))

    assert [one.accepted for one in found] == [EVERY, 2 * EVERY]
    assert [one.near_self for one in found] == [1 / 2, 3 / 4]
    assert found[1].ratios[1].ratio < found[0].ratios[1].ratio < 0.8
    assert found[1].on


def test_what_was_merged_into_a_later_version_is_that_version(engine: Engine) -> None:
    first, second = kinds(ALL_KINDS, 2, 3)
    said_by_ada = [submission(f"Version {n}.", id=f"v{n}", item="one", vector=v) for n, v in ((1, first), (2, second))]
    commit(engine, *said_by_ada)
    again = submission("Version 2.", id="again", origin=pb.ORIGIN_SYNTHETIC, producer="gpt", vector=second)
    assert [receipt.outcome for receipt in commit(engine, again)] == [pb.OUTCOME_MERGED]
    commit(engine, submission("Version 3.", id="v3", item="one", vector=first))

    with engine.store.reader() as catalog:
        assert generated.newest(catalog, 1, "gpt", pb.MODALITY_TEXT, 1, 10) == [2]
        assert generated.head_at(catalog, 1, "gpt", pb.MODALITY_TEXT, 1) == 2


def test_what_is_sent_again_counts_once(engine: Engine) -> None:
    said(engine, kinds(ALL_KINDS, EVERY - 1, 1), "Once")
    commit(engine, *texts(kinds(ALL_KINDS, EVERY - 1, 1), "Once"))

    assert of(watch(engine)) == []


def test_the_store_as_a_whole_is_watched_and_people_in_it_count(engine: Engine) -> None:
    said(engine, kinds(ALL_KINDS, ITEMS), "People", "ada")
    said(engine, kinds(FEW_KINDS, 3 * EVERY, 1), "Few kinds")
    said(engine, kinds(FEW_KINDS, 3 * EVERY, 2), "Few kinds too", "llama")

    found = watch(engine)

    whole = of(found, "")
    assert [one.revision for one in whole] == [EVERY * number for number in range(1, 9)]
    ratios = [one.ratios[1].ratio for one in whole if not one.missing]
    assert ratios[0] > ratios[-1] > of(found)[-1].ratios[1].ratio
    assert not any(one.matched or one.HasField("near_self") for one in whole)


def test_where_no_model_speaks_nothing_is_watched(engine: Engine) -> None:
    said(engine, kinds(ALL_KINDS, 3 * ITEMS), "People", "ada")

    assert watch(engine) == []


def test_answers_to_the_prompts_of_people_are_compared_on_those(engine: Engine) -> None:
    said(engine, kinds(ALL_KINDS, ITEMS), "People", "ada", prompts=True)
    said(engine, kinds(ALL_KINDS, ITEMS, 1), "Answers", prompts=True)
    said(engine, kinds(ALL_KINDS, ITEMS, 2), "Texts", "llama")

    found = watch(engine)

    assert [(one.matched, one.items) for one in of(found)] == [(True, EVERY), (True, ITEMS)]
    assert not any(one.matched for one in of(found, "llama"))


def test_texts_are_compared_with_people_s_of_such_lengths_and_it_is_kept(engine: Engine) -> None:
    by = {name: texts(kinds(ALL_KINDS, ITEMS, at), "Said", name) for at, name in enumerate(["ada", "gpt", "llama"])}
    people, short, long = by.values()
    for number, one in enumerate([*people, *short]):
        one.content = f"{one.content:.<{60 if number % 2 and one in people else 40}}"
        one.content += " " * (number % 300)  # white space makes no text longer
    for one in long:
        one.content = f"{one.content:.<100}"
    commit(engine, *people, *short[:EVERY], *long[:EVERY])

    found = watch(engine)

    assert [(one.items, one.same_lengths, one.matched) for one in of(found)] == [(EVERY, True, False)]
    assert [(one.items, one.same_lengths) for one in of(found, "llama")] == [(EVERY, False)], "people have none so long"


def test_texts_that_are_compared_by_length_from_now_on_have_another_measure(engine: Engine) -> None:
    people, own = (texts(kinds(ALL_KINDS, ITEMS, at), "Said", name) for at, name in enumerate(["ada", "gpt"]))
    for one in people:
        one.content = f"{one.content:.<40}"
    for number, one in enumerate(own):
        one.content = f"{one.content:.<{100 if number < EVERY else 40}}"
    commit(engine, *people, *own[:EVERY])
    (before,) = of(watch(engine))
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=ns_pb.Policy(watch_items=EVERY)))
    commit(engine, *own[EVERY : 2 * EVERY])

    (found,) = of(watch(engine))

    assert (before.same_lengths, found.same_lengths) == (False, True)
    assert (found.windows, list(found.recent)) == (2, [found.ratios[1].ratio])
    assert found.first_low == found.ratios[1].low


def test_answers_to_people_s_prompts_from_now_on_have_another_measure(engine: Engine) -> None:
    said(engine, kinds(ALL_KINDS, ITEMS), "People", "ada", prompts=True)
    said(engine, kinds(FEW_KINDS, EVERY, 1), "Texts")
    (before,) = of(watch(engine))
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=ns_pb.Policy(watch_items=EVERY)))
    said(engine, kinds(ALL_KINDS, EVERY, 2), "Answers", prompts=True)

    (found,) = of(watch(engine))

    assert (before.matched, found.matched) == (False, True)
    assert (before.on, found.on) == (True, True), "one window does not clear it"
    assert (found.windows, list(found.recent)) == (2, [found.ratios[1].ratio])


def test_what_is_no_text_is_not_compared_by_length(engine: Engine) -> None:
    sent = [*texts(kinds(ALL_KINDS, ITEMS), "People", "ada"), *texts(kinds(ALL_KINDS, EVERY, 1), "Code")]
    for one in sent:
        one.modality, one.content = pb.MODALITY_CODE, f"{one.content:.<60}"
    commit(engine, *sent)

    (found,) = of(watch(engine))

    assert (found.items, found.same_lengths) == (EVERY, False)


def test_near_self_is_the_share_that_was_said_before(engine: Engine) -> None:
    vectors = kinds(ALL_KINDS, EVERY, 1)
    vectors[EVERY // 2 :] = vectors[: EVERY // 2]
    said(engine, kinds(ALL_KINDS, ITEMS), "People", "ada")
    said(engine, vectors, "Version")

    (found,) = of(watch(engine))

    assert found.near_self == 0.5


def test_a_newer_anchor_window_is_another_measure(engine: Engine) -> None:
    collapsed(engine)
    first = of(watch(engine))[-1]
    said(engine, kinds(FEW_KINDS, ITEMS, 5), "People of few kinds", "ada")
    policy = ns_pb.Policy(anchor_after=first.revision)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    said(engine, kinds(FEW_KINDS, EVERY, 6), "Few kinds again")

    (found,) = of(watch(engine))

    assert found.anchor != first.anchor
    assert list(found.recent) == [found.ratios[1].ratio]
    assert found.first_low == found.ratios[1].low
    assert found.on
    assert found.recovered == 1


def test_what_was_compared_under_another_policy_is_not_kept(engine: Engine) -> None:
    collapsed(engine)
    window = engine.collapse_watch.next()
    assert window is not None
    alarm = engine.collapse_watch.compare(window)
    policy = ns_pb.Policy(watch_items=2 * ITEMS)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))

    assert not engine.collapse_watch.record(window, alarm)

    assert known(engine) == []
    again = engine.collapse_watch.next()
    assert again is not None
    assert (again.producer, again.revision) == (window.producer, window.revision)


def test_a_window_is_kept_once(engine: Engine) -> None:
    collapsed(engine)
    window = engine.collapse_watch.next()
    assert window is not None
    alarm = engine.collapse_watch.compare(window)

    assert engine.collapse_watch.record(window, alarm)
    assert not engine.collapse_watch.record(window, alarm)


# What follows from an alarm.


def receipt_of(engine: Engine, name: str, producer: str, origin: pb.Origin.ValueType) -> pb.Receipt:
    (vector,) = kinds(ALL_KINDS, 1, sum(name.encode()))
    sent = submission(f"{name} of {producer}.", id=name, origin=origin, producer=producer, vector=vector)
    (receipt,) = commit(engine, sent)
    return receipt


def tried(engine: Engine, name: str, producer: str = "gpt", origin: pb.Origin.ValueType = pb.ORIGIN_SYNTHETIC) -> str:
    receipt = receipt_of(engine, name, producer, origin)
    return pb.Reason.Name(receipt.reason).removeprefix("REASON_")


def test_an_alarm_holds_nothing_unless_the_policy_says_so(engine: Engine) -> None:
    collapsed(engine)
    watch(engine)

    assert tried(engine, "Something new") == "NEW"


def test_with_hold_the_knowledge_of_who_says_less_is_held_with_the_figures(engine: Engine) -> None:
    collapsed(engine)
    policy = ns_pb.Policy(on_collapse=ns_pb.COLLAPSE_ACTION_HOLD)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    assert tried(engine, "Before anybody looked") == "NEW"
    alarm = of(watch(engine))[-1]

    receipt = receipt_of(engine, "After that", "gpt", pb.ORIGIN_SYNTHETIC)

    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_HELD, pb.REASON_COLLAPSE)
    assert receipt.figures.collapse_ratio == alarm.recent[-1] < receipt.figures.collapse_bar == 0.95
    assert receipt.figures.collapse_since_revision == alarm.since_revision
    assert tried(engine, "Another model", "llama") == "NEW"
    assert tried(engine, "A person by the same name", origin=pb.ORIGIN_EXPERT) == "NEW"


def test_what_a_person_lets_in_is_let_in_whoever_said_it(engine: Engine) -> None:
    collapsed(engine)
    policy = ns_pb.Policy(on_collapse=ns_pb.COLLAPSE_ACTION_HOLD)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    watch(engine)
    assert tried(engine, "Something new") == "COLLAPSE"

    (held,) = pending(engine, pb.REASON_COLLAPSE)
    (receipt,) = engine.pipeline.release([ruling(engine, held)])

    assert (receipt.outcome, receipt.reason) == (pb.OUTCOME_ADMITTED, pb.REASON_REVIEW_ADMITTED)


def test_after_another_start_it_is_held_as_before(tmp_path: Path) -> None:
    engine = opened(tmp_path / "store")
    policy = ns_pb.Policy(on_collapse=ns_pb.COLLAPSE_ACTION_HOLD)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    collapsed(engine)
    watch(engine)
    engine.close()

    engine = Engine(tmp_path / "store", clock=HandClock())

    assert tried(engine, "Something new") == "COLLAPSE"
    engine.close()
