"""Measures the signals of a store's namespaces, in a process of its own: neither the writer nor the event loop waits.

    python -m epistream.services.measurer FOLDER

It measures each namespace in which something was decided since it was last measured, keeps what it found beside the
store, and ends. A namespace that cannot be read is told on the standard error stream, and costs the others nothing; it
ends with 1 then.
"""

import os
import sys
from pathlib import Path
from typing import Final

from epistream.indexer.clock import Clock, SystemClock
from epistream.indexer.signals.collect import collect, mark
from epistream.indexer.signals.kept import KeptSignals, measured
from epistream.indexer.store import Readers
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import EpistreamError

NICENESS: Final = 10
"""Knowledge is taken in and pushed first, as for a backup."""


def main(folder: str) -> int:
    """Measure what is due in the store in `folder`, which a service has open. Returns the exit code."""
    os.nice(NICENESS)
    readers, clock = Readers(Path(folder)), SystemClock()
    with readers.reader() as catalog:
        kept, namespaces = KeptSignals(Path(folder), catalog.epoch()), list(catalog.namespaces())
    failed = False
    for number, recorded in namespaces:
        try:
            refresh(readers, kept, number, recorded, clock)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is of this namespace: the others are measured
            failed = True
            told = error.message if isinstance(error, EpistreamError) else repr(error)
            print(f"{recorded.name}: {told}", file=sys.stderr)
    readers.close()
    return int(failed)


def refresh(readers: Readers, kept: KeptSignals, number: int, recorded: ns_pb.Namespace, clock: Clock) -> bool:
    """Measure a namespace where something was decided in it since; whether that was so. Blocks for a second or two.

    Raises:
        Broken: it cannot be read, or what was measured cannot be written.
    """
    with readers.reader() as catalog:
        now, head = mark(catalog, number), catalog.counts(number).head
        if kept.is_of(number, now):
            return False
        window = collect(catalog, number, recorded)
    kept.write(number, now, measured(window, recorded, head, clock.now_us()))
    return True


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
