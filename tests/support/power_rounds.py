"""Losses of power of the whole service, again and again, while knowledge comes in over gRPC and over Kafka.

The service runs over a disk that keeps what was flushed, and of the rest any part (`tests.support.faulty_disk`). At a
random write or flush of SQLite's it ends at once, as by kill -9; it goes on over what that disk holds then, not over
what the machine's has. So what was acknowledged, pushed or told to Kafka before it was flushed is found missing.

Producers, subscribers, replicas and check are those of `tests.support.kill_rounds`.
"""

import shutil
import signal
from typing import Final

from tests.support.failing_service import power_lost, survived
from tests.support.kill_check import PATIENCE_SECONDS, History
from tests.support.kill_producers import KafkaSide
from tests.support.kill_rounds import Round, come_back, rounds_under_load, wait_for_work
from tests.support.service import Fail, RunningService

OPERATIONS_MAX: Final = 2000
"""Of SQLite's on its files, until the power is lost: from the first commit to a second or two of work."""


def power_rounds(service: RunningService, rounds: int, *, seed: int, kafka: KafkaSide | None = None) -> History:
    """Lose the power as often as that during ingest; then let the service finish, ask it everything again, and stop it.

    Args:
        service: it runs, with an empty store, over the machine's disk.
        rounds: how many times.
        seed: of the traffic and of the moments.
        kafka: what the service reads from, too.
    """

    def one(now: Round) -> None:
        lose_power(now)
        if now.number == rounds - 1:
            come_back(now)

    return rounds_under_load(service, rounds, one, seed=seed, kafka=kafka)


def lose_power(now: Round) -> None:
    """Have the service work until the power is lost; in one of three rounds each replica is lost with it."""
    service = now.service
    if service.is_running():
        wait_for_work(now)
        service.kill()
    service.launch(Fail(power_lost.__name__, now.chance.randint(1, OPERATIONS_MAX)))
    for replica in now.replicas:
        replica.start()
    code = service.wait(PATIENCE_SECONDS)
    if code != -signal.SIGKILL:
        now.history.faults.append(f"the service was to lose its power, but ended with {code}")
    now.lose_replicas()
    shutil.rmtree(service.folder)
    survived(service.folder).rename(service.folder)
    now.history.struck.append(power_lost.__name__)
