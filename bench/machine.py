"""How long a small write waited for the disk meanwhile, and how many processors the host took.

A machine in a cloud shares both with others. The write waits behind those of the bench itself, too: up to some 50 ms
where the disk keeps up. Where it waits for over 100 ms the disk is said to stand still: nothing that must be there
first can go on until then. As a program this looks at an idle minute: what the machine does by itself.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from typing import Final

import numpy as np
import psutil
from numpy.typing import NDArray

from bench.report import Figure, report

SECONDS: Final = 60.0
_EVERY_SECONDS: Final = 0.1
_STILL_SECONDS: Final = 0.1
_BLOCK_BYTES: Final = 4096


@dataclass(slots=True)
class Meanwhile:
    """What was seen; whole when the watch has ended."""

    writes: list[tuple[float, float]] = field(default_factory=list)
    """When each write of 4 KiB began and when it was on the disk, in the seconds of `time.time`."""
    stolen: float = 0.0
    """Processors that the host had, while this machine wanted them: from 0 to the number there are."""

    @property
    def still(self) -> list[tuple[float, float]]:
        """The writes that waited for over 100 ms: when the disk stood still."""
        return [(begin, end) for begin, end in self.writes if end - begin > _STILL_SECONDS]

    def waited(self, begins: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
        """Seconds of each span from `begins` to `ends` in which the disk stood still; all float64 of one shape."""
        seconds = np.zeros_like(begins)
        for begin, end in self.still:
            seconds += np.maximum(np.minimum(ends, end) - np.maximum(begins, begin), 0)
        return seconds

    def figures(self, when: str) -> list[Figure]:
        """For a report; `when` says where in it they were seen."""
        longest = max(end - begin for begin, end in self.writes)
        return [
            Figure(f"the longest that 4 KiB waited for the disk, {when}", 1000 * longest, "ms"),
            Figure(f"how long it stood still, {when}", 1000 * sum(end - begin for begin, end in self.still), "ms"),
            Figure(f"taken by the host, {when}", self.stolen, "processors"),
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long to look")
    seconds = parser.parse_args().seconds
    with (
        tempfile.TemporaryDirectory() as name,
        watched(Path(name)) as meanwhile,
        watched(Path(name), direct=True) as directly,
    ):
        time.sleep(seconds)
    return report("disk", [*meanwhile.figures("idle"), *directly.figures("idle, past Linux's cache")])


@contextmanager
def watched(folder: Path, *, direct: bool = False) -> Iterator[Meanwhile]:
    """Watch the machine while the block runs; a tenth of a second lies between two writes into `folder`.

    All are of one block of one file. With `direct` they go past Linux's cache: nothing that others have written and
    that Linux still has to write is before them.
    """
    seen = Meanwhile()
    name, how = ("direct", os.O_DIRECT) if direct else ("probe", 0)
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | how)
    block = mmap(-1, _BLOCK_BYTES)  # as aligned as O_DIRECT asks

    def write() -> None:
        begin = time.time()
        os.pwrite(descriptor, block, 0)
        os.fdatasync(descriptor)
        seen.writes.append((begin, time.time()))

    write()
    before, begin = psutil.cpu_times().steal, time.perf_counter()
    try:
        with again_and_again(write, _EVERY_SECONDS):
            yield seen
    finally:
        seen.stolen = (psutil.cpu_times().steal - before) / (time.perf_counter() - begin)
        os.close(descriptor)


@contextmanager
def again_and_again(look: Callable[[], None], every_seconds: float) -> Iterator[None]:
    """Do something on a thread while the block runs, with a pause after each time. Raises in the end what it raised."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(every_seconds):
            look()

    with ThreadPoolExecutor(1) as thread:
        looking = thread.submit(go_on)
        try:
            yield
        finally:
            over.set()
            looking.result()


if __name__ == "__main__":
    sys.exit(main())
