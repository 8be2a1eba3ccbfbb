"""The client of a backup, its file, and its command: whole or not there."""

import asyncio
import json
import signal
from pathlib import Path
from shutil import copytree
from typing import Any, Final

import grpc
import grpc.aio
import pytest

from epistream.clients.backup import PARTIAL, back_up
from epistream.v1 import admin_service_pb2 as api
from epistream.v1 import backup_pb2
from epistream.wire.errors import Broken, Unavailable
from tests.support.backups import (
    LARGE_BYTES,
    LARGE_ITEMS,
    begun,
    in_turn,
    names_in,
    taken,
)
from tests.support.cli import COMMAND, clean_environment, epistream
from tests.support.proxies import Proxy
from tests.support.rpc import client_of
from tests.support.service import RunningService, running_service
from tests.support.waits import until, wait_until


class Lying(grpc.GenericRpcHandler):
    """A service whose backups are these messages."""

    def __init__(self, *messages: api.BackupResponse) -> None:
        self._messages = messages

    def service(self, _: grpc.HandlerCallDetails) -> Any:
        async def answer(_: bytes, context: Any) -> None:
            for message in self._messages:
                await context.write(message.SerializeToString())

        return grpc.unary_stream_rpc_method_handler(answer)


HEADER: Final = api.BackupResponse(header=backup_pb2.BackupHeader(format=1))
DATA: Final = api.BackupResponse(data=b"data")


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "ended before the backup was whole"),
        ([HEADER, DATA], "ended before the backup was whole"),
        ([HEADER, DATA, api.BackupResponse(trailer=api.BackupTrailer(data_bytes=4, sha256=bytes(32)))], "SHA-256"),
        (
            [HEADER, DATA, api.BackupResponse(trailer=api.BackupTrailer(data_bytes=5, sha256=b""))],
            "SHA-256",
        ),
        ([DATA], "before it said of what"),
    ],
)
async def test_what_is_not_whole_gets_no_name_and_the_one_before_is_kept(
    tmp_path: Path, messages: list[api.BackupResponse], says: str
) -> None:
    (tmp_path / "b").write_bytes(b"of yesterday")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Lying(*messages),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        with pytest.raises(Broken, match=says):
            await back_up(f"127.0.0.1:{port}", tmp_path / "b")
    finally:
        await server.stop(None)
    assert names_in(tmp_path) == ["b"]
    assert (tmp_path / "b").read_bytes() == b"of yesterday"


async def test_a_connection_that_breaks_leaves_nothing(large_service: RunningService, tmp_path: Path) -> None:
    async with Proxy(int(large_service.address.rpartition(":")[2])) as proxy:
        proxy.budget = lambda: LARGE_ITEMS * LARGE_BYTES // 2
        with pytest.raises(Unavailable):
            await in_turn(lambda: back_up(proxy.address, tmp_path / "b"))
    assert names_in(tmp_path) == []


async def test_a_connection_whose_age_is_over_ends_the_backup_and_leaves_nothing(
    large_store: Path, tmp_path: Path
) -> None:
    copytree(large_store, tmp_path / "data")
    folder = tmp_path / "backups"
    folder.mkdir()
    with running_service(tmp_path / "data", {"max_connection_age_seconds": "1"}) as service:
        ended = 'epistream_grpc_requests_total{code="CANCELLED",method="AdminService/Backup"}'

        def takes_no_more(_header: backup_pb2.BackupHeader, _size: int) -> None:
            wait_until(lambda: service.metric(ended, 0), "the end of the call")

        with pytest.raises(Unavailable, match=r"max connection age"):
            await back_up(service.address, folder / "b", progress=takes_no_more)
    assert names_in(folder) == []


async def test_a_silent_service_is_given_up(large_service: RunningService, tmp_path: Path) -> None:
    async with Proxy(int(large_service.address.rpartition(":")[2])) as proxy:
        with pytest.raises(Unavailable, match=r"No word from the service for 2 s"):
            await in_turn(
                lambda: back_up(
                    proxy.address, tmp_path / "b", silence_seconds=2, progress=lambda _header, _size: proxy.swallow()
                )
            )
    assert names_in(tmp_path) == []


async def test_a_killed_client_leaves_a_partial_file_only(large_service: RunningService, tmp_path: Path) -> None:
    file, partial = tmp_path / "b", tmp_path / f"b{PARTIAL}"
    async with client_of(large_service.address) as other:
        await taken(await begun(other))  # what the tests before have given up has ended
    async with Proxy(int(large_service.address.rpartition(":")[2])) as proxy:
        arguments = [*COMMAND, "backup", "--output", str(file), "-a", proxy.address]
        client = await asyncio.create_subprocess_exec(*arguments, env=clean_environment({}))
        await until(lambda: partial.exists() or client.returncode is not None)
        proxy.swallow()
        client.kill()
        assert await client.wait() == -signal.SIGKILL
    assert not file.exists()
    assert partial.exists()
    await in_turn(lambda: back_up(large_service.address, file))
    assert names_in(tmp_path) == ["b"]


# The command line


def test_backups_in_a_folder_are_named_by_their_time_and_the_oldest_go(
    large_service: RunningService, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    old = [folder / f"epistream-2026010{n}T000000Z.backup" for n in range(1, 4)]
    others = [folder / "mine.backup", folder / "epistream-before-upgrade.backup"]
    left = folder / f"epistream-20260104T000000Z.backup{PARTIAL}"
    for path in (*old, *others, left):
        path.write_bytes(b"")
    done = epistream("backup", "--output", f"{folder}/", "--keep", "2", "--json", "-a", large_service.address)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    made = Path(told["file"])
    assert set(folder.iterdir()) == {made, old[2], *others}
    assert (made.stat().st_size, made.read_bytes()[-32:].hex()) == (told["bytes"], told["sha256"])
    assert told["header"]["namespaces"][0] == {"name": "large", "head_revision": str(LARGE_ITEMS)}
    people = epistream("backup", "--output", str(tmp_path / "b"), "-a", large_service.address)
    assert people.code == 0
    assert f"large at revision {LARGE_ITEMS}" in people.out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--output", "{}/nowhere/"], 2, "there is no folder"),
        (["--output", "{}/nowhere/b"], 2, "there is no folder"),
        (["--output", "{}/b", "--keep", "2"], 2, "needs a folder"),
        (["--output", "{}/b", "-a", "127.0.0.1:1"], 3, "No service can be reached"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_asked(
    tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    done = epistream("backup", *(argument.format(tmp_path) for argument in arguments))
    assert (done.code, list(tmp_path.iterdir())) == (code, [])
    assert says in done.err
