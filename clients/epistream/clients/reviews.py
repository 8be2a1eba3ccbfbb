"""The clients for people who decide what was held, and conflicts between what is known."""

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from epistream.clients.background import Blocking, run
from epistream.clients.channel import CALL_TIMEOUT_SECONDS, Connected, Connection, call, pages
from epistream.clients.credentials import Credentials
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import review_service_pb2 as api
from epistream.v1 import review_service_pb2_grpc as rpc

PAGE_ENTRIES: Final = 100
"""How much is asked for at a time."""

ReviewerOrigin: TypeAlias = Literal["EXPERT", "COLLABORATIVE", "SYNTHETIC"]
"""On whose authority it is decided: a person's, or that of a program that has run the tests of code."""


class ReviewClient(Connected):
    """Reviews in one person's name. Construct it inside the event loop that uses it.

    Each method repeats its call while the service is unavailable, `timeout_seconds` in all, and raises:
        InvalidInput, NotFound, Denied, Broken: as the service says.
        Conflict: `reason` CLAIMED, another has claimed it; NOT_HELD or NOT_OPEN, it is decided or has
            changed meanwhile; VERSION_CONFLICT, the version that was expected is the head's no more.
        Unavailable: no answer in time, or TLS cannot be agreed on (`reason` TLS).
    """

    def __init__(
        self,
        target: str | grpc.aio.Channel,
        *,
        reviewer: str = "",
        origin: ReviewerOrigin = "EXPERT",
        credentials: Credentials | None = None,
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> None:
        """Connects to `target` (`host:port`, or a channel, which stays the caller's to close) when it is first used.

        `reviewer` is the name that the journal keeps; who only looks needs none. `origin` is on whose authority.

        Raises InvalidInput: the `credentials` cannot be used.
        """
        self._connection = Connection(target, credentials)
        self._reviewer = api.Reviewer(name=reviewer, origin=pb.Origin.Value(f"ORIGIN_{origin}"))
        self._seconds = timeout_seconds

    @property
    def _stub(self) -> rpc.ReviewServiceStub:
        return rpc.ReviewServiceStub(self._connection.channel)

    async def reviews(
        self,
        namespace: str,
        *,
        reasons: Iterable["pb.Reason.ValueType"] = (),
        producers: Iterable[str] = (),
        modalities: Iterable["pb.Modality.ValueType"] = (),
        limit: int = 10,
        page_token: str = "",
    ) -> api.ListReviewsResponse:
        """What waits, the most urgent first: one page."""
        request = api.ListReviewsRequest(
            namespace=namespace,
            reasons=reasons,
            producers=producers,
            modalities=modalities,
            limit=limit,
            page_token=page_token,
        )
        return await call(self._connection, lambda: self._stub.ListReviews, request, self._seconds)

    async def review(self, namespace: str, review_id: int) -> api.Review:
        """One submission that was held, or item that is disputed, whether it still waits or was decided since."""
        request = api.GetReviewRequest(namespace=namespace, review_id=review_id)
        return (await call(self._connection, lambda: self._stub.GetReview, request, self._seconds)).review

    async def claim(self, namespace: str, review_id: int, *, seconds: float | None = None) -> api.ReviewClaim | None:
        """Keep others from deciding it for a while, by default a quarter of an hour; with 0 seconds let go of it."""
        request = api.ClaimReviewRequest(namespace=namespace, review_id=review_id, reviewer=self._reviewer)
        if seconds is not None:
            request.lease.CopyFrom(Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9)))
        answer = await call(self._connection, lambda: self._stub.ClaimReview, request, self._seconds)
        return answer.claim if answer.HasField("claim") else None

    async def admit(self, namespace: str, review_id: int, comment: str = "") -> pb.Receipt:
        """Let it in. Returns the receipt that its producer gets. What is disputed stands: its version's receipt."""
        return await self._decide(namespace, review_id, api.REVIEW_VERDICT_ADMIT, comment)

    async def reject(self, namespace: str, review_id: int, comment: str = "") -> pb.Receipt:
        """Turn it away. Returns the receipt that its producer gets. What is disputed is retracted: that receipt."""
        return await self._decide(namespace, review_id, api.REVIEW_VERDICT_REJECT, comment)

    async def comment(self, namespace: str, subject_id: int, text: str) -> api.ReviewComment:
        """Say something of a review or a conflict, by its id."""
        request = api.CommentReviewRequest(
            namespace=namespace, subject_id=subject_id, reviewer=self._reviewer, text=text
        )
        return (await call(self._connection, lambda: self._stub.CommentReview, request, self._seconds)).comment

    async def conflicts(
        self, namespace: str, *, resolved: bool = False, item_id: str = "", page_entries: int = PAGE_ENTRIES
    ) -> list[api.Conflict]:
        """The conflicts that are open, or those that are resolved, the oldest first, asked for in pages.

        With `item_id` those that this item is a party of.
        """
        state = api.CONFLICT_STATE_RESOLVED if resolved else api.CONFLICT_STATE_OPEN
        request = api.ListConflictsRequest(namespace=namespace, state=state, item_id=item_id, limit=page_entries)
        found: list[api.Conflict] = []
        async for page in pages(self._connection, lambda: self._stub.ListConflicts, request, self._seconds):
            found.extend(page.conflicts)
        return found

    async def resolve(
        self,
        namespace: str,
        conflict_id: int,
        *,
        item_ids: Iterable[str] = (),
        review_ids: Iterable[int] = (),
        comment: str = "",
    ) -> api.Conflict:
        """Say which parties stand. The items that do not are retracted, what is held is let in or turned away."""
        request = api.ResolveConflictRequest(
            namespace=namespace,
            conflict_id=conflict_id,
            reviewer=self._reviewer,
            standing_item_ids=item_ids,
            standing_review_ids=review_ids,
            comment=comment,
        )
        return (await call(self._connection, lambda: self._stub.ResolveConflict, request, self._seconds)).conflict

    async def _decide(
        self, namespace: str, review_id: int, verdict: "api.ReviewVerdict.ValueType", comment: str
    ) -> pb.Receipt:
        request = api.DecideReviewRequest(
            namespace=namespace, review_id=review_id, reviewer=self._reviewer, verdict=verdict, comment=comment
        )
        return (await call(self._connection, lambda: self._stub.DecideReview, request, self._seconds)).receipt


class SyncReviewClient(Blocking):
    """`ReviewClient`, blocking."""

    def __init__(
        self,
        target: str,
        *,
        reviewer: str = "",
        origin: ReviewerOrigin = "EXPERT",
        credentials: Credentials | None = None,
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> None:
        """As `ReviewClient`."""

        async def make() -> ReviewClient:
            return ReviewClient(
                target, reviewer=reviewer, origin=origin, credentials=credentials, timeout_seconds=timeout_seconds
            )

        self._client = run(make())

    def reviews(
        self,
        namespace: str,
        *,
        reasons: Iterable["pb.Reason.ValueType"] = (),
        producers: Iterable[str] = (),
        modalities: Iterable["pb.Modality.ValueType"] = (),
        limit: int = 10,
        page_token: str = "",
    ) -> api.ListReviewsResponse:
        """As `ReviewClient.reviews`."""
        return run(
            self._client.reviews(
                namespace,
                reasons=reasons,
                producers=producers,
                modalities=modalities,
                limit=limit,
                page_token=page_token,
            )
        )

    def review(self, namespace: str, review_id: int) -> api.Review:
        """As `ReviewClient.review`."""
        return run(self._client.review(namespace, review_id))

    def claim(self, namespace: str, review_id: int, *, seconds: float | None = None) -> api.ReviewClaim | None:
        """As `ReviewClient.claim`."""
        return run(self._client.claim(namespace, review_id, seconds=seconds))

    def admit(self, namespace: str, review_id: int, comment: str = "") -> pb.Receipt:
        """As `ReviewClient.admit`."""
        return run(self._client.admit(namespace, review_id, comment))

    def reject(self, namespace: str, review_id: int, comment: str = "") -> pb.Receipt:
        """As `ReviewClient.reject`."""
        return run(self._client.reject(namespace, review_id, comment))

    def comment(self, namespace: str, subject_id: int, text: str) -> api.ReviewComment:
        """As `ReviewClient.comment`."""
        return run(self._client.comment(namespace, subject_id, text))

    def conflicts(
        self, namespace: str, *, resolved: bool = False, item_id: str = "", page_entries: int = PAGE_ENTRIES
    ) -> list[api.Conflict]:
        """As `ReviewClient.conflicts`."""
        return run(self._client.conflicts(namespace, resolved=resolved, item_id=item_id, page_entries=page_entries))

    def resolve(
        self,
        namespace: str,
        conflict_id: int,
        *,
        item_ids: Iterable[str] = (),
        review_ids: Iterable[int] = (),
        comment: str = "",
    ) -> api.Conflict:
        """As `ReviewClient.resolve`."""
        return run(
            self._client.resolve(namespace, conflict_id, item_ids=item_ids, review_ids=review_ids, comment=comment)
        )

    def close(self) -> None:
        """As `ReviewClient.aclose`."""
        run(self._client.aclose())
