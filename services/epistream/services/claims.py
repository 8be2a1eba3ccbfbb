"""Who looks at which review, and until when. In memory: a claim keeps reviewers out of each other's way, no more."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from epistream.indexer.clock import Clock
from epistream.wire.errors import Conflict, Unavailable

CLAIMS_MAX: Final = 10_000
"""How many may be held at one time."""


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
            Unavailable: OVERLOADED, too many are claimed.
        """
        self.require_free(namespace, review_id, reviewer)
        self.drop(namespace, review_id)
        if not seconds:
            return None
        now_us = self._clock.now_us()
        if len(self._held) >= CLAIMS_MAX:
            self._held = {review: claim for review, claim in self._held.items() if claim.expire_us > now_us}
        if len(self._held) >= CLAIMS_MAX:
            raise Unavailable(f"{CLAIMS_MAX} reviews are claimed, and no more may be: try again", reason="OVERLOADED")
        claim = self._held[namespace, review_id] = Claim(reviewer, now_us + round(seconds * 1e6))
        return claim

    def drop(self, namespace: str, review_id: int) -> None:
        """Nobody looks at it any more."""
        self._held.pop((namespace, review_id), None)
