"""The service's commands `up` and `fsck`: what is refused, what is said, and what damage is found."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import apsw
import grpc
import pytest

from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from tests.support.rpc import client_of, rpc_failure_of, told_by
from tests.support.service import RunningService, running_service
from tests.support.waits import until

UNKNOWN_FIELD = b"\xc0\x3e\x00"
NOT_PROTOBUF = b"\x00"


def up(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "epistream.services", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", ["address", "metrics-address"])
def test_an_address_that_others_reach_needs_a_word(tmp_path: Path, name: str) -> None:
    here = ["--address=127.0.0.1:0", "--metrics-address=127.0.0.1:0"]
    ended = up("up", f"--folder={tmp_path / 'data'}", "--encoder=none", *here, f"--{name}=0.0.0.0:0")
    assert ended.returncode == 2
    assert "--insecure" in ended.stderr
    assert not (tmp_path / "data").exists()


def test_another_instance_than_the_first_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when somebody scales the StatefulSet, which tells each pod its number by the environment."""
    free = [f"--folder={tmp_path / 'data'}", "--encoder=none", "--address=127.0.0.1:0", "--metrics-address="]
    monkeypatch.setenv("EPISTREAM_INSTANCE_INDEX", "1")
    second = up("up", *free)
    assert second.returncode == 2
    assert "this is instance 1, and one instance, 0, owns the store" in second.stderr
    assert "--replicas=1" in second.stderr
    assert not (tmp_path / "data").exists()
    with running_service(tmp_path / "data", instance_index="0") as first:
        assert first.is_running()


def test_a_folder_and_an_address_in_use_are_said_to_be_so(service: RunningService, tmp_path: Path) -> None:
    free = ["--address=127.0.0.1:0", "--metrics-address=", "--encoder=none"]
    folder = up("up", f"--folder={service.folder}", *free)
    assert folder.returncode == 3
    assert "in use" in folder.stderr
    address = up("up", f"--folder={tmp_path / 'data'}", f"--address={service.address}", *free[1:])
    assert address.returncode == 3
    assert "cannot be bound" in address.stderr
    taken = [free[0], f"--metrics-address={service.metrics_address}", free[2]]
    metrics = up("up", f"--folder={tmp_path / 'data'}", *taken)
    assert metrics.returncode == 3
    assert "cannot be bound" in metrics.stderr


async def test_where_everybody_is_trusted_it_serves_at_every_address_and_says_so(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", address="0.0.0.0:0", insecure=None) as service:
        port = service.address.rpartition(":")[2]
        async with client_of(f"127.0.0.2:{port}") as client:  # who listens at 127.0.0.1 alone is not found here
            await client.make_namespace("trusted")
        where = f"{service.address} can be reached from other machines"
        await until(lambda: "security" in said_by(service), "what is said of the security")
        assert said_by(service)["security"] == f"{where}, NO ENCRYPTION, ANYBODY MAY DO ANYTHING"


async def test_where_only_the_metrics_are_for_everybody_it_says_so(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", {"metrics-address": "0.0.0.0:0"}, insecure=None) as service:
        where = f"{service.metrics_address} can be reached from other machines"
        await until(lambda: "security" in said_by(service), "what is said of the security")
        assert said_by(service)["security"] == f"{where}, NO ENCRYPTION, ANYBODY MAY READ THE METRICS"


def said_by(service: RunningService) -> dict[str, str]:
    """What it printed at its start, by the names before."""
    return dict(line.split(maxsplit=1) for line in service.logged().splitlines() if line and line[0].isalpha())


def test_what_is_in_use_is_said_at_the_start(service: RunningService) -> None:
    said = said_by(service)
    assert said["gRPC"] == service.address
    assert said["security"] == "loopback only, no TLS, nobody is asked who they are"
    assert said["encoder"] == "none"


def test_fsck_finds_nothing_in_a_good_store_and_the_damage_in_a_bad_one(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:

        async def fill() -> None:
            async with client_of(service.address) as client:
                await client.make_namespace("fsck")
                await client.submit_many("fsck", range(1, 50))

        asyncio.run(fill())
        assert up("fsck", f"--folder={tmp_path / 'data'}").returncode == 3, "a service has it open"
        service.kill()
    good = up("fsck", f"--folder={tmp_path / 'data'}")
    assert (good.returncode, good.stderr) == (0, "")
    with running_service(tmp_path / "data"):
        pass  # a stop leaves a snapshot of the index; without it the damage would be met by the next start
    damage_a_change(tmp_path / "data" / "store.sqlite", UNKNOWN_FIELD)
    bad = up("fsck", f"--folder={tmp_path / 'data'}")
    assert bad.returncode == 1
    assert "is not what was written" in bad.stdout
    with running_service(tmp_path / "data") as service:
        asyncio.run(answers_all_but_item_7(service.address))
    damage_a_change(tmp_path / "data" / "store.sqlite", NOT_PROTOBUF)
    worse = up("fsck", f"--folder={tmp_path / 'data'}")
    assert worse.returncode == 1
    assert "is not what was written" in worse.stdout
    assert up("fsck", f"--folder={tmp_path / 'nowhere'}").returncode == 2


async def answers_all_but_item_7(address: str) -> None:
    """What is damaged is told as such, and not answered."""
    async with client_of(address) as client:
        for number in (6, 8):
            asked = knowledge_pb.GetRequest(namespace="fsck", item_id=f"item-{number}")
            assert (await client.knowledge.Get(asked)).change.knowledge.content == f"Fact number {number}."
        damaged = knowledge_pb.GetRequest(namespace="fsck", item_id="item-7")
        error = await rpc_failure_of(client.knowledge.Get(damaged))
        assert error.code() == grpc.StatusCode.DATA_LOSS
        assert "not what was written" in told_by(error).message


def damage_a_change(store: Path, appended: bytes) -> None:
    connection = apsw.Connection(str(store))
    connection.execute("UPDATE journal SET change = CAST(change || ? AS BLOB) WHERE revision = 7", (appended,))
    connection.close()


def test_the_addresses_file_is_whole(service: RunningService) -> None:
    found = json.loads(service.folder.with_name("data.addresses.json").read_text())
    assert found == {
        "address": service.address,
        "metrics_address": service.metrics_address,
        "health_address": "",
        "pid": service.pid,
    }
