"""While a store is opened, which may take long, health and the metrics answer."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import apsw
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from epistream.indexer import journal
from epistream.indexer.store import FILE
from epistream.services.collapse_watching import CollapseWatching
from epistream.services.compose import Service
from epistream.services.kafka.local import free_ports
from epistream.services.settings import Settings
from epistream.wire.errors import Unavailable
from tests.support.knowing import NAMESPACE, commit_in_batches, open_engine, submission
from tests.support.service import Fail, RunningService
from tests.support.waits import until

FACTS = 2 * journal.PAGE
STATES = health_pb2.HealthCheckResponse


@asynccontextmanager
async def health_at(address: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def status(name: str) -> int:
            request = health_pb2.HealthCheckRequest(service=name)
            return int((await stub.Check(request, timeout=60, wait_for_ready=True)).status)

        yield status


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with a store whose views are of an earlier version."""
    folder = tmp_path / "data"
    with closing(open_engine(folder)) as engine:
        facts = [submission(f"Fact {n}.", id=f"s-{n}", item=f"item-{n}") for n in range(FACTS)]
        commit_in_batches(engine, facts, 500)
    with closing(apsw.Connection(str(folder / FILE))) as connection:
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'format'")
    return folder


async def test_a_process_that_makes_views_anew_is_alive_and_says_how_far_it_is(folder: Path) -> None:
    health, metrics = (f"127.0.0.1:{port}" for port in free_ports(2))
    service = RunningService(folder, {"encoder": "none", "health-address": health})
    service.metrics_address = metrics
    service.launch(Fail("rebuilding_held", at_pass=1))
    try:
        async with health_at(health) as status:
            assert await status("") == STATES.SERVING
            done = 'epistream_opening_done{step="views"}'
            await until(lambda: service.metric(done, -1) == 0 and service.metric("epistream_opening") == 1)
            await until(lambda: service.metric('epistream_opening_done{step="chain"}') == FACTS + 1, "the chain")
            assert service.metric('epistream_opening_expected{step="views"}') == FACTS + 1
            for name in ("epistream.v1.KnowledgeService", "epistream.v1.IngestService"):
                assert await status(name) == STATES.NOT_SERVING
            assert await status("") == STATES.SERVING
            service.signal(signal.SIGUSR1)

            async def ready() -> bool:
                return bool(await status("epistream.v1.KnowledgeService") == STATES.SERVING)

            await until(ready, "a service that is ready")
            assert service.metric("epistream_opening") == 0
            assert service.metric(done) == FACTS + 1
            assert service.metric(f'epistream_store_revision{{namespace="{NAMESPACE}"}}') == FACTS
    finally:
        if service.is_running():
            assert await asyncio.to_thread(service.stop) == 0


async def test_a_process_that_is_told_to_stop_meanwhile_stops_and_begins_anew(folder: Path) -> None:
    health = f"127.0.0.1:{free_ports(1)[0]}"
    service = RunningService(folder, {"encoder": "none", "health-address": health})
    service.launch(Fail("rebuilding_held", at_pass=1))
    async with health_at(health) as status:
        assert await status("") == STATES.SERVING
    assert await asyncio.to_thread(service.stop) == 128 + signal.SIGTERM
    service.start()
    assert service.metric('epistream_opening_done{step="views"}') == FACTS + 1
    assert await asyncio.to_thread(service.stop) == 0


@pytest.mark.parametrize("what", ["file", "part"])
async def test_a_start_that_fails_late_says_why_and_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    places = {"address": "127.0.0.1:0", "metrics_address": "127.0.0.1:0", "folder": str(tmp_path / "data")}
    if what == "file":
        places["addresses_file"] = str(tmp_path / "nowhere" / "addresses")
    else:
        monkeypatch.setattr(CollapseWatching, "start", _cannot)
    before = set(threading.enumerate())
    service = Service(Settings.load(encoder="none", signals_interval_seconds="3600", **places))
    with pytest.raises(Unavailable, match=r"the service cannot start: .*(nowhere|new thread)"):
        await service.start()
    left = {thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()}
    assert not {name for name in left if not name.startswith(("asyncio", "Thread-"))}
    open_engine(tmp_path / "data").close()


def test_a_process_whose_start_fails_late_ends_with_a_sentence(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere" / "addresses")
    service = RunningService(tmp_path / "data", {"encoder": "none", "addresses-file": nowhere})
    service.launch()
    assert service.wait() != 0
    assert "the service cannot start" in service.logged()
    assert "Traceback" not in service.logged()


def _cannot(_: CollapseWatching) -> None:
    raise RuntimeError("can't start new thread")
