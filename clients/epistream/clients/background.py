"""The event loop under the clients that block: one for the process, in a thread of its own, made at first need.

One and not one for each client, because all event loops of a process share grpc.aio's single poller and disturb each
other (grpc issues 25364, 42357). A process that forks must do so before it uses such a client.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

Result = TypeVar("Result")

_lock: Final = threading.Lock()
_loops: Final[list[asyncio.AbstractEventLoop]] = []


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which runs in the background loop. Blocks; an interruption of the wait cancels the work."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        if not _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="epistream-clients", daemon=True).start()
            _loops.append(loop)
        return _loops[0]


class Blocking(ABC):
    """What blocks, and is closed at the end of `with`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """End it."""
