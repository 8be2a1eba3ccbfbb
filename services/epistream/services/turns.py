"""The batches of one submitting stream: worked on side by side, written and answered in the order they came in."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from epistream.services.calls import Context, read_message
from epistream.wire.errors import Unavailable

BATCHES_MAX: Final = 4
"""How many batches of one stream are worked on at a time. Of more, nothing is read."""


class Turn:
    """A batch's place in the order: after `come`, every batch before it is queued to be written."""

    def __init__(self, before: "asyncio.Future[bool]") -> None:
        self._before = before
        self.passed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether the batch was queued, once that is known."""

    async def come(self) -> None:
        """Wait for the turn.

        Raises:
            Unavailable: a batch before this one failed, so this one must not be written.
        """
        if not await asyncio.shield(self._before):
            raise Unavailable("a batch before this one failed: send both again")

    def over(self, *, queued: bool) -> None:
        """The next batch may come, if this one was queued. Only the first call counts."""
        if not self.passed.done():
            self.passed.set_result(queued)


class Turns:
    """The batches of one stream that are being worked on. Call `close` in the end, whatever happens."""

    def __init__(self, context: Context, draining: asyncio.Event) -> None:
        """Batches are read until the client sends no more, one fails, or `draining` is set."""
        self._context, self._draining = context, draining
        self._slots = asyncio.Semaphore(BATCHES_MAX)
        self._working: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
        self._begun: set[asyncio.Task[bytes]] = set()
        """What is worked on now."""
        self._last: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._last.set_result(True)
        self._answering = asyncio.create_task(self._answer())

    async def next_batch(self) -> bytes | None:
        """The next message, as soon as it may be worked on; None when no more are to be."""
        await self._slots.acquire()
        reading = asyncio.create_task(read_message(self._context))
        ending = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({reading, ending, self._answering}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()  # also when the stream is cut off: it would wait until the service goes down
        # The reading is left to end with the call.
        return reading.result() if reading.done() and not self._answering.done() else None

    def begin(self, work: Callable[[Turn], Coroutine[Any, Any, bytes]], ended: Callable[[], None]) -> None:
        """Work on the batch that was read last: `work` makes its answer. `ended` is called after, however it ends."""
        turn = Turn(self._last)
        self._last = turn.passed
        task = asyncio.create_task(work(turn))
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        task.add_done_callback(lambda _: ended())
        self._working.put_nowait(task)

    async def settled(self) -> None:
        """Wait until the work on all that was begun is over, however it ended."""
        while self._begun:
            await asyncio.wait(self._begun)

    async def finish(self) -> None:
        """Wait until all that was begun is answered. Raises what the first batch failed with that did."""
        self._working.put_nowait(None)
        await self._answering

    async def close(self) -> None:
        """Leave nothing behind."""
        tasks: list[asyncio.Task[Any]] = [self._answering]
        while not self._working.empty():
            if (task := self._working.get_nowait()) is not None:
                tasks.append(task)
        # The newest first: a batch that the writer takes meanwhile has none before it that is not written.
        for each in reversed(tasks):
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self) -> None:
        try:
            while (task := await self._working.get()) is not None:
                await self._context.write(await task)
                self._slots.release()
        finally:
            self._slots.release()  # whoever waits to read sees that this is over
