"""Which traces the newest changes belong to, so that their pushes can be told. Bounded, and free of OpenTelemetry."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from epistream.indexer.feed import Batch
from epistream.v1 import sync_service_pb2 as api

_T = TypeVar("_T")

CHANGES_MAX: Final = 5000
"""How many are remembered."""
SECONDS_MAX: Final = 60.0
"""How long. What is sent later goes to a subscription that catches up, and nobody looks for that in the old trace."""


@dataclass(frozen=True, slots=True)
class Push:
    """Changes that were sent to a subscription."""

    namespace: str
    consumer: str
    after: int
    """Where its cursor stood before."""
    batch: Batch
    begun_ns: int
    """Since 1970, as `ended_ns`."""
    ended_ns: int


@dataclass(frozen=True, slots=True)
class _Change(Generic[_T]):
    revision: int
    owner: _T
    added_seconds: float


class TracedChanges(Generic[_T]):
    """The newest changes of which somebody follows the trace, with what each belongs to. Threads may share it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now` tells seconds."""
        self._now = now
        self._of: dict[str, deque[_Change[_T]]] = {}
        """Of each namespace, the oldest first."""
        self._order: deque[str] = deque()
        """The namespaces of all, the oldest first."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._order)

    def add(self, namespace: str, revision: int, owner: _T) -> None:
        """Remember one that is newer than those of its namespace; forget what is too old, or too much."""
        now = self._now()
        with self._lock:
            self._of.setdefault(namespace, deque()).append(_Change(revision, owner, now))
            self._order.append(namespace)
            while len(self._order) > CHANGES_MAX or now - self._of[self._order[0]][0].added_seconds > SECONDS_MAX:
                oldest = self._order.popleft()
                self._of[oldest].popleft()
                if not self._of[oldest]:
                    del self._of[oldest]

    def within(self, push: Push) -> dict[_T, int]:
        """What the changes in a push belong to, and the newest revision of each."""
        found = self._between(push.namespace, push.after, push.batch.last_revision)
        if found and push.batch.count < push.batch.last_revision - push.after:  # a filter kept some back
            sent = {change.revision for change in api.Changes.FromString(push.batch.body).changes}
            found = [change for change in found if change.revision in sent]
        return {change.owner: change.revision for change in found}

    def _between(self, namespace: str, after: int, last: int) -> list[_Change[_T]]:
        """Those above `after` and up to `last`, in order."""
        found: list[_Change[_T]] = []
        oldest_seconds = self._now() - SECONDS_MAX
        with self._lock:
            for change in reversed(self._of.get(namespace, ())):
                if change.revision <= after or change.added_seconds < oldest_seconds:
                    break
                if change.revision <= last:
                    found.append(change)
        return found[::-1]
