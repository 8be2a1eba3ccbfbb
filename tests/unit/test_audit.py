"""The audit log's files: rotated, bounded, and for the service's user alone."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from epistream.services.security import audit
from epistream.services.security.audit import Audit

LINE_BYTES = 100
LINES_OF_A_FILE = 10


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What could not be written, while files are small and the process's files are for everybody by default."""
    monkeypatch.setattr(audit, "FILE_BYTES", LINES_OF_A_FILE * LINE_BYTES + 1)
    before = os.umask(0)
    yield []
    os.umask(before)


def record(log: Audit, numbers: range) -> None:
    for number in numbers:
        log.record({"n": f"{number:04}", "padding": "x" * (LINE_BYTES - 70)})


def numbers_in(file: Path) -> list[int]:
    lines = file.read_bytes().splitlines(keepends=True)
    assert {len(line) for line in lines} <= {LINE_BYTES}
    return [int(json.loads(line)["n"]) for line in lines]


def test_the_newest_lines_are_kept_in_so_many_files_none_of_which_grows_further(
    tmp_path: Path, failures: list[str]
) -> None:
    log = Audit(tmp_path / "audit.jsonl", failures.append)
    lines = LINES_OF_A_FILE * (audit.FILES + 3) + 5
    record(log, range(lines))
    log.close()
    rotated = [tmp_path / f"audit.jsonl.{n}" for n in range(audit.FILES, 0, -1)]
    files = [*rotated, tmp_path / "audit.jsonl"]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    kept = [number for file in files for number in numbers_in(file)]
    assert kept == [*range(lines - LINES_OF_A_FILE * audit.FILES - 5, lines)]
    assert failures == []


def test_nobody_else_may_read_them(tmp_path: Path, failures: list[str]) -> None:
    log = Audit(tmp_path / "audit.jsonl", failures.append)
    record(log, range(2 * LINES_OF_A_FILE))
    log.close()
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


def test_a_log_is_gone_on_with_and_keeps_the_mode_that_it_has(tmp_path: Path, failures: list[str]) -> None:
    path = tmp_path / "audit.jsonl"
    for start in (0, 3):
        log = Audit(path, failures.append)
        record(log, range(start, start + 3))
        log.close()
        path.chmod(0o640)
    assert numbers_in(path) == [*range(6)]
    log = Audit(path, failures.append)
    log.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_line_that_cannot_be_written_is_told(tmp_path: Path, failures: list[str]) -> None:
    """Such as while the folder is not there at a rotation: the call goes on."""
    folder = tmp_path / "logs"
    folder.mkdir()
    log = Audit(folder / "audit.jsonl", failures.append)
    record(log, range(LINES_OF_A_FILE))
    (folder / "audit.jsonl").unlink()
    folder.rmdir()
    record(log, range(LINES_OF_A_FILE, LINES_OF_A_FILE + 1))
    assert failures == ["audit"]
    folder.mkdir()
    record(log, range(LINES_OF_A_FILE + 1, LINES_OF_A_FILE + 2))
    log.close()
    assert numbers_in(folder / "audit.jsonl") == [LINES_OF_A_FILE + 1]
    assert failures == ["audit"]
