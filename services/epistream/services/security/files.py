"""Files that somebody may replace while the service runs: Kubernetes does so with Secrets, by moving a link."""

from pathlib import Path
from typing import TypeAlias

_Stamp: TypeAlias = tuple[int, int, int] | None


class Watched:
    """The files that were read through this, and how they were then."""

    def __init__(self) -> None:
        self._seen: dict[Path, _Stamp] = {}

    def read(self, path: Path) -> bytes:
        """The bytes of a file. Blocks. Raises OSError."""
        self._seen[path] = _stamp(path)  # before: a change while it is read is noticed then
        return path.read_bytes()

    def changed(self) -> bool:
        """Whether one is another one since this was last asked. Blocks for a few microseconds a file."""
        now = {path: _stamp(path) for path in self._seen}
        changed = now != self._seen
        self._seen = now
        return changed

    def look_again(self) -> None:
        """Have `changed` say so next time, whatever there is: what was read could not be used."""
        self._seen = dict.fromkeys(self._seen)


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
