"""What the gate costs the pipeline: 20,000 records with vectors, with all that the gate measures and without it.

The two are run in turns, in one process each, and what counts is the ratio within a turn. Without means: gains are not
observed (a namespace of longer vectors than are measured does the same). Then the same where half of the records are
synthetic, so that lineage, looks, gain and the real share are asked for each.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from bench.records import DIMENSION, NAMESPACE, make_records
from bench.report import Figure, below, report
from epistream.indexer import standing
from epistream.indexer.engine import Engine
from epistream.indexer.model import Record
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb

RECORDS: Final = 20_000
BATCH: Final = 500
TURNS: Final = 5
_MORE_MAX: Final = 1.2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alone", choices=("with", "without", "synthetic", "held"), help="used by itself")
    parser.add_argument("--turns", type=int, default=TURNS)
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(alone(arguments.alone)))
        return 0
    found: dict[str, list[float]] = {way: [] for way in ("without", "with", "synthetic", "held")}
    for _ in range(arguments.turns):
        for way, taken in found.items():
            taken.append(asked(way))
    more = [with_it / without for with_it, without in zip(found["with"], found["without"], strict=True)]
    return report(
        "gate",
        [
            Figure("the pipeline without the gate's measures", statistics.median(found["without"]), "µs a record"),
            Figure("with them", statistics.median(found["with"]), "µs a record"),
            below("of each turn, the second of the first: median", statistics.median(more), "times", _MORE_MAX),
            Figure("most", max(more), "times"),
            Figure("half of the records synthetic, measured", statistics.median(found["synthetic"]), "µs a record"),
            Figure("half of them synthetic, GUARD_HOLD", statistics.median(found["held"]), "µs a record"),
        ],
    )


def asked(way: str) -> float:
    """Microseconds a record, in a process of its own."""
    command = [sys.executable, "-m", "bench.gate", "--alone", way]
    return float(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def alone(way: str) -> float:
    """What one way takes, µs a record: prepared beforehand, as the service does beside the writer, then committed."""
    if way == "without":
        standing.GAIN_DIMENSION_MAX = 0  # type: ignore[misc] # as for vectors that are too long
    made = list(make_records(RECORDS))
    records = [Record(_sent(one.submission, one.vector, number, way), 1) for number, one in enumerate(made)]
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder))
        guard = ns_pb.GUARD_HOLD if way == "held" else ns_pb.GUARD_MEASURE
        engine.namespaces.create(
            ns_pb.CreateNamespaceRequest(
                name=NAMESPACE,
                encoder=ns_pb.Encoder(model="none", dimension=DIMENSION),
                policy=ns_pb.Policy(guard=guard),
            )
        )
        begun = time.perf_counter()
        for start in range(0, RECORDS, BATCH):
            engine.pipeline.commit(engine.pipeline.prepare(records[start : start + BATCH]))
        taken = time.perf_counter() - begun
        engine.close()
    return taken / RECORDS * 1e6


def _sent(made: pb.Submission, vector: np.ndarray[tuple[int], np.dtype[np.float32]], number: int, way: str) -> bytes:
    made.embedding.float32 = vector.astype("<f4").tobytes()
    if way in ("synthetic", "held") and number % 2:
        made.origin, made.provenance.generator = pb.ORIGIN_SYNTHETIC, "bench"
    return made.SerializeToString()


if __name__ == "__main__":
    sys.exit(main())
