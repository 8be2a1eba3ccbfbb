"""Programs of Debian's packages, unpacked into a folder of ours without being root.

apt fetches them and verifies them as always. Where the machine has no lists of packages, or old ones, it fetches its
own into the folder: nothing of the system is changed.
"""

import fcntl
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from epistream.wire.errors import Unavailable

Told = Callable[[str], None]
"""Told what is done, a sentence at a time, when it takes a while."""


class Apt:
    """apt as anybody may use it: what it keeps is in a folder, and nothing of the system is changed."""

    def __init__(self, folder: Path, *, lists_of_its_own: bool) -> None:
        state, cached = folder / "state", folder / "cached"
        for needed in (state / "lists" / "partial", cached / "archives" / "partial"):
            needed.mkdir(parents=True)
        # Without a user of its own: that one may not write here.
        options = {"Dir::Cache": str(cached), "APT::Sandbox::User": "", "Acquire::Retries": "2"}
        if lists_of_its_own:
            options |= {"Dir::State": str(state), "Dir::State::status": "/var/lib/dpkg/status"}
        self._folder = folder
        self._options = [f"-o{name}={value}" for name, value in options.items()]

    def run(self, program: str, *arguments: str) -> str:
        """What a program of apt prints. Raises Unavailable."""
        return _run([program, *self._options, *arguments], self._folder)


def unpacked(cache: Path, program: str, download: Callable[[Apt], None], told: Told) -> Path:
    """The folder that holds what `download` fetches: there whole or not at all, and made once.

    Args:
        cache: a folder for this and nothing else.
        program: what it is fetched for, in messages.
        download: fetches the packages.
        told: is told what is done.

    Raises:
        Unavailable: it cannot be had; the message says why.
    """
    folder = cache / "debian"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _unpack(folder, cache / "work", program, download, told)
    return folder


def _unpack(folder: Path, work: Path, program: str, download: Callable[[Apt], None], told: Told) -> None:
    if not all(map(shutil.which, ("apt-get", "apt-cache", "dpkg-deb"))):
        raise Unavailable(f"Without Debian's apt it cannot be fetched: install {program}")
    shutil.rmtree(work, ignore_errors=True)
    told(f"Fetching {program} from Debian's packages (this time only)")
    try:
        download(Apt(work, lists_of_its_own=False))
    except Unavailable:
        # The machine has no lists of packages, or old ones.
        shutil.rmtree(work)
        apt = Apt(work, lists_of_its_own=True)
        apt.run("apt-get", "update")
        download(apt)
    told("Unpacking it")
    for package in sorted(work.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(work / "unpacked")], work)
    (work / "unpacked").rename(folder)
    shutil.rmtree(work)


def _run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(
            f"`{command[0]}` says: {done.stderr.strip()[-600:]}\nConnect to the network once, or install it."
        )
    return done.stdout
