"""A clock that jumps: revisions stay dense, times of commits never go back, and `as_of` a time means one revision.

An engine with a clock of the test's own; and a whole service, whose processes are told another date.
"""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.services.metrics import Metrics
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.wire.errors import Denied
from tests.support.fuzzing import examples
from tests.support.kill_check import check
from tests.support.kill_producers import service_beside_kafka
from tests.support.kill_rounds import Round, rounds_under_load
from tests.support.knowing import NAMESPACE, START_US, HandClock, commit, open_engine, record, submission
from tests.support.metrics import served
from tests.support.rpc import failure_of, revisions
from tests.support.rpc import submission as to_submit
from tests.support.secured import ACCESS, Secured, start
from tests.support.waits import until
from tests.support.wall_clock import DAY_SECONDS, WallClock

DAY_US = 86_400_000_000
JUMPS_US = st.sampled_from([0, 1, 1_000_000, DAY_US, -1, -1_000_000, -DAY_US, 365 * DAY_US, -365 * DAY_US])


def a_fact(number: int) -> pb.Submission:
    return submission(f"Fact {number}.", id=f"s-{number}", item=f"i-{number}")


def revision_at(engine: Engine, time_us: int) -> int:
    asked = api.SearchRequest(namespace=NAMESPACE, vector=a_fact(0).embedding)
    asked.as_of.time.FromMicroseconds(time_us)
    return engine.knowledge.search(asked).revision


@examples(15)
@given(st.lists(st.tuples(JUMPS_US, st.booleans()), min_size=1, max_size=12))
def test_the_times_of_commits_never_go_back_and_name_one_revision_each(jumps: list[tuple[int, bool]]) -> None:
    """Also over restarts, which know the clock of before only by the store."""
    with TemporaryDirectory() as folder:
        clock = HandClock()
        engine = open_engine(Path(folder), clock=clock)
        times: list[int] = []
        for number, (jump_us, restart) in enumerate(jumps):
            clock.us += jump_us
            if restart:
                engine.close()
                engine = open_engine(Path(folder), clock=clock)
            [receipt] = commit(engine, a_fact(number))
            assert receipt.revision == number + 1
            times.append(receipt.time.ToMicroseconds())
            assert times[-1] == max([clock.us, *times[:-1]])
        for time_us in {t + d for t in times for d in (-1, 0, 1)}:
            assert revision_at(engine, time_us) == sum(t <= time_us for t in times)
        assert stores.check(engine.store) == []
        engine.close()


def test_what_was_answered_for_a_time_stays_so_when_the_clock_goes_back(tmp_path: Path) -> None:
    """A commit after a jump back gets the time of the one before, so it is not slipped in under an earlier time."""
    clock = HandClock()
    engine = open_engine(tmp_path, clock=clock)
    commit(engine, a_fact(1))
    clock.us += DAY_US
    commit(engine, a_fact(2))
    clock.us -= DAY_US
    before = {time_us: revision_at(engine, time_us) for time_us in (START_US - 1, START_US, START_US + DAY_US - 1)}
    commit(engine, a_fact(3))
    assert {time_us: revision_at(engine, time_us) for time_us in before} == before
    assert revision_at(engine, START_US + DAY_US) == 3
    engine.close()


def test_freshness_is_not_below_zero_where_clocks_disagree(tmp_path: Path) -> None:
    engine, metrics = open_engine(tmp_path), Metrics()
    sent = a_fact(1)
    sent.submitted_time.FromMicroseconds(START_US + DAY_US)
    prepared = engine.pipeline.prepare([record(sent)])
    metrics.committed(prepared, engine.pipeline.commit(prepared), 0.1, START_US)
    assert "epistream_freshness_seconds_sum 0.0" in generate_latest(metrics.registry).decode()
    engine.close()


JUMPS_SECONDS = (-DAY_SECONDS, DAY_SECONDS, DAY_SECONDS, -DAY_SECONDS)
"""A day behind, in time, a day ahead, in time."""
OF_AGE = ("epistream_review_oldest_age_seconds", "epistream_ingest_lag_seconds", "epistream_freshness_seconds")
"""Metrics that say how long ago something was, of which the test sees to it that there are samples."""


def below_zero(metrics_address: str) -> list[str]:
    """The samples that say that something is less than nothing."""
    metrics = served(metrics_address)
    assert all(metrics[name].samples for name in OF_AGE)
    return [str(sample) for metric in metrics.values() for sample in metric.samples if sample.value < 0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_service_whose_clock_jumps_under_load_goes_on_and_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Producers over gRPC and Kafka, subscribers and replicas, whose clocks do not jump."""
    clock, jumps, negative = WallClock(tmp_path), iter(JUMPS_SECONDS), list[str]()

    def jump(now: Round) -> None:
        """Let it take something in over both ways; then jump, and look at what it says at once."""
        answered = len(now.history.answered)
        now.history.wait_until(lambda: len(now.history.answered) > answered + 100, "answers over gRPC")
        now.wait_for_kafka(5)
        negative.extend(below_zero(now.service.metrics_address))
        clock.jump(next(jumps))
        negative.extend(below_zero(now.service.metrics_address))

    begun = time.time()
    with service_beside_kafka(tmp_path, clock.environment) as (service, kafka):
        history = rounds_under_load(service, len(JUMPS_SECONDS), jump, seed=1, kafka=kafka)
    assert check(history).all() == []
    assert negative == []
    for seen in history.namespaces.values():
        assert len(seen.streams) == 1, "the subscription went on"
        committed = [entry.change.commit_time.ToSeconds() for entry in seen.stored if entry.change is not None]
        assert all(earlier <= later for earlier, later in pairwise(committed))
        assert committed[0] < begun + DAY_SECONDS / 2 < committed[-1], "the clock of the service has jumped"


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


@pytest.fixture
def secured(tmp_path: Path, clock: WallClock) -> Iterator[Secured]:
    yield from start(tmp_path, ACCESS, clock.environment)


async def test_a_jwt_is_worth_nothing_while_the_clock_is_past_its_end(secured: Secured, clock: WallClock) -> None:
    """What stood on it ends; streams and calls of others go on; the audit log has the service's time."""
    shown = secured.issuer.token(["lasting"], seconds=3600)
    async with secured.client("root") as root, secured.client(shown) as client:
        await root.make_namespace("a")
        async with root.subscribe("a", head=True) as kept, client.subscribe("a", head=True, consumer="b") as lost:
            await kept.next_of("subscribed")
            await lost.next_of("subscribed")
            await client.submit(to_submit("a", 1))
            clock.jump(DAY_SECONDS)
            assert "your credentials have run out" in (await lost.failure()).message
            assert isinstance(await failure_of(client.submit(to_submit("a", 2))), Denied)
            await root.submit(to_submit("a", 3))
            clock.jump(-DAY_SECONDS)
            await client.submit(to_submit("a", 4))
            assert revisions(await kept.changes(1) + await kept.changes(1) + await kept.changes(1)) == [1, 2, 3]
    await until(lambda: len(submits(secured)) == 4)
    [first, refused, ahead, last] = [datetime.fromisoformat(line["time"]) for line in submits(secured)]
    assert abs(ahead - refused) < timedelta(hours=1)
    assert abs(last - first) < timedelta(hours=1) < timedelta(hours=23) < ahead - first


def submits(secured: Secured) -> list[dict[str, Any]]:
    """What the audit log has of submissions."""
    return [line for line in secured.audit() if line["method"] == "IngestService/Submit"]
