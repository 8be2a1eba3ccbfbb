"""The file of Kafka's classes that tests share: one that is missing or damaged is made anew, and none does no harm."""

import os
import sys
from pathlib import Path

import pytest

from epistream.services.kafka.local import KafkaRuntime
from epistream.wire.errors import Unavailable
from tests.support import kafka_runtime
from tests.support.kafka_runtime import JAVA_OPTIONS, laid_out

RUNTIME = KafkaRuntime(Path(sys.executable), (Path("kafka.jar"),))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was made instead of by Kafka."""
    made = []

    def make(_runtime: KafkaRuntime, file: Path) -> None:
        assert not file.exists(), "Java does not write over one"
        file.write_bytes(b"classes")
        made.append(file)

    monkeypatch.setattr(kafka_runtime, "lay_out", make)
    return made


def test_it_is_made_once(made: list[Path], tmp_path: Path) -> None:
    assert [laid_out(RUNTIME, tmp_path), laid_out(RUNTIME, tmp_path)] == 2 * made
    other = KafkaRuntime(RUNTIME.java, (Path("other.jar"),))
    assert laid_out(other, tmp_path) == made[1] != made[0]


@pytest.mark.parametrize("content", [None, b"", b"cla", b"clasps"])
def test_one_that_is_missing_or_damaged_is_made_anew(made: list[Path], tmp_path: Path, content: bytes | None) -> None:
    file = laid_out(RUNTIME, tmp_path)
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert laid_out(RUNTIME, tmp_path) == file
    assert (file.read_bytes(), len(made)) == (b"classes", 2)


def test_one_whose_making_was_broken_off_is_made_anew(made: list[Path], tmp_path: Path) -> None:
    laid_out(RUNTIME, tmp_path).with_suffix(".sha256").unlink()
    laid_out(RUNTIME, tmp_path)
    assert len(made) == 2


def test_where_none_can_be_made_kafka_runs_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(_runtime: KafkaRuntime, _file: Path) -> None:
        raise Unavailable("Kafka was not ready in time")

    monkeypatch.setattr(kafka_runtime, "lay_out", fail)
    monkeypatch.setattr(kafka_runtime, "find_runtime", lambda: RUNTIME)
    monkeypatch.setattr(kafka_runtime, "default_cache", lambda: tmp_path)
    monkeypatch.delenv(JAVA_OPTIONS, raising=False)
    assert kafka_runtime.kafka_runtime.__wrapped__() == RUNTIME
    assert JAVA_OPTIONS not in os.environ
