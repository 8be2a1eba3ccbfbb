"""A real Kafka of three brokers, whose leader is killed with -9 again and again under load.

In each round a producer keeps its pace, the service takes in, a replica applies, and the broker that leads the
partition of the submissions is killed; when knowledge flows again it is started anew. The next round begins once all
three brokers have everything, and the replica has all of this one. How long nothing is applied is the stall: three
seconds of it pass until the others take the broker for dead (broker.session.timeout.ms; Kafka's default is nine). In
the end everything is counted: what Kafka has, what became of it, what the replica applied, and what Kafka was told.
Three brokers, producer, service, its poller and publisher, and replica are eight processes on one machine.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bench.main_path import decided, encoded, until_kafka_is_told
from bench.parts import ReplicaProcess, producing, until, write_encoded
from bench.records import ENCODER, NAMESPACE
from bench.report import Figure, below, equal, report
from epistream.clients import SyncKnowledgeClient
from epistream.clients.demo.publish import decided_count
from epistream.indexer.store import Store, check
from epistream.services.kafka.topics import ensure_topics
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.topics import CHANGES, EXPERT, OUTCOMES
from tests.support.kafka import Kafka, Record
from tests.support.kafka_cluster import KafkaCluster, a_cluster
from tests.support.service import RunningService, running_service

ROUNDS: Final = 3
RATE: Final = 200
"""Records a second: what two cores have left beside three brokers."""
ROUND_RECORDS: Final = 20 * RATE
"""What a producer sends in 20 seconds."""
_STEADY_SECONDS: Final = 5
_STALL_SECONDS_MAX: Final = 10


class Round(NamedTuple):
    """A leader's end, and what came after it."""

    killed: float
    """When, as `time.time` counts."""
    applied: float
    """When the replica had all of the round."""
    another_led: bool
    """Whether another broker led then."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_encoded(folder / "records", encoded(ROUND_RECORDS * rounds))
        with a_cluster(folder / "kafka") as cluster:
            ensure_topics(cluster.bootstrap, replication_factor=3)
            with running_service(folder / "store", kafka=cluster.bootstrap) as service:
                figures = measure(folder, cluster, service, rounds)
            figures.append(equal("what fsck finds", found_by_fsck(folder / "store"), "findings", 0))
    return report("cluster", figures)


def measure(folder: Path, cluster: KafkaCluster, service: RunningService, rounds: int) -> list[Figure]:
    with SyncKnowledgeClient(service.address) as client:
        client.create_namespace(NAMESPACE, encoder=ENCODER)
        replica = ReplicaProcess(service.address, folder)
        kills = [kill_the_leader(folder, cluster, client, replica, number) for number in range(rounds)]
        until_kafka_is_told(service)
        after = client.namespace(NAMESPACE)
    _, applied = replica.finish()
    gaps = [longest_gap(applied, kill) for kill in kills]
    records, kafka = ROUND_RECORDS * rounds, Kafka(cluster.bootstrap)
    told = {_sequence(record): pb.Change.FromString(record.value or b"") for record in kafka.read(CHANGES)}
    of_submissions = {change.knowledge.submission_id for change in told.values()}
    receipts = {record.key for record in kafka.read(OUTCOMES)}
    return [
        equal("kills after which another broker led", sum(kill.another_led for kill in kills), "kills", rounds),
        *(Figure(f"round {n}: nothing applied for", gap, "s") for n, gap in enumerate(gaps, 1)),
        below("the longest stall", max(gaps), "s", _STALL_SECONDS_MAX),
        equal("records that Kafka has, each produced once", len(kafka.read(EXPERT)), "records", records),
        equal("of which have no receipt in Kafka: lost", records - len(receipts), "records", 0),
        equal("outcomes that the service counts more than records", decided_count(after) - records, "outcomes", 0),
        equal("submissions that made more than one change", len(told) - len(of_submissions), "submissions", 0),
        equal("changes that Kafka was not told", after.head_revision - len(told), "changes", 0),
        equal("items that the replica has more or less", len(applied) - after.item_count, "items", 0),
    ]


def kill_the_leader(
    folder: Path, cluster: KafkaCluster, client: SyncKnowledgeClient, replica: ReplicaProcess, number: int
) -> Round:
    """Kill it, wait until knowledge flows again, start it anew, wait until all brokers and the replica have everything.

    The round has records of its own: however long all this takes, some are left to flow again.
    """
    with producing(cluster.bootstrap, folder / "records", RATE, number * ROUND_RECORDS, ROUND_RECORDS):
        time.sleep(_STEADY_SECONDS)
        node = cluster.leader_of(EXPERT)
        before = client.namespace(NAMESPACE).head_revision
        killed = time.time()
        cluster.nodes[node].kill()
        # What was read before is applied still; twice what a second brings is more than that.
        until(lambda: client.namespace(NAMESPACE).head_revision >= before + 2 * RATE, "knowledge flows again")
        another_led = cluster.leader_of(EXPERT) != node
        cluster.start()
        cluster.await_in_sync(EXPERT)
    head = decided(client, (number + 1) * ROUND_RECORDS).head_revision
    return Round(killed, replica.wait_for(head), another_led)


def longest_gap(applied: "np.ndarray[tuple[int], np.dtype[np.float64]]", round_: Round) -> float:
    """The longest time in which nothing was applied, from shortly before the kill until all of its round was."""
    times = np.unique(applied)
    first = max(0, int(np.searchsorted(times, round_.killed - 1)) - 1)
    return float(np.diff(times[first:][times[first:] <= round_.applied]).max())


def _sequence(record: Record) -> bytes:
    return dict(record.headers)["epistream-sequence"]


def found_by_fsck(folder: Path) -> int:
    store = Store(folder)
    try:
        return len(check(store))
    finally:
        store.close()


if __name__ == "__main__":
    sys.exit(main())
