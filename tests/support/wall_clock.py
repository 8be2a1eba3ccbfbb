"""A wall clock that tests turn under a whole process and its children, whatever of them asks for the time.

    clock = WallClock(tmp_path)
    with running_service(tmp_path / "data", environment=clock.environment) as service:
        clock.jump(DAY_SECONDS)

Replacing `time.time` would turn the clock of our own code only: gRPC, which counts the deadlines of calls from it, and
the processes that read Kafka would know another time. It is a few lines of C (wall_clock.c) that stand before the C
library's; they need a compiler, and Linux.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

DAY_SECONDS: Final = 86_400

_SOURCE: Final = Path(__file__).with_suffix(".c")


class WallClock:
    """A clock for processes that are started with its environment. It goes as the machine's until it jumps.

    Attributes:
        ahead_seconds: how far it is ahead of the machine's.
    """

    def __init__(self, folder: Path) -> None:
        """Its files are in `folder`."""
        compiler = shutil.which("cc")
        if compiler is None or sys.platform != "linux" or sys.maxsize < 2**32:
            pytest.skip("a clock is turned by a few lines of C: install gcc or clang, on Linux of 64 bits")
        library = folder / "wall_clock.so"
        subprocess.run([compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, _SOURCE], check=True)
        self.ahead_seconds = 0
        self._file = folder / "wall_clock"
        self._write()
        self.environment: Final[Mapping[str, str]] = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(self._file)}

    def jump(self, seconds: int) -> None:
        """Put it so far forward; back, where that is below zero."""
        self.ahead_seconds += seconds
        self._write()

    def _write(self) -> None:
        # In place: the processes look into the file's first page.
        with self._file.open("r+b" if self._file.exists() else "xb", buffering=0) as file:
            file.write(self.ahead_seconds.to_bytes(8, "little", signed=True))
