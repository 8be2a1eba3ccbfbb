"""Waiting for a condition."""

import asyncio
from collections.abc import Callable

SECONDS_MAX = 20


async def until(condition: Callable[[], bool]) -> None:
    """Returns when the condition is true; fails when it is not in time."""
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():  # noqa: ASYNC110 -- conditions of what is tested, which announces nothing
            await asyncio.sleep(0.005)
