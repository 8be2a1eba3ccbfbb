"""The real service, which kills itself or fails at a named point: nothing of it is in the product.

    FAIL_POINT=committed FAIL_PASS=3 python -m tests.support.failing_service up ...

The third time that the point is passed, the process ends as by power loss; or, at one of HELD, says so and waits for
SIGUSR1.
"""

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import apsw

from epistream.indexer import positions, views
from epistream.indexer import store as stores
from epistream.indexer.collapse_watch import CollapseWatch
from epistream.indexer.engine import Engine
from epistream.indexer.index import snapshot
from epistream.indexer.pipeline import Pipeline
from epistream.services.metrics import Metrics
from tests.support.faulty_disk import FaultyDisk

POINT_VARIABLE: Final = "FAIL_POINT"
PASS_VARIABLE: Final = "FAIL_PASS"
HELD_LINE: Final = "held until SIGUSR1"
CHECKPOINT_PAGES: Final = 100
"""With the service's own bound no checkpoint would come within a round."""


class Passes:
    """Counts how often a point is passed; at the last time the process is killed.

    Attributes:
        left: how often it will be passed, that time among them.
    """

    def __init__(self, number: int) -> None:
        self.left = number

    def once(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def used_up(self) -> bool:
        """Pass without being killed; whether this is the last time or later."""
        self.left -= 1
        return self.left <= 0

    def before(self, owner: Any, name: str) -> None:
        """Pass just before a function is called."""
        inner = getattr(owner, name)

        def outer(*arguments: Any, **named: Any) -> Any:
            self.once()
            return inner(*arguments, **named)

        setattr(owner, name, outer)

    def after(self, owner: Any, name: str) -> None:
        """Pass just after a function has returned."""
        inner = getattr(owner, name)

        def outer(*arguments: Any, **named: Any) -> Any:
            result = inner(*arguments, **named)
            self.once()
            return result

        setattr(owner, name, outer)


def applied(passes: Passes) -> None:
    """Everything of a transaction is written, but it is not committed."""
    passes.after(positions, "write")


def committed(passes: Passes) -> None:
    """It is durable, but neither searchable, nor pushed, nor acknowledged."""
    passes.before(Pipeline, "_stands")


def shown(passes: Passes) -> None:
    """It is searchable and pushed, but no receipt is given."""
    passes.before(Metrics, "committed")


def offset_shown(passes: Passes) -> None:
    """Kafka's group is about to be shown how far the store is."""
    from epistream.services.kafka.survey import Survey

    passes.before(Survey, "_tell_group")


def checkpoint(passes: Passes) -> None:
    """A page of the WAL is about to be written back into the store's file."""
    stores.CHECKPOINT_PAGES = CHECKPOINT_PAGES  # type: ignore[misc] # of this process only
    _over_files(write=lambda file: passes.once() if file.endswith(stores.FILE) else None)


def acknowledging(passes: Passes) -> None:
    """Kafka has what the publisher told it, but the store does not know."""
    from epistream.services import compose

    passes.before(compose, "acknowledge")


def acknowledged(passes: Passes) -> None:
    """The store knows what Kafka has."""
    from epistream.services import compose

    passes.after(compose, "acknowledge")


def snapshot_begun(passes: Passes) -> None:
    """A part of the index snapshot is written."""
    inner = snapshot._chunks

    def chunks(*arguments: Any) -> Iterator[bytes]:
        for chunk in inner(*arguments):
            yield chunk
            passes.once()

    snapshot._chunks = chunks  # type: ignore[assignment] # with the same arguments


def snapshot_written(passes: Passes) -> None:
    """The index snapshot is on the disk, beside its place."""
    names = SimpleNamespace(**vars(os))
    passes.after(names, "fsync")
    snapshot.os = names  # type: ignore[assignment, attr-defined] # what it uses of it is there


def snapshot_renamed(passes: Passes) -> None:
    """The index snapshot is in its place, but the folder is not flushed."""
    passes.before(snapshot, "_sync_folder")


def opening(passes: Passes) -> None:
    """The store is open, the index is not there yet."""
    passes.before(Engine, "_load")


def rebuilding(passes: Passes) -> None:
    """The views of an earlier version are being made anew."""
    passes.after(views, "apply")


def rebuilding_held(passes: Passes) -> None:
    """The same, and then it does not go on before SIGUSR1. Nothing is killed."""
    wait, inner = _held(passes), views.apply

    def apply(*arguments: Any) -> None:
        inner(*arguments)
        wait()

    views.apply = apply  # type: ignore[assignment] # with the same arguments


def commit_held(passes: Passes) -> None:
    """A batch is about to be decided, and is not before SIGUSR1. Nothing is killed."""
    wait, inner = _held(passes), Pipeline.commit

    def commit(self: Pipeline, *arguments: Any, **named: Any) -> Any:
        wait()
        return inner(self, *arguments, **named)

    Pipeline.commit = commit  # type: ignore[method-assign] # with the same arguments


def _held(passes: Passes) -> Callable[[], None]:
    """What says HELD_LINE at the last pass, and returns after SIGUSR1."""
    go_on = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: go_on.set())

    def wait() -> None:
        if passes.used_up() and not go_on.is_set():
            print(HELD_LINE, file=sys.stderr, flush=True)
            go_on.wait()

    return wait


def loop_held(_: Passes) -> None:
    """The event loop stands still from SIGUSR1 to SIGUSR2, and nothing beside it does. Nothing is killed."""
    go_on = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: go_on.wait())  # on the main thread, which is the loop's
    signal.signal(signal.SIGUSR2, lambda *_: go_on.set())


def window_compared(passes: Passes) -> None:
    """A window of the collapse watch is compared, and nothing of it is kept."""
    passes.before(CollapseWatch, "record")


def window_kept(passes: Passes) -> None:
    """A window of the collapse watch is durable, and whoever watches does not know."""
    passes.after(CollapseWatch, "record")


def flush(passes: Passes) -> None:
    """The flushes of the WAL fail from then on; nothing is killed."""

    def sync(file: str) -> None:
        if file.endswith("-wal") and passes.used_up():
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)

    _over_files(sync=sync)


def power_lost(passes: Passes) -> None:
    """The power is lost, at a write or a flush: what the disk holds then is left where `survived` says."""
    _lose_power(passes, FaultyDisk())


def power_lost_unflushed(passes: Passes) -> None:
    """The same, of a disk that says that it flushes and does not."""
    disk = FaultyDisk()
    disk.lying = True
    _lose_power(passes, disk)


def _lose_power(passes: Passes, disk: FaultyDisk) -> None:
    stores.CHECKPOINT_PAGES = CHECKPOINT_PAGES  # type: ignore[misc] # of this process only
    [folder] = [Path(given.removeprefix("--folder=")) for given in sys.argv if given.startswith("--folder=")]

    def end() -> None:
        disk.leave(folder, survived(folder), random.Random(passes.left))
        os.kill(os.getpid(), signal.SIGKILL)

    disk.lose_power(after=passes.left, then=end)
    _over_files.kept = disk  # type: ignore[attr-defined] # as long as the process
    apsw.set_default_vfs(disk.name)


def survived(folder: Path) -> Path:
    """Where what survives a loss of power is, until it is moved to its place."""
    return folder.with_name(f"{folder.name}.survived")


RUNNING: Final = (applied, committed, checkpoint, shown, acknowledging, offset_shown, acknowledged)
"""These strike while knowledge comes in."""
WATCHING: Final = (window_compared, window_kept)
"""These strike while knowledge of models is watched."""
STOPPING: Final = (snapshot_written, snapshot_begun, snapshot_renamed)
"""These strike while the service goes down."""
STARTING: Final = (opening, rebuilding)
"""These strike while the service starts; the second only over a store of an earlier version."""


HELD: Final = (rebuilding_held, commit_held)
"""Here the process waits."""


def _nothing(_: str) -> None:
    pass


def _over_files(*, write: Callable[[str], None] = _nothing, sync: Callable[[str], None] = _nothing) -> None:
    """Have functions called before each write and flush of SQLite, with the file's name."""

    class File(apsw.VFSFile):
        def __init__(self, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
            self._file = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
            super().__init__("unix", name, flags)

        def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's
            write(self._file)
            super().xWrite(data, offset)

        def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's
            sync(self._file)
            super().xSync(flags)

    class Files(apsw.VFS):
        def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's
            return File(name, flags)

    _over_files.kept = Files("failing", "unix")  # type: ignore[attr-defined] # as long as the process
    apsw.set_default_vfs("failing")


def main() -> None:
    """Arm the point that the environment names, and be the service."""
    from epistream.services.__main__ import main as service

    points = (*RUNNING, *WATCHING, *STOPPING, *STARTING, *HELD, loop_held, flush, power_lost, power_lost_unflushed)
    point = next(p for p in points if p.__name__ == os.environ[POINT_VARIABLE])
    point(Passes(int(os.environ[PASS_VARIABLE])))
    service()


if __name__ == "__main__":
    main()
