"""Replicas over real sockets, against a service that goes wrong: what they hold is the state of their revision."""

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from epistream.clients import Broken, Changes, Conflict, InvalidInput, NotFound, Replica, Unavailable
from epistream.clients.replica_file import ReplicaFile
from epistream.v1 import knowledge_pb2 as pb
from tests.support.histories import DIMENSION, random_history, state_after, unit_vector
from tests.support.proxies import Proxy
from tests.support.scripted_server import Script, ScriptedServer
from tests.support.waits import until

QUERY = np.arange(1, DIMENSION + 1, dtype=np.float32)


@contextlib.asynccontextmanager
async def replica_of(
    path: Path, address: str, *, only: pb.Filter | None = None, encoder: object = None
) -> AsyncIterator[Replica]:
    async with Replica.open(
        path / "replica",
        address,
        "tests",
        "model",
        filter=only,
        encoder=encoder,  # type: ignore[arg-type] # the tests' own
        progress_interval_seconds=0.1,
    ) as replica:
        yield replica


def everything(replica: Replica) -> dict[str, pb.Change | None]:
    return {item_id: replica.get(item_id) for item_id in replica.item_ids()}


def nearest(history: list[pb.Change], query: NDArray[np.float32], limit: int) -> list[str]:
    """The ids of the nearest items, by a full sort."""
    vectors = {change.revision: np.frombuffer(change.embedding, "<f4") for change in history}
    living = [change for change in state_after(history, len(history)).values() if len(vectors[change.revision])]
    living.sort(key=lambda change: (-float(vectors[change.revision] @ query), change.revision))
    return [change.item_id for change in living[:limit]]


async def test_a_new_replica_takes_a_snapshot_and_follows(tmp_path: Path) -> None:
    history = random_history(120, seed=1)
    async with ScriptedServer(history[:80]) as server, replica_of(tmp_path, server.address) as replica:
        await replica.wait_current()
        assert (replica.revision, replica.epoch) == (80, "epoch-1")
        assert everything(replica) == state_after(history, 80)
        await server.commit(*history[80:])
        await replica.wait_for(120)
        assert everything(replica) == state_after(history, 120)
        assert len(replica) == len(state_after(history, 120))
        hits = await replica.search(QUERY, limit=7)
        assert [hit.change.item_id for hit in hits] == nearest(history, QUERY, 7)
        assert replica.search_vector(list(QUERY), limit=7) == hits
        assert server.streams[0].subscription.snapshot


async def test_a_replica_goes_on_after_a_restart_from_what_its_file_holds(tmp_path: Path) -> None:
    history = random_history(120, seed=2)
    async with ScriptedServer(history[:80]) as server:
        async with replica_of(tmp_path, server.address) as replica:
            await replica.wait_for(80)
        await server.commit(*history[80:])
        async with replica_of(tmp_path, server.address) as replica:
            assert replica.revision >= 80
            await replica.wait_current()
            assert everything(replica) == state_after(history, 120)
        resumed = server.streams[1].subscription
        assert (resumed.after_revision, resumed.epoch) == (80, "epoch-1")


async def test_a_replica_answers_while_the_service_is_away(tmp_path: Path) -> None:
    history = random_history(80, seed=3)
    async with ScriptedServer(history) as server:
        address = server.address
        async with replica_of(tmp_path, address) as replica:
            await replica.wait_current()
    async with replica_of(tmp_path, address) as replica:
        hits = await replica.search(QUERY, limit=5)
        assert [hit.change.item_id for hit in hits] == nearest(history, QUERY, 5)
        with pytest.raises(Unavailable, match="at revision 80, not yet at revision 81"):
            await replica.wait_for(81, timeout_seconds=0.2)


async def test_a_retraction_is_gone_from_every_answer_once_it_is_acknowledged(tmp_path: Path) -> None:
    history = random_history(60, seed=4)
    async with ScriptedServer(history) as server, replica_of(tmp_path, server.address) as replica:
        await replica.wait_current()
        (first, *_) = await replica.search(QUERY, limit=1)
        wrong = first.change.item_id
        await server.commit(
            pb.Change(namespace="tests", revision=61, item_id=wrong, version=99, kind=pb.CHANGE_KIND_RETRACTED)
        )
        acknowledgements = server.streams[0].acknowledgements
        await until(lambda: bool(acknowledgements) and acknowledgements[-1].applied_revision == 61)
        assert replica.get(wrong) is None
        assert wrong not in {hit.change.item_id for hit in await replica.search(QUERY, limit=100)}
        assert acknowledgements[-1].HasField("applied_time")


async def test_what_leaves_the_filter_leaves_the_replica(tmp_path: Path) -> None:
    only = pb.Filter(attributes={"colour": "red"})
    history = random_history(300, seed=5)
    async with ScriptedServer(history[:100]) as server:
        async with replica_of(tmp_path, server.address, only=only) as replica:
            await replica.wait_current()
            assert everything(replica) == state_after(history, 100, only)
            for revision in range(120, 301, 20):
                await server.commit(*history[len(server.history) : revision])
                await replica.wait_for(revision)
                assert everything(replica) == state_after(history, revision, only)
        async with replica_of(tmp_path, server.address, only=only) as replica:
            assert replica.revision == 300
        async with replica_of(tmp_path, server.address) as replica:
            await replica.wait_current()
            assert everything(replica) == state_after(history, 300)


@pytest.mark.parametrize("case", ["epoch", "compacted", "future", "gap"])
async def test_where_the_service_cannot_go_on_a_snapshot_is_taken(tmp_path: Path, case: str) -> None:
    history = random_history(160, seed=6)
    async with ScriptedServer(history[:80]) as server:
        async with replica_of(tmp_path, server.address) as replica:
            await replica.wait_current()
        match case:
            case "epoch":
                server.epoch, server.history = "epoch-2", random_history(80, seed=66)
            case "compacted":
                server.history, server.floor = history, 150
            case "future":
                server.history = history[:40]
            case _:
                server.history = history
                server.scripts.extend([Script(skip=frozenset({83}))] * 2)
        async with replica_of(tmp_path, server.address) as replica:
            await replica.wait_current()
            assert everything(replica) == state_after(server.history, len(server.history))
            assert (replica.revision, replica.epoch) == (len(server.history), server.epoch)
            assert replica.counts.resyncs == (case != "compacted")
        async with replica_of(tmp_path, server.address) as replica:
            assert everything(replica) == state_after(server.history, len(server.history))


async def test_the_old_state_answers_until_the_snapshot_is_whole(tmp_path: Path) -> None:
    history = random_history(160, seed=7)
    async with ScriptedServer(history[:80]) as server:
        async with replica_of(tmp_path, server.address) as replica:
            await replica.wait_current()
        server.epoch, server.history = "epoch-2", random_history(40, seed=77)
        server.scripts.extend([Script(), Script(silent_after=4)])  # the first is refused for its epoch
        async with replica_of(tmp_path, server.address) as replica:
            await until(lambda: replica.counts.resyncs == 1)
            await until(lambda: len(server.streams) == 3)
            async with asyncio.timeout(1):
                while True:
                    assert (replica.revision, replica.epoch) == (80, "epoch-1")
                    assert everything(replica) == state_after(history, 80)
                    await asyncio.sleep(0.05)
                    if replica._staged is not None and len(replica._staged) > 7:
                        break
        async with replica_of(tmp_path, server.address) as replica:
            await replica.wait_current()
            assert everything(replica) == state_after(server.history, 40)


@pytest.mark.parametrize("seed", range(3))
async def test_cuts_at_any_byte_leave_the_state_of_the_revision(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    history = random_history(2500, seed, items=200)
    async with ScriptedServer(history[:500]) as server, Proxy(server.port) as proxy:
        proxy.budget = lambda: rng.randrange(1, 40_000) if proxy.connections <= 40 else None
        async with replica_of(tmp_path, proxy.address) as replica:
            for revision in range(600, 2501, 100):
                await server.commit(*history[len(server.history) : revision])
                await replica.wait_for(revision)
                assert everything(replica) == state_after(history, revision)


async def test_a_replica_that_is_killed_again_and_again_holds_the_state_of_its_revision(tmp_path: Path) -> None:
    """SIGKILL at random moments, first inside the snapshot, later between and inside batches."""
    rng = random.Random(8)
    history = random_history(4000, seed=8, items=600)
    path = tmp_path / "replica"
    revisions = [0]
    async with ScriptedServer(history[:1500]) as server:
        server.batch = 20
        for number in range(6):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.support.replica_process",
                str(path),
                server.address,
                stdout=asyncio.subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
            assert process.stdout is not None
            begun = len(server.streams)
            await until(lambda begun=begun: len(server.streams) > begun)  # type: ignore[misc] # mypy on defaults of lambdas
            told = await process.stdout.readline() if number >= 3 else b""  # the snapshot is over
            for _ in range(rng.randrange(8)):
                await server.commit(*history[len(server.history) : len(server.history) + 40])
                await asyncio.sleep(rng.random() * 0.02)
            await asyncio.sleep(rng.random() * 0.05)
            process.kill()
            printed = [*told.split(), *(await process.communicate())[0].split()]
            revisions.append(held_revision(path, history, server.history))
            assert revisions[-1] >= int(printed[-1] if printed else 0), "what was told was lost"
        async with replica_of(tmp_path, server.address) as replica:
            await replica.wait_current()
            assert everything(replica) == state_after(history, len(server.history))
    assert revisions == sorted(revisions)
    assert revisions[-1] > 1500


def held_revision(path: Path, history: list[pb.Change], committed: list[pb.Change]) -> int:
    """The revision of a killed replica's file, which must hold the state of just that revision."""
    with closing(ReplicaFile(path, "tests", pb.Filter())) as file:
        held = file.load()
    if held.position is None:
        assert len(held.items) == 0
        return 0
    assert held.position.revision <= len(committed)
    state = {item_id: held.items.get(item_id) for item_id in held.items.ids()}
    assert state == state_after(history, held.position.revision)
    return held.position.revision


async def test_a_replica_that_is_left_in_the_middle_of_its_work_holds_the_state_of_its_revision(tmp_path: Path) -> None:
    rng = random.Random(17)
    history = random_history(6000, seed=17, items=600)
    revisions = [0]
    async with ScriptedServer(history[:500]) as server:
        server.batch = 20
        for end in range(1000, 6001, 500):
            async with replica_of(tmp_path, server.address) as replica:
                await server.commit(*history[len(server.history) : end])
                await replica.wait_for(rng.randint(revisions[-1], end - 100))
            revisions.append(held_revision(tmp_path / "replica", history, server.history))
        async with replica_of(tmp_path, server.address) as replica:
            await replica.wait_for(6000)
            assert everything(replica) == state_after(history, 6000)
    assert revisions == sorted(revisions)
    assert any(revision % 500 for revision in revisions), "none was left in the middle"


async def test_a_text_is_encoded_by_the_service_once(tmp_path: Path) -> None:
    history = random_history(60, seed=9)
    async with ScriptedServer(history) as server:
        server.query_vector = np.frombuffer(unit_vector(random.Random(1), DIMENSION), "<f4")
        async with replica_of(tmp_path, server.address) as replica:
            await replica.wait_current()
            hits = await replica.search("How much?", limit=3)
            assert [hit.change.item_id for hit in hits] == nearest(history, server.query_vector, 3)
            assert await replica.search("How much?", limit=3) == hits
        async with replica_of(tmp_path, server.address) as replica:
            assert await replica.search("How much?", limit=3) == hits
            assert server.queries == ["How much?"]
        server.epoch = "epoch-2"
        async with replica_of(tmp_path, server.address) as replica:
            await replica.wait_current()
            await replica.search("How much?", limit=3)
            assert server.queries == ["How much?"] * 2


async def test_a_text_is_encoded_by_the_encoder_that_was_given(tmp_path: Path) -> None:
    history = random_history(60, seed=10)
    async with (
        ScriptedServer(history) as server,
        replica_of(tmp_path, server.address, encoder=lambda text: QUERY * len(text)) as replica,
    ):
        await replica.wait_current()
        hits = await replica.search("any", limit=3)
        assert [hit.change.item_id for hit in hits] == nearest(history, QUERY, 3)
        assert server.queries == []


async def test_items_without_a_vector_are_there_but_not_found(tmp_path: Path) -> None:
    history = random_history(60, seed=11, dimension=0)
    async with ScriptedServer(history, dimension=0) as server, replica_of(tmp_path, server.address) as replica:
        await replica.wait_current()
        assert everything(replica) == state_after(history, 60)
        with pytest.raises(InvalidInput, match="expected 0 numbers"):
            await replica.search(QUERY)


async def test_an_empty_namespace_has_an_empty_replica(tmp_path: Path) -> None:
    async with ScriptedServer() as server, replica_of(tmp_path, server.address) as replica:
        await replica.wait_current()
        assert (len(replica), replica.revision, replica.epoch) == (0, 0, "epoch-1")
        assert await replica.search(QUERY) == []
        await server.commit(*random_history(3, seed=1))
        await replica.wait_for(3)


async def test_a_filter_that_matches_nothing_is_current_too_and_says_so(tmp_path: Path) -> None:
    history = random_history(50, seed=12)
    async with ScriptedServer(history[:40]) as server:
        only = pb.Filter(producers=["nobody"])
        async with replica_of(tmp_path, server.address, only=only) as replica:
            await replica.wait_current()
            await server.commit(*history[40:])
            await replica.wait_for(50)
            await until(lambda: server.streams[0].acknowledgements[-1].applied_revision == 50)
        async with replica_of(tmp_path, server.address, only=only) as replica:
            assert replica.revision == 50


async def test_a_restarted_replica_acknowledges_what_it_had_before(tmp_path: Path) -> None:
    async with ScriptedServer(random_history(40, seed=13)) as server:
        for _ in range(2):
            async with replica_of(tmp_path, server.address) as replica:
                await replica.wait_current()
                stream = server.streams[-1]
                await until(lambda stream=stream: bool(stream.acknowledgements))  # type: ignore[misc] # as above
                assert stream.acknowledgements[0].applied_revision == 40


async def test_changes_that_come_again_change_nothing(tmp_path: Path) -> None:
    history = random_history(60, seed=18)
    async with ScriptedServer(history) as server, replica_of(tmp_path, server.address) as replica:
        await replica.wait_current()
        for start, end in ((0, 60), (0, 30), (55, 60)):
            again = Changes([pb.Change.FromString(c.SerializeToString()) for c in history[start:end]], end)
            assert await replica._done(await replica._worker.do(replica._plan, again))
            assert (replica.revision, everything(replica)) == (60, state_after(history, 60))


async def test_two_replicas_on_one_file_are_refused(tmp_path: Path) -> None:
    async with ScriptedServer() as server, replica_of(tmp_path, server.address):
        with pytest.raises(Conflict, match="name another file for each replica"):
            async with replica_of(tmp_path, server.address):
                pass


async def test_a_replica_that_stops_following_says_so_everywhere(tmp_path: Path) -> None:
    history = random_history(40, seed=14)
    async with ScriptedServer(history[:30]) as server:
        server.scripts.append(Script(break_after=8))
        server.scripts.append(Script(refuse=NotFound("There is no namespace tests.", reason="UNKNOWN_NAMESPACE")))
        with pytest.raises(NotFound, match="no namespace tests"):  # noqa: PT012 -- raised when the block is left
            async with replica_of(tmp_path, server.address) as replica:
                await replica.wait_current()
                with pytest.raises(NotFound):
                    await replica.wait_for(31)
                assert isinstance(replica.error, NotFound)
                assert everything(replica) == state_after(history, 30)


async def test_a_vector_of_another_dimension_stops_the_replica_and_is_not_half_applied(tmp_path: Path) -> None:
    history = random_history(40, seed=15)
    async with ScriptedServer(history[:30]) as server:
        with pytest.raises(Broken, match="dimension 8"):  # noqa: PT012 -- raised when the block is left
            async with replica_of(tmp_path, server.address) as replica:
                await replica.wait_current()
                bad = pb.Change(namespace="tests", revision=32, item_id="bad", kind=pb.CHANGE_KIND_ADMITTED)
                bad.embedding = b"\0" * 12
                await server.commit(history[30], bad)
                with pytest.raises(Broken):
                    await replica.wait_for(32)
                assert everything(replica) == state_after(history, 30)


async def test_searches_from_threads_while_batches_are_applied_see_states_of_the_history(tmp_path: Path) -> None:
    history = random_history(3000, seed=16, items=50)
    async with ScriptedServer(history[:100]) as server, replica_of(tmp_path, server.address) as replica:
        await replica.wait_current()
        stop = asyncio.Event()

        def search() -> int:
            count = 0
            while not stop.is_set():
                ids = [hit.change.item_id for hit in replica.search_vector(QUERY, 1000)]
                assert len(ids) == len(set(ids))
                count += 1
            return count

        searching = [asyncio.create_task(asyncio.to_thread(search)) for _ in range(2)]
        for revision in range(200, 3001, 100):
            await server.commit(*history[len(server.history) : revision])
            await replica.wait_for(revision)
        stop.set()
        assert min(await asyncio.gather(*searching)) > 0
        assert everything(replica) == state_after(history, 3000)
