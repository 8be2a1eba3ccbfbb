"""The servicer of `epistream.v1.AdminService`."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from epistream.services import copier
from epistream.services.calls import Calls, Context, Handler
from epistream.services.metrics import Metrics
from epistream.v1 import admin_service_pb2 as api
from epistream.v1.backup_pb2 import BackupHeader
from epistream.wire.errors import Broken, Unavailable

SERVICE: Final = api.DESCRIPTOR.services_by_name["AdminService"].full_name

STALLED_SECONDS: Final = 60.0
"""A client that takes nothing for so long loses its turn: it would keep every other backup waiting."""
_RETRY_DELAY_SECONDS: Final = 10.0
_READ_AHEAD_BYTES: Final = 1024 * 1024
"""Of what the copier says; asyncio keeps twice as much at most."""


class AdminServicer:
    """Sends backups, one at a time. Used on the event loop's thread only."""

    def __init__(self, folder: Path, metrics: Metrics, *, stalled_seconds: float = STALLED_SECONDS) -> None:
        """`folder` is the store's; a client may take nothing for `stalled_seconds`."""
        self._folder, self._metrics, self._stalled_seconds = folder.resolve(), metrics, stalled_seconds
        self._busy = False

    def handlers(self, calls: Calls) -> dict[str, Handler]:
        """The service's methods."""
        return {
            "Backup": calls.answer_stream(
                "AdminService/Backup", api.BackupRequest.FromString, partial(self._backup, calls.draining)
            )
        }

    async def _backup(self, draining: asyncio.Event, _: api.BackupRequest, context: Context) -> None:
        if self._busy:
            raise Unavailable(
                "another backup is being made, and only one is at a time: try again later",
                reason="OVERLOADED",
                retry_delay_seconds=_RETRY_DELAY_SECONDS,
            )
        self._busy = True
        begun = asyncio.get_running_loop().time()
        try:
            async with _copier(self._folder) as process:
                header = await self._send(process, draining, context)
        finally:
            self._busy = False
        self._metrics.backup_last_success.set(header.create_time.ToMicroseconds() / 1e6)
        self._metrics.backup_duration.set(asyncio.get_running_loop().time() - begun)

    async def _send(self, process: Process, draining: asyncio.Event, context: Context) -> BackupHeader:
        """Hand on what the copier says, each message when the one before was taken. Returns the header.

        Raises:
            Unavailable: DRAINING, the service goes down; DEADLINE, the client takes nothing.
            Broken: the journal is damaged.
        """
        first = message = await _said(process)
        while message is not None:
            if draining.is_set():
                raise Unavailable("the service is going down: begin the backup anew", reason="DRAINING")
            try:
                async with asyncio.timeout(self._stalled_seconds):
                    await context.write(message)
            except TimeoutError as error:
                raise Unavailable(
                    f"nothing was taken for {self._stalled_seconds:g} seconds: begin the backup anew", reason="DEADLINE"
                ) from error
            message = await _said(process)
        return api.BackupResponse.FromString(first or b"").header


@asynccontextmanager
async def _copier(folder: Path) -> AsyncIterator[Process]:
    """The copier's process, which does not outlive the block."""
    program = (sys.executable, "-m", copier.__name__, str(folder))
    process = await asyncio.create_subprocess_exec(*program, stdout=PIPE, stderr=PIPE, limit=_READ_AHEAD_BYTES)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()  # its pipes are closed then, too


async def _said(process: Process) -> bytes | None:
    """The next message of the copier; None when it has said all.

    Raises:
        Broken: the journal is damaged.
        RuntimeError: the copier failed.
    """
    assert process.stdout is not None  # noqa: S101 - it was asked for
    assert process.stderr is not None  # noqa: S101 - it was asked for
    try:
        length = int.from_bytes(await process.stdout.readexactly(copier.LENGTH_BYTES), "little")
        return await process.stdout.readexactly(length)
    except asyncio.IncompleteReadError:
        why = (await process.stderr.read()).decode(errors="replace").strip()
    code = await process.wait()
    if code == copier.CORRUPT:
        raise Broken(why, reason="CORRUPT")
    if code:
        raise RuntimeError(f"the copier ended with {code}: {why}")
    return None
