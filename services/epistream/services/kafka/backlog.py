"""Records that were read from Kafka and wait for the encoder: a queue with a bound in records and in bytes."""

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from epistream.indexer.model import Arrived, record_of

BATCH_RECORDS_MAX: Final = 500
"""How many records are prepared, and then committed, together. With 1,000 a full backlog empties 9 in 100 faster or 3
slower where vectors come along (in turns, on two days); where the encoder makes them, the first waits longer."""
MORE_RECORDS_MAX: Final = 64
"""How many are added at a time to a batch that is prepared already, which waits until they are, too."""
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
"""How much of records, by their weight, is prepared together."""
WAITING_RECORDS_MAX: Final = 4 * BATCH_RECORDS_MAX
WAITING_BYTES_MAX: Final = 2 * BATCH_BYTES_MAX
_HEADER_BYTES: Final = 100
"""What a header takes in memory beside its bytes, of which two are enough on the way here."""


class Weighed(Protocol):
    """A record, ours or kafka-python's."""

    @property
    def value(self) -> bytes | None:
        """Its payload."""

    @property
    def key(self) -> bytes | None:
        """Its key."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """Its headers."""


def weight_bytes(record: Weighed) -> int:
    """How much memory a record takes, about: what every bound on records counts."""
    headers = sum(len(name) + len(value or b"") + _HEADER_BYTES for name, value in record.headers)
    return len(record.value or b"") + len(record.key or b"") + headers


class Backlog:
    """A queue between the thread that hears the poller and the one that takes in. What is put is never refused.

    From the moment when it is full until half of it is empty again, the one who puts is expected to wait.
    """

    def __init__(self) -> None:
        self._records: deque[Arrived] = deque()
        self._bytes = 0
        self._full = False
        self._closed = False
        self._changed = threading.Condition()

    def put(self, records: Iterable[Arrived]) -> None:
        """Add records, in order. Does not block."""
        with self._changed:
            for record in records:
                self._records.append(record)
                self._bytes += weight_bytes(record_of(record))
            self._full = self._full or self._share() >= 1
            self._changed.notify_all()

    def await_room(self, timeout_seconds: float) -> bool:
        """Wait while it is full; whether there is room now."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._full or self._closed, timeout_seconds)

    def take(self, *, wait: bool, beside: Sequence[Arrived] = ()) -> list[Arrived]:
        """The next batch: what there is, up to the bounds, at least one record. Or more for one that is there.

        Empty when it is closed, and when there is nothing and `wait` is false.

        Args:
            wait: block until there is a record.
            beside: what the batch has. It counts into the bounds, and at most MORE_RECORDS_MAX are taken; none where
                the next does not fit beside it.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._records or self._closed)
            batch: list[Arrived] = []
            count, size = len(beside), _weight_bytes(beside)
            most = min(BATCH_RECORDS_MAX, count + MORE_RECORDS_MAX) if beside else BATCH_RECORDS_MAX
            while self._records and not self._closed and count < most:
                count, size = count + 1, size + weight_bytes(record_of(self._records[0]))
                if count > 1 and size > BATCH_BYTES_MAX:
                    break
                batch.append(self._records.popleft())
            self._bytes -= _weight_bytes(batch)
            self._full = self._full and self._share() > 0.5
            self._changed.notify_all()
            return batch

    def close(self) -> None:
        """Nothing is given out any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _share(self) -> float:
        return max(len(self._records) / WAITING_RECORDS_MAX, self._bytes / WAITING_BYTES_MAX)


def _weight_bytes(batch: Sequence[Arrived]) -> int:
    return sum(weight_bytes(record_of(arrived)) for arrived in batch)
