"""What holds from a time on: what comes late leaves the head as it is, and can be read by valid time."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epistream.indexer.engine import Engine
from epistream.indexer.feed import Wish
from epistream.indexer.store import check
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.v1 import sync_service_pb2 as sync
from epistream.wire.errors import InvalidInput, NotFound
from tests.support.knowing import (
    NAMESPACE,
    commit,
    commit_in_batches,
    direction,
    open_engine,
    pending,
    retraction,
    ruling,
    submission,
)
from tests.support.rehearsing import rehearsed

YEAR_SECONDS = 31_557_600
EXPERT, CRAWLED, SYNTHETIC = pb.ORIGIN_EXPERT, pb.ORIGIN_CRAWLED, pb.ORIGIN_SYNTHETIC
LATE = (pb.OUTCOME_REVISED, pb.REASON_LATE)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with closing(open_engine(tmp_path)) as engine:
        yield engine


def dated(
    content: str,
    year: int | None,
    *,
    item: str = "chair",
    origin: pb.Origin.ValueType = EXPERT,
    attributes: dict[str, str] | None = None,
) -> pb.Submission:
    """That something holds from the beginning of a year on; each is another submission."""
    name = f"{item} {content} {year} {origin}"
    made = submission(content, id=name, item=item, origin=origin, attributes=attributes)
    if year is not None:
        made.valid_from.FromSeconds((year - 1970) * YEAR_SECONDS)
    return made


def at(sent: pb.Submission, *weights: float) -> pb.Submission:
    """The same in this direction."""
    sent.embedding.float32 = direction(*weights).astype("<f4").tobytes()
    return sent


def outcome(receipt: pb.Receipt) -> tuple[int, int]:
    return receipt.outcome, receipt.reason


def said(engine: Engine, year: int | None = None, revision: int | None = None) -> str | None:
    """What the chair is, at the head or in the middle of a year, as of a revision."""
    request = api.GetRequest(namespace=NAMESPACE, item_id="chair")
    if year is not None:
        request.as_of.valid_time.FromSeconds((year - 1970) * YEAR_SECONDS + YEAR_SECONDS // 2)
    if revision is not None:
        request.as_of.revision = revision
    try:
        return engine.knowledge.get(request).change.knowledge.content
    except NotFound:
        return None


def history(engine: Engine, *, by_valid_time: bool = False, limit: int = 100) -> list[pb.Change]:
    """All versions of the chair, read in pages."""
    request = api.HistoryRequest(namespace=NAMESPACE, item_id="chair", limit=limit, by_valid_time=by_valid_time)
    found: list[pb.Change] = []
    while page := engine.knowledge.history(request).changes:
        found.extend(page)
        request.after_version = page[-1].version
    return found


def contents(changes: Sequence[pb.Change]) -> list[str]:
    return [change.knowledge.content for change in changes]


def found(engine: Engine) -> list[str]:
    """What a search brings, in the order of the alphabet."""
    request = api.SearchRequest(namespace=NAMESPACE, limit=50, vector=pb.Embedding(float32=direction(1.0).tobytes()))
    return sorted(hit.change.knowledge.content for hit in engine.knowledge.search(request).hits)


def pushed(engine: Engine, wish: Wish, after: int = 0) -> list[pb.Change]:
    """What a subscription gets, as it is read from memory; from the journal it is the same."""
    recent = engine.feed.recent(NAMESPACE, after, wish)
    assert recent is not None
    assert recent.body == engine.feed.replay(NAMESPACE, after, wish).body
    return list(sync.Changes.FromString(recent.body).changes)


def test_what_comes_late_becomes_a_version_and_leaves_the_head_as_it_is(engine: Engine) -> None:
    commit(engine, dated("Ada", 2023), dated("A desk.", None, item="desk"))
    (late,) = commit(engine, dated("Grace", 2021))
    assert outcome(late) == LATE
    assert (late.item_id, late.version, late.revision, late.figures.version) == ("chair", 2, 3, 1)
    assert said(engine) == "Ada"
    assert found(engine) == ["A desk.", "Ada"]
    first, second = history(engine)
    assert (second.kind, second.replaced_revision, second.revision) == (pb.CHANGE_KIND_LATE, 0, 3)
    assert (first.knowledge.content, second.knowledge.content) == ("Ada", "Grace")
    assert second.knowledge.valid_from == dated("Grace", 2021).valid_from
    assert engine.namespaces.get(NAMESPACE).item_count == 2
    diff = api.DiffRequest(namespace=NAMESPACE, to=pb.AsOf(revision=3))
    getattr(diff, "from").revision = 2
    assert not engine.knowledge.diff(diff).entries


def test_what_holds_from_the_same_time_or_a_later_one_on_becomes_the_head(engine: Engine) -> None:
    receipts = commit(engine, dated("Ada", 2021), dated("Grace", 2021), dated("Joan", 2023))
    assert [outcome(receipt)[1] for receipt in receipts] == [pb.REASON_NEW, pb.REASON_REVISION, pb.REASON_REVISION]
    assert said(engine) == "Joan"


@pytest.mark.parametrize(("first", "second"), [(2023, None), (None, 2021), (None, None)])
def test_where_one_says_no_time_the_order_of_arrival_decides(
    engine: Engine, first: int | None, second: int | None
) -> None:
    _, receipt = commit(engine, dated("Ada", first), dated("Grace", second))
    assert (receipt.reason, said(engine)) == (pb.REASON_REVISION, "Grace")


def test_versions_are_dense_whatever_came_late_in_or_before_a_batch(engine: Engine) -> None:
    commit(engine, dated("Ada", 2018), dated("Grace", 2010), dated("Joan", 2020), dated("Edith", 2011))
    commit(engine, dated("Mary", 2012))
    commit(engine, dated("Jean", 2022), dated("Kay", 2021), dated("Ida", 2023))
    versions = history(engine)
    assert [change.version for change in versions] == list(range(1, 9))
    assert [change.replaced_revision for change in versions] == [0, 0, 1, 0, 0, 3, 0, 6]
    assert said(engine) == "Ida"


def test_an_expected_version_is_the_heads(engine: Engine) -> None:
    commit(engine, dated("Ada", 2021), dated("Grace", 2019))
    newer, stale = dated("Joan", 2022), dated("Edith", 2023)
    newer.expected_version, stale.expected_version = 1, 2
    receipts = commit(engine, newer, stale)
    assert [outcome(receipt)[0] for receipt in receipts] == [pb.OUTCOME_REVISED, pb.OUTCOME_REFUSED]
    assert receipts[0].version == 3


def test_a_lower_authority_is_held_before_its_time_is_asked(engine: Engine) -> None:
    _, receipt = commit(engine, dated("Ada", 2023), dated("Grace", 2021, origin=CRAWLED))
    assert outcome(receipt) == (pb.OUTCOME_HELD, pb.REASON_LOWER_AUTHORITY)
    (held,) = pending(engine)
    (released,) = engine.pipeline.release([ruling(engine, held)])
    assert outcome(released) == (pb.OUTCOME_REVISED, pb.REASON_REVIEW_ADMITTED)
    assert (said(engine), said(engine, 2022)) == ("Ada", "Grace")
    assert history(engine)[1].kind == pb.CHANGE_KIND_LATE


def test_a_higher_authority_does_not_make_an_older_value_current_either(engine: Engine) -> None:
    receipts = commit(engine, dated("Ada", 2023, origin=CRAWLED), dated("Grace", 2021), dated("Ada", 2020))
    assert [outcome(receipt) for receipt in receipts[1:]] == [LATE, LATE]
    assert said(engine) == "Ada"
    assert history(engine)[0].knowledge.origin == CRAWLED


def test_the_same_again_from_another_time_on_is_a_version(engine: Engine) -> None:
    """Were it merged, what held in between could become the current one."""
    commit(engine, dated("Ada", 2019), dated("Ada", 2023))
    (between,) = commit(engine, dated("Grace", 2021))
    assert outcome(between) == LATE
    assert [said(engine, year) for year in (2020, 2022, 2024)] == ["Ada", "Grace", "Ada"]
    again = dated("Ada", 2023)
    again.submission_id = "again"
    (merged,) = commit(engine, again)
    assert outcome(merged) == (pb.OUTCOME_MERGED, pb.REASON_SAME_CONTENT)


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


def test_a_subscription_gets_what_came_late_only_where_it_asks_for_it(engine: Engine) -> None:
    blue = pb.Filter(attributes={"colour": "blue"})
    commit(engine, dated("Ada", 2023, attributes={"colour": "blue"}))
    commit(engine, dated("Grace", 2021, attributes={"colour": "blue"}), dated("Joan", 2020))
    passed = pushed(engine, Wish(), 1)
    assert [(change.revision, change.kind, change.item_id) for change in passed] == [
        (2, pb.CHANGE_KIND_LEFT, ""),
        (3, pb.CHANGE_KIND_LEFT, ""),
    ]
    assert not any(change.HasField("knowledge") for change in passed)
    assert pushed(engine, Wish.of(blue, include_embeddings=False), 1) == []
    told = pushed(engine, Wish.of(None, include_embeddings=False, include_late=True), 1)
    assert [(change.kind, change.knowledge.content) for change in told] == [
        (pb.CHANGE_KIND_LATE, "Grace"),
        (pb.CHANGE_KIND_LATE, "Joan"),
    ]
    told = pushed(engine, Wish.of(blue, include_embeddings=True, include_late=True), 1)
    assert [(change.knowledge.content, bool(change.embedding)) for change in told] == [("Grace", True)]


def test_a_snapshot_holds_the_heads(engine: Engine) -> None:
    commit(engine, dated("Ada", 2023), dated("Grace", 2021))
    body = engine.feed.snapshot(NAMESPACE, 2, 0, Wish(include_late=True)).body
    assert contents(sync.Changes.FromString(body).changes) == ["Ada"]


def test_what_came_late_contradicts_nothing_that_is_in_answers(engine: Engine) -> None:
    commit(engine, at(dated("Water is wet.", 2023), 0.0, 1.0))
    commit(engine, at(dated("The limit is 50 mg.", None, item="limit"), 1.0, 0.1))
    (receipt,) = commit(engine, at(dated("The limit is 5 mg.", 2021), 1.0, 0.11))
    assert outcome(receipt) == LATE
    assert not history(engine)[1].conflicts
    request = api.GetRequest(namespace=NAMESPACE, item_id="limit")
    assert not engine.knowledge.get(request).open_conflicts


@pytest.mark.parametrize("size", [1, 9])
def test_what_came_late_ends_nothing_that_is_held_with_the_same_content(engine: Engine, size: int) -> None:
    """No answer has what came late, so what says the same is neither known nor out of contention by it."""
    limit = at(dated("The limit is 50 mg.", None, item="limit"), 1.0, 0.1)
    contradicts = at(dated("The limit is 5 mg.", None, item="other", origin=SYNTHETIC), 1.0, 0.11)
    late = at(dated("The limit is 5 mg.", 2021), 1.0, 0.11)
    receipts = commit_in_batches(engine, [dated("Ada", 2023), limit, contradicts, late], size)
    assert [outcome(receipt) for receipt in receipts[2:]] == [(pb.OUTCOME_HELD, pb.REASON_CONFLICT_WITH_EXPERT), LATE]
    assert [held.decision.held.item_id for held in pending(engine)] == ["other"]
    request = api.GetRequest(namespace=NAMESPACE, item_id="limit")
    assert len(engine.knowledge.get(request).open_conflicts) == 1


def test_what_came_late_counts_for_neither_gain_nor_real_share(tmp_path: Path) -> None:
    def standing(engine: Engine) -> tuple[bytes, float]:
        found = engine.namespaces.state(NAMESPACE).standing
        found.observe()
        assert found.gains is not None
        return found.gains.to_bytes(), found.shares.after_one_more(pb.MODALITY_TEXT)

    found = []
    told = [dated("A desk.", None, item="desk"), dated("Ada", 2023, origin=SYNTHETIC)]
    for folder, late in (("without", []), ("with", [dated("Grace", 2021, origin=SYNTHETIC)])):
        with closing(open_engine(tmp_path / folder)) as engine:
            assert [outcome(receipt) for receipt in commit(engine, *told, *late)][2:] == [LATE] * len(late)
            found.append(standing(engine))
        for file in (tmp_path / folder / "index").iterdir():
            file.unlink()
        with closing(Engine(tmp_path / folder)) as engine:
            found.append(standing(engine))
    assert found == found[:1] * 4


def test_a_rehearsal_decides_the_same_of_what_came_late(tmp_path: Path) -> None:
    with closing(open_engine(tmp_path / "store")) as engine:
        commit(engine, dated("Ada", 2022), dated("Grace", 2021), dated("Joan", 2023))
        crawled = dated("The limit is 5 mg.", 2023, item="limit", origin=CRAWLED)
        confirmed = dated("the limit is 5 mg", 2021, item="")
        _, receipt = commit(engine, at(crawled, 1.0, 0.1), at(confirmed, 1.0, 0.11))
        assert (outcome(receipt), receipt.item_id, receipt.version) == (LATE, "limit", 2)
        assert receipt.figures.HasField("similarity"), "in other words"
    result = rehearsed(tmp_path / "store", tmp_path / "again")
    assert (result.differences, result.other_figures) == ([], 0)


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
