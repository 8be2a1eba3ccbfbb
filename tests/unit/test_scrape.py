"""What is read when Prometheus asks, while the service goes down."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from epistream.indexer.engine import Engine
from epistream.indexer.model import Malformed, Record
from epistream.indexer.signals.kept import not_measured
from epistream.indexer.standing import GAIN_DIMENSION_MAX
from epistream.services.consumers import Consumers
from epistream.services.scrape import COLLAPSE_MAX, ServiceCollector
from epistream.services.writer import Writer
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.collapsing import ALL_KINDS, EVERY, collapsed, kinds, opened, said
from tests.support.knowing import (
    DIMENSION,
    NAMESPACE,
    HandClock,
    commit,
    commit_in_batches,
    direction,
    open_engine,
    retraction,
    submission,
    watch,
)

PATIENCE_SECONDS = 20.0


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(tmp_path / "data")
    yield engine
    engine.close()


def writer_of(engine: Engine) -> Writer:
    """One that was not started."""
    return Writer(engine.pipeline.commit, committed=lambda *_: None, failed=lambda _: None)


def collector_of(
    engine: Engine,
    encoder_ready: Callable[[], bool] = lambda: True,
    writer: Writer | None = None,
    clock: HandClock | None = None,
) -> ServiceCollector:
    return ServiceCollector(
        engine,
        writer or writer_of(engine),
        Consumers(),
        clock or HandClock(),
        encoder_ready=encoder_ready,
        certificate_not_after=None,
        with_outbox=True,
    )


def read(engine: Engine, name: str, clock: HandClock | None = None) -> dict[tuple[str, ...], float]:
    """The samples of a metric, by the values of its labels but the namespace, in their order."""
    metrics = {metric.name: metric for metric in collector_of(engine, clock=clock).collect()}
    return {
        tuple(value for label, value in sample.labels.items() if label != "namespace"): sample.value
        for sample in metrics[f"epistream_{name}"].samples
    }


def test_closing_waits_for_what_is_being_read_and_nothing_is_read_after(engine: Engine) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def encoder_ready() -> bool:
        reading.set()
        return go_on.wait(PATIENCE_SECONDS)

    collector = collector_of(engine, encoder_ready)
    with ThreadPoolExecutor(2) as threads:
        read = threads.submit(lambda: list(collector.collect()))
        assert reading.wait(PATIENCE_SECONDS)
        closed = threads.submit(collector.close)
        assert not read.done()
        assert not closed.done()
        go_on.set()
        assert {metric.name for metric in read.result()} >= {"epistream_store_items", "epistream_disk_free_bytes"}
        closed.result(PATIENCE_SECONDS)
    assert list(collector.collect()) == []


def test_of_what_waits_to_be_written_the_fuller_lane_is_told_as_the_bound_is_that_of_one(engine: Engine) -> None:
    writer = writer_of(engine)
    told: list[float] = []
    for size, ahead in ((3, True), (3000, False), (9000, True)):
        writer.submit_batch([Malformed(Record(b"a" * size, 0), pb.REASON_MALFORMED, ())], ahead=ahead)
        metrics = {metric.name: metric.samples for metric in collector_of(engine, writer=writer).collect()}
        told.append(metrics["epistream_writer_waiting_bytes"][0].value)
    of_each = [told[0], told[1], told[2] - told[0]]
    assert of_each == [of_each[0], of_each[0] + 2997, of_each[0] + 8997]
    assert [*writer.waiting_bytes] == [told[2], told[1]]
    assert metrics["epistream_writer_waiting_max_bytes"][0].value == writer.waiting_bytes_max


def test_r22_the_real_share_is_told_of_all_and_of_each_modality(engine: Engine) -> None:
    assert read(engine, "real_share") == read(engine, "real_share_changes") == {}
    programs = [submission(f"p = {n}", id=f"p-{n}", origin=pb.ORIGIN_SYNTHETIC) for n in range(3)]
    for one in programs:
        one.modality = pb.MODALITY_CODE
    commit(engine, *(submission(f"{n}: so it is.", id=f"t-{n}", item=f"t-{n}") for n in range(5)), *programs)
    commit(engine, retraction("t-0", id="r"))

    assert read(engine, "real_share") == {("all",): pytest.approx(5 / 8), ("text",): 1.0, ("code",): 0.0}
    assert read(engine, "real_share_changes") == {("all",): 8, ("text",): 5, ("code",): 3}
    assert read(engine, "real_share_floor") == {(): 0.1}


def test_how_long_the_oldest_waits_is_told_of_reviews_and_of_conflicts(engine: Engine) -> None:
    clock = HandClock()
    by_model = submission("The limit is 50 mg.", id="m", item="m", origin=pb.ORIGIN_SYNTHETIC, vector=direction(1, 0.1))
    commit(engine, submission("The limit is 5 mg.", id="p", item="p", vector=direction(1, 0.2)), by_model)
    clock.us += 4 * 24 * 3600 * 1_000_000

    assert read(engine, "reviews_pending", clock) == {("conflict_with_expert",): 1}
    assert read(engine, "review_oldest_age_seconds", clock) == {("conflict_with_expert",): 345_600.0}
    assert read(engine, "conflicts_open", clock) == {(): 1}
    assert read(engine, "conflict_oldest_age_seconds", clock) == {(): 345_600.0}


def test_how_far_the_inverse_was_off_is_told_of_each_namespace_that_has_one(engine: Engine) -> None:
    encoder = ns_pb.Encoder(model="none", dimension=GAIN_DIMENSION_MAX + 1)
    engine.namespaces.create(ns_pb.CreateNamespaceRequest(name="long", encoder=encoder))
    assert read(engine, "gain_drift") == {(): 0.0}
    gains = engine.namespaces.state(NAMESPACE).standing.gains
    assert gains is not None
    gains.known._rebuild_every = 50
    vectors = np.random.default_rng(1).standard_normal((50, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    commit(engine, *(submission(f"{n}: so.", id=f"t-{n}", vector=row) for n, row in enumerate(vectors)))

    (found,) = read(engine, "gain_drift").values()
    assert 0 < found < 1e-10


def test_r22_the_real_share_is_of_the_newest_thousand_and_the_same_after_a_restart(
    engine: Engine, tmp_path: Path
) -> None:
    policy = ns_pb.Policy(near_duplicate_threshold=1.0, real_share_floor=0.4)
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
    synthetic = [n % 5 > 0 for n in range(2500)]
    origins = [pb.ORIGIN_SYNTHETIC if made else pb.ORIGIN_CRAWLED for made in synthetic]
    commit_in_batches(
        engine, [submission(f"{n}: so it is.", id=f"s-{n}", origin=made) for n, made in enumerate(origins)], 300
    )
    with engine.store.reader() as catalog:
        newest = catalog.newest_origins(1, 1000)
    told = 1 - newest.count(pb.ORIGIN_SYNTHETIC) / len(newest)

    def assert_told(by: Engine) -> None:
        for metric, value in (("real_share", told), ("real_share_changes", 1000)):
            assert read(by, metric) == {("all",): pytest.approx(value), ("text",): pytest.approx(value)}

    assert_told(engine)
    engine.close()
    again = Engine(tmp_path / "data", clock=HandClock())
    assert_told(again)
    again.close()


def test_r29_signals_that_have_an_interval_are_told_with_it_and_the_worst_with_its_own(engine: Engine) -> None:
    answer = not_measured(engine.namespaces.state(NAMESPACE).recorded)
    told = {one.name: (cell, one) for cell in answer.cells for one in cell.signals}
    for name, value, low, high in (("long_win_share", 0.7, 0.65, 0.75), ("length_coefficient", 0.3, 0.1, 0.5)):
        told[name][1].MergeFrom(know_pb.Signal(value=value, low=low, high=high))
    told["relative_gain"][1].value = 0.5
    cell, one = told["near_self"]
    one.MergeFrom(know_pb.Signal(value=0.1, low=0.05, high=0.15, producer="a"))
    cell.signals.add(name="near_self", value=0.4, low=0.3, high=0.5, producer="b")
    engine.signals.write(1, [0], answer)

    expected = {
        "long_win_share": (0.7, 0.65, 0.75),
        "length_coefficient": (0.3, 0.1, 0.5),
        "near_self": (0.4, 0.3, 0.5),
    }
    for place, metric in enumerate(("signal", "signal_low", "signal_high")):
        found = {signal: value for (_, signal), value in read(engine, metric).items()}
        lone = {"relative_gain": 0.5} if metric == "signal" else {}
        assert found == {name: pytest.approx(figures[place]) for name, figures in expected.items()} | lone
    assert ("II text", "long_win_share") in read(engine, "signal_low")


def test_the_collapse_alarm_is_told_of_twenty_producers_those_first_whose_it_is(tmp_path: Path) -> None:
    watched = opened(tmp_path / "watched")
    collapsed(watched)
    for number in range(COLLAPSE_MAX):
        said(watched, kinds(ALL_KINDS, EVERY, 100 + number), f"Round {number}", f"model-{number}")
    watch(watched)

    told = read(watched, "collapse_alarm")

    # The empty name is all of them together. Of those whose alarm is off the ones whose newest windows ended first are
    # left out; gpt's ended before any.
    assert len(told) == COLLAPSE_MAX
    assert {producer for producer, _ in told} == {"", "gpt"} | {f"model-{number}" for number in range(2, COLLAPSE_MAX)}
    assert told["gpt", "text"] == 1.0
    assert {(producer, modality) for producer, modality, _ in read(watched, "collapse_ratio")} == set(told)
    watched.close()
