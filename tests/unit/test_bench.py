"""What benchmarks take off where the disk stood still, and how they stop what stands beside."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil

from bench.machine import Meanwhile
from bench.parts import stopped
from tests.support.waits import wait_until

ROOT = Path(__file__).parents[2]


def test_waited_counts_the_part_of_a_span_in_which_the_disk_stood_still() -> None:
    meanwhile = Meanwhile(writes=[(10.0, 10.3), (11.0, 11.05), (12.0, 12.2)])
    spans = np.array([(9.0, 9.5), (9.9, 10.1), (10.1, 10.2), (9.0, 13.0), (11.0, 11.5), (12.1, 12.9)])

    waited = meanwhile.waited(spans[:, 0], spans[:, 1])

    np.testing.assert_allclose(waited, [0, 0.1, 0.1, 0.5, 0, 0.1], atol=1e-9)


def test_a_look_at_the_machine_tells_of_the_disk_by_both_ways_and_of_the_host() -> None:
    command = [sys.executable, "-m", "bench.machine", "--seconds=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["bench"] == "disk"
    seen = {figure["name"]: (figure["value"], figure["unit"]) for figure in told["figures"]}
    for way in ("idle", "idle, past Linux's cache"):
        longest, unit = seen.pop(f"the longest that 4 KiB waited for the disk, {way}")
        still, _ = seen.pop(f"how long it stood still, {way}")
        assert unit == "ms"
        assert longest > 0
        assert (still >= longest) == (longest > 100), "what waits for longer than that is counted"
        taken, unit = seen.pop(f"taken by the host, {way}")
        assert unit == "processors"
        assert taken >= 0
    assert seen == {}


def is_stopped(process: "subprocess.Popen[bytes]") -> bool:
    return bool(psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)


def test_stopped_lets_all_go_on_again_also_where_one_has_ended_meanwhile() -> None:
    sleepers = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(2)]
    ended, other = sleepers
    try:
        with stopped(ended.pid, other.pid):
            wait_until(lambda: all(map(is_stopped, sleepers)), "both stand still")
            os.kill(ended.pid, signal.SIGKILL)
            ended.wait(10)
        wait_until(lambda: not is_stopped(other), "the other goes on")
    finally:
        for one in sleepers:
            one.kill()
            one.wait(10)
