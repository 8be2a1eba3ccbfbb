"""Who looks at which review, and until when. In memory: a claim keeps reviewers out of each other's way, no more."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from epistream.indexer.clock import Clock
from epistream.wire.errors import Conflict, Unavailable

CLAIMS_MAX: Final = 1000
"""How many one reviewer may hold in a namespace at one time. All together are no more than what was held."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody looks at a review."""

    reviewer: str
    expire_us: int
    """Until when, microseconds since 1970."""


class Claims:
    """The claims of all namespaces. One thread at a time."""

    def __init__(self, clock: Clock, told: Callable[[int], str]) -> None:
        """Nobody has claimed anything. `told` says a time for people."""
        self._clock, self._told = clock, told
        self._held: dict[tuple[str, int], Claim] = {}
        """Some have run out."""
        self._own: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        """The reviews that each reviewer of a namespace has claimed, run out or not."""

    def of(self, namespace: str, review_id: int) -> Claim | None:
        """Who looks at a review now."""
        claim = self._held.get((namespace, review_id))
        return claim if claim is not None and claim.expire_us > self._clock.now_us() else None

    def require_free(self, namespace: str, review_id: int, reviewer: str) -> None:
        """Raises Conflict, CLAIMED, where another looks at it."""
        claim = self.of(namespace, review_id)
        if claim is not None and claim.reviewer != reviewer:
            text = f"review {review_id} is claimed by {claim.reviewer} until {self._told(claim.expire_us)}"
            raise Conflict(f"{text}: take another, or wait", reason="CLAIMED")

    def take(self, namespace: str, review_id: int, reviewer: str, seconds: float) -> Claim | None:
        """Claim a review, or claim it for longer; with 0 seconds let go of it.

        Raises:
            Conflict: CLAIMED, another looks at it.
            Unavailable: OVERLOADED, the reviewer has claimed too many.
        """
        self.require_free(namespace, review_id, reviewer)
        self.drop(namespace, review_id)
        if not seconds:
            return None
        if len(self._own.get((namespace, reviewer), ())) >= CLAIMS_MAX:
            for one in [one for one in self._own[namespace, reviewer] if self.of(namespace, one) is None]:
                self.drop(namespace, one)
        if len(self._own.get((namespace, reviewer), ())) >= CLAIMS_MAX:
            text = f"{reviewer} has claimed {CLAIMS_MAX} reviews of {namespace}, and no more may be"
            raise Unavailable(f"{text}: decide some, or let go of them", reason="OVERLOADED")
        claim = self._held[namespace, review_id] = Claim(reviewer, self._clock.now_us() + round(seconds * 1e6))
        self._own[namespace, reviewer].add(review_id)
        return claim

    def drop(self, namespace: str, review_id: int) -> None:
        """Nobody looks at it any more."""
        claim = self._held.pop((namespace, review_id), None)
        if claim is None:
            return
        own = self._own[namespace, claim.reviewer]
        own.discard(review_id)
        if not own:
            del self._own[namespace, claim.reviewer]
