"""What comes late becomes a version and leaves the head as it is; what is said again then is no version."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from epistream.indexer.engine import Engine
from epistream.indexer.feed import Wish
from epistream.indexer.store import check
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.v1 import sync_service_pb2 as sync
from tests.support.dated import at, contents, dated, found, history, outcome, said
from tests.support.knowing import (
    NAMESPACE,
    commit,
    commit_in_batches,
    open_engine,
    pending,
    retraction,
    ruling,
)
from tests.support.rehearsing import rehearsed

EXPERT, CRAWLED, SYNTHETIC = pb.ORIGIN_EXPERT, pb.ORIGIN_CRAWLED, pb.ORIGIN_SYNTHETIC
LATE = (pb.OUTCOME_REVISED, pb.REASON_LATE)
MERGED = (pb.OUTCOME_MERGED, pb.REASON_SAME_CONTENT)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with closing(open_engine(tmp_path)) as engine:
        yield engine


def again(sent: pb.Submission, name: str = "again") -> pb.Submission:
    """The same, as another submission."""
    sent.submission_id += f" {name}"
    return sent


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


@pytest.mark.parametrize("size", [1, 9])
def test_the_same_content_from_the_same_time_on_is_said_once_whoever_sends_it_again(engine: Engine, size: int) -> None:
    sent = [dated("Ada", 2023), dated("Grace", 2021), again(dated("Grace", 2021)), again(dated("Grace", 2022))]
    receipts = commit_in_batches(engine, sent, size)
    assert [outcome(receipt) for receipt in receipts[1:]] == [LATE, MERGED, LATE]
    assert (receipts[2].item_id, receipts[2].version, receipts[2].figures.version) == ("chair", 2, 2)
    assert contents(history(engine)) == ["Ada", "Grace", "Grace"]
    (merged,) = commit(engine, again(dated("Grace", 2021), "third"))
    assert outcome(merged) == MERGED


@pytest.mark.parametrize("size", [1, 9])
def test_what_was_the_head_and_is_said_again_is_not_news(engine: Engine, size: int) -> None:
    sent = [dated("Ada", 2020), dated("Grace", 2022), again(dated("Ada", 2020)), dated("Grace", 2021)]
    receipts = commit_in_batches(engine, [*sent, again(dated("Grace", 2021))], size)
    assert [outcome(receipt) for receipt in receipts[2:]] == [MERGED, LATE, MERGED]


@pytest.mark.parametrize("size", [1, 9])
@pytest.mark.parametrize(
    "between",
    [
        [dated("Joan", 2021)],
        [dated("Edith", None), dated("Ada", 2023)],
        [retraction("chair", id="gone"), dated("Ada", 2023)],
    ],
    ids=["another of that time", "one without a time", "a retraction"],
)
@pytest.mark.parametrize("before", [0, 2], ids=["all at once", "it was known before"])
def test_what_ended_it_makes_it_news_again(
    engine: Engine, between: list[pb.Submission], size: int, before: int
) -> None:
    sent = [dated("Ada", 2022), dated("Grace", 2021), *between, again(dated("Grace", 2021))]
    commit(engine, *sent[:before])
    assert outcome(commit_in_batches(engine, sent[before:], size)[-1]) == LATE
    assert said(engine, 2021) == "Grace"


def test_a_higher_authority_that_says_the_same_of_an_earlier_time_is_a_version(engine: Engine) -> None:
    sent = [dated("Ada", 2023, origin=CRAWLED), dated("Grace", 2021, origin=CRAWLED), dated("Grace", 2021)]
    lower = again(dated("Grace", 2021, origin=CRAWLED))
    assert [outcome(receipt) for receipt in commit(engine, *sent, lower)[1:]] == [LATE, LATE, MERGED]
    assert [change.knowledge.origin for change in history(engine)] == [CRAWLED, CRAWLED, EXPERT]


def test_what_is_said_again_of_an_earlier_time_is_merged_in_a_rehearsal_and_in_another_life(tmp_path: Path) -> None:
    with closing(open_engine(tmp_path / "store")) as engine:
        commit(engine, dated("Ada", 2023), dated("Grace", 2021), again(dated("Grace", 2021)))
    with closing(Engine(tmp_path / "store")) as engine:
        assert outcome(commit(engine, again(dated("Grace", 2021), "third"))[0]) == MERGED
        assert check(engine.store) == []
    result = rehearsed(tmp_path / "store", tmp_path / "again")
    assert (result.differences, result.other_figures) == ([], 0)
