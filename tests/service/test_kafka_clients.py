"""How the service opens its Kafka clients, without a Kafka."""

import ast
import sys
import threading
from collections.abc import Callable, Iterable
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


def places(folders: Iterable[str], offends: Callable[[ast.AST], bool]) -> list[str]:
    """Where the code in these folders has a node that offends."""
    return [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.expr | ast.keyword) and offends(node)
    ]


def test_no_deserializer_is_given_to_kafka_python() -> None:
    """With one, a single bad record makes poll spin for ever."""
    everywhere = ("services", "clients", "indexer", "tests", "bench")
    names = {"key_deserializer", "value_deserializer"}
    assert places(everywhere, lambda node: isinstance(node, ast.keyword) and node.arg in names) == []


def test_no_consumer_joins_a_group_or_listens_to_one() -> None:
    """Partitions are assigned by hand (docs/decisions/0009): nobody takes one away, and nothing is to be heard of it.

    Settings may also be the keys of a dictionary.
    """

    def joins(node: ast.AST) -> bool:
        match node:
            case ast.keyword(arg="group_id" | "listener") | ast.Constant(value="group_id" | "listener"):
                return True
            case ast.Call(func=ast.Attribute(attr="subscribe")):
                return True
        return False

    kafka = ["services/epistream/services/kafka"]
    assert places(kafka, joins) == []
    assert places(kafka, lambda node: isinstance(node, ast.Attribute) and node.attr == "assign") != []
