"""A real Kafka of three brokers, whose leader is killed with -9 again and again under load.

A producer keeps its pace, the service takes in, a replica applies. In each round the broker that leads the partition of
the submissions is killed; when knowledge flows again it is started anew, and the next round begins once all three have
everything. How long nothing is applied is the stall: three seconds of it pass until the others take the broker for dead
(broker.session.timeout.ms; Kafka's default is nine). In the end everything is counted: what was produced, what became
of it, what the replica applied, and what Kafka was told. Three brokers, producer, service, its poller and publisher,
and replica are eight processes on one machine.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bench.main_path import decided, encoded, outcomes, until_kafka_is_told
from bench.parts import ReplicaProcess, producing, write_encoded
from bench.records import DIMENSION, NAMESPACE
from bench.report import Figure, at_least, below, equal, report
from epistream.clients import SyncKnowledgeClient
from epistream.indexer.store import Store, check
from epistream.services.kafka.topics import ensure_topics
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns
from epistream.wire.topics import CHANGES, EXPERT, OUTCOMES
from tests.support.kafka import Kafka, Record
from tests.support.kafka_cluster import KafkaCluster, a_cluster
from tests.support.service import RunningService, running_service

ROUNDS: Final = 3
RATE: Final = 200
"""Records a second: what two cores have left beside three brokers."""
ROUND_SECONDS: Final = 20
_STEADY_SECONDS: Final = 5
_STALL_SECONDS_MAX: Final = 10
_CHECK_SECONDS: Final = 0.05


class Kill(NamedTuple):
    """A leader's end."""

    at: float
    """As `time.time` counts."""
    node: int
    """The broker's number."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds: int = parser.parse_args().rounds
    records = RATE * ROUND_SECONDS * rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_encoded(folder / "records", encoded(records))
        with a_cluster(folder / "kafka") as cluster:
            ensure_topics(cluster.bootstrap, replication_factor=3)
            with running_service(folder / "store", kafka=cluster.bootstrap) as service:
                figures = measure(folder, cluster, service, records, rounds)
            figures.append(equal("what fsck finds", found_by_fsck(folder / "store"), "findings", 0))
    return report("cluster", figures)


def measure(folder: Path, cluster: KafkaCluster, service: RunningService, records: int, rounds: int) -> list[Figure]:
    with SyncKnowledgeClient(service.address) as client:
        client.create_namespace(NAMESPACE, encoder=ns.Encoder(model="none", dimension=DIMENSION))
        replica = ReplicaProcess(service.address, folder)
        with producing(cluster.bootstrap, folder / "records", RATE, 0, records):
            kills = [kill_the_leader(cluster, client) for _ in range(rounds)]
        after = decided(client, records)
        replica.wait_for(after.head_revision)
        until_kafka_is_told(service)
    _, applied = replica.finish()
    gaps = [longest_gap(applied, kill.at) for kill in kills]
    kafka = Kafka(cluster.bootstrap)
    told = {_sequence(record): pb.Change.FromString(record.value or b"") for record in kafka.read(CHANGES)}
    of_submissions = {change.knowledge.submission_id for change in told.values()}
    receipts = {record.key for record in kafka.read(OUTCOMES)}
    return [
        equal("brokers killed while they led", len(kills), "brokers", rounds),
        *(Figure(f"round {n}: nothing applied for", gap, "s") for n, gap in enumerate(gaps, 1)),
        below("the longest stall", max(gaps), "s", _STALL_SECONDS_MAX),
        at_least("records produced, each acknowledged by Kafka", records, "records", 1),
        equal("of which have no receipt in Kafka: lost", records - len(receipts), "records", 0),
        equal("outcomes that the service counts more or less than records", outcomes(after) - records, "outcomes", 0),
        equal("submissions that made more than one change", len(told) - len(of_submissions), "submissions", 0),
        equal("changes that Kafka was not told", after.head_revision - len(told), "changes", 0),
        equal("items that the replica has more or less", len(applied) - after.item_count, "items", 0),
    ]


def kill_the_leader(cluster: KafkaCluster, client: SyncKnowledgeClient) -> Kill:
    """Kill it, wait until knowledge flows again, start it anew, wait until all brokers have everything."""
    time.sleep(_STEADY_SECONDS)
    node = cluster.leader_of(EXPERT)
    before = client.namespace(NAMESPACE).head_revision
    at = time.time()
    cluster.nodes[node].kill()
    # What was read before is applied still; twice what a second brings is more than that.
    while client.namespace(NAMESPACE).head_revision < before + 2 * RATE:
        time.sleep(_CHECK_SECONDS)
    cluster.start()
    cluster.await_in_sync(EXPERT)
    return Kill(at, node)


def longest_gap(applied: "np.ndarray[tuple[int], np.dtype[np.float64]]", since: float) -> float:
    """The longest time in which nothing was applied, of a round's length after a kill."""
    times = np.unique(applied)
    of_round = times[(times >= since - 1) & (times <= since + ROUND_SECONDS)]
    return float(np.diff(of_round).max())


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
