"""What the gate costs the pipeline: 20,000 records with vectors, with all that the gate asks and without any of it.

The two are run in turns, in one process each, now this one first and now that; what counts is the ratio within a turn.
Once all records are people's, of which the gate only learns; once half of them are synthetic, so that lineage, looks,
gain and the real share are asked for each of those, by the default policy and against an anchor window that is whole.
Without means: nothing of this is asked or kept.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.engine import new_engine
from bench.records import make_records
from bench.report import Figure, below, of_each_turn, report
from epistream.indexer import standing
from epistream.indexer.gate import NO_GROUNDS
from epistream.indexer.model import Record
from epistream.indexer.moment import Moment
from epistream.indexer.pipeline import Pipeline
from epistream.v1 import knowledge_pb2 as pb

RECORDS: Final = 20_000
BEFORE: Final = 1_000
"""People's records that come first and are not counted: they make the anchor window."""
BATCH: Final = 500
TURNS: Final = 5
MORE_MAX: Final = 1.2
_WAYS: Final = ("people-without", "people-with", "half-without", "half-with")


@dataclass(frozen=True, slots=True)
class Taken:
    """What one way takes."""

    all_us: float
    """A record, on one thread."""
    writer_us: float
    """A record, of it on the writer; the rest is prepared beside it."""
    window_s: float
    """The anchor window, until the first synthetic record is looked at."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alone", choices=_WAYS, help="used by itself")
    parser.add_argument("--turns", type=int, default=TURNS)
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(asdict(alone(arguments.alone))))
        return 0
    found: dict[str, list[Taken]] = {way: [] for way in _WAYS}
    for turn in range(arguments.turns):
        for way in _WAYS[:: 1 if turn % 2 == 0 else -1]:
            found[way].append(asked(way))
    window = statistics.median(one.window_s for one in found["half-with"])
    return report(
        "gate",
        [
            *_compared("people's records", found["people-without"], found["people-with"]),
            *_compared("half of the records synthetic", found["half-without"], found["half-with"]),
            Figure("the anchor window of 500, once", window, "s"),
        ],
    )


def _compared(name: str, without: Sequence[Taken], having: Sequence[Taken]) -> list[Figure]:
    turns = list(zip(having, without, strict=True))
    more = [one.all_us / other.all_us for one, other in turns]
    writer = [one.writer_us / other.writer_us for one, other in turns]
    beside = [one.all_us - one.writer_us - (other.all_us - other.writer_us) for one, other in turns]
    return [
        Figure(f"{name}: without the gate", statistics.median(one.all_us for one in without), "µs a record"),
        Figure("with it", statistics.median(one.all_us for one in having), "µs a record"),
        *of_each_turn(more, below, MORE_MAX),
        Figure("of it on the writer: without", statistics.median(one.writer_us for one in without), "µs a record"),
        Figure("on the writer: with, of without", statistics.median(writer), "times"),
        Figure("beside the writer: with, more than without", statistics.median(beside), "µs a record"),
    ]


def asked(way: str) -> Taken:
    """What one way takes, in a process of its own, with one thread for BLAS as the service has."""
    command = [sys.executable, "-m", "bench.gate", "--alone", way]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return Taken(**json.loads(done.stdout))


def alone(way: str) -> Taken:
    """What one way takes: prepared beforehand, as the service does beside the writer, then committed."""
    if way.endswith("without"):
        ask_nothing()
    records = [
        Record(sent(one.submission, one.vector, number, half=way.startswith("half")), 1)
        for number, one in enumerate(make_records(BEFORE + 1 + RECORDS))
    ]
    prepared_s = committed_s = 0.0
    with tempfile.TemporaryDirectory() as folder, new_engine(Path(folder)) as engine:
        engine.pipeline.commit(engine.pipeline.prepare(records[:BEFORE]))
        begun = time.perf_counter()
        engine.pipeline.commit(engine.pipeline.prepare(records[BEFORE : BEFORE + 1]))
        window_s = time.perf_counter() - begun
        for start in range(BEFORE + 1, len(records), BATCH):
            begun = time.perf_counter()
            prepared = engine.pipeline.prepare(records[start : start + BATCH])
            prepared_s += (ready := time.perf_counter()) - begun
            engine.pipeline.commit(prepared)
            committed_s += time.perf_counter() - ready
    return Taken((prepared_s + committed_s) / RECORDS * 1e6, committed_s / RECORDS * 1e6, window_s)


def ask_nothing() -> None:
    """No lineage, looks, gain or real share, and no posterior that learns."""
    standing.GAIN_DIMENSION_MAX = 0  # type: ignore[misc] # as for vectors that are too long
    Moment.grounds = lambda *_: NO_GROUNDS  # type: ignore[method-assign]
    Pipeline._look = lambda self, prepared: prepared  # type: ignore[method-assign] # noqa: ARG005, SLF001


def sent(
    made: pb.Submission, vector: np.ndarray[tuple[int], np.dtype[np.float32]], number: int, *, half: bool
) -> bytes:
    made.embedding.float32 = vector.astype("<f4").tobytes()
    if half and number >= BEFORE and (number - BEFORE) % 2 == 0:
        made.origin, made.provenance.generator = pb.ORIGIN_SYNTHETIC, "bench"
    return made.SerializeToString()


if __name__ == "__main__":
    sys.exit(main())
