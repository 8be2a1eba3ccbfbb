"""What ships, as requirements/run.txt and requirements/sources.txt lock it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.markers import Marker
from packaging.utils import canonicalize_name

REQUIREMENTS: Final = Path(__file__).resolve().parents[2] / "requirements"
SHIPPED: Final = ("run.txt", "sources.txt")
_LOCKED: Final = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)(?: ; (.*?))? \\\n((?: +--hash=\S+(?: \\)?\n)+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Locked:
    """One version of a package."""

    name: str
    """In its canonical form: lower case, with `-`."""
    version: str
    marker: str
    """For which machines and versions of Python; empty for all."""
    hashes: tuple[str, ...]
    """SHA-256 of the files that may be installed, in hexadecimal."""

    @property
    def here(self) -> bool:
        """Whether it is installed on this machine by this Python."""
        return not self.marker or Marker(self.marker).evaluate()


def locked() -> list[Locked]:
    """All, each once. One package may be locked in several versions, each for some versions of Python."""
    text = "".join((REQUIREMENTS / name).read_text() for name in SHIPPED)
    found = {
        Locked(canonicalize_name(name), version, marker, tuple(re.findall(r"--hash=sha256:(\w+)", hashes)))
        for name, version, marker, hashes in _LOCKED.findall(text)
    }
    return sorted(found, key=lambda one: (one.name, one.version))
