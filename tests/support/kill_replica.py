"""A replica in a process of its own, to be killed: `python -m tests.support.kill_replica FILE ADDRESS NAMESPACE`.

It follows the namespace for ever. It ends by itself when it cannot go on from where its file is, which should not be.
"""

import sys
import time

from epistream.clients import SyncReplica

CONSUMER = "replica"


def follow(path: str, address: str, namespace: str) -> str:
    """Why it could not go on."""
    with SyncReplica(path, address, namespace, CONSUMER, progress_interval_seconds=0.2) as replica:
        while not replica.counts.faults and not replica.counts.resyncs and replica.error is None:
            time.sleep(0.02)
        return f"{replica.error or replica.counts}"


if __name__ == "__main__":
    sys.exit(follow(*sys.argv[1:]))
