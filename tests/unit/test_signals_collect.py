"""The window of a real store, and what is kept of it: the newest in answers, by the journal alone."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from epistream.indexer.engine import Engine
from epistream.indexer.signals import CELLS, Window, measure
from epistream.indexer.signals import collect as collecting
from epistream.indexer.signals.collect import collect
from epistream.indexer.signals.kept import KeptSignals, measured
from epistream.indexer.store import Readers
from epistream.services import measurer
from epistream.services.measurer import refresh
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import review_service_pb2 as review_pb
from epistream.wire.errors import InvalidInput, NotFound
from tests.support.knowing import (
    DIMENSION,
    NAMESPACE,
    START_US,
    HandClock,
    commit,
    direction,
    open_engine,
    retraction,
    submission,
)

SECOND_US = 1_000_000


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def engine(tmp_path: Path, clock: HandClock) -> Iterator[Engine]:
    engine = open_engine(tmp_path, clock)
    yield engine
    engine.close()


def window_of(engine: Engine, records_max: int = 100) -> Window:
    with engine.store.reader() as catalog:
        [(number, recorded)] = catalog.namespaces()
        return collect(catalog, number, recorded, records_max)


def judgement(id: str, item: str, rater: str) -> pb.Submission:  # noqa: A002 - as in the contract
    feedback = pb.Feedback(kind=pb.FEEDBACK_KIND_BINARY, rater=rater, rater_type=pb.RATER_TYPE_HUMAN)
    feedback.judged.add(item_id=item, score=1)
    made = pb.Submission(namespace=NAMESPACE, submission_id=id, origin=pb.ORIGIN_EXPERT, feedback=feedback)
    made.provenance.producer = "panel"
    return made


def test_a_window_has_the_newest_versions_in_answers_oldest_first(engine: Engine) -> None:
    for name in "abcd":
        commit(engine, submission(f"Fact {name}.", id=name, item=name))
    commit(engine, submission("Fact a, better.", id="a2", item="a"), retraction("c", id="c2"))
    found = window_of(engine)
    assert [(change.item_id, change.version) for change in found.changes] == [("b", 1), ("d", 1), ("a", 2)]
    assert found.threshold == engine.namespaces.state(NAMESPACE).config.policy.near_duplicate_threshold
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    assert [change.item_id for change in window_of(engine, 2).changes] == ["d", "a"]


def test_a_window_is_bounded_by_what_its_records_weigh(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(engine, *(submission(f"{n} " + "x" * 1000, id=f"{n}", item=f"{n}") for n in range(5)))
    monkeypatch.setattr(collecting, "BYTES_MAX", 3000)
    assert [change.item_id for change in window_of(engine).changes] == ["3", "4"]


def test_a_window_has_what_was_said_merged_held_and_contradicted(engine: Engine, clock: HandClock) -> None:
    near = direction(1.0, 0.1)
    commit(engine, submission("The limit is 5 mg.", id="1", item="five", vector=direction(1.0)))
    clock.us += 10 * SECOND_US
    commit(engine, submission("The limit is 5 mg.", id="2", producer="bob"))
    commit(engine, submission("The limit is 50 mg.", id="3", item="fifty", vector=near))
    commit(
        engine, submission("The limit is 500 mg.", id="4", origin=pb.ORIGIN_SYNTHETIC, producer="model", vector=near)
    )
    commit(engine, judgement("f1", "five", "r1"), judgement("f2", "unknown", "r1"))
    clock.us += 10 * SECOND_US
    commit(engine, judgement("f3", "fifty", "r2"))
    found = window_of(engine)
    assert [(one.submission.submission_id, one.time_us) for one in found.said] == [
        ("f1", START_US + 10 * SECOND_US),
        ("f3", START_US + 20 * SECOND_US),
    ]
    assert found.corroborations == {"five": {"bob"}}
    # What is held contradicts an expert's item, too; it has no item of its own yet.
    assert [({party.item_id for party in one.parties}, one.opened_us) for one in found.conflicts] == [
        ({"fifty", "five"}, START_US + 10 * SECOND_US),
        ({"", "fifty"}, START_US + 10 * SECOND_US),
    ]
    assert list(found.held_us) == [START_US + 10 * SECOND_US]
    assert found.end_us == START_US + 20 * SECOND_US
    commit(engine, submission("The limit is 50 mg, said the panel.", id="5", item="five", vector=direction(0, 1.0)))
    [left] = window_of(engine).conflicts
    assert {party.item_id for party in left.parties} == {"", "fifty"}, "of the other one party was revised"


def listed(engine: Engine, name: str = NAMESPACE) -> api.ListSignalsResponse:
    return engine.knowledge.list_signals(api.ListSignalsRequest(namespace=name))


def refreshed(engine: Engine, folder: Path, clock: HandClock) -> bool:
    readers = Readers(folder)
    with readers.reader() as catalog:
        [(number, recorded)] = catalog.namespaces()
    done = refresh(readers, KeptSignals(folder, engine.epoch), number, recorded, clock)
    readers.close()
    return done


def test_r33_before_anything_is_measured_every_signal_is_missing(engine: Engine) -> None:
    answer = listed(engine)
    signals = [signal for cell in answer.cells for signal in cell.signals]
    assert len(answer.cells) == 16
    assert len(signals) == sum(len(cell.signals) for cell in CELLS)
    assert all(signal.missing.startswith("not measured yet") and not signal.HasField("value") for signal in signals)
    assert (answer.revision, answer.HasField("time")) == (0, False)
    with pytest.raises(NotFound):
        listed(engine, "nowhere")


def test_what_is_measured_is_answered_with_model_window_revision_and_time(
    engine: Engine, tmp_path: Path, clock: HandClock
) -> None:
    commit(engine, *(submission(f"Fact {n}.", id=f"{n}", item=f"{n}", origin=pb.ORIGIN_CRAWLED) for n in range(3)))
    clock.us += 5 * SECOND_US
    assert refreshed(engine, tmp_path, clock)
    answer = listed(engine)
    assert (answer.revision, answer.model, answer.records, answer.records_max) == (3, "none", 3, 10_000)
    assert answer.time.ToMicroseconds() == clock.us
    told = {signal.name: signal for cell in answer.cells for signal in cell.signals}
    expected = {signal.name: figure for _, signal, figure in measure(window_of(engine))}
    assert told["relative_gain"].value == expected["relative_gain"].value
    assert (told["relative_gain"].minimum, told["relative_gain"].maximum) == (0, 1)
    assert not told["logic_density"].HasField("maximum")
    assert told["parse_share"].missing == expected["parse_share"].missing


def test_nothing_is_measured_again_until_something_is_decided(engine: Engine, tmp_path: Path, clock: HandClock) -> None:
    commit(engine, submission("Fact.", id="1", item="a"))
    assert refreshed(engine, tmp_path, clock)
    assert not refreshed(engine, tmp_path, clock)
    commit(engine, judgement("f1", "a", "r1"))  # feedback has no revision, and yet it is news
    assert refreshed(engine, tmp_path, clock)


def test_how_a_signal_went_is_answered_where_it_is_asked_for(engine: Engine, tmp_path: Path, clock: HandClock) -> None:
    for n in range(3):
        commit(engine, submission(f"Fact {n}.", id=f"{n}", item=f"{n}", origin=pb.ORIGIN_CRAWLED))
        assert refreshed(engine, tmp_path, clock)
    assert len(listed(engine).history) == 0
    answer = engine.knowledge.list_signals(api.ListSignalsRequest(namespace=NAMESPACE, history=30))
    assert [(one.revision, one.records, one.model) for one in answer.history] == [(2, 2, "none"), (1, 1, "none")]
    with pytest.raises(InvalidInput, match="31 is above 30"):
        engine.knowledge.list_signals(api.ListSignalsRequest(namespace=NAMESPACE, history=31))


def test_a_conflict_that_is_resolved_is_news(engine: Engine, tmp_path: Path, clock: HandClock) -> None:
    for n, name in ((5, "five"), (50, "fifty")):
        commit(engine, submission(f"The limit is {n} mg.", id=name, item=name, vector=direction(1.0, n / 1000)))
    assert refreshed(engine, tmp_path, clock)
    [open_one] = window_of(engine).conflicts
    request = review_pb.ResolveConflictRequest(
        namespace=NAMESPACE,
        conflict_id=open_one.conflict,
        standing_item_ids=["five", "fifty"],
        reviewer=review_pb.Reviewer(name="dr-ada", origin=pb.ORIGIN_EXPERT),
        comment="Of adults and of children.",
    )
    engine.resolutions.resolve(engine.resolutions.prepare(request))
    assert refreshed(engine, tmp_path, clock)
    assert window_of(engine).conflicts == []


def test_another_process_or_store_of_the_same_journal_measures_the_same(
    engine: Engine, tmp_path: Path, clock: HandClock
) -> None:
    commit(engine, *(submission(f"Fact {n} of 9.", id=f"{n}", item=f"{n}") for n in range(40)))
    assert refreshed(engine, tmp_path, clock)
    first = listed(engine)
    (tmp_path / "signals" / "1.sealed").unlink()
    assert refreshed(engine, tmp_path, clock)
    assert listed(engine) == first


def test_a_namespace_that_cannot_be_read_is_told_and_costs_the_others_nothing(
    engine: Engine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    engine.namespaces.create(
        ns_pb.CreateNamespaceRequest(name="other", encoder=ns_pb.Encoder(model="none", dimension=DIMENSION))
    )
    commit(engine, submission("Fact.", id="1", item="a"), submission("Fact.", id="2", item="a", namespace="other"))
    with engine.store.transaction() as connection:
        connection.execute("UPDATE journal SET embedding = zeroblob(32) WHERE namespace = 1 AND revision = 1")
    assert subprocess.run([sys.executable, "-m", measurer.__name__, str(tmp_path)], check=False).returncode == 1
    told = capfd.readouterr().err
    assert told.startswith("facts: revision 1 of namespace 1 is not what was written")
    assert (listed(engine).revision, listed(engine, "other").revision) == (0, 1)


def test_a_signal_that_cannot_be_computed_keeps_no_other_namespace_from_being_measured(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.namespaces.create(
        ns_pb.CreateNamespaceRequest(name="other", encoder=ns_pb.Encoder(model="none", dimension=DIMENSION))
    )
    commit(engine, submission("Fact.", id="1", item="a"), submission("Fact.", id="2", item="a", namespace="other"))

    def broken(window: Window, recorded: ns_pb.Namespace, revision: int, now_us: int) -> api.ListSignalsResponse:
        if recorded.name == NAMESPACE:
            raise ZeroDivisionError
        return measured(window, recorded, revision, now_us)

    monkeypatch.setattr(measurer, "measured", broken)
    monkeypatch.setattr("os.nice", lambda _: None)
    assert measurer.main(str(tmp_path)) == 1
    assert capsys.readouterr().err == "facts: ZeroDivisionError()\n"
    assert (listed(engine).revision, listed(engine, "other").revision) == (0, 1)


@pytest.mark.parametrize("damage", [b"", b"nothing of ours", None])
def test_a_file_that_is_damaged_or_anothers_is_as_good_as_none(
    engine: Engine, tmp_path: Path, clock: HandClock, damage: bytes | None
) -> None:
    commit(engine, submission("Fact.", id="1", item="a"))
    assert refreshed(engine, tmp_path, clock)
    path = tmp_path / "signals" / "1.sealed"
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert listed(engine).revision == 0
    assert refreshed(engine, tmp_path, clock)
    assert listed(engine).revision == 1
    assert KeptSignals(tmp_path, "another store").read(1) is None
