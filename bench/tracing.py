"""What traces cost: processor time for each record, unpacked, prepared and committed, with tracing off and on.

The same records in turns of 500, each kind in a process of its own, with the spans sent to a collector. With
`--beside FOLDER` another checkout's code takes its turns too, so that off can be compared with what was there before.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.engine import new_engine
from bench.parts import Asked
from bench.records import make_records
from bench.report import Figure, at_least, below, report
from tests.support.collector import collector

RECORDS: Final = 20_000
_TURN: Final = 500
_WARM_UP: Final = 2 * _TURN
_FEW_FOLLOWED: Final = "1 in 100 followed"
_RATIOS: Final = {"off": "", _FEW_FOLLOWED: "0.01", "as many followed as may be": "1"}
_MORE_MAX: Final = 1.05
"""What following few may cost; docs/tracing.md has what it did."""
_PORTIONS: Final = ("proto", "indexer", "services", "clients")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--beside", type=Path, help="another checkout")
    asked = parser.parse_args()
    turns = range(0, _WARM_UP + asked.records, _TURN)
    with collector() as collected:
        kinds = {kind: _worker(kind, ratio, collected.endpoint, turns.stop) for kind, ratio in _RATIOS.items()}
        if asked.beside is not None:
            with _code_of(asked.beside):
                kinds["the other checkout"] = _worker("the other checkout", "", "", turns.stop)
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for number, first in enumerate(turns):
            order = list(kinds)
            for kind in order[number % len(order) :] + order[: number % len(order)]:
                seconds[kind].append(float(kinds[kind].ask(str(first))))
        for worker in kinds.values():
            worker.finish()
        spans = len(collected.spans)
    figures = []
    off = seconds["off"][_WARM_UP // _TURN :]
    for kind in seconds:
        those = seconds[kind][_WARM_UP // _TURN :]
        figures.append(Figure(f"processor time of a record, {kind}", 1e6 * sum(those) / asked.records, "µs"))
        if kind != "off":
            compared = statistics.median(one / other for one, other in zip(those, off, strict=True))
            name = "of that with tracing off, the median of the turns"
            followed = kind == _FEW_FOLLOWED
            figures.append(below(name, compared, "times", _MORE_MAX) if followed else Figure(name, compared, "times"))
    return report("tracing", [*figures, at_least("spans that the collector got", spans, "spans", 1)])


def _worker(kind: str, ratio: str, endpoint: str, count: int) -> Asked:
    asked = ", ".join(map(repr, (count, endpoint, ratio)))
    return Asked(kind, "-c", f"from bench.tracing import work; work({asked})")


@contextmanager
def _code_of(checkout: Path) -> Iterator[None]:
    """Processes that are started meanwhile have the code of another checkout."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(str(checkout / portion) for portion in _PORTIONS)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def work(count: int, endpoint: str = "", ratio: str = "") -> None:
    """Hear the first record's number of each turn; print the processor time that the turn took, in seconds."""
    from epistream.indexer.model import Position, Record
    from epistream.services.kafka.parcels import pack, unpack

    parcels = []
    for number, made in enumerate(make_records(count)):
        made.submission.embedding.float32 = made.vector.astype("<f4").tobytes()
        headers = (("content-type", b"application/protobuf"),)
        value = made.submission.SerializeToString()
        parcels.append(pack(Record(value, time.time_ns() // 1000, headers, position=Position("bench", 0, number))))
    with tempfile.TemporaryDirectory() as folder, new_engine(Path(folder)) as engine:
        traces: Any = None
        prepare: Any = engine.pipeline.prepare
        commit: Any = engine.pipeline.commit
        if ratio:
            from epistream.services.tracing import Traces

            traces = Traces(endpoint, float(ratio), lambda call: call())
            prepare, commit = traces.preparing(prepare), traces.committing(commit)
        for line in sys.stdin:
            first = int(line)
            begun = time.process_time()
            arrived = [unpack(parcel) for parcel in parcels[first : first + _TURN]]
            if traces is not None:
                arrived = [*map(traces.arrived, arrived)]
            commit(prepare(arrived))
            print(time.process_time() - begun, flush=True)
        if traces is not None:
            traces.stop()


if __name__ == "__main__":
    sys.exit(main())
