"""What keeps a program away from this machine: bubblewrap, with which namespaces and which files.

Without bubblewrap nothing is run, unless a setting says so; what is done then is no sandbox, and says so.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from epistream.services.execution import filters
from epistream.wire.errors import Unavailable

INSIDE: Final = Path(__file__).with_name("inside")
WORK: Final = "/tmp"  # noqa: S108 - in the sandbox, where nobody else is
_OLDEST: Final = (0, 8)
"""Debian 12's: the first with all that is asked for below."""
_ENVIRONMENT: Final = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
"""All of it. The hash seed is fixed, so that the same program does the same each time."""
_PACKAGES: Final = ("site-packages", "dist-packages", "ensurepip/_bundled")
"""The folders in Python's library that hold what is not of it."""
# The collector has nothing to find while the modules are loaded, and would look a dozen times.
_START: Final = (
    "import gc, sys; gc.disable(); sys.path.append({folder!r}); from inside.zygote import main; main({role!r})"
)


class NoIsolation(Unavailable):
    """Programs cannot be kept away from this machine here, so none is run. The message says what to install."""

    default_reason = "NO_ISOLATION"


class Isolation(Protocol):
    """A way to start an interpreter that what it runs cannot leave."""

    @property
    def description(self) -> str:
        """What it is, in a result."""

    @property
    def work(self) -> str | None:
        """Its work folder, as it sees it; None: each start needs a new one."""

    def command(self, role: str, work_bytes: int, filter_descriptor: int, empty_descriptor: int) -> list[str]:
        """What to run, with the control connection as its standard input.

        Args:
            role: of the sandbox, as the zygote knows it.
            work_bytes: how much the work folder holds.
            filter_descriptor: where the filter of calls can be read.
            empty_descriptor: where nothing can be read.
        """

    def environment(self) -> dict[str, str]:
        """The environment to run it with."""


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """New namespaces of every kind, a file system of the interpreter and one bounded folder, no capabilities."""

    program: Path
    version: str
    files: tuple[str, ...]
    """What it sees of this machine's, as arguments. Found once: `sysconfig` is not for several threads at first."""

    @property
    def description(self) -> str:
        """The tool and its version."""
        return f"bubblewrap {self.version} with seccomp"

    @property
    def work(self) -> str | None:
        """A file system in memory."""
        return WORK

    def environment(self) -> dict[str, str]:
        """Nothing; what the sandbox gets stands in the command."""
        return {}

    def command(self, role: str, work_bytes: int, filter_descriptor: int, empty_descriptor: int) -> list[str]:
        """Bubblewrap with its arguments, then the interpreter."""
        return [
            str(self.program),
            *("--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"),
            *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--clearenv"),
            *(part for name, value in _ENVIRONMENT.items() for part in ("--setenv", name, value)),
            *("--setenv", "LD_LIBRARY_PATH", "/python/lib"),
            *self.files,
            *("--size", str(work_bytes), "--tmpfs", WORK),
            # A file of its own. This machine's is everybody's: its mode, its times and its locks can be changed,
            # where the service is root by a program too, and what one sandbox changes another one sees.
            *("--bind-data", str(empty_descriptor), "/dev/null"),
            *("--remount-ro", "/", "--chdir", WORK, "--seccomp", str(filter_descriptor), "--"),
            *_interpreter("/python/bin/python", role, "/epistream"),
        ]


@dataclass(frozen=True, slots=True)
class NoSandbox:
    """Limits of the process and the filter of calls only: a program can read this machine's files."""

    @property
    def description(self) -> str:
        """That it is none."""
        return "NONE: no sandbox, limits only"

    @property
    def work(self) -> str | None:
        """A new folder each time."""
        return None

    def environment(self) -> dict[str, str]:
        """As in a sandbox."""
        return dict(_ENVIRONMENT)

    def command(self, role: str, work_bytes: int, filter_descriptor: int, empty_descriptor: int) -> list[str]:
        """The interpreter."""
        del work_bytes, filter_descriptor, empty_descriptor
        return _interpreter(_base_python(), role, str(INSIDE.parent))


def find_isolation(program: Path | None = None, *, allow_none: bool = False) -> Isolation:
    """The isolation that can be had on this machine.

    Args:
        program: bubblewrap; the one on the search path when it is not given.
        allow_none: go on without any where none can be had, which is no sandbox at all.

    Raises:
        NoIsolation: there is none, and it is asked for.
    """
    if not sys.platform.startswith("linux") or not filters.supported():
        raise NoIsolation("Programs are run on Linux only, on x86-64 and AArch64: elsewhere code stays unverified")
    found = program or shutil.which("bwrap")
    problem = _problem(Path(found)) if found else "bubblewrap is not on the search path"
    if problem is None:
        assert found is not None  # noqa: S101 - else there is a problem
        return Bubblewrap(Path(found), ".".join(map(str, _version(Path(found)))), tuple(_files()))
    if allow_none:
        return NoSandbox()
    raise NoIsolation(
        f"Programs cannot be isolated here, so none is run: {problem}. Install bubblewrap"
        f" {'.'.join(map(str, _OLDEST))} or newer (Debian: apt-get install bubblewrap), and let its user make user"
        " namespaces: docs/execution.md"
    )


def _problem(program: Path) -> str | None:
    """Why this bubblewrap cannot be used; None when it can."""
    if not program.is_file() or _version(program) < _OLDEST:
        return f"{program} is no bubblewrap, or an old one"
    tried = subprocess.run(
        [program, "--unshare-all", "--ro-bind", "/", "/", "--", sys.executable, "-S", "-c", ""],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return None if tried.returncode == 0 else f"{program} says: {tried.stderr.strip()[-300:]}"


def _version(program: Path) -> tuple[int, ...]:
    try:
        said = subprocess.run([program, "--version"], check=False, capture_output=True, text=True, timeout=30)
    except OSError:
        return (0,)
    match = re.search(r"bubblewrap (\d+)\.(\d+)\.(\d+)", said.stdout)
    return tuple(map(int, match.groups())) if match else (0,)


def _base_python() -> str:
    """The interpreter itself, not a virtual environment's name for it."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def _interpreter(python: str, role: str, folder: str) -> list[str]:
    # Not -I or -E: the hash seed comes by the environment, of which every word is ours.
    return [python, "-S", "-s", "-P", "-B", "-c", _START.format(folder=folder, role=role)]


def _files() -> list[str]:
    """The interpreter, its library without packages, the C libraries and our own few modules, all read-only."""
    library = sysconfig.get_path("stdlib")
    bound = [(_base_python(), "/python/bin/python"), (library, f"/python/lib/{Path(library).name}")]
    bound.append((str(INSIDE), "/epistream/inside"))
    shared = sysconfig.get_config_var("INSTSONAME") or ""
    own = Path(sysconfig.get_config_var("LIBDIR") or "/nowhere") / shared
    if ".so" in shared and own.is_file():
        bound.append((str(own), f"/python/lib/{shared}"))
    triplet = sysconfig.get_config_var("MULTIARCH") or "no-such-folder"
    arguments = [part for source, place in bound for part in ("--ro-bind", source, place)]
    for name in _PACKAGES:
        if (Path(library) / name).is_dir() and not (Path(library) / name).is_symlink():
            hidden = f"/python/lib/{Path(library).name}/{name}"
            arguments += ["--tmpfs", hidden, "--remount-ro", hidden]
    for folder in ("/lib", "/lib64"):
        if Path(folder).is_symlink():
            arguments += ["--symlink", str(Path(folder).readlink()), folder]
        elif Path(folder).is_dir():
            arguments += _if_there(f"{folder}/{triplet}" if folder == "/lib" else folder)
    return arguments + _if_there(f"/usr/lib/{triplet}") + _if_there("/usr/lib64")


def _if_there(folder: str) -> list[str]:
    return ["--ro-bind", folder, folder] if Path(folder).is_dir() else []
