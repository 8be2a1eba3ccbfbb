"""Loss of power during ingest, in one process, over a disk that keeps only what was flushed, and parts of the rest.

Each round opens what the loss before has left, commits batches as they come over gRPC and from Kafka, and loses the
power at a random write or flush; checkpoints are frequent, so that it is lost in them, too. What survives must verify,
and must be what was acknowledged: the journal, the views, the positions in Kafka, the dead letters, the index. Who
follows must go on where it was, and have all in the end.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.report import Figure, at_least, equal, report
from tests.support.power_loss import power_losses

ROUNDS: Final = 200
_SHOWN_MAX: Final = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        seen = power_losses(Path(name), arguments.rounds, seed=arguments.seed)
    for sentence in seen.faults[:_SHOWN_MAX]:
        print(sentence)
    return report(
        "power-loss",
        [
            equal("losses of power", seen.rounds, "rounds", arguments.rounds),
            at_least("submissions acknowledged", seen.acknowledged, "submissions", 1),
            Figure("batches that were kept without having been acknowledged", seen.unacknowledged_kept, "batches"),
            equal("anything that is not as it must be", len(seen.faults), "findings", 0),
            Figure("a round, with its checks", (time.monotonic() - begun) / arguments.rounds, "s"),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
