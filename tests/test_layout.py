"""The layout keeps its promises (docs/architecture.md, Rooms)."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from epistream.indexer import comments, conflicts, disputes, generated, views

ROOT = Path(__file__).parent.parent
PORTIONS = [
    "proto/epistream/v1",
    "proto/epistream/wire",
    "indexer/epistream/indexer",
    "services/epistream/services",
    "clients/epistream/clients",
]
SOURCES = sorted(
    path
    for portion in ("proto", "indexer", "services", "clients")
    for path in (ROOT / portion).rglob("*.py")
    if "_pb2" not in path.name
)


def test_epistream_is_a_namespace_package_everywhere() -> None:
    assert not list(ROOT.glob("*/epistream/__init__.py"))


@pytest.mark.parametrize("portion", PORTIONS)
def test_every_portion_says_that_it_is_typed(portion: str) -> None:
    assert (ROOT / portion / "py.typed").is_file()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_is_named_after_nothing(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base_classes"}


def test_functions_fit_on_a_screen() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert not too_long


def test_only_views_apply_writes_views() -> None:
    parts = {one.__name__.rpartition(".")[2]: one.TABLES for one in (comments, conflicts, disputes, generated)}
    guilty = []
    for path in SOURCES:
        if path.name != "views.py":
            others = "|".join(sorted(set(views.TABLES) - set(parts.get(path.stem, ()))))
            writes = re.compile(rf"(INSERT[A-Z ]*INTO|UPDATE|DELETE FROM|REPLACE INTO) ({others})\b")
            calls = re.search(rf"\b({'|'.join(parts)})\.apply\b", path.read_text())
            guilty += [path.name] if writes.search(path.read_text()) or calls else []
    assert not guilty


def test_kafka_is_never_given_a_deserializer() -> None:
    guilty = [path.name for path in SOURCES if re.search(r"(key|value)_deserializer\s*=", path.read_text())]
    assert not guilty


def test_locked_requirements_have_hashes_and_no_addresses() -> None:
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text()
        pinned = re.findall(r"^[A-Za-z0-9][^=\n]*==", text, re.MULTILINE)
        assert pinned, path.name
        assert len(re.findall(r"^\S.*\\\n\s+--hash=sha256:", text, re.MULTILINE)) == len(pinned), path.name
        assert "://" not in text, path.name


def test_the_floors_are_those_of_the_generated_code() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    grpc = (ROOT / "proto/epistream/v1/ingest_service_pb2_grpc.py").read_text()
    messages = (ROOT / "proto/epistream/v1/knowledge_pb2.py").read_text()
    grpc_floor = re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", grpc)
    protobuf_floor = re.search(r"Protobuf Python Version: ([\d.]+)", messages)
    assert grpc_floor is not None
    assert protobuf_floor is not None
    assert f"grpcio>={grpc_floor[1]}" in dependencies
    assert f"protobuf>={protobuf_floor[1]}" in dependencies


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs/decisions"
    rows = re.findall(
        r"^\| \[(\d{4})\]\(([\w-]+\.md)\) \| (.+?) \| .+ \|$", (folder / "README.md").read_text(), re.MULTILINE
    )
    said = [
        (f"{int(heading[1]):04}", path.name, heading[2])
        for path in sorted(folder.glob("0*.md"))
        if (heading := re.match(r"# (\d+)\. (.+)", path.read_text()))
    ]
    assert rows == said
    assert [path.name for path in sorted(folder.glob("*.md"))] == [*(name for _, name, _ in rows), "README.md"]
    assert [number for number, _, _ in rows] == [f"{number:04}" for number in range(1, len(rows) + 1)]
