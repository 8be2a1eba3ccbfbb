"""`make monitoring`: a Prometheus with Epistream's alert rules beside a service that runs, until Ctrl-C."""

import argparse
import signal
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType

from epistream.wire.errors import EpistreamError
from k8s.components.monitoring.prometheus import Prometheus, Scraped, find_tools
from k8s.components.monitoring.rules import EXTRACTED

_POLL_SECONDS = 0.5


def main() -> int:
    """Run it.

    Returns:
        The exit code: 0 after Ctrl-C, 1 when Prometheus ends by itself, 3 when something cannot be had.
    """
    arguments = _parsed()
    try:
        given = (arguments.ca_file, arguments.token_file, arguments.server_name)
        return _run(Scraped(arguments.metrics, arguments.interval, *given), arguments.port)
    except EpistreamError as error:
        _say(error.message)
        return 3
    except KeyboardInterrupt:
        return 0


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make monitoring", description=__doc__)
    parser.add_argument("--metrics", default="127.0.0.1:9464", help="Where the service serves its metrics.")
    parser.add_argument("--port", type=int, default=9090, help="Where Prometheus listens on 127.0.0.1; 0: a free one.")
    parser.add_argument("--ca-file", type=Path, help="Who signed the service's certificate, if it has one.")
    parser.add_argument("--token-file", type=Path, help="The bearer token, if the service asks for one.")
    parser.add_argument("--server-name", help="The name in the service's certificate, if it is not that in --metrics.")
    parser.add_argument("--interval", type=int, default=5, help=argparse.SUPPRESS)  # seconds; tests are in a hurry
    return parser.parse_args()


def _run(scraped: Scraped, port: int) -> int:
    tools = find_tools(_say)
    stop = threading.Event()

    def set_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, set_stop)
    with tempfile.TemporaryDirectory() as folder, Prometheus(tools, Path(folder), scraped, EXTRACTED, port=port) as it:
        it.wait_read()
        _say(f"Prometheus reads {scraped.address} every {scraped.interval_seconds} seconds.")
        _say(f"  alerts     {it.pages}alerts")
        _say(f"  questions  {it.pages}graph?g0.expr=epistream_store_revision")
        _say("Stop it with Ctrl-C; what it has gathered is gone then.")
        while not stop.is_set():
            if it.wait(_POLL_SECONDS) is not None:
                _say(f"Prometheus has ended by itself:\n{it.log.read_text(errors='replace')[-600:]}")
                return 1
    return 0


def _say(sentence: str) -> None:
    sys.stdout.write(sentence + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
