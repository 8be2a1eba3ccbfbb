"""Where the time comes from. The indexer never asks the system itself, so that tests can turn the clock."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC.

        It may jump, as system clocks do: only metrics, `as_of` times and what is refused since it begins in the future
        (`valid_from`) depend on it. In a namespace the time of a
        commit is never before that of the commit before: after a jump back it stands still until the clock has caught
        up, so that what was answered for a time stays the answer.
        """


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000
