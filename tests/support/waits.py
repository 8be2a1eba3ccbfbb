"""Waiting for what is tested where it announces nothing: each looks again and again, and fails when it does not come.

The time given only keeps a test from hanging; it says nothing about how quick anything has to be.
"""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Final

PATIENCE_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.01


def wait_until(
    condition: Callable[[], object],
    what: str = "the condition",
    seconds: float = PATIENCE_SECONDS,
    *,
    pause_seconds: float = _PAUSE_SECONDS,
) -> None:
    """Returns when the condition holds; fails when it does not in time. It is looked at once in every pause."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, _missing(what, seconds)
        time.sleep(pause_seconds)


async def until(
    condition: Callable[[], object], what: str = "the condition", seconds: float = PATIENCE_SECONDS
) -> None:
    """As `wait_until`, while other tasks go on. A condition may give something to await."""
    deadline = time.monotonic() + seconds
    while not await _told(condition()):
        assert time.monotonic() < deadline, _missing(what, seconds)
        await asyncio.sleep(_PAUSE_SECONDS)


async def _told(answer: object) -> object:
    return await answer if inspect.isawaitable(answer) else answer


def _missing(what: str, seconds: float) -> str:
    return f"{what} did not come about within {seconds:g} seconds"
