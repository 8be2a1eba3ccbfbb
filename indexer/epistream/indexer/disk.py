"""What SQLite and the system say of the disk, and of memory, as errors that callers know.

A full disk passes: SQLite has undone the transaction, and the next one may find space
(docs/decisions/0014-disk-full.md). So does short memory. A flush to the disk that failed does not: nobody knows what
the disk holds then, so the store is given up until it is opened anew.
"""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw
from google.protobuf.message import DecodeError

from epistream.wire.errors import Broken, EpistreamError, Unavailable

FULL_RETRY_SECONDS: Final = 2.0
"""When to try again on a full disk. Space comes from an operator, not by itself."""

_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space on the disk, none of the user's share left, and no file of a process may grow further (ulimit -f)."""
_FLUSHES: Final = (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)


@contextlib.contextmanager
def translated(path: Path, connection: apsw.Connection | None = None) -> Iterator[None]:
    """Errors of SQLite in the block, as ours; what can only be a bug goes on as it is.

    Args:
        path: the file, for people.
        connection: the one that is used in the block; only with it an error of input or output tells a full disk.

    Raises:
        Unavailable: DISK_FULL, there is no space; OVERLOADED, memory is short; or another program holds the file
            locked.
        Broken: CORRUPT, the file is damaged; else the disk refused.
    """
    try:
        yield
    except apsw.Error as error:
        known = ours(error, path, connection.system_errno if connection is not None else 0)
        if known is None:
            raise
        raise known from error
    except DecodeError as error:
        raise _damaged(path, "what is stored cannot be decoded") from error


def ours(error: apsw.Error, path: Path, system_errno: int) -> EpistreamError | None:
    """The error that callers know; None for one that can only be a bug. `system_errno`: of the connection, then."""
    match error:
        case apsw.FullError():
            return full(path)
        case apsw.NoMemError():
            return short_memory()
        case apsw.CorruptError() | apsw.NotADBError():
            return _damaged(path, str(error))
        case apsw.BusyError():
            return Unavailable(f"{path} is locked by another program ({error}): end that one")
        case apsw.IOError() | apsw.CantOpenError() if system_errno in _NO_SPACE and not _is_flush(error):
            return full(path)
        case apsw.IOError() | apsw.CantOpenError() | apsw.ReadOnlyError() | apsw.PermissionsError():
            return Broken(f"{path} cannot be read or written: {error}. Look at the disk and the folder")
        case _:
            return None


def full(path: Path) -> Unavailable:
    """There is no space for `path`."""
    return Unavailable(
        f"there is no space for {path}: nothing can be written until there is. What is there can be read",
        reason="DISK_FULL",
        retry_delay_seconds=FULL_RETRY_SECONDS,
    )


def short_memory() -> Unavailable:
    """There is no memory for what was to be done."""
    return Unavailable("memory is short: try again", reason="OVERLOADED")


def of_system(error: OSError, path: Path) -> Unavailable | Broken:
    """The error that callers know for one of the system."""
    return full(path) if error.errno in _NO_SPACE else Broken(f"{path} cannot be used: {error}")


def _is_flush(error: apsw.Error) -> bool:
    return getattr(error, "extendedresult", 0) in _FLUSHES


def _damaged(path: Path, what: str) -> Broken:
    return Broken(f"{path} is damaged: {what}. Stop the service and run `epistream fsck`", reason="CORRUPT")
