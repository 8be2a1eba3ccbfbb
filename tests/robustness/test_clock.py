"""A clock that jumps: revisions stay dense, times of commits never go back, and `as_of` a time means one revision."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.services.metrics import Metrics
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from tests.support.fuzzing import examples
from tests.support.knowing import NAMESPACE, START_US, HandClock, commit, open_engine, record, submission

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
    metrics.committed(prepared, engine.pipeline.commit(prepared), 0.1, 0.1, 0.1, START_US)
    assert "epistream_freshness_seconds_sum 0.0" in generate_latest(metrics.registry).decode()
    engine.close()
