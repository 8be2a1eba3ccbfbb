"""What came of running a program's tests, and how much it may use."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a program's tests say of it."""

    VERIFIED = "verified"
    """Every test passed, and the tests notice at least half of the mutants, and what is answered."""
    FAIL = "fail"
    """A test says that it does something else."""
    ERROR = "error"
    """It, or a test, raised what no test expects; its process ended; or its tests cannot be decided."""
    TIMEOUT = "timeout"
    """It was not done in time."""
    NO_TESTS = "no_tests"
    """It has no tests, or none that can be run here."""
    VACUOUS = "vacuous"
    """Every test passed, but they would pass for most wrong programs too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one verification may use."""

    wall_seconds: float = 10.0
    """From when both sandboxes run to the verdict. What is not done then is a timeout."""
    cpu_seconds: float = 8.0
    """Of one run of the tests: for the program, and for the tests."""
    memory_bytes: int = 512 * 1024 * 1024
    """Of address space, for each process: each of the two sandboxes has one that forks, and one that is forked."""
    work_bytes: int = 16 * 1024 * 1024
    """Of all files in the work folder, which is in memory; no single file is larger either."""
    open_files: int = 64
    """At a time."""
    output_bytes: int = 16 * 1024
    """So much of what it writes is kept; what follows is read and thrown away."""
    mutants: int = 6
    """At most so many are tried."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A test that did not pass."""

    test: str
    """Where it stands in `Tests`: `setup`, `asserts[2]`, `check`, `cases[0]`; `program` when that cannot go on."""
    verdict: Verdict
    """FAIL, ERROR or TIMEOUT."""
    reason: str
    """What was raised, or found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one verification."""

    verdict: Verdict
    reason: str
    """For people: why it is this verdict."""
    failed: tuple[Failed, ...] = ()
    """The tests that did not pass, as far as they were run: nothing is asked of a program that has ended."""
    seconds: float = 0.0
    """How long it took, by the clock."""
    output: str = ""
    """What the program wrote to its standard output and error streams, cut; without what a case compared."""
    mutants: int = 0
    """How many mutants were tried."""
    killed: int = 0
    """How many of them the tests noticed."""
    isolation: str = ""
    """What kept it away from this machine."""
    interpreter: str = ""
    """The version of Python that ran it."""

    @property
    def passed(self) -> bool:
        """Whether every test passed, whatever the tests are worth."""
        return self.verdict in (Verdict.VERIFIED, Verdict.VACUOUS)

    @property
    def kill_rate(self) -> float | None:
        """From 0 to 1; None where no mutant was tried."""
        return self.killed / self.mutants if self.mutants else None
