"""No hostile program is verified, outlasts its limit or leaves anything behind. The real sandbox, real attacks."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from epistream.services.execution.isolation import NoSandbox
from epistream.services.execution.verdict import Limits, Verdict
from epistream.services.execution.verifying import Verifier
from epistream.v1 import knowledge_pb2 as pb
from tests.support.hostile_programs import MARK, PROGRAMS, SECRET, Hostile
from tests.support.sandbox import real_verifier
from tests.support.waits import wait_until

LIMITS = Limits(wall_seconds=3, cpu_seconds=2)


@pytest.fixture(scope="session")
def verifier() -> Verifier:
    return real_verifier()


def state_of_this_process() -> tuple[dict[str, str], Path]:
    return dict(os.environ), Path.cwd()


def descriptors() -> set[tuple[str, str]]:
    """What this process has open: number and what it is of. What tests before have left may be closed meanwhile."""
    found = set()
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the folder itself
            found.add((one.name, str(one.readlink())))
    return found


def sandboxed_processes() -> set[tuple[int, float]]:
    """Processes of sandboxes, also forked and orphaned ones: they keep the command that they were started with."""
    found = set()
    for process in psutil.process_iter():
        try:
            if any("inside.zygote" in part for part in process.cmdline()):
                found.add((process.pid, process.create_time()))
        except psutil.Error:
            continue
    return found


def marked_files() -> list[Path]:
    folders: tuple[str | Path, ...] = (
        tempfile.gettempdir(),
        "/tmp",
        "/var/tmp",
        "/dev/shm",
        "/",
        "/etc",
        Path.home(),
        Path.cwd(),
    )
    return [path for folder in {Path(each) for each in folders} for path in folder.glob(f"*{MARK}*")]


def test_there_are_many_kinds_of_them() -> None:
    assert len({program.name for program in PROGRAMS}) == len(PROGRAMS) >= 40


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_r26_a_hostile_program_is_not_verified_and_leaves_nothing(
    verifier: Verifier, program: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, "open sesame")
    before, had = state_of_this_process(), descriptors()

    result = verifier.verify(program.content, pb.Tests(language="python", asserts=program.asserts), LIMITS)
    left = sandboxed_processes()

    assert result.verdict not in {Verdict.VERIFIED, Verdict.VACUOUS, Verdict.NO_TESTS}, result
    # What R26 asks for, not a figure of the machine: the limit is enforced by the service.
    assert result.seconds < LIMITS.wall_seconds + 2
    assert len(result.output) <= LIMITS.output_bytes
    assert marked_files() == []
    assert state_of_this_process() == before
    wait_until(lambda: descriptors() <= had, "the end of what it was spoken to by")
    # Those of other tests that run beside this one end by themselves, too.
    wait_until(lambda: not left & sandboxed_processes(), "the end of its processes")


def test_a_program_that_only_looks_around_is_verified(verifier: Verifier) -> None:
    """The check can fail: the same tests pass where nothing is attacked."""
    content = "import os\nwhere = os.listdir('/')\ndef f(x):\n    return x * x\n"
    tests = pb.Tests(language="python", asserts=["assert f(2) == 4", "assert f(3) == 9"])
    assert verifier.verify(content, tests, LIMITS).verdict == Verdict.VERIFIED


def test_a_probe_can_get_through_where_there_is_no_sandbox() -> None:
    """What the probes try does work here, where nothing but the sandbox is in their way."""
    harmless = [program for program in PROGRAMS if program.name in {"reads_the_users", "reads_its_processes"}]
    verifier = Verifier(NoSandbox())
    for program in harmless:
        result = verifier.verify(program.content, pb.Tests(language="python", asserts=program.asserts), LIMITS)
        assert result.verdict == Verdict.VERIFIED, result
        assert "NONE" in result.isolation
    assert len(harmless) == 2
