"""A real cluster of three brokers whose leader is killed under load."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from epistream.services.kafka import clients
from epistream.services.kafka.topics import ensure_topics
from tests.support.kafka import ADDRESS_VARIABLE
from tests.support.kafka_cluster import NODES, KafkaCluster, a_cluster

_SUITE: Final = (
    "tests/service/test_kafka_intake.py",
    "tests/service/test_kafka_publisher.py",
    "tests/service/test_kafka_producer.py",
    "tests/service/test_redrive.py",
)
_BETWEEN_S: Final = 20.0
_AWAY_S: Final = 10.0


@pytest.mark.robustness
@pytest.mark.timeout(900)
def test_a_leader_that_is_killed_again_and_again_costs_a_short_stall_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-m", "bench.cluster"], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    figures = {each["name"]: each for each in json.loads(done.stdout.splitlines()[-1])["figures"]}
    assert [figure for figure in figures.values() if not figure["ok"]] == []


@pytest.mark.robustness
def test_topics_that_are_made_where_they_are_missing_have_the_copies_of_the_cluster(tmp_path: Path) -> None:
    with a_cluster(tmp_path) as cluster:
        made = ensure_topics(cluster.bootstrap, partitions=2)
        with clients.admin(cluster.bootstrap, "test") as admin:
            described = admin.describe_topics(list(made))
    copies = {topic["name"]: [len(p["replica_nodes"]) for p in topic["partitions"]] for topic in described}
    assert copies == {name: [NODES, NODES] for name in made}


@pytest.mark.robustness
@pytest.mark.timeout(1800)
def test_what_passes_with_one_broker_passes_with_three_while_the_one_that_leads_is_killed(tmp_path: Path) -> None:
    """The tests of what is read from Kafka and written to it, over a real cluster.

    Those that kill their Kafka themselves keep one of their own.
    """
    with a_cluster(tmp_path) as cluster:
        ensure_topics(cluster.bootstrap, submission_topics=["watched"], partitions=1)
        cluster.await_in_sync("watched")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_SUITE]
        environment = {**os.environ, ADDRESS_VARIABLE: cluster.bootstrap}
        told = tmp_path / "told"
        with (
            told.open("wb") as out,
            subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True) as suite,
        ):
            try:
                kills = _kill_leaders(cluster, "watched", suite)
            finally:
                with suppress(ProcessLookupError):  # nothing of the suite is left, as it should be
                    os.killpg(suite.pid, signal.SIGKILL)
    assert suite.returncode == 0, told.read_text()
    assert kills > 1, told.read_text()


def _kill_leaders(cluster: KafkaCluster, topic: str, suite: "subprocess.Popen[bytes]") -> int:
    """As long as the suite runs, kills the topic's leader and starts it again; how often it was away while it ran."""
    kills = 0
    while True:
        with suppress(subprocess.TimeoutExpired):
            suite.wait(_BETWEEN_S)
            return kills
        leader = cluster.nodes[cluster.leader_of(topic)]
        leader.kill()
        kills += 1
        time.sleep(_AWAY_S)
        cluster.start()
        cluster.await_in_sync(topic)
