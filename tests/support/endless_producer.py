"""Sends numbered records until its standard input is closed.

    python -m tests.support.endless_producer BOOTSTRAP TOPIC

Then it prints, as JSON, the numbers that Kafka has acknowledged, and how often there was no room for a record.
"""

import itertools
import json
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial
from typing import Final

from epistream.clients.kafka_producer import CappedProducer, Position, ProducerLimits
from epistream.wire.errors import EpistreamError, Unavailable

PADDING: Final = b" " * 8_000
_PACE_SECONDS: Final = 0.001
_FLUSH_SECONDS: Final = 120.0


def main(bootstrap: str, topic: str) -> None:
    """Send until there is nothing more to hear."""
    stopping = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        stopping.set()

    threading.Thread(target=listen, daemon=True).start()
    acknowledged: list[int] = []
    refused = 0

    def note(number: int, sent: "Future[Position]") -> None:
        if sent.exception() is None:
            acknowledged.append(number)

    producer = CappedProducer(bootstrap, ProducerLimits(room_timeout_seconds=0.5))
    print("sending", flush=True)
    numbers = itertools.count()
    while not stopping.wait(_PACE_SECONDS):
        number = next(numbers)
        try:
            producer.send(topic, b"%d" % number + PADDING).add_done_callback(partial(note, number))
        except Unavailable:
            refused += 1
    begin = time.monotonic()
    try:
        producer.close(_FLUSH_SECONDS)
    except EpistreamError as error:  # some were given up while Kafka was away for long
        print(error, file=sys.stderr)
    print(json.dumps({"acknowledged": acknowledged, "refused": refused, "seconds": time.monotonic() - begin}))


if __name__ == "__main__":
    main(*sys.argv[1:])
