"""What a journal would say under another policy; under its own it says the same again, bit for bit."""

import functools
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from epistream.indexer import rehearsal, standing
from epistream.indexer.backup import Backup
from epistream.indexer.engine import Engine
from epistream.indexer.gain import Gains
from epistream.indexer.rehearsal import LeftOut, Rehearsal, rehearse
from epistream.indexer.restore import restore
from epistream.indexer.store import Store
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import Broken, InvalidInput, NotFound
from tests.support.collapsing import ALL_KINDS, EVERY, FEW_KINDS, ITEMS, kinds, texts, wanted
from tests.support.comparing import compared_again, kept_alarms
from tests.support.knowing import NAMESPACE, START_US, HandClock, commit, retraction, submission
from tests.support.rehearsing import SYNTHETIC, Life, decided, lived, rehearsed
from tests.support.verified_life import code
from tests.unit.test_embed import HashEmbedder

ROOT = Path(__file__).parents[2]
HELD_UNTIL_ASKED = {pb.REASON_GENERATION, pb.REASON_NO_GENERATOR}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lived") / "store"
    lived(folder)
    return folder


def names(result: Rehearsal) -> Counter[tuple[str, str]]:
    """How often a reason gave way to another."""
    return Counter((pb.Reason.Name(d.before[1])[7:], pb.Reason.Name(d.after[1])[7:]) for d in result.differences)


def test_under_its_own_policies_nothing_differs_to_the_last_bit(store: Path, tmp_path: Path) -> None:
    result = rehearsed(store, tmp_path)

    assert result.differences == []
    assert result.other_figures == 0
    assert result.left_out == {LeftOut.NOT_WHOLE: 1}, "merged in other words"
    assert result.before == result.after
    assert decided(tmp_path) == decided(store)
    kept = kept_alarms(store)
    assert {alarm.on for alarm in kept} == {True, False}
    assert compared_again(tmp_path) == kept
    reasons = {reason for (_, reason), _ in result.outcomes}
    assert {pb.REASON_COLLAPSE, pb.REASON_DEFERRED, pb.REASON_RELEASED, pb.REASON_LOW_GAIN} < reasons
    assert {pb.REASON_REVIEW_ADMITTED, pb.REASON_PROMOTION, pb.REASON_FEEDBACK} | HELD_UNTIL_ASKED < reasons


def test_another_process_and_a_restored_store_say_the_same(store: Path, tmp_path: Path) -> None:
    file, restored = tmp_path / "backup", tmp_path / "restored"
    with closing(Store(store)) as opened:
        made = Backup(opened.readers, "1.2.3", START_US)
        file.write_bytes(b"".join(made.data()) + made.sha256())
    restore(file, restored)

    told = []
    for folder in (store, restored):
        command = [sys.executable, "-m", "tests.support.rehearsing", str(folder)]
        told += subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout.split()

    assert len(told) == 4
    assert len(set(told)) == 1
    assert rehearsed(restored, tmp_path / "again").differences == []
    assert decided(tmp_path / "again") == decided(store)


def test_a_gate_that_decides_otherwise_is_noticed(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "Gains", functools.partial(Gains, synthetic_weight=0.26))

    assert rehearsed(store, tmp_path).other_figures > 100


def test_how_the_stream_is_cut_changes_no_decision_and_no_figure(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "BATCH_MAX", 1)

    result = rehearsed(store, tmp_path)

    assert result.differences == []
    assert result.other_figures == 0


def derived(life: Life) -> None:
    at = kinds(ALL_KINDS, 6, 12)
    made: dict[str, Any] = {"origin": SYNTHETIC, "producer": "gpt"}
    life.say(
        submission("One.", id="1", item="one", vector=at[0], **made),
        submission("Two.", id="2", item="two", vector=at[1], derived_from=["one"], **made),
        submission("Three.", id="3", item="three", vector=at[2], derived_from=["two"], **made),
        submission("Four.", id="4", item="four", vector=at[3], derived_from=["three"], **made),
        submission("Nobody's.", id="5", item="five", vector=at[4], generator="", **made),
        submission("People's.", id="6", item="six", vector=at[5]),
    )


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"generation_max": 1}, {("NEW", "GENERATION"): 1, ("GENERATION", "UNKNOWN_PARENT"): 1}),
        ({"generation_max": 3}, {("GENERATION", "NEW"): 1, ("UNKNOWN_PARENT", "GENERATION"): 1}),
        ({"generation_max": 9}, {("GENERATION", "NEW"): 1, ("UNKNOWN_PARENT", "NEW"): 1}),
        ({"require_generator": False}, {("NO_GENERATOR", "NEW"): 1}),
        (
            {"guard": ns_pb.GUARD_HOLD},
            {("NEW", "IMPLAUSIBLE"): 1, ("NEW", "UNKNOWN_PARENT"): 1, ("GENERATION", "UNKNOWN_PARENT"): 1},
        ),
        ({"real_share_floor": 0.999}, {("NEW", "DEFERRED"): 1, ("GENERATION", "UNKNOWN_PARENT"): 1}),
        ({"worth_min": 1.0}, {}),
    ],
)
def test_another_policy_makes_what_it_would_have_made(
    tmp_path: Path, changed: dict[str, Any], expected: dict[tuple[str, str], int]
) -> None:
    life = Life(tmp_path / "store")
    derived(life)
    life.engine.close()

    result = rehearsed(tmp_path / "store", tmp_path / "again", **changed)

    assert names(result) == expected
    assert result.decisions == 6
    assert sum(result.outcomes.values()) == 6
    assert [one.sequence for one in result.differences] == sorted(one.sequence for one in result.differences)


def test_what_named_no_item_names_none_under_another_policy(tmp_path: Path) -> None:
    """It promoted an item by its content; where that was held, it is an item of its own."""
    at = kinds(ALL_KINDS, 3, 12)
    made: dict[str, Any] = {"origin": SYNTHETIC, "producer": "gpt", "item": "i"}
    life = Life(tmp_path / "store", require_generator=False)
    life.say(submission("Water boils.", id="1", vector=at[0], **made))
    life.say(submission("Iron rusts.", id="2", vector=at[1], generator="", **made))
    life.say(submission("Iron rusts.", id="3", vector=at[1], producer="ada"))
    life.say(submission("Ice floats.", id="4", vector=at[2], **made))
    life.engine.close()

    result = rehearsed(tmp_path / "store", tmp_path / "again", require_generator=True)

    expected = {("REVISION", "NO_GENERATOR"): 1, ("PROMOTION", "NEW"): 1, ("LOWER_AUTHORITY", "REVISION"): 1}
    assert names(result) == expected


def test_what_was_merged_keeps_what_it_was_made_of(tmp_path: Path) -> None:
    at = kinds(ALL_KINDS, 2, 12)
    life = Life(tmp_path / "store", require_generator=False)
    code = submission("def f(): return 1", id="1", item="code", origin=pb.ORIGIN_CRAWLED, vector=at[0])
    code.modality = pb.MODALITY_CODE
    life.say(code, submission("Iron rusts.", id="2", item="a", vector=at[1]))
    again = {"origin": SYNTHETIC, "producer": "gpt", "vector": at[1]}
    life.say(submission("Iron rusts.", id="3", item="b", derived_from=["code"], **again))
    life.say(submission("Iron rusts.", id="4", item="c", generator="", **again))
    life.engine.close()

    untested = rehearsed(tmp_path / "store", tmp_path / "untested", verify_code=True)
    unsigned = rehearsed(tmp_path / "store", tmp_path / "unsigned", require_generator=True)

    assert names(untested) == {("NEW", "UNVERIFIED"): 1, ("SAME_CONTENT", "UNKNOWN_PARENT"): 1}
    assert names(unsigned) == {("SAME_CONTENT", "NO_GENERATOR"): 1}
    assert untested.left_out == unsigned.left_out == {}


def test_a_changed_field_stays_so_whatever_the_journal_changes_later(tmp_path: Path) -> None:
    life = Life(tmp_path / "store", generation_max=1)
    derived(life)
    life.change(generation_max=2, require_generator=False)
    life.say(submission("After.", id="7", origin=SYNTHETIC, generator="", vector=kinds(ALL_KINDS, 1, 50)[0]))
    life.engine.close()

    kept = rehearsed(tmp_path / "store", tmp_path / "kept", require_generator=True)

    assert names(kept) == {("NEW", "NO_GENERATOR"): 1}
    assert kept.differences[0].submission_id == "7"


def test_a_lower_floor_puts_nothing_off_and_a_higher_one_more(tmp_path: Path) -> None:
    life = Life(tmp_path / "store")
    life.change(real_share_floor=0.99)
    life.say(*texts(kinds(ALL_KINDS, 15), "Flood"))
    life.change(real_share_floor=0.988)
    life.engine.close()

    lower = rehearsed(tmp_path / "store", tmp_path / "lower", real_share_floor=0.5)
    higher = rehearsed(tmp_path / "store", tmp_path / "higher", real_share_floor=0.995)

    assert names(lower) == {("DEFERRED", "NEW"): 5}
    assert lower.left_out == {LeftOut.NOT_HELD: 2}
    assert lower.after is not None
    assert lower.after.items == 15
    assert names(higher) == {("NEW", "DEFERRED"): 5}
    assert higher.after is not None
    assert (higher.after.items, higher.after.held) == (5, 10)


def test_what_went_on_by_itself_comes_before_what_was_said_later_while_the_clock_stood(tmp_path: Path) -> None:
    life = Life(tmp_path / "store")
    life.change(real_share_floor=0.99)
    life.say(*texts(kinds(ALL_KINDS, 15), "Flood"))
    life.engine.namespaces.update_policy(
        ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=ns_pb.Policy(real_share_floor=0.9))
    )
    assert life.engine.pipeline.let_go(NAMESPACE) == 5
    commit(life.engine, *texts(kinds(ALL_KINDS, 15, 1), "Later"))
    life.engine.close()

    result = rehearsed(tmp_path / "store", tmp_path / "again")

    assert (result.differences, result.other_figures, result.left_out) == ([], 0, {})
    assert decided(tmp_path / "again") == decided(tmp_path / "store")


def test_an_alarm_holds_where_the_policy_had_said_so(tmp_path: Path) -> None:
    life = Life(tmp_path / "store")
    life.say(*texts(kinds(ALL_KINDS, ITEMS), "People", "ada"))
    life.say(*texts(kinds(FEW_KINDS, 2 * EVERY, 1), "Few kinds"))
    assert life.watch()[-1].on
    said = texts(kinds(FEW_KINDS, 3, 2), "Later")
    again = submission(said[0].content, id="again", origin=SYNTHETIC, producer="gpt", vector=kinds(FEW_KINDS, 3, 2)[0])
    life.say(*said)
    life.say(again)
    life.engine.close()

    result = rehearsed(tmp_path / "store", tmp_path / "again", on_collapse=ns_pb.COLLAPSE_ACTION_HOLD)

    assert names(result) == {("NEW", "COLLAPSE"): 3, ("SAME_CONTENT", "COLLAPSE"): 1}


def test_a_decision_of_a_person_stands_where_it_is_possible(tmp_path: Path) -> None:
    life = Life(tmp_path / "store")
    at = kinds(ALL_KINDS, 2)
    life.say(submission("Nobody's.", id="1", origin=SYNTHETIC, generator="", vector=at[0], producer="gpt"))
    life.say(submission("Nobody's either.", id="2", origin=SYNTHETIC, generator="", vector=at[1], producer="gpt"))
    life.decide(pb.REASON_NO_GENERATOR, admits=True)
    life.decide(pb.REASON_NO_GENERATOR, admits=False)
    life.engine.close()

    same = rehearsed(tmp_path / "store", tmp_path / "same", generation_max=1)
    other = rehearsed(tmp_path / "store", tmp_path / "other", require_generator=False)

    assert (same.decisions, same.differences, same.left_out) == (4, [], {})
    assert names(other) == {("NO_GENERATOR", "NEW"): 2}
    assert other.left_out == {LeftOut.NOT_HELD: 2}


def test_code_that_was_taken_back_while_it_waited_for_its_tests_is_so_again(tmp_path: Path) -> None:
    life = Life(tmp_path / "store", verify_code=True)
    life.say(code("f", 0), code("g", 1))
    life.say(retraction("f", id="r", origin=SYNTHETIC))
    life.decide(pb.REASON_UNVERIFIED, admits=True, by="executor", origin=SYNTHETIC)
    life.engine.close()

    again = rehearsed(tmp_path / "store", tmp_path / "again")

    assert (again.decisions, again.differences, again.left_out) == (5, [], {})
    assert decided(tmp_path / "again") == decided(tmp_path / "store")


def said_without_vectors(folder: Path, embedder: HashEmbedder) -> None:
    """The encoder of the service makes the vectors."""
    engine = Engine(folder, embedder, clock=HandClock())
    engine.namespaces.create(ns_pb.CreateNamespaceRequest(name=NAMESPACE))
    made: dict[str, Any] = {"origin": SYNTHETIC, "generator": "", "producer": "gpt"}
    for one in (
        submission("People said so.", id="1"),
        submission("Nobody made it.", id="2", **made),
        submission("Nobody made it either.", id="3", **made),
        submission("Nobody made it either.", id="4"),
    ):
        one.ClearField("embedding")
        commit(engine, one)
    engine.close()


def test_what_was_held_needs_an_encoder_unless_somebody_said_it_since(tmp_path: Path) -> None:
    said_without_vectors(tmp_path / "store", HashEmbedder())
    encoder = HashEmbedder()

    without = rehearsed(tmp_path / "store", tmp_path / "without", require_generator=False)
    given = rehearsed(tmp_path / "store", tmp_path / "given", encoder, require_generator=False)
    same = rehearsed(tmp_path / "store", tmp_path / "same", HashEmbedder())

    assert names(without) == {("NO_GENERATOR", "NEW"): 1, ("NEW", "PROMOTION"): 1}
    assert without.left_out == {LeftOut.NO_VECTOR: 1}
    assert names(given) == {("NO_GENERATOR", "NEW"): 2, ("NEW", "PROMOTION"): 1}
    assert given.left_out == {}
    assert encoder.calls == [["Nobody made it."]]
    assert (same.differences, same.other_figures, same.left_out) == ([], 0, {})
    assert decided(tmp_path / "same") == decided(tmp_path / "store")


def test_what_cannot_be_rehearsed_is_refused(store: Path, tmp_path: Path) -> None:
    with closing(Store(store)) as opened:
        for changed, wrong in (
            (ns_pb.Policy(watch_items=64), "policy.watch_items"),
            (ns_pb.Policy(generation_max=0), "policy.generation_max"),
        ):
            with pytest.raises(InvalidInput, match=wrong):
                rehearse(opened.readers, NAMESPACE, changed, tmp_path)
            shutil.rmtree(tmp_path)
        with pytest.raises(NotFound, match="elsewhere"):
            rehearse(opened.readers, "elsewhere", ns_pb.Policy(), tmp_path)


def test_of_several_namespaces_one_is_rehearsed(tmp_path: Path) -> None:
    life = Life(tmp_path / "store")
    life.engine.namespaces.create(wanted("other"))
    for batch in range(0, 40, 8):
        both = [texts(kinds(ALL_KINDS, 40), "All", namespace=name)[batch : batch + 8] for name in (NAMESPACE, "other")]
        life.say(*(one for pair in zip(*both, strict=True) for one in pair))
    life.engine.close()

    with closing(Store(tmp_path / "store")) as opened:
        result = rehearse(opened.readers, "other", ns_pb.Policy(), tmp_path / "again")

    assert (result.decisions, result.differences, result.other_figures) == (40, [], 0)


def test_a_damaged_journal_is_noticed(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "store")
    with closing(Store(tmp_path / "store")) as opened:
        opened.writer.execute("UPDATE journal SET embedding = zeroblob(length(embedding)) WHERE sequence = 20")
        with pytest.raises(Broken, match="journal entry 20"):
            rehearse(opened.readers, NAMESPACE, ns_pb.Policy(), tmp_path / "again")


def test_it_is_told_how_far_it_is_and_leaves_the_store_as_it_was(store: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with closing(Store(store)) as opened:
        before = list(opened.logical_dump())
        rehearse(opened.readers, NAMESPACE, ns_pb.Policy(), tmp_path, progress=lambda done, of: told.append((done, of)))
        assert list(opened.logical_dump()) == before
    assert told[-1][0] == told[-1][1] > 400
