"""A replica whose disk is full: it answers from what it has, says so, and goes on when there is space."""

from pathlib import Path

import numpy as np
import pytest

from epistream.clients import Replica, Unavailable
from epistream.v1 import knowledge_pb2 as pb
from tests.support.histories import DIMENSION, random_history, state_after
from tests.support.scripted_server import ScriptedServer
from tests.support.waits import until

QUERY = np.arange(1, DIMENSION + 1, dtype=np.float32)


async def limit(replica: Replica, pages: int) -> None:
    """SQLite's own way to have no room left."""
    await replica._worker.do(replica._file._db.execute, f"PRAGMA max_page_count = {pages}")


def large(history: list[pb.Change]) -> list[pb.Change]:
    for change in history:
        if change.HasField("knowledge"):
            change.knowledge.content *= 1000
    return history


async def test_a_replica_on_a_full_disk_answers_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    history = large(random_history(120, seed=12))
    async with (
        ScriptedServer(history[:60]) as server,
        Replica.open(tmp_path / "replica", server.address, "tests", "model", progress_interval_seconds=0.1) as replica,
    ):
        await replica.wait_current()
        before = replica.search_vector(QUERY, limit=5)
        await limit(replica, 1)
        await server.commit(*history[60:])
        await until(lambda: replica._full, "the full disk")
        with pytest.raises(Unavailable, match=r"at revision 60, not yet at revision 120. There is no space for"):
            await replica.wait_for(120, timeout_seconds=0.1)
        assert replica.search_vector(QUERY, limit=5) == before
        assert replica.error is None
        await limit(replica, 100_000)
        await replica.wait_for(120)
        assert {item_id: replica.get(item_id) for item_id in replica.item_ids()} == state_after(history, 120)
        found = {hit.change.item_id for hit in replica.search_vector(QUERY, limit=100)}
        vectors = {change.revision for change in history if change.embedding}
        assert found == {one.item_id for one in state_after(history, 120).values() if one.revision in vectors}


async def test_a_replica_that_waits_for_space_can_be_left_and_goes_on_from_what_its_file_holds(tmp_path: Path) -> None:
    history = large(random_history(120, seed=13))
    async with ScriptedServer(history[:60]) as server:
        async with Replica.open(tmp_path / "replica", server.address, "tests", "model") as replica:
            await replica.wait_current()
            await limit(replica, 1)
            await server.commit(*history[60:])
            await until(lambda: replica._full, "the full disk")
        async with Replica.open(tmp_path / "replica", server.address, "tests", "model") as replica:
            assert replica.revision == 60
            await replica.wait_for(120)
