"""The code that the gate holds until its tests were run: a reviewer that is a program.

What passes and breaks nothing is let in, what a test says is wrong is turned away. Everything else stays held for
people, with the verdict as feedback: tests that cannot be decided here, tests that show nothing, dependants that break.
"""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from epistream.clients.knowledge import KnowledgeClient
from epistream.clients.reviews import ReviewClient
from epistream.services.execution.assessing import Assessed, Assessor, Place
from epistream.services.execution.dependants import Dependants
from epistream.services.execution.judging import Beside
from epistream.services.execution.opinions import Subject
from epistream.services.execution.reading import patiently
from epistream.services.execution.verdict import Verdict
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import review_service_pb2 as api
from epistream.wire.errors import Conflict, Denied, EpistreamError, InvalidInput, NotFound
from epistream.wire.printable import printable

_PAGE: Final = 10
_TAKEN_MOST: Final = 50
"""So many are taken at a time, each of up to a mebibyte."""
_COMMENT_CHARACTERS: Final = 4000
_NOT_OURS: Final = ("CLAIMED", "NOT_HELD")
"""The reasons of a Conflict over a review that another looks at, or has decided."""
_log = logging.getLogger(__name__)


def ruling(found: Assessed) -> bool | None:
    """Whether code that is held is let in, as its tests decide it; None where they decide nothing."""
    verdict, survival = found.judged.result.verdict, found.survival
    # Whoever has made many dependants must not hide behind them the one that breaks.
    if verdict == Verdict.VERIFIED and not survival.broken and not survival.left_out:
        return True
    return False if verdict == Verdict.FAIL else None


class HeldCode:
    """Reviews what is held for REASON_UNVERIFIED.

    Args:
        place: where, and in whose name.
        client: to review there, as a program.
        reading: to read there.
        assessor: runs the tests.
        told: called with what was run.

    Attributes:
        known: what depends on what, as it is followed.
    """

    def __init__(
        self,
        place: Place,
        client: ReviewClient,
        reading: KnowledgeClient,
        assessor: Assessor,
        told: Callable[[Assessed], None],
    ) -> None:
        self._namespace, self._name, self._client, self._reading = place.namespace, place.name, client, reading
        self._assessor, self._told = assessor, told
        self.known = Dependants()
        self._left: dict[int, frozenset[str]] = {}
        """Reviews that are people's now, with what each is derived from."""
        self._running: dict[int, frozenset[str]] = {}
        """Likewise those that are run, as long as nothing that they are derived from has changed meanwhile."""
        self._because: dict[int, str] = {}
        self._missing: AbstractSet[int] = frozenset()
        """What of these the listing before did not have."""

    def take(self, change: pb.Change) -> None:
        """Note a version. What is derived from its item, and was left to people or is being run, is run again."""
        self.known.take(change)
        for reviews in (self._left, self._running):
            for review_id in [one for one, parents in reviews.items() if change.item_id in parents]:
                del reviews[review_id]
                self._because[review_id] = f"{change.item_id} version {change.version}"

    async def review(self, revision: int, room: asyncio.Semaphore) -> float:
        """Decide some of what waits, with what is known at this revision, as many at a time as there is room for.

        Returns:
            How long the service took to say what waits, seconds.

        Raises:
            NoIsolation: the sandbox cannot be started any more.
            EpistreamError: as calls of a service do.
        """
        began = time.monotonic()
        waiting = await self._waiting(frozenset())
        seconds = time.monotonic() - began
        await self._review_each(waiting, revision, room)
        return seconds

    async def review_all(self, revision: int, room: asyncio.Semaphore) -> None:
        """Decide all that waits, as `review` decides some of it. Each is taken once, so that this ends."""
        taken: set[int] = set()
        while waiting := await self._waiting(taken):
            taken |= {each.review_id for each in waiting}
            await self._review_each(waiting, revision, room)

    async def _review_each(self, waiting: Sequence[api.Review], revision: int, room: asyncio.Semaphore) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for each in waiting:
                    await room.acquire()
                    group.create_task(self._review(each, revision)).add_done_callback(lambda _: room.release())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _waiting(self, taken: AbstractSet[int]) -> list[api.Review]:
        """The first of what waits, is not left to people or taken already, and nobody else looks at."""
        namespace = await patiently(lambda: self._reading.namespace(self._namespace))
        if not namespace.held_count:
            self._forget(frozenset())
        if not (namespace.policy.verify_code and namespace.held_count):
            return []
        found: list[api.Review] = []
        listed: set[int] = set()
        token = ""
        while True:
            page = await patiently(
                functools.partial(
                    self._client.reviews,
                    self._namespace,
                    reasons=[pb.REASON_UNVERIFIED],
                    modalities=[pb.MODALITY_CODE],
                    limit=_PAGE,
                    page_token=token,
                )
            )
            free = [each for each in page.reviews if each.claim.reviewer in ("", self._name)]
            found += [each for each in free if each.review_id not in self._left and each.review_id not in taken]
            listed |= {each.review_id for each in page.reviews}
            token = page.next_page_token
            if not token:
                self._forget(listed)
            if not token or len(found) >= _TAKEN_MOST:
                return found

    def _forget(self, waiting: AbstractSet[int]) -> None:
        """Keep nothing of reviews that do not wait any more: people have decided them.

        One listing may miss what moves up a page while it is read; so what two in a row lack is gone.
        """
        missing = (self._left.keys() | self._because.keys()) - waiting
        for review_id in missing & self._missing:
            self._left.pop(review_id, None)
            self._because.pop(review_id, None)
        self._missing = missing

    async def _review(self, review: api.Review, revision: int) -> None:
        try:
            await patiently(lambda: self._client.claim(self._namespace, review.review_id))
            if await self._decide(review, revision):
                return
        except (Conflict, NotFound, Denied, InvalidInput) as error:
            if error.reason in _NOT_OURS:
                # As long as it waits, it is listed again when nobody looks at it any more.
                _log.info("review %d is passed over: %s", review.review_id, error.message)
                return
            # What its producer expected is passed, or knowledge of a higher authority is in the way by now.
            level = logging.WARNING if isinstance(error, Denied) else logging.INFO
            _log.log(level, "review %d is left to people: %s", review.review_id, error.message)
        except EpistreamError:
            raise
        except Exception:  # noqa: BLE001 - told, and passed over
            _log.exception("review %d is left to people. This is a defect: report it", review.review_id)
        await self._leave(review)

    async def _decide(self, review: api.Review, revision: int) -> bool:
        """Run it, and end the review where the tests decide it. Returns whether it is not left to people."""
        subject = Subject.of_review(review)
        because = self._because.pop(review.review_id, "")
        self._running[review.review_id] = frozenset(subject.knowledge.provenance.derived_from)
        beside = Beside.of(subject.item_id, subject.knowledge.provenance.derived_from, self.known)
        try:
            found = await self._assessor.of_held(subject, beside, revision, because)
        finally:
            unchanged = self._running.pop(review.review_id, None) is not None
        self._told(found)
        ruled = ruling(found)
        if not (ruled or unchanged):
            # What it was run with is not there any more. It is listed again, as what it has claimed itself.
            return True
        if ruled is not None:
            end = self._client.admit if ruled else self._client.reject
            comment = printable(found.judged.result.reason)[:_COMMENT_CHARACTERS]
            await patiently(lambda: end(self._namespace, review.review_id, comment))
            self._because.pop(review.review_id, None)
        return ruled is not None

    async def _leave(self, review: api.Review) -> None:
        """It is people's now, who need not wait until the claim on it has run out."""
        self._left[review.review_id] = frozenset(review.submission.provenance.derived_from)
        with contextlib.suppress(Conflict, NotFound, Denied, InvalidInput):  # it is another's by now, or always was
            await patiently(lambda: self._client.claim(self._namespace, review.review_id, seconds=0))
