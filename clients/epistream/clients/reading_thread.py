"""What a source gives that may block, taken by a thread of its own."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncGenerator, Iterable
from typing import TypeVar

_T = TypeVar("_T")


async def without_blocking(source: Iterable[_T], ahead_max: int = 1) -> AsyncGenerator[_T, None]:
    """The same items, taken by a thread that holds up nothing while it waits for one, not even the process's end.

    At most `ahead_max` are taken before they are wanted, and one more. Raises what the source raises, after the items
    before it.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[_T] | BaseException | None] = asyncio.Queue()
    room = threading.Semaphore(ahead_max)
    left = threading.Event()

    def read() -> None:
        last: BaseException | None = None
        try:
            for item in source:
                room.acquire()
                if left.is_set():
                    return
                loop.call_soon_threadsafe(queue.put_nowait, (item,))
        except BaseException as error:  # noqa: BLE001 -- raised where the items are taken
            last = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for more
            loop.call_soon_threadsafe(queue.put_nowait, last)

    # Not of the loop's executor: its threads are few, others wait for them, and Python waits for each when it ends.
    run = contextvars.copy_context().run
    threading.Thread(target=run, args=(read,), name="epistream-source", daemon=True).start()
    try:
        while (one := await queue.get()) is not None:
            if isinstance(one, BaseException):
                raise one
            room.release()
            yield one[0]
    finally:
        left.set()
        room.release()
