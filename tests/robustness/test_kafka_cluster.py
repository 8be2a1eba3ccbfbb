"""A real cluster of three brokers whose leader is killed under load."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from epistream.services.kafka import clients
from epistream.services.kafka.topics import ensure_topics
from tests.support.kafka_cluster import NODES, a_cluster


@pytest.mark.robustness
@pytest.mark.timeout(900)
def test_a_leader_that_is_killed_again_and_again_costs_a_stall_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-m", "bench.cluster"], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    figures = {each["name"]: each for each in json.loads(done.stdout.splitlines()[-1])["figures"]}
    stall = figures.pop("the longest stall")  # how long it is depends on the machine
    assert stall["value"] > 0
    assert [name for name, figure in figures.items() if not figure["ok"]] == []


@pytest.mark.robustness
def test_topics_that_are_made_where_they_are_missing_have_the_copies_of_the_cluster(tmp_path: Path) -> None:
    with a_cluster(tmp_path) as cluster:
        made = ensure_topics(cluster.bootstrap, partitions=2)
        with clients.admin(cluster.bootstrap, "test") as admin:
            described = admin.describe_topics(list(made))
    copies = {topic["name"]: [len(p["replica_nodes"]) for p in topic["partitions"]] for topic in described}
    assert copies == {name: [NODES, NODES] for name in made}
