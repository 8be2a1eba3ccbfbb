"""Who follows the health and does not read keeps nobody waiting; over gRPC: service/test_tls.py."""

import asyncio
from typing import Any

from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

from epistream.services.health import Health

STATES = health_pb2.HealthCheckResponse


class Follower:
    """What a call has of its client, which asks for "a"; `reads` is set as long as it takes what is written."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.heard: list[Any] = []

    async def read(self) -> bytes:
        request: bytes = health_pb2.HealthCheckRequest(service="a").SerializeToString()
        return request

    async def write(self, response: bytes) -> None:
        await self.reads.wait()
        self.heard.append(STATES.FromString(response).status)


async def test_a_follower_that_does_not_read_hears_how_it_is_when_it_reads_again() -> None:
    health = Health(["a"], "")
    await health.start()
    follower = Follower()
    watch: Any = health.servicer.handlers(None)["Watch"].stream_stream
    following = asyncio.create_task(watch(None, follower))
    await asyncio.sleep(0.1)

    health.serving()
    health.tell("a", serving=False)
    health.serving()
    follower.reads.set()
    await asyncio.sleep(0)
    health.not_serving()
    health.serving()
    await asyncio.sleep(0)

    assert follower.heard == [STATES.NOT_SERVING, STATES.SERVING, STATES.NOT_SERVING]
    following.cancel()
