"""kill -9 of the service at random moments and named points, while knowledge comes in over gRPC and over Kafka.

Each round the service is killed 50 to 800 ms after it has taken something, and started again over the same folder. In
every other round it is started so that it kills itself at a named point (`tests/support/failing_service.py`: between
applying, commit, publishing and receipt, in a checkpoint, while it goes down, while it starts), and then once more. All
goes to two namespaces; of each a subscriber and a replica, itself killed now and then, follow through all rounds. In
the end everything is compared, for each namespace by itself: what was acknowledged, what was produced to Kafka, what
was pushed, what the replica holds, and what is in the store.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from bench.report import Figure, at_least, equal, report
from tests.support.kill_check import History, check, taken
from tests.support.kill_producers import service_beside_kafka
from tests.support.kill_rounds import kill_rounds

ROUNDS: Final = 50
_SHOWN_MAX: Final = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, service_beside_kafka(Path(name)) as (service, side):
        history = kill_rounds(service, arguments.rounds, seed=arguments.seed, kafka=side)
    return reported(history, arguments.rounds)


def reported(history: History, rounds: int) -> int:
    found = check(history)
    for sentence in found.all()[:_SHOWN_MAX]:
        print(sentence)
    p50, p99 = np.percentile(1000 * np.array(history.restart_seconds), [50, 99])
    return report(
        "kill",
        [
            equal("rounds of kill -9", len(history.restart_seconds), "rounds", rounds),
            equal("of these, with a kill at a named point, too", len(history.struck), "rounds", rounds // 2),
            Figure("named points", len(set(history.struck)), "points"),
            Figure("receipts given over gRPC", len(history.answered), "receipts"),
            Figure("records sent over Kafka", len(history.produced), "records"),
            at_least("submissions acknowledged as taken", len(taken(history)), "submissions", 1),
            Figure("revisions, each pushed to the subscriber and the replica", history.revisions(), "revisions"),
            equal("lost", len(found.lost), "records", 0),
            equal("doubled", len(found.doubled), "records", 0),
            equal("gaps", len(found.gaps), "gaps", 0),
            equal("anything else that is not as it must be", len(found.wrong), "findings", 0),
            Figure("restart to the first answer, p50", float(p50), "ms"),
            Figure("restart to the first answer, p99", float(p99), "ms"),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
