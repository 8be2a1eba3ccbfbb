"""ReviewService on a live server: over gRPC, by the SDK's clients, and by the command line."""

import signal
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from epistream.clients import Conflict, Denied, InvalidInput, NotFound, ReviewClient, SyncReviewClient, Unavailable
from epistream.clients.background import run
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import review_service_pb2 as api
from tests.support.cli import Ran, epistream
from tests.support.rpc import client_of, submission, vector
from tests.support.service import Fail, RunningService, running_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("reviews") / "data") as service:
        yield service


class Namespace:
    """A namespace of its own for each test, in which an expert said something and a model the contrary."""

    def __init__(self, service: RunningService) -> None:
        self.service, self.name = service, f"test-{uuid.uuid4().hex[:12]}"
        run(self._make())

    async def _make(self) -> None:
        async with client_of(self.service.address) as client:
            await client.make_namespace(self.name)
            known = submission(self.name, 1, item_id="limit", content="The daily limit is 5 mg.")
            contrary = submission(self.name, 2, content="The daily limit is 50 mg.", embedding=known.embedding)
            contrary.ClearField("item_id")
            contrary.origin = pb.ORIGIN_SYNTHETIC
            contrary.provenance.producer = contrary.provenance.generator = "writer"
            receipts = await client.submit(known, contrary)
        assert [receipt.outcome for receipt in receipts] == [pb.OUTCOME_ADMITTED, pb.OUTCOME_HELD]

    def client(self, reviewer: str = "dr-ada") -> SyncReviewClient:
        return SyncReviewClient(self.service.address, reviewer=reviewer)

    def epistream(self, *arguments: str, stdin: str = "") -> Ran:
        environment = {
            "EPISTREAM_ADDRESS": self.service.address,
            "EPISTREAM_NAMESPACE": self.name,
            "EPISTREAM_REVIEWER": "dr-ada",
        }
        return epistream("review", *arguments, stdin=stdin.encode(), **environment)

    def waiting(self) -> int:
        """The id of what waits."""
        with self.client() as client:
            (review,) = client.reviews(self.name).reviews
        return review.review_id


@pytest.fixture
def there(service: RunningService) -> Namespace:
    return Namespace(service)


def test_what_an_expert_lets_in_reaches_who_subscribes(there: Namespace) -> None:
    async def followed() -> tuple[pb.Receipt, pb.Change]:
        async with (
            client_of(there.service.address) as client,
            client.subscribe(there.name, head=True) as stream,
            ReviewClient(there.service.address, reviewer="dr-ada") as reviewer,
        ):
            await stream.next_of("subscribed")
            (review,) = (await reviewer.reviews(there.name)).reviews
            receipt = await reviewer.admit(there.name, review.review_id, "for oxen")
            (change,) = await stream.changes(1)
        return receipt, change

    receipt, change = run(followed())
    assert (receipt.outcome, receipt.producer, receipt.revision) == (pb.OUTCOME_ADMITTED, "writer", 2)
    assert (change.knowledge.content, change.knowledge.origin) == ("The daily limit is 50 mg.", pb.ORIGIN_EXPERT)
    assert change.reason == pb.REASON_REVIEW_ADMITTED


def test_r30_what_raters_dispute_and_a_reviewer_rejects_is_gone_for_who_subscribes(there: Namespace) -> None:
    def vote(rater: str, score: float) -> pb.Submission:
        sent = pb.Submission(namespace=there.name, submission_id=f"of {rater}", origin=pb.ORIGIN_EXPERT)
        sent.provenance.producer, sent.feedback.rater = "panel", rater
        sent.feedback.kind, sent.feedback.rater_type = pb.FEEDBACK_KIND_BINARY, pb.RATER_TYPE_HUMAN
        sent.feedback.judged.add(item_id="limit", score=score)
        return sent

    async def followed() -> tuple[list[pb.Reason.ValueType], pb.Receipt, pb.Change]:
        async with (
            client_of(there.service.address) as client,
            client.subscribe(there.name, head=True) as stream,
            ReviewClient(there.service.address, reviewer="dr-ada") as reviewer,
        ):
            await stream.next_of("subscribed")
            await client.submit(vote("a", 1), vote("b", 0))
            reviews = (await reviewer.reviews(there.name)).reviews
            await reviewer.claim(there.name, reviews[0].review_id)
            receipt = await reviewer.reject(there.name, reviews[0].review_id, "It is 6 mg.")
            (change,) = await stream.changes(1)
        return [review.receipt.reason for review in reviews], receipt, change

    waited, receipt, change = run(followed())
    assert waited == [pb.REASON_DISPUTED, pb.REASON_CONFLICT_WITH_EXPERT]
    assert (receipt.item_id, receipt.reason, receipt.revision) == ("limit", pb.REASON_RETRACTION, 2)
    assert (change.item_id, change.kind, change.revision) == ("limit", pb.CHANGE_KIND_RETRACTED, 2)
    assert change.knowledge.provenance.producer == "dr-ada"


def test_a_claim_keeps_others_away_until_it_is_let_go_of(there: Namespace) -> None:
    review_id = there.waiting()
    with there.client() as ada, there.client("bob") as bob:
        claim = ada.claim(there.name, review_id)
        assert claim is not None
        assert ada.reviews(there.name).reviews[0].claim == claim
        until = claim.expire_time.ToDatetime().isoformat(timespec="seconds")
        for act in (bob.claim, bob.admit, bob.reject):
            with pytest.raises(Conflict, match=rf"claimed by dr-ada until {until}") as error:
                act(there.name, review_id)
            assert error.value.reason == "CLAIMED"
        assert ada.claim(there.name, review_id, seconds=0) is None
        assert bob.reject(there.name, review_id).outcome == pb.OUTCOME_REJECTED
        with pytest.raises(Conflict) as error:
            ada.claim(there.name, review_id)
        assert error.value.reason == "NOT_HELD"


def test_a_claim_that_has_run_out_is_free(there: Namespace) -> None:
    review_id = there.waiting()
    with there.client() as ada, there.client("bob") as bob:
        ada.claim(there.name, review_id, seconds=0.001)
        claim = bob.claim(there.name, review_id)
        assert claim is not None
        assert claim.reviewer == "bob"


def test_who_did_not_hear_the_answer_asks_again_and_has_it(there: Namespace) -> None:
    review_id = there.waiting()
    with there.client() as ada, there.client("bob") as bob:
        assert ada.admit(there.name, review_id) == ada.admit(there.name, review_id)
        with pytest.raises(Conflict) as error:
            bob.admit(there.name, review_id)
        assert error.value.reason == "NOT_HELD"


def test_r8_conflicts_are_listed_marked_discussed_and_resolved(there: Namespace) -> None:
    review_id = there.waiting()
    with there.client() as client:
        (conflict,) = client.conflicts(there.name)
        assert [party.review_id or party.item_id for party in conflict.parties] == [review_id, "limit"]
        assert client.comment(there.name, conflict.conflict_id, "Of whom?").reviewer == "dr-ada"
        receipt = client.admit(there.name, review_id)
        marked = {receipt.item_id: ["limit"], "limit": [receipt.item_id]}
        assert marks(there) == marked
        over = client.resolve(there.name, conflict.conflict_id, item_ids=["limit"], comment="of adults")
        assert over.state == api.CONFLICT_STATE_RESOLVED
        assert [comment.text for comment in over.comments] == ["Of whom?"]
        assert (client.conflicts(there.name), marks(there)) == ([], {"limit": []})
        assert client.conflicts(there.name, resolved=True) == [over]


def marks(there: Namespace) -> dict[str, list[str]]:
    """What a search finds, each with the items that contradict it."""

    async def searched() -> know.SearchResponse:
        async with client_of(there.service.address) as client:
            query = know.SearchRequest(namespace=there.name, vector=pb.Embedding(float32=vector(1)))
            return await client.knowledge.Search(query)

    return {
        hit.change.item_id: [other for conflict in hit.open_conflicts for other in conflict.item_ids]
        for hit in run(searched()).hits
    }


def test_a_collaborator_does_not_overrule_an_expert(there: Namespace) -> None:
    (conflict_id,) = {conflict.conflict_id for conflict in there.client().conflicts(there.name)}
    with SyncReviewClient(there.service.address, reviewer="bob", origin="COLLABORATIVE") as bob:
        with pytest.raises(Denied, match="against limit, which is EXPERT"):
            bob.resolve(there.name, conflict_id, review_ids=[there.waiting()])
        with pytest.raises(NotFound):
            bob.reject(there.name, 10**6)
        with pytest.raises(InvalidInput, match="lease"):
            bob.claim(there.name, there.waiting(), seconds=10**6)


def test_decisions_survive_a_kill(there: Namespace) -> None:
    review_id = there.waiting()
    with there.client() as client:
        client.comment(there.name, review_id, "Of whom?")
        receipt = client.reject(there.name, review_id, "no")
    there.service.kill()
    there.service.restart()
    with there.client() as client:
        review = client.review(there.name, review_id)
        assert (review.decision.receipt, review.decision.reviewer, review.decision.comment) == (receipt, "dr-ada", "no")
        assert [comment.text for comment in review.comments] == ["Of whom?"]
        assert client.reviews(there.name).pending_count == 0

    async def described() -> ns_pb.Namespace:
        async with client_of(there.service.address) as client:
            return (await client.namespaces.GetNamespace(ns_pb.GetNamespaceRequest(name=there.name))).namespace

    namespace = run(described())
    assert (namespace.held_count, namespace.rejected_count) == (0, 1)


@pytest.mark.parametrize(("point", "durable"), [("applied", False), ("committed", True)])
def test_a_decision_is_there_whole_or_not_at_all_when_the_service_is_killed(
    tmp_path: Path, point: str, durable: bool
) -> None:
    with running_service(tmp_path / "data") as service:
        there = Namespace(service)
        review_id = there.waiting()
        service.stop()
        service.start(Fail(point, at_pass=1))
        with SyncReviewClient(service.address, reviewer="dr-ada", timeout_seconds=2) as client:
            with pytest.raises(Unavailable):
                client.admit(there.name, review_id)
            assert service.wait() == -signal.SIGKILL
            service.start()
            assert client.review(there.name, review_id).HasField("decision") == durable
            receipt = client.admit(there.name, review_id)
            assert (receipt.outcome, receipt.revision) == (pb.OUTCOME_ADMITTED, 2)
            assert [conflict.parties[0].item_id for conflict in client.conflicts(there.name)] == [receipt.item_id]


def test_the_metrics_tell_what_waits_and_what_was_decided(there: Namespace) -> None:
    def told(name: str) -> list[str]:
        with urllib.request.urlopen(f"http://{there.service.metrics_address}/metrics") as page:
            lines = page.read().decode().splitlines()
        return [line for line in lines if line.startswith(name) and (there.name in line or "outcome" in line)]

    (pending,) = told("epistream_reviews_pending")
    assert 'reason="conflict_with_expert"' in pending
    assert pending.endswith(" 1.0")
    assert told("epistream_conflicts_open")[0].endswith(" 1.0")
    there.client().reject(there.name, there.waiting())
    assert told("epistream_reviews_pending") == []
    assert told("epistream_conflicts_open")[0].endswith(" 0.0")
    assert any('outcome="rejected"' in line for line in told("epistream_review_decisions_total"))


def test_the_command_line_lists_shows_claims_comments_and_decides(there: Namespace) -> None:
    review_id = str(there.waiting())
    (review,) = there.epistream("list", "--reason", "conflict_with_expert", "--json").messages(api.Review)
    assert str(review.review_id) == review_id
    assert "The daily limit is 50 mg." in there.epistream("list").out
    assert there.epistream("list", "--reason", "because").code == 2
    assert there.epistream("claim", review_id).code == 0
    assert there.epistream("comment", review_id, "Of whom?").code == 0
    shown = there.epistream("show", review_id).out
    for part in ("claimed     by dr-ada", "Of whom?", "HELD (CONFLICT_WITH_EXPERT)"):
        assert part in shown
    done = there.epistream("decide", review_id, "admit", "--comment", "for oxen")
    assert (done.code, "ADMITTED (REVIEW_ADMITTED)" in done.out) == (0, True)
    assert there.epistream("decide", review_id, "reject").code == 1
    assert "for oxen" in there.epistream("show", review_id).out
    (conflict,) = there.epistream("conflicts", "--json").messages(api.Conflict)
    over = there.epistream("resolve", str(conflict.conflict_id), "--item", "limit")
    assert (over.code, "resolved by dr-ada" in over.out) == (0, True)


@pytest.mark.parametrize(
    ("typed", "outcome"),
    [("c\nOf whom?\nx\na\nfor oxen\n", "ADMITTED"), ("r\n\n", "REJECTED"), ("s\n", ""), ("q\n", "")],
)
def test_the_command_line_walks_through_what_waits(there: Namespace, typed: str, outcome: str) -> None:
    review_id = there.waiting()
    walked = there.epistream(stdin=typed)
    assert walked.code == 0, walked.err
    assert "The daily limit is 50 mg." in walked.out
    with there.client("bob") as client:
        review = client.review(there.name, review_id)
        assert not review.HasField("claim")
        found = pb.Outcome.Name(review.decision.receipt.outcome).removeprefix("OUTCOME_")
        assert (found if review.HasField("decision") else "") == outcome
        assert [comment.text for comment in review.comments] == (["Of whom?"] if typed.startswith("c") else [])
    assert ("Nothing else waits." in walked.err) == (typed != "q\n")


@pytest.mark.parametrize("typed", ["s\n", "q\n"])
def test_who_leaves_a_review_leaves_it_also_where_the_claim_cannot_be_let_go_of(
    there: Namespace, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    claim = ReviewClient.claim

    async def failing(
        self: ReviewClient, namespace: str, review_id: int, *, seconds: float | None = None
    ) -> api.ReviewClaim | None:
        if seconds == 0:
            raise Unavailable("The service is away.")
        return await claim(self, namespace, review_id, seconds=seconds)

    monkeypatch.setattr(ReviewClient, "claim", failing)
    walked = there.epistream(stdin=typed)
    assert walked.code == 0, walked.err
    assert "The service is away." in walked.err
    assert ("Nothing else waits." in walked.err) == (typed == "s\n")


def test_walking_needs_a_name(service: RunningService) -> None:
    done = epistream("review", "-n", "anywhere", EPISTREAM_ADDRESS=service.address)
    assert (done.code, "--reviewer is needed" in done.err) == (2, True)
