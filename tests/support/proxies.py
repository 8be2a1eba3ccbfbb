"""A TCP proxy on the loopback interface that fails on demand: cuts at any byte, swallows, delays, is slow."""

import asyncio
from collections.abc import Callable
from typing import Self


class Proxy:
    """Forwards connections to `127.0.0.1:port`. Use it as an async context manager.

    Attributes:
        budget: called for each connection: after how many bytes towards the client it is cut; None for never.
        bytes_per_second: how many go on towards the server, of each connection; None for as many as come.
        delay_seconds: how long the first bytes towards the client are held back.
        connections: how many there were.
    """

    def __init__(self, port: int) -> None:
        self._upstream_port = port
        self.port = 0
        self.budget: Callable[[], int | None] = lambda: None
        self.bytes_per_second: float | None = None
        self.delay_seconds = 0.0
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._swallowed: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        return sum(not writer.is_closing() for writer in self._writers) // 2

    def cut(self) -> None:
        """Resets every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def swallow(self) -> None:
        """From now on forwards nothing of the connections that there are, in neither direction, and closes none."""
        self._swallowed |= self._writers

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _serve(self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writers = {client_writer}
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            writers.add(server_writer)
            self._writers |= writers
            await asyncio.gather(
                self._pump(client_reader, server_writer, None, 0.0, self.bytes_per_second),
                self._pump(server_reader, client_writer, self.budget(), self.delay_seconds, None),
            )
        except OSError:
            pass
        finally:
            for writer in writers:
                writer.transport.abort()
            self._writers -= writers

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        budget: int | None,
        delay_seconds: float,
        bytes_per_second: float | None,
    ) -> None:
        while data := await reader.read(1 << 16):
            await asyncio.sleep(delay_seconds)
            delay_seconds = 0.0
            if writer in self._swallowed:
                continue
            if budget is not None:
                data, budget = data[:budget], budget - len(data)
            writer.write(data)
            await writer.drain()
            if bytes_per_second is not None:
                await asyncio.sleep(len(data) / bytes_per_second)
            if budget is not None and budget <= 0:
                await asyncio.sleep(0)
                break
        raise ConnectionResetError
