"""A disk that fails as disks do, under SQLite: no space, short writes, errors, failed flushes, and loss of power.

with faulty_disk() as disk:                 # every connection that is opened in the block is over it
    engine = Engine(folder)
    disk.fail(Fault("write", WAL, code=apsw.SQLITE_FULL), after=3)
    disk.lose_power(after=100)              # at the hundredth write, truncation or flush from now
    ...
    disk.leave(folder, survived, chance)    # what the disk holds afterwards

Until a file is flushed, each write and truncation since the last flush may be on the disk after a loss of power, or
not, or in part, in any combination: a write survives by sectors of 512 bytes. What was flushed stays.

In a checkpoint, which writes to the store's file, SQLite keeps errors to itself: the transaction is durable, and a
later one tries again. apsw raises the error of a VFS in Python all the same, after the commit; the system's own files
do not. So a fault of the store's file shows what is on the disk then, and not what a caller is told.
"""

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import apsw

SECTOR_BYTES: Final = 512
SHARES: Final = (0.0, 0.5, 0.9, 1.0)
"""Of what was not flushed, how much is on the disk after a loss of power: one of these for each file."""
FILE: Final = "store.sqlite"
WAL: Final = "store.sqlite-wal"


@dataclass(frozen=True, slots=True)
class Fault:
    """What fails, and how."""

    operation: Literal["write", "flush", "read"]
    file: str
    """Its name, without the folder."""
    code: int
    """SQLite's, such as SQLITE_FULL or SQLITE_IOERR_WRITE."""
    short: bool = False
    """Half of what is written arrives before the error."""


class PowerLost(apsw.IOError):
    """Nothing reaches the disk any more."""


@dataclass(slots=True)
class _Image:
    """What of a file is on the disk for sure, and what was done since."""

    flushed: bytearray
    since: list[tuple[int, bytes] | int] = field(default_factory=list)
    """A write: where and what; or a truncation: to which size."""

    def flush(self) -> None:
        for one in self.since:
            _do(self.flushed, one)
        self.since.clear()

    def left(self, chance: random.Random, shares: Sequence[float]) -> bytes:
        content = bytearray(self.flushed)
        share = chance.choice(shares)
        for one in self.since:
            if isinstance(one, int):
                if chance.random() < share:
                    _do(content, one)
            else:
                for start, sector in _sectors(*one):
                    if chance.random() < share:
                        _do(content, (start, sector))
        return bytes(content)


class FaultyDisk(apsw.VFS):
    """The system's files, with faults. Not thread-safe beyond what its users are: one connection writes.

    Attributes:
        operations: how many writes, truncations and flushes there were.
        lost: whether the power is lost.
        lying: whether a flush is said to be done, and is not.
    """

    def __init__(self) -> None:
        self.name = f"faulty-{id(self)}"
        super().__init__(self.name, "unix")
        self.operations = 0
        self.lost = self.lying = False
        self._power_until: int | None = None
        self._then: Callable[[], None] | None = None
        self._faults: list[tuple[Fault, int]] = []
        self._images: dict[Path, _Image] = {}
        self._silent = False

    def fail(self, fault: Fault, *, after: int = 0) -> None:
        """Have something fail after it has worked so many times more."""
        self._faults.append((fault, after))

    def mend(self) -> None:
        """Let everything work again, but for the power."""
        self._faults.clear()

    def lose_power(self, *, after: int, then: Callable[[], None] | None = None) -> None:
        """Lose the power at an operation from now on; `then` is called there, and may end the process."""
        self._power_until, self._then = self.operations + after, then

    def hush(self) -> None:
        """From now on what is written goes nowhere, without an error: for closing what ran when the power was lost."""
        self._silent = self.lost = True

    def leave(self, folder: Path, survived: Path, chance: random.Random) -> None:
        """Make a folder with what a loss of power right now leaves of another one."""
        survived.mkdir()
        for path in sorted(folder.iterdir()):
            image = self._images.get(path)
            if image is not None:
                # A disk that lies is to be found out, so not all that it has not flushed is there by chance.
                shares = SHARES[:-1] if self.lying else SHARES
                (survived / path.name).write_bytes(image.left(chance, shares))
            elif path.is_dir():
                shutil.copytree(path, survived / path.name)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's
        """Open a file. Those without a name are SQLite's own, for a moment."""
        if name is None:
            return apsw.VFSFile("unix", name, flags)
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        if path not in self._images:
            self._images[path] = _Image(bytearray(path.read_bytes()) if path.exists() else bytearray())
        return _File(self, path, self._images[path], name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - apsw's
        """Delete a file, for good: a journal that came back whole would be what SQLite has to expect anyway."""
        if not self._silent:
            self.operate("delete", filename)
            self._images.pop(Path(filename), None)
            super().xDelete(filename, syncdir)

    def operate(self, operation: str, file: str) -> Fault | None:
        """Count one operation, and tell how it fails; raises PowerLost without power."""
        if operation not in ("read", "delete"):
            self.operations += 1
            if self._power_until is not None and self.operations >= self._power_until and not self.lost:
                self.lost = True
                if self._then is not None:
                    self._then()
        if self.lost and operation != "read":
            raise PowerLost("the power is lost")
        for number, (fault, left) in enumerate(self._faults):
            if (fault.operation, fault.file) == (operation, file):
                if left:
                    self._faults[number] = fault, left - 1
                    continue
                return fault
        return None

    @property
    def silent(self) -> bool:
        """Whether what is written goes nowhere."""
        return self._silent


class _File(apsw.VFSFile):
    def __init__(
        self, disk: FaultyDisk, path: Path, image: _Image, name: str | apsw.URIFilename, flags: list[int]
    ) -> None:
        self._disk, self._path, self._image = disk, path, image
        super().__init__("unix", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - apsw's
        fault = self._disk.operate("read", self._path.name)
        if fault is not None:
            raise _error(fault)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's
        if self._disk.silent:
            return
        fault = self._disk.operate("write", self._path.name)
        written = bytes(data) if fault is None else bytes(data)[: len(data) // 2] if fault.short else b""
        if written:
            self._image.since.append((offset, written))
            super().xWrite(written, offset)
        if fault is not None:
            raise _error(fault)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - apsw's
        if self._disk.silent:
            return
        self._disk.operate("truncate", self._path.name)
        self._image.since.append(newsize)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's
        if self._disk.silent:
            return
        fault = self._disk.operate("flush", self._path.name)
        if fault is not None:
            raise _error(fault)
        if not self._disk.lying:
            self._image.flush()
        super().xSync(flags)


@contextmanager
def faulty_disk() -> Iterator[FaultyDisk]:
    """The disk of every connection that is opened in the block."""
    disk = FaultyDisk()
    apsw.set_default_vfs(disk.name)
    try:
        yield disk
    finally:
        apsw.set_default_vfs("unix")
        disk.unregister()


def _error(fault: Fault) -> Exception:
    return apsw.exception_for(fault.code)


def _do(content: bytearray, one: tuple[int, bytes] | int) -> None:
    if isinstance(one, int):
        del content[one:]
        content.extend(bytes(one - len(content)))
        return
    start, data = one
    content.extend(bytes(max(0, start - len(content))))
    content[start : start + len(data)] = data


def _sectors(start: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """A write, cut where the disk's sectors end."""
    end = start + len(data)
    at = start
    while at < end:
        until = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield at, data[at - start : until - start]
        at = until
