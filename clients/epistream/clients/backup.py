"""Writes a service's backup into a file: whole and verified, or not under its name.

The stream goes into `FILE.partial`. When all of it is there, its SHA-256 is what the service says, and it is on the
disk, the file gets its name. So whatever has the name is a backup, and an older one is kept until then.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from epistream.clients.channel import Connection, translate
from epistream.clients.credentials import Credentials
from epistream.v1 import admin_service_pb2 as admin
from epistream.v1 import admin_service_pb2_grpc as admin_rpc
from epistream.v1 import backup_pb2
from epistream.wire.errors import Broken, Unavailable

PARTIAL: Final = ".partial"
"""What is added to the name of a file that is not whole."""
SILENCE_SECONDS: Final = 60.0
"""How long a service may be silent."""

Progress = Callable[[backup_pb2.BackupHeader, int], None]
"""Told what the backup is of and how many bytes there are, after each message."""


@dataclass(frozen=True, slots=True)
class BackupFile:
    """A backup that is on the disk."""

    path: Path
    header: backup_pb2.BackupHeader
    """What it is of."""
    size_bytes: int
    sha256: bytes
    """Over all but its last 32 bytes, which are these."""


async def back_up(
    target: str | grpc.aio.Channel,
    path: Path,
    *,
    credentials: Credentials | None = None,
    silence_seconds: float = SILENCE_SECONDS,
    progress: Progress = lambda _header, _bytes: None,
) -> BackupFile:
    """Write a backup of all that a service knows into the file at `path`, replacing the one before in the end.

    Args:
        target: the service, as `host:port` or as a channel, which stays the caller's to close.
        path: the file.
        credentials: who asks, and how the connection is encrypted; only with `host:port`.
        silence_seconds: how long the service may be silent.
        progress: told how it goes.

    Raises:
        Unavailable: the service cannot be reached, is silent, goes down, or makes another backup.
        Broken: what arrived is not what the service sent.
        EpistreamError: as the service says.
        OSError: the file cannot be written.
    """
    connection = Connection(target, credentials)
    writing = _Writing(path)
    try:
        call: Any = admin_rpc.AdminServiceStub(connection.channel).Backup(admin.BackupRequest())
        try:
            while (message := await _next(call, silence_seconds)) is not None:
                await asyncio.to_thread(writing.take, message)
                progress(writing.header, writing.size_bytes)
        finally:
            call.cancel()
        return await asyncio.to_thread(writing.finish)
    finally:
        writing.close()
        await connection.aclose()


async def _next(call: Any, silence_seconds: float) -> admin.BackupResponse | None:
    """The next message; None after the last."""
    limit = asyncio.timeout(silence_seconds)
    try:
        async with limit:
            message = await call.read()
    except grpc.aio.AioRpcError as error:
        raise translate(error) from error
    except TimeoutError as error:
        text = f"No word from the service for {silence_seconds:g} s. Check the address and that the service runs."
        raise Unavailable(text, reason="DEADLINE") from error
    return None if message is grpc.aio.EOF else message


class _Writing:
    """A backup that is on its way into its file. Its methods block.

    The file is opened when the service begins to send, so that a backup that is refused touches no other's file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._partial = path, path.with_name(path.name + PARTIAL)
        self._file: BufferedRandom | None = None
        self._trailer: admin.BackupTrailer | None = None
        self.header = backup_pb2.BackupHeader()
        self.size_bytes = 0

    def take(self, message: admin.BackupResponse) -> None:
        """Write what a message brings."""
        match message.WhichOneof("message"):
            case "header":
                self.header = message.header
                self._file = self._partial.open("w+b")
            case "data":
                self._add(message.data)
            case "trailer":
                self._trailer = message.trailer
            case _:
                pass  # a kind of a later version

    def finish(self) -> BackupFile:
        """Verify what is in the file, make it durable, and give it its name.

        Raises:
            Broken: something is missing, or is not what the service sent.
        """
        file, trailer = self._file, self._trailer
        if file is None or trailer is None:
            raise Broken("The stream ended before the backup was whole. Try again.", reason="CORRUPT")
        file.seek(0)
        if trailer.data_bytes != self.size_bytes or trailer.sha256 != hashlib.file_digest(file, "sha256").digest():
            text = f"{self._partial} is not what the service sent: the SHA-256 does not fit. Does another write there?"
            raise Broken(text, reason="CORRUPT")
        self._add(trailer.sha256)
        file.flush()
        os.fsync(file.fileno())
        self._partial.replace(self._path)
        _sync(self._path.parent)
        return BackupFile(self._path, self.header, self.size_bytes, trailer.sha256)

    def close(self) -> None:
        """Let go of the file, and remove it where it did not become a backup."""
        if self._file is not None:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    def _add(self, data: bytes) -> None:
        if self._file is None:
            raise Broken("The service sent data before it said of what. Do the versions fit?")
        self._file.write(data)
        self.size_bytes += len(data)


def _sync(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
