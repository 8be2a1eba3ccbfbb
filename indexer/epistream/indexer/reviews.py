"""What waits for people, and what they decide: the questions and acts of `epistream.v1.ReviewService`.

Questions and preparations run on any thread and block; `decide` and `comment` only on the writer thread. Conflicts are
in `resolutions`. Claims are not here: nothing depends on them but the peace of reviewers.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from epistream.indexer import comments, conflicts, disputes, holding, sayings
from epistream.indexer.agreement import VOTES, disagreement
from epistream.indexer.catalog import Catalog
from epistream.indexer.clock import Clock
from epistream.indexer.decode import again, decode
from epistream.indexer.model import Decoded, Embedded, Held, Record, Ruling, Vector
from epistream.indexer.namespaces import Namespaces
from epistream.indexer.paging import REVISION_MAX, fitting, limit_of, page_token
from epistream.indexer.pipeline import Pipeline
from epistream.indexer.review import UNKNOWN, Ranked, Waiting, rank, turn, verification
from epistream.indexer.review_rules import require_comment, require_reviewer, require_verdict
from epistream.indexer.store import Store
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import review_service_pb2 as api
from epistream.wire.errors import Conflict, InvalidInput, NotFound, Unavailable

LIMIT: Final = 10
READ_MAX: Final = 5000
"""How many of those that wait are looked at, the oldest first. The others follow in their order. Half of it is kept for
what is held, and half for what is disputed, so that neither hides the other."""
RANKED_MAX: Final = 500
"""How many of these, the most urgent as far as that is known of each alone, are ranked by density and gain."""
VOTES_MAX: Final = 1000
"""How many votes on one item are looked at, the newest."""
_ENCODED_AT_ONCE: Final = 32
_OF_PEOPLE: Final = [reason for reason in pb.Reason.values() if reason != pb.REASON_DEFERRED]
"""What waits for people: what the gate has put off it lets go of by itself."""


@dataclass(frozen=True, slots=True)
class Settling:
    """What is decided of an item that raters dispute."""

    disputed: Held
    """What the item says, as `disputes.as_held`."""
    settlement: journal_pb2.Settlement
    retraction: Embedded | None
    """Where it does not stand."""


class Reviews:
    """Reviews over one store."""

    def __init__(
        self, store: Store, namespaces: Namespaces, pipeline: Pipeline, clock: Clock, answer_bytes_max: int
    ) -> None:
        """`answer_bytes_max` bounds a list."""
        self._store, self._namespaces, self._pipeline, self._clock = store, namespaces, pipeline, clock
        self._answer_bytes_max = answer_bytes_max

    def list_reviews(self, request: api.ListReviewsRequest) -> api.ListReviewsResponse:
        """What waits, the most urgent first. Blocks for the encoder, unless that is loading: then it goes without.

        Raises:
            NotFound: there is no such namespace.
            InvalidInput: the limit or the page token is wrong.
        """
        state = self._namespaces.state(request.namespace)
        number, limit, start = state.config.number, limit_of(request.limit, LIMIT), page_token(request.page_token)
        reasons = request.reasons or _OF_PEOPLE
        with self._store.reader() as catalog:
            pending = holding.pending(
                catalog, number, reasons=reasons, producers=request.producers, modalities=request.modalities
            )
            disputed = []
            if pb.REASON_DISPUTED in reasons:
                disputed = disputes.pending(catalog, number, producers=request.producers, modalities=request.modalities)
            looked_at = _oldest(pending, disputed)
            pending = sorted([*pending, *disputed])
            contested = conflicts.open_with(catalog.connection, number, looked_at)
            held = (_held(catalog, request.namespace, number, one) for one in looked_at)  # one at a time: 1 MiB each
            waiting = list(self._waiting(held, catalog, number, contested))
        nearest = sorted(waiting, key=turn)[:RANKED_MAX]
        vectors = self._vectors(request.namespace, number, [one.review_id for one in nearest])
        with_vectors = [one.with_vector(vectors.get(one.review_id)) for one in nearest]
        ranked = rank(with_vectors, state.config.encoder.dimension)
        priorities = {one.review_id: one for one in ranked}
        order = [*priorities, *(one for one in pending if one not in priorities)]
        with self._store.reader() as catalog:
            told = (
                _review(_held(catalog, request.namespace, number, one), contested.get(one, 0), priorities.get(one))
                for one in order[start : start + limit]
            )
            page = fitting(told, self._answer_bytes_max)
        end = start + len(page)
        token = str(end) if end < len(order) else ""
        return api.ListReviewsResponse(reviews=page, next_page_token=token, pending_count=len(order))

    def get(self, namespace: str, review_id: int) -> api.Review:
        """One that was held, or is disputed.

        Raises:
            NotFound: there is no such namespace, or nothing was held by that entry.
        """
        number = self._namespaces.state(namespace).config.number
        with self._store.reader() as catalog:
            held = _held(catalog, namespace, number, review_id)
            contested = conflicts.open_with(catalog.connection, number, [review_id])
            review = _review(held, contested.get(review_id, 0))
            review.comments.extend(map(told, comments.read(catalog, number, review_id)))
            ended = _ended(catalog, number, held)
            if ended is not None:
                _tell_decision(review.decision, catalog, ended, held)
        return review

    def prepare(self, request: api.DecideReviewRequest) -> Ruling | Settling:
        """What is asked to be decided, with its vector where it is let in. Any thread.

        Raises:
            NotFound: there is no such namespace, or nothing was held by that entry.
            InvalidInput: a field is wrong; or the namespace has changed so that what was held does not fit it.
            Unavailable: the encoder is loading.
        """
        reviewer = request.reviewer
        require_verdict(request.verdict)
        require_comment("comment", request.comment, needed=False)
        number = self._namespaces.state(request.namespace).config.number
        with self._store.reader() as catalog:
            held = _held(catalog, request.namespace, number, request.review_id)
        require_reviewer(reviewer, reason=held.decision.receipt.reason)
        admits = request.verdict == api.REVIEW_VERDICT_ADMIT
        if held.decision.receipt.reason != pb.REASON_DISPUTED:
            return ruling(self._pipeline, held, reviewer, request.comment, admits=admits)
        settlement = journal_pb2.Settlement(
            dispute=held.sequence, stands=admits, reviewer=reviewer.name, comment=request.comment
        )
        taken_back = held.decision.receipt
        named = f"dispute-{held.sequence}-version-{taken_back.version}"
        retraction = None if admits else retracting(taken_back, reviewer, named, self._clock)
        return Settling(held, settlement, retraction)

    def decide(self, prepared: Ruling | Settling) -> pb.Receipt:
        """End a review. Only the writer thread.

        Raises:
            Conflict: as `Pipeline.release` and `settle`; but not where it was decided just so before.
            Denied, Unavailable, Broken: as these.
        """
        try:
            if isinstance(prepared, Ruling):
                (receipt,) = self._pipeline.release([prepared])
                return receipt
            namespace = prepared.disputed.decision.receipt.namespace
            self._pipeline.settle(namespace, prepared.settlement, prepared.retraction)
        except Conflict as error:
            known = self._known(prepared) if error.reason == "NOT_HELD" else None
            if known is None:
                raise
            return known
        settled = self._settled(prepared)
        assert settled is not None  # noqa: S101 - just now
        return settled

    def comment(self, request: api.CommentReviewRequest) -> api.ReviewComment:
        """Keep what somebody says; what they said last is not said again, whoever spoke since. Only the writer thread.

        Raises:
            NotFound: there is no such namespace, review or conflict.
            InvalidInput: a field is wrong.
            Unavailable, Broken: as `Pipeline.commit`.
        """
        require_reviewer(request.reviewer)
        require_comment("text", request.text, needed=True)
        number = self._namespaces.state(request.namespace).config.number
        said = journal_pb2.Comment(subject=request.subject_id, reviewer=request.reviewer.name, text=request.text)
        with self._store.newest() as catalog:
            if conflicts.read(catalog.connection, number, request.subject_id) is None:
                _held(catalog, request.namespace, number, request.subject_id)
            before = comments.read(catalog, number, request.subject_id)
        newest = next((one for one in reversed(before) if one.reviewer == said.reviewer), None)
        if newest is not None and newest.text == said.text:
            return told(newest)
        return told(self._pipeline.comment(request.namespace, said))

    def _known(self, prepared: Ruling | Settling) -> pb.Receipt | None:
        return self._decided_before(prepared) if isinstance(prepared, Ruling) else self._settled(prepared)

    def _decided_before(self, prepared: Ruling) -> pb.Receipt | None:
        """The receipt of the same decision by the same reviewer: who did not hear the answer asks again."""
        held = prepared.held
        number = self._namespaces.state(held.decision.receipt.namespace).config.number
        with self._store.newest() as catalog:
            ended = holding.ended(catalog, number, held.sequence)
            before = catalog.decision(ended) if ended is not None else journal_pb2.Decision()
        same = (
            before.releases == held.sequence
            and (before.decided_by, before.comment) == (prepared.decided_by, prepared.comment)
            and (before.receipt.outcome != pb.OUTCOME_REJECTED) == prepared.admits
        )
        return before.receipt if same else None

    def _settled(self, prepared: Settling) -> pb.Receipt | None:
        """As `_decided_before`, of what was disputed."""
        disputed = prepared.disputed
        number = self._namespaces.state(disputed.decision.receipt.namespace).config.number
        with self._store.newest() as catalog:
            ended = _ended(catalog, number, disputed)
            before = catalog.record(ended).settled if ended is not None else journal_pb2.Settlement()
            before.ClearField("time")
            return _settled_receipt(catalog, ended, disputed) if ended and before == prepared.settlement else None

    def _waiting(
        self, held: Iterable[Held], catalog: Catalog, number: int, contested: Collection[int]
    ) -> Iterator[Waiting]:
        """What is known of each that waits; what raters say of an item is read once."""
        read: dict[str, tuple[float | None, float | None]] = {}
        for one in held:
            receipt, item_id = one.decision.receipt, again(one).item_id
            if item_id not in read:
                said = [
                    (found.receipt.producer, found.recorded.feedback)
                    for found in sayings.newest_feedback(catalog, number, [item_id], VOTES_MAX, kinds=VOTES)
                ]
                read[item_id] = disagreement(item_id, said), verification(item_id, (one for _, one in said))
            votes, verified = read[item_id]
            if receipt.reason == pb.REASON_DISPUTED:
                votes = votes or UNKNOWN  # those at odds may be beyond what is looked at
            yield Waiting(
                one.sequence,
                receipt.producer,
                max(0, self._clock.now_us() - receipt.time.ToMicroseconds()) / 1e6,
                disagreement=votes,
                contested=one.sequence in contested,
                verified=verified,
                in_answers=receipt.reason == pb.REASON_DISPUTED,
            )

    def _vectors(self, namespace: str, number: int, review_ids: Sequence[int]) -> dict[int, Vector]:
        """Of those that have one, a few at a time: no reader is kept open for the encoder."""
        found: dict[int, Vector] = {}
        for start in range(0, len(review_ids), _ENCODED_AT_ONCE):
            with self._store.reader() as catalog:
                held = [_held(catalog, namespace, number, one) for one in review_ids[start : start + _ENCODED_AT_ONCE]]
            try:
                prepared = self._pipeline.prepare([again(one) for one in held], wait=False)
            except Unavailable:
                return {}
            found |= {
                one.sequence: candidate.vector
                for one, candidate in zip(held, prepared, strict=True)
                if isinstance(candidate, Embedded) and candidate.vector is not None
            }
        return found


def ruling(pipeline: Pipeline, held: Held, reviewer: api.Reviewer, comment: str, *, admits: bool) -> Ruling:
    """What a reviewer decides of what is held, with its vector where it is let in. Raises as `Reviews.prepare`."""
    decoded = again(held)
    embedded = Embedded(decoded, None)
    if admits:
        (prepared,) = pipeline.prepare([decoded], wait=False)
        if not isinstance(prepared, Embedded):
            why = "; ".join(f"{v.field}: {v.description}" for v in prepared.violations)
            raise InvalidInput(f"review {held.sequence} does not fit the namespace any more, reject it: {why}")
        embedded = prepared
    return Ruling(held, embedded, admits, reviewer.origin, reviewer.name, comment)


def retracting(known: pb.Receipt, reviewer: api.Reviewer, submission_id: str, clock: Clock) -> Embedded:
    """The submission by which a reviewer takes an item back, unless it has another version than `known` by then."""
    retraction = pb.Submission(
        namespace=known.namespace,
        submission_id=submission_id,
        item_id=known.item_id,
        origin=reviewer.origin,
        retraction=True,
        expected_version=known.version,
        provenance=pb.Provenance(producer=reviewer.name),
    )
    decoded = decode(Record(retraction.SerializeToString(), clock.now_us()))
    assert isinstance(decoded, Decoded)  # noqa: S101 - the reviewer's name was checked, the rest is ours
    return Embedded(decoded, None)


def told(comment: journal_pb2.Comment) -> api.ReviewComment:
    """A comment, as it is answered."""
    return api.ReviewComment(reviewer=comment.reviewer, text=comment.text, time=comment.time)


def _oldest(held: Sequence[int], disputed: Sequence[int]) -> list[int]:
    """READ_MAX of what waits, in its order: the oldest of each."""
    at_most = max(READ_MAX // 2, READ_MAX - len(disputed))
    kept = held[:at_most]
    return sorted([*kept, *disputed[: READ_MAX - len(kept)]])


def _held(catalog: Catalog, namespace: str, number: int, review_id: int) -> Held:
    held = holding.find(catalog, number, review_id) if review_id <= REVISION_MAX else None
    if held is not None:
        return held
    disputed = disputes.read(catalog, number, review_id) if review_id <= REVISION_MAX else None
    if disputed is None:
        raise NotFound(f"{namespace} has no review {review_id}: list what waits")
    return disputes.as_held(catalog, number, disputed)


def _ended(catalog: Catalog, number: int, held: Held) -> int | None:
    """The sequence of the entry that ended a review; None while it waits."""
    if held.decision.receipt.reason != pb.REASON_DISPUTED:
        return holding.ended(catalog, number, held.sequence)
    known = disputes.read(catalog, number, held.sequence)
    return known.ended if known is not None else None


def _review(held: Held, conflict: int, ranked: Ranked | None = None) -> api.Review:
    decision = held.decision
    review = api.Review(
        namespace=decision.receipt.namespace,
        review_id=held.sequence,
        receipt=decision.receipt,
        submission=decision.held,
        item_id=again(held).item_id,
        conflict_id=conflict,
    )
    if ranked is not None:
        given = ranked.priority
        review.priority.CopyFrom(
            api.ReviewPriority(
                value=given.value,
                uncertainty=given.uncertainty,
                density=given.density,
                gain=given.gain,
                ageing=given.ageing,
                due=given.due,
                disputed=given.disputed,
            )
        )
    return review


def _settled_receipt(catalog: Catalog, ended: int, disputed: Held) -> pb.Receipt:
    """Of the retraction of what was disputed, the next entry; or of its version, where it stands, at that time."""
    settled = catalog.record(ended).settled
    if not settled.stands:
        return catalog.decision(ended + 1).receipt
    receipt = pb.Receipt()
    receipt.CopyFrom(disputed.decision.receipt)
    receipt.time.CopyFrom(settled.time)
    return receipt


def _tell_decision(told: api.ReviewDecision, catalog: Catalog, ended: int, held: Held) -> None:
    record = catalog.record(ended)
    if record.WhichOneof("record") == "settled":
        told.receipt.CopyFrom(_settled_receipt(catalog, ended, held))
        told.reviewer, told.comment = record.settled.reviewer, record.settled.comment
        return
    told.receipt.CopyFrom(record.decision.receipt)
    if record.decision.releases == held.sequence:
        told.reviewer, told.comment = record.decision.decided_by, record.decision.comment
