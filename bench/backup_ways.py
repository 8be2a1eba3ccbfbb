"""Ways to copy a store while it is written to: docs/decisions/0013-backup-by-entries.md chose one by these figures.

A pipeline commits as fast as it goes, and a process beside it copies. Each way begins with a store of its own of
`--records` records; in turns nothing is copied, and it is copied again and again. Last a reader takes one copy at a
slow pace, which shows what has to wait for a slow reader. With `--within` the copying is done by a
thread of the process that commits.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import copytree, rmtree
from typing import Final, Generic, TypeVar

import apsw

from bench.engine import new_engine
from bench.main_path import encoded
from bench.parts import Asked
from bench.report import Figure, report
from epistream.indexer import backup
from epistream.indexer.engine import Engine
from epistream.indexer.model import Record
from epistream.indexer.store import FILE, Readers

RECORDS: Final = 20_000
SECONDS: Final = 6.0
TURNS: Final = 4
"""Copying and not copying take turns, since the machine may be slower from one moment to the next."""
_BATCH: Final = 200
_CHUNK_BYTES: Final = 1024 * 1024
_SLOW_SECONDS: Final = 0.1
"""For each chunk of the slow reader: 10 MiB/s."""
_LOAD_A_SECOND: Final = 16_000
"""More than is committed in three times the seconds."""

Batch = TypeVar("Batch", bound=Sized)
Way = Callable[[Path, Path], Iterator[bytes]]


def backup_api(folder: Path, beside: Path) -> Iterator[bytes]:
    """SQLite's own copy of the pages, into a file."""
    with closing(Readers(folder)) as readers, readers.reader() as at:
        copy = apsw.Connection(str(beside))
        copying = copy.backup("main", at.connection, "main")
        while not copying.done:
            copying.step(1000)
        copying.finish()
        copy.close()
    yield from _chunks(beside)


def vacuum_into(folder: Path, beside: Path) -> Iterator[bytes]:
    """SQLite's own copy of the rows, into a file."""
    connection = apsw.Connection(str(folder / FILE), flags=apsw.SQLITE_OPEN_READONLY)
    connection.execute("VACUUM INTO ?", (str(beside),))
    connection.close()
    yield from _chunks(beside)


def in_one_transaction(folder: Path, _: Path) -> Iterator[bytes]:
    """The rows of the journal, read in one transaction that lasts as long as the reader takes."""
    with closing(Readers(folder)) as readers, readers.reader() as at:
        rows = at.connection.execute("SELECT change, embedding, record, digest FROM journal ORDER BY sequence")
        kept = bytearray()
        for row in rows:
            kept += b"".join(part or b"" for part in row)
            if len(kept) >= _CHUNK_BYTES:
                yield bytes(kept)
                kept.clear()
        yield bytes(kept)


def by_entries(folder: Path, _: Path) -> Iterator[bytes]:
    """What the service does."""
    with closing(Readers(folder)) as readers:
        yield from backup.Backup(readers, "bench", 0).data()


WAYS: Final[dict[str, Way]] = {
    "backup API, temporary file": backup_api,
    "VACUUM INTO, temporary file": vacuum_into,
    "rows, one transaction": in_one_transaction,
    "rows, a transaction a page": by_entries,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--within", action="store_true")
    parser.add_argument("--copy", nargs=2, metavar=("WAY", "FOLDER"), help="used by itself")
    arguments = parser.parse_args()
    if arguments.copy:
        way, folder = arguments.copy
        for line in sys.stdin:
            print(json.dumps(asdict(copied(way, Path(folder), float(line)))), flush=True)
        return 0
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / "base"
        messages = [message for _, message in encoded(arguments.records + int(_LOAD_A_SECOND * arguments.seconds))]
        load = [[Record(m, 0) for m in messages[i : i + _BATCH]] for i in range(0, len(messages), _BATCH)]
        first = arguments.records // _BATCH
        filled(base, load[:first])
        for way in WAYS:
            folder = Path(name) / "store"
            copytree(base, folder)
            figures += measure(folder, way, load[first:], arguments.seconds, within=arguments.within)
            rmtree(folder)
    return report("backup_ways", figures)


@dataclass(frozen=True, slots=True)
class Copied:
    """One copy."""

    seconds: float
    size: int
    beside: int
    """The size of the temporary file."""


def copied(way: str, folder: Path, pause_seconds: float) -> Copied:
    """Copy once, with a pause after each piece."""
    begin, size, beside = time.perf_counter(), 0, folder / "copy"
    for piece in WAYS[way](folder, beside):
        size += len(piece)
        time.sleep(pause_seconds)
    done = Copied(time.perf_counter() - begin, size, beside.stat().st_size if beside.exists() else 0)
    beside.unlink(missing_ok=True)
    return done


def filled(folder: Path, load: list[list[Record]]) -> None:
    with new_engine(folder) as engine:
        for batch in load:
            engine.pipeline.commit(engine.pipeline.prepare(batch))


@dataclass(slots=True)
class Load(Generic[Batch]):
    """Gives one batch after the other to `take`, as fast as it goes."""

    take: Callable[[Batch], object]
    batches: Sequence[Batch]
    taken: int = 0
    """How many records."""
    stopping: bool = False

    def run(self) -> None:
        """Until stopped."""
        for batch in self.batches:
            if self.stopping:
                return
            self.take(batch)
            self.taken += len(batch)
        raise SystemExit("too few records for this time")

    def turns(self, work: Callable[[], object], seconds: float) -> tuple[float, float]:
        """Records taken a second, without and with the work, which take turns of so many seconds."""
        rates = [(self._rate(lambda: time.sleep(0.1), seconds), self._rate(work, seconds)) for _ in range(TURNS)]
        alone, meanwhile = (sum(each) / TURNS for each in zip(*rates, strict=True))
        return alone, meanwhile

    def _rate(self, work: Callable[[], object], seconds: float) -> float:
        """Records taken a second while `work` is done again and again."""
        begin, before = time.perf_counter(), self.taken
        while time.perf_counter() - begin < seconds:
            work()
        return (self.taken - before) / (time.perf_counter() - begin)


def measure(folder: Path, way: str, batches: list[list[Record]], seconds: float, *, within: bool) -> list[Figure]:
    engine, copies = Engine(folder), list[Copied]()
    load = Load(lambda batch: engine.pipeline.commit(engine.pipeline.prepare(batch)), batches)
    wal = Path(f"{folder / FILE}-wal")
    beside = None if within else Asked("the copying", "-m", "bench.backup_ways", "--copy", way, str(folder))

    def copy(pause_seconds: float = 0.0) -> None:
        if beside is None:
            copies.append(copied(way, folder, pause_seconds))
        else:
            copies.append(Copied(**json.loads(beside.ask(str(pause_seconds)))))

    with ThreadPoolExecutor(1) as pool:
        copy()  # what has to be imported is
        running = pool.submit(load.run)
        alone, meanwhile = load.turns(copy, seconds / TURNS)
        wal_before = wal.stat().st_size
        copy(_SLOW_SECONDS)
        wal_after = wal.stat().st_size
        load.stopping = True
        running.result()
    if beside is not None:
        beside.finish()
    engine.close()
    busy = copies[1:-1]
    rate = sum(one.size for one in busy) / sum(one.seconds for one in busy) / 1e6
    return [
        Figure(f"{way}: size at first", copies[0].size / 1e6, "MB"),
        Figure(f"{way}: disk beside, at first", copies[0].beside / 1e6, "MB"),
        Figure(f"{way}: pace while commits go on", rate, "MB/s"),
        Figure(f"{way}: the first copy then", busy[0].seconds, "s"),
        Figure(f"{way}: commits alone", alone, "records/s"),
        Figure(f"{way}: commits meanwhile, of those alone", meanwhile / alone, ""),
        Figure(f"{way}: WAL grew for a slow reader by", (wal_after - wal_before) / 1e6, "MB"),
        Figure(f"{way}: the slow reader took", copies[-1].seconds, "s"),
    ]


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


if __name__ == "__main__":
    sys.exit(main())
