"""How long a small write waited for the disk meanwhile, and how many processors the host took.

A machine in a cloud shares both with others. The write waits behind those of the bench itself, too: up to some 50 ms
where the disk keeps up. More than that, and every commit beside it waited as long. As a program this looks at an idle
minute: what the machine does by itself.
"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.report import Figure, report

_IDLE_SECONDS: Final = 60
_EVERY_SECONDS: Final = 0.1
_WRITE: Final = bytes(4096)
_STOLEN: Final = 7
"""Of the numbers in the first line of /proc/stat (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal."""


@dataclass(slots=True)
class Meanwhile:
    """What was seen; whole when the watch has ended."""

    disk_waits: list[float] = field(default_factory=list)
    """Seconds that each write of 4 KiB took until it was on the disk."""
    stolen: float = 0.0
    """Processors that the host had, while this machine wanted them: from 0 to the number there are."""

    def figures(self) -> list[Figure]:
        """For a report."""
        return [
            Figure("the longest that 4 KiB waited for the disk meanwhile", 1000 * max(self.disk_waits), "ms"),
            Figure("taken by the host meanwhile", self.stolen, "processors"),
        ]


def main() -> int:
    with tempfile.TemporaryDirectory() as name, watched(Path(name)) as meanwhile:
        time.sleep(_IDLE_SECONDS)
    return report("disk", [Figure("writes of 4 KiB", len(meanwhile.disk_waits), "writes"), *meanwhile.figures()])


@contextmanager
def watched(folder: Path) -> Iterator[Meanwhile]:
    """Watch the machine while the block runs; a tenth of a second lies between two writes into `folder`."""
    seen, done = Meanwhile(), threading.Event()
    descriptor = os.open(folder / "probe", os.O_WRONLY | os.O_CREAT)

    def write() -> None:
        begin = time.perf_counter()
        os.pwrite(descriptor, _WRITE, 0)
        os.fdatasync(descriptor)
        seen.disk_waits.append(time.perf_counter() - begin)

    def probe() -> None:
        while not done.wait(_EVERY_SECONDS):
            write()

    write()
    prober = threading.Thread(target=probe)
    before, begin = _stolen_seconds(), time.perf_counter()
    prober.start()
    try:
        yield seen
    finally:
        seen.stolen = (_stolen_seconds() - before) / (time.perf_counter() - begin)
        done.set()
        prober.join()
        os.close(descriptor)


def _stolen_seconds() -> float:
    numbers = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    return int(numbers[_STOLEN]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
