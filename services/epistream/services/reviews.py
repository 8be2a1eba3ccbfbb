"""The servicer of `epistream.v1.ReviewService`."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol, TypeVar

from epistream.indexer.clock import Clock
from epistream.indexer.resolutions import Resolutions
from epistream.indexer.review_rules import lease_seconds, require_reviewer
from epistream.indexer.reviews import Reviews
from epistream.services.calls import Call, Calls, Handler
from epistream.services.claims import Claims
from epistream.services.metrics import Metrics
from epistream.services.writer import Writer
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import review_service_pb2 as api
from epistream.wire.errors import Conflict
from epistream.wire.origins import PEOPLE

SERVICE: Final = api.DESCRIPTOR.services_by_name["ReviewService"].full_name

_T = TypeVar("_T")


class _Act(Protocol):
    """A request that does something in a reviewer's name."""

    @property
    def namespace(self) -> str: ...
    @property
    def reviewer(self) -> api.Reviewer: ...


class ReviewServicer:
    """Questions run on the readers, what is decided on the writer thread. Used on the event loop's thread only."""

    def __init__(
        self,
        reviews: Reviews,
        resolutions: Resolutions,
        writer: Writer,
        readers: Executor,
        lister: Executor,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """`lister` makes the lists: each may take seconds, and all readers together must not be at lists."""
        self._reviews, self._resolutions, self._writer, self._readers = reviews, resolutions, writer, readers
        self._lister, self._metrics = lister, metrics
        self._claims = Claims(clock, _shown)

    def handlers(self, calls: Calls) -> dict[str, Handler]:
        """The service's methods."""
        unary = calls.unary
        return {
            "ListReviews": unary("ReviewService/ListReviews", api.ListReviewsRequest.FromString, self._list),
            "GetReview": unary("ReviewService/GetReview", api.GetReviewRequest.FromString, self._get),
            "ClaimReview": unary("ReviewService/ClaimReview", api.ClaimReviewRequest.FromString, self._claim),
            "DecideReview": unary("ReviewService/DecideReview", api.DecideReviewRequest.FromString, self._decide),
            "CommentReview": unary("ReviewService/CommentReview", api.CommentReviewRequest.FromString, self._comment),
            "ListConflicts": unary(
                "ReviewService/ListConflicts", api.ListConflictsRequest.FromString, self._list_conflicts
            ),
            "ResolveConflict": unary(
                "ReviewService/ResolveConflict", api.ResolveConflictRequest.FromString, self._resolve
            ),
        }

    async def _list(self, request: api.ListReviewsRequest, _: Call) -> bytes:
        listing = partial(self._reviews.list_reviews, request)
        answer = await asyncio.get_running_loop().run_in_executor(self._lister, listing)
        for review in answer.reviews:
            self._tell_claim(review)
        return answer.SerializeToString()

    async def _get(self, request: api.GetReviewRequest, _: Call) -> bytes:
        review = await self._read(lambda: self._reviews.get(request.namespace, request.review_id))
        self._tell_claim(review)
        return api.GetReviewResponse(review=review).SerializeToString()

    async def _claim(self, request: api.ClaimReviewRequest, call: Call) -> bytes:
        _require(request, call)
        seconds = lease_seconds(request)
        review = await self._read(lambda: self._reviews.get(request.namespace, request.review_id))
        require_reviewer(request.reviewer, reason=review.receipt.reason)
        if seconds:
            _require_waiting(review)
        self._claims.take(request.namespace, request.review_id, request.reviewer.name, seconds)
        self._tell_claim(review)
        claim = review.claim if review.HasField("claim") else None
        return api.ClaimReviewResponse(claim=claim).SerializeToString()

    async def _decide(self, request: api.DecideReviewRequest, call: Call) -> bytes:
        _require(request, call)
        prepared = await self._read(lambda: self._reviews.prepare(request))
        self._claims.require_free(request.namespace, request.review_id, request.reviewer.name)
        receipt = await self._write(lambda: self._reviews.decide(prepared))
        self._claims.drop(request.namespace, request.review_id)
        outcome = pb.Outcome.Name(receipt.outcome).removeprefix("OUTCOME_")
        if request.reviewer.origin in PEOPLE:
            self._metrics.review_decisions.labels(outcome.lower()).inc()
        call.noted |= {"review": request.review_id, "reviewer": request.reviewer.name, "outcome": outcome}
        return api.DecideReviewResponse(receipt=receipt).SerializeToString()

    async def _comment(self, request: api.CommentReviewRequest, call: Call) -> bytes:
        _require(request, call)
        comment = await self._write(lambda: self._reviews.comment(request))
        call.noted |= {"review": request.subject_id, "reviewer": request.reviewer.name}
        return api.CommentReviewResponse(comment=comment).SerializeToString()

    async def _list_conflicts(self, request: api.ListConflictsRequest, _: Call) -> bytes:
        return await self._read(lambda: self._resolutions.list_conflicts(request).SerializeToString())

    async def _resolve(self, request: api.ResolveConflictRequest, call: Call) -> bytes:
        _require(request, call)
        prepared = await self._read(lambda: self._resolutions.prepare(request))
        for ruling in prepared.rulings:
            self._claims.require_free(request.namespace, ruling.held.sequence, request.reviewer.name)
        conflict = await self._write(lambda: self._resolutions.resolve(prepared))
        for ruling in prepared.rulings:
            self._claims.drop(request.namespace, ruling.held.sequence)
        call.noted |= {"conflict": request.conflict_id, "reviewer": request.reviewer.name}
        return api.ResolveConflictResponse(conflict=conflict).SerializeToString()

    def _tell_claim(self, review: api.Review) -> None:
        claim = self._claims.of(review.namespace, review.review_id)
        if claim is not None:
            review.claim.reviewer = claim.reviewer
            review.claim.expire_time.FromMicroseconds(claim.expire_us)

    async def _read(self, ask: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, ask)

    async def _write(self, act: Callable[[], _T]) -> _T:
        return await asyncio.wrap_future(self._writer.run(act, ahead=True))


def _require(request: _Act, call: Call) -> None:
    """Raises Denied unless the caller may review in this name, with this authority."""
    call.note(request.namespace)
    call.caller.require_review(request.namespace, request.reviewer.origin, request.reviewer.name)


def _require_waiting(review: api.Review) -> None:
    if review.HasField("decision"):
        raise Conflict(f"review {review.review_id} is decided: take another", reason="NOT_HELD")


def _shown(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="seconds")
