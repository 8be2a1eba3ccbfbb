"""The client for reading, over real sockets."""

from datetime import UTC, datetime

import numpy as np
import pytest

from epistream.clients import KnowledgeClient, NotFound, Resync, State, Unavailable
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from tests.support.histories import DIMENSION, random_history, state_after
from tests.support.scripted_server import Caller, ScriptedServer


async def test_an_item_now_and_then() -> None:
    history = random_history(100, seed=1)
    async with ScriptedServer(history) as server, KnowledgeClient(server.address) as client:
        for revision in (None, 30):
            state = state_after(history, revision or 100)
            item_id = next(iter(state))
            answer = await client.get("tests", item_id, as_of=revision)
            assert answer.change == state[item_id]
            assert answer.revision == (revision or 100)


async def test_a_history_of_many_pages_is_whole() -> None:
    history = random_history(100, seed=2, items=3)
    async with ScriptedServer(history) as server, KnowledgeClient(server.address) as client:
        for item_id in ("item-0", "item-1", "item-2"):
            versions = [change for change in history if change.item_id == item_id]
            assert await client.history("tests", item_id, page_entries=5) == versions


@pytest.mark.parametrize("count", [0, 4, 5])
async def test_the_feedback_of_many_pages_is_whole(count: int) -> None:
    async with ScriptedServer() as server, KnowledgeClient(server.address) as client:
        submissions = [pb.Submission(submission_id=f"f-{n}") for n in range(count)]
        server.feedback = [knowledge_pb.RecordedFeedback(submission=one) for one in submissions]
        found = await client.list_feedback("tests", "item-1", page_entries=2)
        assert [recorded.submission for recorded in found] == submissions


async def test_the_signals_of_a_namespace_are_asked_for() -> None:
    async with ScriptedServer(random_history(3, seed=2)) as server, KnowledgeClient(server.address) as client:
        answer = await client.list_signals("tests")
        assert (answer.model, answer.revision) == ("tests", 3)


async def test_a_difference_of_many_pages_is_whole() -> None:
    history = random_history(100, seed=3)
    async with ScriptedServer(history) as server, KnowledgeClient(server.address) as client:
        whole = await client.diff("tests", 20, 90, page_entries=3)
        before, after = state_after(history, 20), state_after(history, 90)
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        assert sorted(entry.item_id for entry in whole.entries) == sorted(changed)
        assert (whole.from_revision, whole.to_revision, whole.next_page_token) == (20, 90, "")
        assert (await client.diff("tests", 20)).to_revision == 100


async def test_a_difference_up_to_now_has_one_now_for_all_its_pages() -> None:
    history = random_history(100, seed=3)
    async with ScriptedServer(history[:80]) as server, KnowledgeClient(server.address) as client:

        def goes_on(_: Caller) -> None:
            server.history.append(history[len(server.history)])

        server.refuses = goes_on
        whole = await client.diff("tests", 20, page_entries=10)
    before, after = state_after(history, 20), state_after(history, 81)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert sorted(entry.item_id for entry in whole.entries) == sorted(changed)
    assert whole.to_revision == 81


async def test_a_search_sends_a_text_or_a_vector() -> None:
    async with ScriptedServer(random_history(10, seed=4)) as server, KnowledgeClient(server.address) as client:
        server.query_vector = np.arange(DIMENSION, dtype="<f4")
        answer = await client.search("tests", "How much?", include_query_embedding=True)
        assert server.queries == ["How much?"]
        assert np.frombuffer(answer.query_embedding, "<f4").tolist() == list(range(DIMENSION))
        await client.search("tests", [1.0] * DIMENSION, limit=3, as_of=datetime(2026, 1, 1, tzinfo=UTC))
        assert server.queries[1:] == [""]


async def test_errors_arrive_as_they_were_said() -> None:
    async with ScriptedServer() as server, KnowledgeClient(server.address) as client:
        server.failures.append(NotFound("There is no item x.", reason="NOT_FOUND"))
        with pytest.raises(NotFound, match="no item x"):
            await client.get("tests", "x")
        server.failures.append(Resync("beyond", reason="FUTURE_REVISION", state=State("e", 5, 1)))
        with pytest.raises(Resync) as caught:
            await client.get("tests", "x", as_of=9)
        assert caught.value.state.head_revision == 5


async def test_a_service_that_loads_its_encoder_is_asked_again() -> None:
    async with ScriptedServer(random_history(10, seed=5)) as server, KnowledgeClient(server.address) as client:
        server.failures.append(Unavailable("loading", reason="ENCODER_LOADING", retry_delay_seconds=0.02))
        assert (await client.search("tests", "How much?")).revision == 10


async def test_consumers_are_listed_and_waited_for() -> None:
    async with ScriptedServer(random_history(10, seed=6)) as server, KnowledgeClient(server.address) as client:
        assert (await client.consumers("tests")).head_revision == 10
        assert await client.wait_applied("tests", 10, ["a", "b"], timeout_seconds=5) == ["a", "b"]
