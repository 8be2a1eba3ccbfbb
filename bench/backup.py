"""Backups of a service with 20,000 records, idle and while more come in over gRPC, and a restore of the last one.

Copying and not copying take turns, since the machine may be slower from one moment to the next. Service, copier,
producer and the client that writes the file are four processes on one machine.
"""

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from bench.again import dumped
from bench.backup_ways import TURNS, Load, filled
from bench.main_path import encoded
from bench.parts import Asked, records_asked_for
from bench.report import Figure, equal, report
from epistream.clients import SyncProducer
from epistream.indexer.model import Record
from epistream.indexer.restore import restore
from epistream.v1 import knowledge_pb2 as pb
from tests.support.service import running_service

RECORDS: Final = 20_000
_TURN_SECONDS: Final = 3.0
_BATCH: Final = 200
_CLIENT: Final = """
import asyncio, sys
from pathlib import Path
from epistream.clients.backup import back_up
for _ in sys.stdin:
    print(asyncio.run(back_up(sys.argv[1], Path(sys.argv[2]))).size_bytes, flush=True)
"""


def main() -> int:
    records = records_asked_for(__doc__, RECORDS)
    with tempfile.TemporaryDirectory() as name:
        return measure(Path(name), [message for _, message in encoded(records + 4 * RECORDS)], records)


def measure(folder: Path, messages: list[bytes], records: int) -> int:
    store, file = folder / "store", folder / "b"
    filled(store, [[Record(m, 0) for m in messages[i : i + _BATCH]] for i in range(0, records, _BATCH)])
    with running_service(store) as service, SyncProducer(service.address) as producer:
        client = Asked("the client", "-c", _CLIENT, service.address, str(file))
        copies: list[tuple[int, float]] = []

        def back_up() -> None:
            begin = time.perf_counter()
            size = int(client.ask(""))
            copies.append((size, time.perf_counter() - begin))

        back_up()  # what has to be imported is
        copies.clear()
        for _ in range(TURNS):
            back_up()
        idle, size = pace(copies), copies[0][0]
        copies.clear()
        later = [messages[i : i + _BATCH] for i in range(records, len(messages), _BATCH)]
        load = Load(lambda batch: producer.submit(*map(pb.Submission.FromString, batch)), later)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(load.run)
            alone, meanwhile = load.turns(back_up, _TURN_SECONDS)
            load.stopping = True
            running.result()
        meanwhile_pace = pace(copies)
        back_up()  # what is restored is all of the store
        client.finish()
    begin = time.perf_counter()
    restored = restore(file, folder / "restored")
    seconds = time.perf_counter() - begin
    differs = int(dumped(folder / "restored") != dumped(store))
    return report(
        "backup",
        [
            Figure("size of a backup", size / 1e6, "MB"),
            Figure("pace of a backup, nothing else going on", idle, "MB/s"),
            Figure("pace of a backup while records come in", meanwhile_pace, "MB/s"),
            Figure("records taken in, no backup being made", alone, "records/s"),
            Figure("records taken in while backups are made, of those", meanwhile / alone, ""),
            Figure("restored, checked", restored.header.journal_entries / seconds, "entries/s"),
            equal("dumps of what was restored that are not the store's", differs, "dumps", 0),
        ],
    )


def pace(copies: list[tuple[int, float]]) -> float:
    """MB a second."""
    return sum(size for size, _ in copies) / sum(seconds for _, seconds in copies) / 1e6


if __name__ == "__main__":
    sys.exit(main())
