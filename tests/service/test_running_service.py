"""What stands under the tests and the benchmarks: a service that does not outlive whoever started it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import is_running
from tests.support.waits import wait_until

_PROGRAM = """
import sys, threading, time
from pathlib import Path
from tests.support.service import running_service
with running_service(Path(sys.argv[1])) as service:
    again = threading.Thread(target=service.restart)
    again.start()
    again.join()
    print(service.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_service_ends_with_whoever_started_it_and_not_with_the_thread_that_did(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as program:
        assert program.stdout is not None
        service = int(program.stdout.readline())
        assert is_running(service)
        program.send_signal(number)
    wait_until(lambda: not is_running(service), "the end of the service")
