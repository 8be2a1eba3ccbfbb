"""A bench of hostile clients fails where an attack did less than it says, and where the healthy have no answer."""

import asyncio
import math
import socket
import threading
from pathlib import Path

import grpc
import pytest
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

from bench.attackers import HOSTILE, KINDS, Attack, Done, is_no_call, is_told_when_to_come_back, is_too_much
from bench.healthy import p99_from
from bench.hostile import kept
from epistream.wire.errors import InvalidInput, Unavailable
from epistream.wire.status import to_status
from tests.support.certificates import Authority


@pytest.mark.parametrize("name", KINDS)
def test_an_attack_that_did_what_it_says_is_one(name: str) -> None:
    followed = KINDS[name].count
    count = followed * (60 if KINDS[name].unit == "/s" else 1)
    refused = int(KINDS[name].refused * count)

    assert all(figure.ok for figure in kept(name, Done(60.0, count, refused, 0), followed))
    assert not all(figure.ok for figure in kept(name, Done(60.0, int(0.9 * count), refused, 0), followed))
    if refused:
        assert not all(figure.ok for figure in kept(name, Done(60.0, count, int(0.9 * refused), 0), followed))


def test_of_streams_all_have_to_be_open() -> None:
    count = KINDS["slow"].count

    assert not all(figure.ok for figure in kept("slow", Done(60.0, count - 1, 0, 1), count))
    assert not all(figure.ok for figure in kept("slow", Done(60.0, count, 0, 0), count - 1))


async def test_a_connection_that_is_not_made_does_not_count(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    attack = Attack(f"127.0.0.1:{port}", Authority(tmp_path).ca_file, HOSTILE)

    await attack.connect(lambda _: True)
    async with attack.client() as client:
        await attack.call(client.call_raw("IngestService/Submit", b""), is_too_much)

    done = attack.so_far()
    assert (done.done, done.refused, done.failed) == (0, 0, 2)


async def test_what_others_count_meanwhile_is_not_forgotten(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = grpc.aio.server()
    port = server.add_secure_port("127.0.0.1:0", authority.serving("127.0.0.1"))
    await server.start()
    attack = Attack(f"127.0.0.1:{port}", authority.ca_file, HOSTILE)
    together = threading.Barrier(4)

    await asyncio.gather(*(attack.connect(lambda _: together.wait(10) >= 0) for _ in range(4)))

    await server.stop(None)
    done = attack.so_far()
    assert (done.done, done.refused, done.failed) == (4, 4, 0)


class Refusal(grpc.aio.AioRpcError):
    """As the service refuses a call."""

    def __init__(self, status: status_pb2.Status) -> None:
        told = rpc_status.to_status(status)
        super().__init__(told.code, grpc.aio.Metadata(), grpc.aio.Metadata(*told.trailing_metadata), told.details)


def test_only_the_refusal_that_is_due_counts_as_one() -> None:
    over = Unavailable("you may send 20 submissions a second", reason="RATE_LIMITED", retry_delay_seconds=0.05)
    large = InvalidInput("too large", reason="TOO_LARGE")
    wrong = InvalidInput("the bytes are no message")
    bare = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="no")

    assert is_told_when_to_come_back(Refusal(to_status(over)))
    assert not is_told_when_to_come_back(Refusal(to_status(large)))
    assert not is_told_when_to_come_back(Refusal(bare))
    assert is_too_much(Refusal(to_status(large)))
    assert not is_too_much(Refusal(to_status(wrong)))
    assert is_no_call(Refusal(to_status(wrong)))
    assert not is_no_call(Refusal(to_status(large)))


def test_what_has_no_answer_took_for_ever() -> None:
    found = [(10.0 + number / 100, 0.001 * (number % 10)) for number in range(980)]

    assert p99_from(found, 10.0, 980) == pytest.approx(9)
    assert p99_from(found, 10.0, 1000) == math.inf
    assert p99_from(found, 10.0, 985) == pytest.approx(9)
