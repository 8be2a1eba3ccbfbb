"""A disk that is soon full: a file system in memory with a size of its own, and a file that fills it.

Mounting it takes root; without, tests that need one are skipped.
"""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A file system of its own.

    Attributes:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, but_bytes: int = 0) -> None:
        """Leave so much space, or as much as there is if that is less."""
        while not self._take_all(but_bytes):
            """A service wrote at that moment, and less is free than was."""

    def _take_all(self, but_bytes: int) -> bool:
        self.clear()
        free = self.free_bytes()
        with self._ballast.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, max(1, free - but_bytes))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return False
        return True

    def clear(self) -> None:
        """Give the space back."""
        self._ballast.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """How much space there is."""
        now = os.statvfs(self.folder)
        return now.f_bavail * now.f_frsize


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """A disk of that size, mounted at `folder` as long as the block."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `mount` here")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
