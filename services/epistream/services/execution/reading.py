"""What the executor asks of the service: again, until the service can be reached."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Self, TypeVar

from epistream.clients.knowledge import KnowledgeClient
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import NotFound, Resync, Unavailable

_WAIT_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Reader:
    """Items as they were at one revision, each asked for once."""

    def __init__(self, client: KnowledgeClient, namespace: str, revision: int) -> None:
        self._client, self._namespace, self._revision = client, namespace, revision
        self._read: dict[str, pb.Change | None] = {}

    def at(self, revision: int) -> Self:
        """The same for another revision."""
        return type(self)(self._client, self._namespace, revision)

    async def knowledge(self, item_id: str) -> pb.Knowledge | None:
        """As `change`."""
        change = await self.change(item_id)
        return None if change is None else change.knowledge

    async def change(self, item_id: str) -> pb.Change | None:
        """The item's version at that revision; None where there was none, or none is kept any more."""
        if item_id not in self._read:
            self._read[item_id] = await patiently(lambda: self._ask(item_id))
        return self._read[item_id]

    async def _ask(self, item_id: str) -> pb.Change | None:
        if not self._revision:
            return None
        try:
            return (await self._client.get(self._namespace, item_id, as_of=self._revision)).change
        except (NotFound, Resync):
            return None


async def patiently(ask: Callable[[], Awaitable[_T]]) -> _T:
    """What it answers, once the service can be reached. Raises what else it raises."""
    while True:
        try:
            return await ask()
        except Unavailable as error:
            _log.warning("The service cannot be reached, and is asked again: %s", error.message)
            await asyncio.sleep(_WAIT_SECONDS)
