"""bubblewrap for the tests: the one on the search path, or Debian's package, unpacked into `.cache` without being root.

`python -m tests.support.bubblewrap` prints where it is.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from k8s.debian import Apt, Told, unpacked

CACHE: Final = Path(__file__).parents[2] / ".cache" / "bubblewrap"
_LIBRARIES: Final = {"libcap.so.2": "libcap2", "libselinux.so.1": "libselinux1", "libpcre2-8.so.0": "libpcre2-8-0"}
"""What it needs besides the C library, and Debian's packages with them. Most machines have all of them."""


def find_bubblewrap(told: Told = lambda _: None) -> Path:
    """The program.

    Raises:
        Unavailable: it cannot be had; the message says what to do.
    """
    installed = shutil.which("bwrap")
    if installed is not None:
        return Path(installed)
    folder = unpacked(CACHE, "bubblewrap", _download, told)
    program = folder / "usr" / "bin" / "bwrap"
    if not _missing(program):
        return program
    return _with_libraries(program, unpacked(CACHE / "libraries", "bubblewrap's libraries", _download_libraries, told))


def _download(apt: Apt) -> None:
    apt.run("apt-get", "download", "bubblewrap")


def _download_libraries(apt: Apt) -> None:
    apt.run("apt-get", "download", *_LIBRARIES.values())


def _missing(program: Path) -> bool:
    return subprocess.run([program, "--version"], check=False, capture_output=True).returncode != 0


def _with_libraries(program: Path, libraries: Path) -> Path:
    """A program that starts it with the libraries of this folder."""
    folders = {str(path.parent) for path in libraries.rglob("*.so*")}
    wrapper = libraries.parent / "bwrap"
    wrapper.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={":".join(sorted(folders))} exec {program} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def _tell(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")


if __name__ == "__main__":
    sys.stdout.write(f"{find_bubblewrap(_tell)}\n")
