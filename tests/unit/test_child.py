"""A child process lives as long as it is wanted, and no longer than this one."""

import os
import threading
from pathlib import Path

import pytest

from epistream.services.kafka.child import Child
from tests.support.processes import is_running


def _child(folder: Path, *command: str) -> Child:
    return Child(command, folder=folder, environment=os.environ, log=folder / "log")


def test_its_id_is_the_program_s_and_its_output_is_in_the_log(tmp_path: Path) -> None:
    child = _child(tmp_path, "/bin/sh", "-c", "echo $$; pwd; echo oh >&2; exit 7")
    assert child.wait(10) == 7
    assert child.exit_code == 7
    assert (tmp_path / "log").read_text().splitlines() == [str(child.pid), str(tmp_path), "oh"]


def test_it_lives_on_when_the_thread_that_asked_for_it_has_ended(tmp_path: Path) -> None:
    started: list[Child] = []
    thread = threading.Thread(target=lambda: started.append(_child(tmp_path, "/bin/sleep", "60")))
    thread.start()
    thread.join()
    [child] = started
    assert child.wait(0.3) is None
    child.stop(10)
    assert child.exit_code == -15
    assert not is_running(child.pid)


def test_one_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    child = _child(tmp_path, "/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    while b"ready" not in (tmp_path / "log").read_bytes():
        assert child.exit_code is None
    child.stop(0.2)
    assert child.exit_code == -9
    assert not is_running(child.pid)
    child.stop(0.2)
    child.kill()


def test_a_program_that_is_not_there_ends_at_once_and_is_named_in_the_log(tmp_path: Path) -> None:
    child = _child(tmp_path, "/no/such/program")
    assert child.wait(10) == 1
    assert "No such file" in (tmp_path / "log").read_text()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        _child(tmp_path / "missing", "/bin/true")


def test_without_a_log_it_is_spoken_to_by_pipes_and_their_end_is_its_end(tmp_path: Path) -> None:
    child = Child(["/bin/cat"], folder=tmp_path, environment=os.environ)
    child.input.write(b"hello\n")
    child.input.flush()
    assert child.output.readline() == b"hello\n"
    child.input.close()
    assert child.output.read() == b""
    assert child.wait(10) == 0
    child.output.close()


def test_with_a_log_there_are_no_pipes(tmp_path: Path) -> None:
    child = _child(tmp_path, "/bin/true")
    for pipe in ("input", "output"):
        with pytest.raises(ValueError, match="no pipes"):
            getattr(child, pipe)
    child.wait(10)
