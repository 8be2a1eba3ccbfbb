"""The code that the gate holds until its tests were run: a reviewer that is a program.

What passes and breaks nothing is let in, what a test says is wrong is turned away. Everything else stays held for
people, with the verdict as feedback: tests that cannot be decided here, tests that show nothing, dependants that break.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Self

from google.protobuf.duration_pb2 import Duration

from epistream.clients.channel import CALL_TIMEOUT_SECONDS, Connection, call
from epistream.clients.knowledge import KnowledgeClient
from epistream.services.execution.assessing import Assessed, Assessor, Place
from epistream.services.execution.dependants import Dependants
from epistream.services.execution.judging import Beside
from epistream.services.execution.opinions import Subject
from epistream.services.execution.reading import patiently
from epistream.services.execution.verdict import Verdict, printable
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import review_service_pb2 as api
from epistream.v1 import review_service_pb2_grpc as rpc
from epistream.wire.errors import Conflict, Denied, InvalidInput, NotFound

LEASE_SECONDS: Final = 15 * 60
_PAGE: Final = 10
_TAKEN_MOST: Final = 50
"""So many are taken at a time, each of up to a mebibyte."""
_COMMENT_CHARACTERS: Final = 4000
_log = logging.getLogger(__name__)


def ruling(found: Assessed) -> api.ReviewVerdict.ValueType:
    """What the tests decide of code that is held; UNSPECIFIED where they decide nothing."""
    verdict, survival = found.judged.result.verdict, found.survival
    # Whoever has made many dependants must not hide behind them the one that breaks.
    if verdict == Verdict.VERIFIED and not survival.broken and not survival.left_out:
        return api.REVIEW_VERDICT_ADMIT
    return api.REVIEW_VERDICT_REJECT if verdict == Verdict.FAIL else api.REVIEW_VERDICT_UNSPECIFIED


class HeldCode:
    """Reviews what is held for REASON_UNVERIFIED.

    Args:
        place: the service, the namespace, and in whose name.
        client: to read there.
        assessor: runs the tests.
        known: what depends on what, as it is followed.
        told: called with what was run.
    """

    def __init__(
        self,
        place: Place,
        client: KnowledgeClient,
        assessor: Assessor,
        known: Dependants,
        told: Callable[[Assessed], None],
    ) -> None:
        self._place, self._client, self._assessor = place, client, assessor
        self.known, self._told = known, told
        self._reviewer = api.Reviewer(name=place.name, origin=pb.ORIGIN_SYNTHETIC)
        self._connection = Connection(place.target, place.credentials)
        self._left: dict[int, frozenset[str]] = {}
        """Reviews that are people's now, with what each is derived from."""
        self._because: dict[int, str] = {}

    def take(self, change: pb.Change) -> None:
        """Note a version. What was left to people, and is derived from its item, is run again."""
        self.known.take(change)
        for review_id in [one for one, parents in self._left.items() if change.item_id in parents]:
            del self._left[review_id]
            self._because[review_id] = f"{change.item_id} version {change.version}"

    async def review(self, revision: int, room: asyncio.Semaphore) -> float:
        """Decide some of what waits, with what is known at this revision, as many at a time as there is room for.

        Returns:
            How long the service took to say what waits, seconds.

        Raises:
            NoIsolation: the sandbox cannot be started any more.
            EpistreamError: as calls of a service do.
        """
        namespace = await patiently(lambda: self._client.namespace(self._place.namespace))
        if not (namespace.policy.verify_code and namespace.held_count):
            return 0.0
        began = time.monotonic()
        waiting = await self._waiting()
        seconds = time.monotonic() - began
        try:
            async with asyncio.TaskGroup() as group:
                for each in waiting:
                    await room.acquire()
                    group.create_task(self._review(each, revision)).add_done_callback(lambda _: room.release())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.aclose()

    async def _waiting(self) -> list[api.Review]:
        """The first of what waits and is not left to people."""
        found: list[api.Review] = []
        request = api.ListReviewsRequest(
            namespace=self._place.namespace,
            reasons=[pb.REASON_UNVERIFIED],
            modalities=[pb.MODALITY_CODE],
            limit=_PAGE,
        )
        while True:
            page = await self._call(lambda: self._stub.ListReviews, request)
            found += [each for each in page.reviews if each.review_id not in self._left]
            if not page.next_page_token or len(found) >= _TAKEN_MOST:
                return found
            request.page_token = page.next_page_token

    async def _review(self, review: api.Review, revision: int) -> None:
        try:
            await self._claim(review, LEASE_SECONDS)
            if not await self._decide(review, revision):
                self._leave(review)
                await self._claim(review, 0)
        except (Conflict, NotFound, Denied, InvalidInput) as error:
            # Somebody else has it, or has decided it, or knowledge of a higher authority is in the way by now.
            self._leave(review)
            _log.info("review %d is left to people: %s", review.review_id, error.message)

    async def _claim(self, review: api.Review, seconds: int) -> None:
        request = api.ClaimReviewRequest(
            namespace=review.namespace,
            review_id=review.review_id,
            reviewer=self._reviewer,
            lease=Duration(seconds=seconds),
        )
        await self._call(lambda: self._stub.ClaimReview, request)

    async def _decide(self, review: api.Review, revision: int) -> bool:
        """Run it, and end the review where the tests decide it. Returns whether they do."""
        subject = Subject.of_review(review)
        beside = Beside.of(subject.item_id, subject.knowledge.provenance.derived_from, self.known)
        because = self._because.pop(review.review_id, "")
        found = await self._assessor.of_held(subject, beside, revision, because)
        self._told(found)
        request = api.DecideReviewRequest(
            namespace=review.namespace,
            review_id=review.review_id,
            reviewer=self._reviewer,
            verdict=ruling(found),
            comment=printable(found.judged.result.reason)[:_COMMENT_CHARACTERS],
        )
        if request.verdict != api.REVIEW_VERDICT_UNSPECIFIED:
            await self._call(lambda: self._stub.DecideReview, request)
        return request.verdict != api.REVIEW_VERDICT_UNSPECIFIED

    def _leave(self, review: api.Review) -> None:
        self._left[review.review_id] = frozenset(review.submission.provenance.derived_from)

    @property
    def _stub(self) -> rpc.ReviewServiceStub:
        return rpc.ReviewServiceStub(self._connection.channel)

    async def _call(self, method: Callable[[], Any], request: Any) -> Any:
        return await patiently(lambda: call(self._connection, method, request, CALL_TIMEOUT_SECONDS))
