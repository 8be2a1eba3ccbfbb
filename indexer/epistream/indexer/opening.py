"""How far the opening of a store is: what is made anew from its journal may take long, and somebody waits for it."""

import logging
import time
from dataclasses import dataclass
from typing import Final

_log: Final = logging.getLogger(__name__)

CHAIN: Final = "chain"
VIEWS: Final = "views"
INDEX: Final = "index"
_SAID: Final = {
    CHAIN: "The journal is verified: %d of %d entries",
    VIEWS: "The views are made anew from the journal: %d of %d entries",
    INDEX: "The indexes are made from the store: %d of %d revisions",
}
_LOG_SECONDS: Final = 10.0


@dataclass(slots=True)
class Step:
    """Of one of the steps above how much is done, and how much there is to do: journal entries, or revisions."""

    done: int = 0
    expected: int = 0


class Opening:
    """Told by the thread that opens a store, and read by any. The log says every ten seconds how far it is.

    Attributes:
        open: whether the store is open.
    """

    def __init__(self) -> None:
        """Nothing is done and nothing is expected; a step that there is nothing to do of stays so."""
        self.open = False
        self._steps: Final = {name: Step() for name in _SAID}
        self._logged_at = time.monotonic()

    def expect(self, step: str, count: int) -> None:
        """There is so much more to do."""
        self._steps[step].expected += count

    def did(self, step: str, count: int) -> None:
        """So much more is done."""
        at = self._steps[step]
        at.done += count
        if time.monotonic() - self._logged_at >= _LOG_SECONDS:
            self._logged_at = time.monotonic()
            _log.info(_SAID[step], at.done, at.expected)

    def end(self) -> None:
        """It is open."""
        self.open = True

    def steps(self) -> dict[str, tuple[int, int]]:
        """By its name, what of each step is done and what is expected."""
        return {name: (step.done, step.expected) for name, step in self._steps.items()}
