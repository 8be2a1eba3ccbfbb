"""A real Apache Kafka of three nodes on this machine, any of which may be killed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from epistream.services.kafka import clients
from epistream.services.kafka.local import LocalKafka, Variant, free_ports, new_cluster_id
from tests.support.kafka_runtime import kafka_runtime
from tests.support.waits import wait_until

NODES: Final = 3
_START_SECONDS: Final = 120.0


class KafkaCluster:
    """The nodes. One thread starts and kills them.

    Attributes:
        nodes: the brokers, by their numbers from 1.
        bootstrap: the addresses of all.
    """

    def __init__(self, folder: Path) -> None:
        """Nothing is started yet. Its data is kept in `folder`."""
        runtime, cluster, ports = kafka_runtime(), new_cluster_id(), free_ports(2 * NODES)
        voters = ",".join(f"{number}@127.0.0.1:{ports[-number]}" for number in range(1, NODES + 1))
        self.nodes = {
            number: LocalKafka(
                folder / str(number),
                port=ports[number - 1],
                controller_port=ports[-number],
                runtime=runtime,
                variant=Variant(_properties(number, voters), format_options=(), cluster_id=cluster),
            )
            for number in range(1, NODES + 1)
        }
        self.bootstrap = ",".join(node.bootstrap for node in self.nodes.values())

    def start(self) -> None:
        """Starts those that do not run, all at once: a single one waits for another to agree with."""
        with ThreadPoolExecutor(NODES) as pool:
            list(pool.map(lambda node: node.start(_START_SECONDS), self.nodes.values()))

    def stop(self) -> None:
        """Kills all: the last one could not leave in order, since nobody is there to agree with."""
        for node in self.nodes.values():
            node.kill()

    def leader_of(self, topic: str) -> int:
        """The number of the node that leads the topic's first partition."""
        with clients.admin(self.bootstrap, "test") as admin:
            return int(admin.describe_topics([topic])[0]["partitions"][0]["leader_id"])

    def await_in_sync(self, topic: str) -> None:
        """Waits until every node has all of the topic's first partition."""
        with clients.admin(self.bootstrap, "test") as admin:
            wait_until(
                lambda: len(admin.describe_topics([topic])[0]["partitions"][0]["isr_nodes"]) == NODES,
                "all nodes in sync",
            )


@contextmanager
def a_cluster(folder: Path) -> Iterator[KafkaCluster]:
    """A running one, as long as the block."""
    cluster = KafkaCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _properties(number: int, voters: str) -> dict[str, str | None]:
    return {
        "node.id": str(number),
        "controller.quorum.bootstrap.servers": None,
        "controller.quorum.voters": voters,
        "default.replication.factor": "3",
        "min.insync.replicas": "2",
        "unclean.leader.election.enable": "false",
        "offsets.topic.replication.factor": "3",
        "transaction.state.log.replication.factor": "3",
        "transaction.state.log.min.isr": "2",
        "share.coordinator.state.topic.replication.factor": "3",
        "share.coordinator.state.topic.min.isr": "2",
        "replica.lag.time.max.ms": "3000",
    }
