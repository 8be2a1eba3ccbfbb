"""No hostile program is verified, outlasts its limit or leaves anything behind. The real sandbox, real attacks."""

import os
import struct
import tempfile
import textwrap
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil
import pytest

from epistream.services.execution import filters
from epistream.services.execution.isolation import NoSandbox
from epistream.services.execution.verdict import Limits, Result, Verdict
from epistream.services.execution.verifying import Verifier
from epistream.v1 import knowledge_pb2 as pb
from tests.support.hostile_programs import (
    BURNERS,
    CALLS,
    CHEATS,
    HONEST_SCRIPT,
    MARK,
    ORDINARY,
    PROBES,
    PROGRAMS,
    SCRIPTS,
    SECRET,
    Hostile,
)
from tests.support.sandbox import real_verifier
from tests.support.waits import wait_until

LIMITS = Limits(wall_seconds=3, cpu_seconds=2)
SOONER = Limits(wall_seconds=1.5, cpu_seconds=0.5)
"""For those that would use up what they get."""


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


def refused(verifier: Verifier, content: str, tests: pb.Tests, limits: Limits = LIMITS) -> Result:
    """Verify it, and see that it is not verified and leaves nothing."""
    before, had = state_of_this_process(), descriptors()

    result = verifier.verify(content, tests, limits)
    left = sandboxed_processes()

    assert result.verdict not in {Verdict.VERIFIED, Verdict.VACUOUS, Verdict.NO_TESTS}, result
    # What R26 asks for, not a figure of the machine: the limit is enforced by the service.
    assert result.seconds < limits.wall_seconds + 2
    assert len(result.output) <= limits.output_bytes
    assert marked_files() == []
    assert state_of_this_process() == before
    wait_until(lambda: descriptors() <= had, "the end of what it was spoken to by")
    # Those of other tests that run beside this one end by themselves, too.
    wait_until(lambda: not left & sandboxed_processes(), "the end of its processes")
    return result


BREAKS_ITS_SANDBOX = "files_that_cannot_be_removed"
GIVEN = [pytest.param(program, SOONER if program in BURNERS else LIMITS, id=program.name) for program in PROGRAMS]
GIVEN += [pytest.param(each, LIMITS, id=f"{each.name}-longer", marks=pytest.mark.robustness) for each in BURNERS]


@pytest.mark.parametrize(("program", "limits"), GIVEN)
def test_r26_a_hostile_program_is_not_verified_and_leaves_nothing(
    verifier: Verifier, program: Hostile, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, "open sesame")
    result = refused(verifier, program.content, pb.Tests(language="python", asserts=program.asserts), limits)
    if program in PROBES:
        assert result.verdict in {Verdict.FAIL, Verdict.TIMEOUT}, "it ran, and its attack did not work"
    if program.name != BREAKS_ITS_SANDBOX:
        assert "its sandbox broke" not in result.reason, "what refused it is not that nothing can run"


def check_of(program: Hostile) -> pb.Tests:
    check = "def check(f):\n" + textwrap.indent("\n".join(program.asserts), "    ")
    return pb.Tests(language="python", check=check, entry_point="f")


def cases_of(_: Hostile) -> pb.Tests:
    made = [pb.TestCase(input="[2]", output="4"), pb.TestCase(input="[3]", output="9")]
    return pb.Tests(language="python", cases=made, entry_point="f")


IN_TURN = [
    pytest.param(program, form, id=f"{program.name}-{form.__name__}", marks=pytest.mark.robustness if later else ())
    for at, program in enumerate(CHEATS)
    for form, later in ((check_of, at % 2), (cases_of, not at % 2))
]
"""Each in one of the two forms, and by `make robustness` in the other."""


@pytest.mark.parametrize(("program", "form"), IN_TURN)
def test_r26_no_cheat_passes_tests_of_another_form(
    verifier: Verifier, program: Hostile, form: Callable[[Hostile], pb.Tests]
) -> None:
    refused(verifier, program.content, form(program), SOONER)


def cases_of_script() -> pb.Tests:
    """More than a script that does not read is given at once."""
    rest = "\n" * (256 * 1024)
    made = [pb.TestCase(input=f"{number}\n{rest}", output=str(number**2)) for number in (2, 3)]
    return pb.Tests(language="python", cases=made)


@pytest.mark.parametrize("name", SCRIPTS)
def test_r26_a_hostile_script_is_not_verified_and_leaves_nothing(verifier: Verifier, name: str) -> None:
    refused(verifier, SCRIPTS[name], cases_of_script(), SOONER)


def test_a_program_that_does_what_it_should_is_verified_by_tests_of_each_form(verifier: Verifier) -> None:
    """The checks above can fail."""
    honest = Hostile("honest", "def f(x):\n    return x * x\n")
    assert verifier.verify(honest.content, check_of(honest), LIMITS).verdict == Verdict.VERIFIED
    assert verifier.verify(honest.content, cases_of(honest), LIMITS).verdict == Verdict.VERIFIED
    assert verifier.verify(HONEST_SCRIPT, cases_of_script(), LIMITS).verdict == Verdict.VERIFIED


@pytest.mark.parametrize("name", ORDINARY)
def test_what_is_a_program_s_own_it_may_use(verifier: Verifier, name: str) -> None:
    content = "def f(x):\n" + textwrap.indent(ORDINARY[name], "    ") + "    return done\n"
    result = verifier.verify(content, pb.Tests(language="python", asserts=["assert f(2) == 4"]), LIMITS)
    assert result.passed, result


def test_a_program_that_only_looks_around_is_verified(verifier: Verifier) -> None:
    """The check can fail: the same tests pass where nothing is attacked."""
    content = "import os\nwhere = os.listdir('/')\ndef f(x):\n    return x * x\n"
    tests = pb.Tests(language="python", asserts=["assert f(2) == 4", "assert f(3) == 9"])
    assert verifier.verify(content, tests, LIMITS).verdict == Verdict.VERIFIED


def test_what_is_done_to_dev_null_is_done_to_no_file_of_this_machine(verifier: Verifier) -> None:
    """Of what may be this machine's not even a mutant changes the mode: it is everybody's."""
    content = """
import os, stat
def f(x):
    if stat.S_ISREG(os.stat(os.devnull).st_mode):
        os.chmod(os.devnull, 0o640)
    os.utime(os.devnull, (1, 1))
    with open(os.devnull, "w") as silent:
        silent.write("nothing")
    return stat.S_IMODE(os.stat(os.devnull).st_mode)
"""
    before = Path(os.devnull).stat()
    tests = pb.Tests(language="python", asserts=["assert f(2) == 0o640"])
    result = verifier.verify(content, tests, replace(LIMITS, mutants=0))
    assert result.passed, result
    after = Path(os.devnull).stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


def test_dev_null_is_empty_in_each_run(verifier: Verifier) -> None:
    """What the first run has left there fails the second."""
    content = "import os\nif open(os.devnull).read():\n    raise SystemExit\n"
    content += "open(os.devnull, 'w').write('left')\nos.chmod(os.devnull, 0)\n"
    content += "print(int(input()) ** 2)\n"
    made = [pb.TestCase(input=str(number), output=str(number**2)) for number in (2, 3)]
    result = verifier.verify(content, pb.Tests(language="python", cases=made), LIMITS)
    assert result.verdict == Verdict.VERIFIED, result


ALLOW_ALL: Final = struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)
OF_SETTINGS: Final = {"keyctl", "bpf", "perf_event_open", "userfaultfd", "io_uring", "kexec_load", "open_by_handle_at"}
"""What a kernel may be told, and that of a container is, to refuse likewise."""
NOT_TRIED: Final = {"pivot_root", "fork_of_another_numbering"} | OF_SETTINGS
"""The first asks for the right before it looks at what is asked; the second would fork where it is known."""


@pytest.mark.parametrize("name", sorted({each.name for each in CALLS} - NOT_TRIED | {"machine_code"}))
def test_a_probe_of_a_call_gets_through_where_no_filter_refuses_it(
    verifier: Verifier, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "starting", lambda: ALLOW_ALL)
    monkeypatch.setattr(filters, "running", lambda: ALLOW_ALL)
    [program] = [each for each in PROBES if each.name == name]
    tests = pb.Tests(language="python", asserts=program.asserts)
    result = verifier.verify(program.content, tests, replace(LIMITS, mutants=0))
    assert result.passed, result


def test_a_probe_can_get_through_where_there_is_no_sandbox() -> None:
    """What the probes try does work here, where nothing but the sandbox is in their way."""
    harmless = [program for program in PROGRAMS if program.name in {"reads_the_users", "reads_its_processes"}]
    verifier = Verifier(NoSandbox())
    for program in harmless:
        result = verifier.verify(program.content, pb.Tests(language="python", asserts=program.asserts), LIMITS)
        assert result.verdict == Verdict.VERIFIED, result
        assert "NONE" in result.isolation
    assert len(harmless) == 2
