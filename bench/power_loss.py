"""Loss of power during ingest, over a disk that keeps only what was flushed, and parts of the rest.

Of the store, in this process: each round opens what the loss before has left, commits batches as they come over gRPC
and from Kafka, and loses the power at a random write or flush. What survives must verify, and must be what was
acknowledged: the journal, the views, the positions in Kafka, the dead letters, the index. Who follows must go on where
it was, and have all in the end.

Of the service, a process of its own under load over gRPC and from a real Kafka: each round it ends at a random write or
flush of SQLite's, and goes on over what that disk has kept. All is compared in the end, as bench/kill.py does.

In both everything goes to two namespaces, and each has its followers.

Checkpoints are frequent in both, so that the power is lost in them, too. Only SQLite's files are on that disk: the
index file is written when a service stops, and tests/contract/test_index_snapshot.py says what becomes of a part of it.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.report import Figure, at_least, equal, report
from tests.support.kill_check import check, taken
from tests.support.kill_producers import service_beside_kafka
from tests.support.power_loss import power_losses
from tests.support.power_rounds import power_rounds

ROUNDS: Final = 200
_SHOWN_MAX: Final = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the store")
    parser.add_argument("--service-rounds", type=int, default=ROUNDS, help="of the service")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    figures = of_the_store(arguments.rounds, arguments.seed) if arguments.rounds else []
    figures += of_the_service(arguments.service_rounds, arguments.seed) if arguments.service_rounds else []
    return report("power-loss", figures)


def of_the_store(rounds: int, seed: int) -> list[Figure]:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        seen = power_losses(Path(name), rounds, seed=seed)
    for sentence in seen.faults[:_SHOWN_MAX]:
        print(sentence)
    return [
        equal("store: losses of power", seen.rounds, "rounds", rounds),
        at_least("store: submissions acknowledged", seen.acknowledged, "submissions", 1),
        Figure("store: batches that were kept without having been acknowledged", seen.unacknowledged_kept, "batches"),
        equal("store: anything that is not as it must be", len(seen.faults), "findings", 0),
        Figure("store: a round, with its checks", (time.monotonic() - begun) / rounds, "s"),
    ]


def of_the_service(rounds: int, seed: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name, service_beside_kafka(Path(name)) as (service, side):
        begun = time.monotonic()
        history = power_rounds(service, rounds, seed=seed, kafka=side)
        seconds = time.monotonic() - begun
    found = check(history)
    for sentence in found.all()[:_SHOWN_MAX]:
        print(sentence)
    return [
        equal("service: losses of power", len(history.struck), "rounds", rounds),
        Figure("service: receipts given over gRPC", len(history.answered), "receipts"),
        Figure("service: records sent over Kafka", len(history.produced), "records"),
        at_least("service: submissions acknowledged as taken", len(taken(history)), "submissions", 1),
        Figure("service: revisions, each pushed to the subscriber and the replica", history.revisions(), "revisions"),
        equal("service: lost", len(found.lost), "records", 0),
        equal("service: doubled", len(found.doubled), "records", 0),
        equal("service: gaps", len(found.gaps), "gaps", 0),
        equal("service: anything else that is not as it must be", len(found.wrong), "findings", 0),
        Figure("service: a round, with the check in the end", seconds / rounds, "s"),
    ]


if __name__ == "__main__":
    sys.exit(main())
