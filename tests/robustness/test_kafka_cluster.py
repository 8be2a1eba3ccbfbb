"""A real cluster of three brokers whose leader is killed under load."""

import json
import subprocess
import sys

import pytest


@pytest.mark.robustness
@pytest.mark.timeout(900)
def test_a_leader_that_is_killed_again_and_again_costs_a_stall_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-m", "bench.cluster"], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    figures = {each["name"]: each for each in json.loads(done.stdout.splitlines()[-1])["figures"]}
    stall = figures.pop("the longest stall")  # how long it is depends on the machine
    assert stall["value"] > 0
    assert [name for name, figure in figures.items() if not figure["ok"]] == []
