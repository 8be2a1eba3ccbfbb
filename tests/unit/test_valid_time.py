"""What holds from a time on can be read by valid time, whatever the order in which it came."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epistream.indexer.engine import Engine
from epistream.indexer.store import check
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.wire.errors import InvalidInput
from tests.support.dated import contents, dated, found, history, said
from tests.support.knowing import NAMESPACE, commit, commit_in_batches, direction, open_engine, retraction


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with closing(open_engine(tmp_path)) as engine:
        yield engine


def test_what_held_is_read_by_valid_time_as_was_known_at_a_revision(engine: Engine) -> None:
    commit(engine, dated("Ada", 2023), dated("Joan", 2019), dated("Grace", 2021))
    assert [said(engine, year) for year in (2018, 2020, 2022, 2025)] == [None, "Joan", "Grace", "Ada"]
    assert [said(engine, 2022, revision) for revision in (1, 2, 3)] == [None, "Joan", "Grace"]
    commit(engine, dated("Edith", 2021))
    assert (said(engine, 2022), said(engine, 2022, 3)) == ("Edith", "Grace"), "of equal times the last that came"


def test_a_version_without_a_time_holds_at_any_until_one_with_it_says_otherwise(engine: Engine) -> None:
    commit(engine, dated("Ada", 2021), dated("Grace", None))
    assert {said(engine, year) for year in (1900, 2020, 2022, 2100)} == {"Grace"}
    commit(engine, dated("Joan", 2020))
    assert [said(engine, year) for year in (1900, 2022)] == ["Grace", "Joan"]
    assert said(engine) == "Joan"


def test_a_retraction_takes_back_every_version_before_it(engine: Engine) -> None:
    commit(engine, dated("Ada", 2023), dated("Grace", 2021), retraction("chair", id="gone"))
    assert (said(engine), said(engine, 2022), said(engine, 2022, 2)) == (None, None, "Grace")
    (back,) = commit(engine, dated("Joan", 2020))
    assert back.reason == pb.REASON_REINSTATEMENT
    assert (said(engine), said(engine, 2024)) == ("Joan", "Joan")


def test_a_history_is_ordered_by_valid_time_page_by_page(engine: Engine) -> None:
    commit(engine, dated("Nobody", None), dated("Ada", 2023), dated("Joan", 2019), dated("Grace", 2021))
    commit(engine, dated("Edith", 2021))
    ordered = ["Nobody", "Joan", "Grace", "Edith", "Ada"]
    for limit in (1, 2, 3, 100):
        assert contents(history(engine, by_valid_time=True, limit=limit)) == ordered
        assert contents(history(engine, limit=limit)) == ["Nobody", "Ada", "Joan", "Grace", "Edith"]


def test_only_get_reads_by_valid_time(engine: Engine) -> None:
    commit(engine, dated("Ada", 2023))
    vector = pb.Embedding(float32=direction(1.0).tobytes())
    request = api.SearchRequest(namespace=NAMESPACE, vector=vector)
    request.as_of.valid_time.FromSeconds(0)
    with pytest.raises(InvalidInput, match="only Get reads by valid time") as refused:
        engine.knowledge.search(request)
    assert refused.value.violations[0].field == "as_of.valid_time"


def test_a_time_that_there_is_not_is_refused(engine: Engine) -> None:
    beyond, far = dated("Ada", None), retraction("chair", id="gone")
    beyond.valid_from.seconds = 253_402_300_800  # the year 10000
    far.valid_from.seconds = 0
    receipts = commit(engine, beyond, far, dated("Ada", 1542))
    assert [[one.field for one in receipt.violations] for receipt in receipts] == [["valid_from"], ["valid_from"], []]
    assert said(engine, 1600) == "Ada"


YEARS = (2015, 2017, 2019, 2021, 2023)


@given(
    st.permutations(YEARS),
    st.lists(st.sampled_from(["Ada", "Grace", "Joan"]), min_size=len(YEARS), max_size=len(YEARS)),
    st.integers(1, len(YEARS)),
)
def test_any_order_of_arrival_ends_with_the_same_head_and_the_same_history_by_valid_time(
    order: Sequence[int], names: Sequence[str], size: int
) -> None:
    """Whatever the names: also where one comes again, at once or later."""
    said_in = dict(zip(YEARS, names, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        with closing(open_engine(Path(folder))) as engine:
            commit_in_batches(engine, [dated(said_in[year], year) for year in order], size)
            assert check(engine.store) == []
        with closing(Engine(Path(folder))) as engine:
            assert said(engine) == names[-1]
            assert contents(history(engine, by_valid_time=True)) == list(names)
            assert [said(engine, year) for year in YEARS] == list(names)
            assert [change.version for change in history(engine)] == [1, 2, 3, 4, 5]
            assert found(engine) == [names[-1]]
