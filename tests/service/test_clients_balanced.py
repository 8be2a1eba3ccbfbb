"""Calls of the SDK over a channel to several services go to all of them."""

from typing import Any, TypeAlias

import grpc.aio
import pytest

from epistream.clients.channel import connect
from tests.support.waits import until

METHOD = "/test.Test/Call"
Call: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


class Answering:
    """A service that counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.server = grpc.aio.server()
        handler: Any = grpc.unary_unary_rpc_method_handler(self._answer)
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", {"Call": handler}),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    async def _answer(self, request: bytes, _: object) -> bytes:
        self.asked += 1
        return request


async def test_calls_go_to_all_addresses_in_turns() -> None:
    services = [Answering(), Answering()]
    for service in services:
        await service.server.start()
    async with connect("ipv4:" + ",".join(f"127.0.0.1:{service.port}" for service in services)) as channel:
        call: Call = channel.unary_unary(METHOD)

        async def both_asked() -> bool:
            await call(b"", wait_for_ready=True)
            return all(service.asked for service in services)

        await until(both_asked, "a call to each")
        before = [service.asked for service in services]
        for _ in range(10):
            await call(b"")
        assert [service.asked - b for service, b in zip(services, before, strict=True)] == [5, 5]
        await services[0].server.stop(0)
        for _ in range(4):
            await call(b"", wait_for_ready=True)
        assert services[1].asked == before[1] + 5 + 4
    await services[1].server.stop(0)


@pytest.mark.parametrize("target", ["dns:///localhost:{}", "localhost:{}"])
async def test_one_address_is_one_service(target: str) -> None:
    service = Answering()
    await service.server.start()
    async with connect(target.format(service.port)) as channel:
        call: Call = channel.unary_unary(METHOD)
        assert await call(b"x", wait_for_ready=True) == b"x"
    await service.server.stop(0)
