"""How the service opens its Kafka clients, without a Kafka."""

import ast
import sys
import threading
from pathlib import Path

import pytest

from epistream.services.kafka import clients
from epistream.wire.errors import Broken, Unavailable

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("opened", [clients.consumer, clients.admin], ids=["consumer", "admin"])
def test_a_client_that_finds_no_kafka_leaves_nothing_behind(opened: object) -> None:
    """Tried every few seconds while Kafka is away, it must not leave a thread each time."""
    assert callable(opened)
    before = set(threading.enumerate())
    with pytest.raises(Unavailable, match="Is Kafka running"), opened("127.0.0.1:1", "test"):
        pass
    assert set(threading.enumerate()) <= before  # what other tests left may end meanwhile


def test_nothing_is_read_without_the_compiled_check(monkeypatch: pytest.MonkeyPatch) -> None:
    clients.require_crc32c()
    monkeypatch.setitem(sys.modules, "crc32c", None)
    with pytest.raises(Broken, match="crc32c"):
        clients.require_crc32c()


def test_no_deserializer_is_given_to_kafka_python() -> None:
    """With one, a single bad record makes poll spin for ever."""
    offenders = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("services", "clients", "indexer", "tests", "bench")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.keyword) and node.arg in {"key_deserializer", "value_deserializer"}
    ]
    assert offenders == []
