"""How long a person's correction takes to a replica while models send more than the encoder takes.

A correction is the second version of an item, with words that must be encoded: over gRPC, and over Kafka's topic of
experts. All items have their first before anything is timed. First in quiet, then in the midst of a flood that is not
paced: four callers submit a hundred synthetic statements at a time over gRPC and wait for the outcome only, and beside
it Kafka's synthetic topic has thousands. The flood is sent by processes of their own.
"""

import argparse
import itertools
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from bench.parts import Asked, summed
from bench.records import NAMESPACE, make_records
from bench.report import Figure, at_least, below, report
from epistream.clients import SyncKnowledgeClient, SyncProducer, SyncReplica
from epistream.clients.kafka_producer import KafkaProducer
from epistream.clients.producer import submission
from epistream.services.kafka.local import LocalKafka
from epistream.services.kafka.topics import ensure_topics
from epistream.v1 import knowledge_pb2 as pb
from tests.support.service import RunningService, running_service

CORRECTIONS: Final = 30
_CALLERS: Final = 4
_BATCH: Final = 100
_IN_KAFKA: Final = 20_000
_RISES_SECONDS: Final = 5
"""So long a flood goes on before the first correction: what waits is full then."""
_LOOK_SECONDS: Final = 0.001
_PATIENCE_SECONDS: Final = 120


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corrections", type=int, default=CORRECTIONS)
    parser.add_argument("--flood", nargs=2, metavar=("WAY", "ADDRESS"), help="used by itself")
    arguments = parser.parse_args()
    if arguments.flood:
        way, address = arguments.flood
        (flood_kafka if way == "Kafka" else flood_grpc)(address)
        return 0
    with (
        tempfile.TemporaryDirectory() as name,
        LocalKafka(Path(name) / "kafka") as kafka,
    ):
        ensure_topics(kafka.bootstrap)
        return measure(Path(name), kafka.bootstrap, arguments.corrections)


def measure(folder: Path, bootstrap: str, corrections: int) -> int:
    with (
        running_service(folder / "store", kafka=bootstrap, encoder="all-MiniLM-L6-v2") as service,
        SyncKnowledgeClient(service.address) as client,
        SyncProducer(service.address, timeout_seconds=_PATIENCE_SECONDS) as producer,
        KafkaProducer(bootstrap) as over_kafka,
    ):
        client.create_namespace(NAMESPACE)
        with SyncReplica(folder / "replica", service.address, NAMESPACE, consumer="bench") as replica:
            ways: dict[str, Callable[[pb.Submission], object]] = {"gRPC": producer.submit, "Kafka": over_kafka.send}
            items = range(len(ways) * (2 * corrections + 1))
            for start in items[::_BATCH]:
                producer.submit(*(said(number, version=1) for number in items[start : start + _BATCH]))
            numbers = iter(items)

            def correct(send: Callable[[pb.Submission], object]) -> float:
                """Milliseconds until the replica has it."""
                one = said(next(numbers), version=2)
                begun = time.perf_counter()
                send(one)
                while (known := replica.get(one.item_id)) is None or known.knowledge.content != one.content:
                    if time.perf_counter() - begun > _PATIENCE_SECONDS:
                        raise SystemExit("a correction did not come in time")
                    time.sleep(_LOOK_SECONDS)
                return 1000 * (time.perf_counter() - begun)

            for send in ways.values():
                correct(send)
            quiet = {way: [correct(send) for _ in range(corrections)] for way, send in ways.items()}
            with flooding("gRPC", service.address), flooding("Kafka", bootstrap):
                time.sleep(_RISES_SECONDS)
                before, begun = decided(service), time.perf_counter()
                flooded = {way: [correct(send) for _ in range(corrections)] for way, send in ways.items()}
                after, seconds = decided(service), time.perf_counter() - begun
    rates = {way: (after[way] - before[way] - corrections) / seconds for way in ways}
    return report(
        "flood",
        [
            *told("in quiet", quiet),
            *told("in the flood", flooded, 1000),
            at_least("of the floods decided meanwhile", sum(rates.values()), "records/s", 30),
            *(Figure(f"of that over {way}", rate, "records/s") for way, rate in rates.items()),
        ],
    )


def told(when: str, found: dict[str, list[float]], target: float | None = None) -> Iterator[Figure]:
    for way, milliseconds in found.items():
        p50, largest = float(np.median(milliseconds)), max(milliseconds)
        yield Figure(f"correction over {way} to the replica p50, {when}", p50, "ms")
        name = f"correction over {way} to the replica, the slowest, {when}"
        yield below(name, largest, "ms", target) if target else Figure(name, largest, "ms")


def decided(service: RunningService) -> dict[str, float]:
    """How many submissions were decided so far, by the way they came."""
    return {
        way: summed(service, "epistream_ingest_outcomes_total", f'source="{way.lower()}"') for way in ("gRPC", "Kafka")
    }


def said(number: int, *, version: int) -> pb.Submission:
    """What a person says of an item: each time another figure."""
    return submission(
        f"Pump {number} of the test stand delivers {1000 * version + number} litres per minute.",
        namespace=NAMESPACE,
        producer="expert",
        origin="EXPERT",
        item_id=f"pump-{number}",
        submission_id=f"pump-{number}-{version}",
    )


def synthetic(first: int, count: int, seed: int) -> list[pb.Submission]:
    made = itertools.islice(make_records(first + count, seed), first, None)
    return [
        submission(
            one.submission.content,
            namespace=NAMESPACE,
            producer=f"model-{seed}",
            origin="SYNTHETIC",
            generator="bench/flood.py",
            submission_id=f"flood-{seed}-{first + number}",
        )
        for number, one in enumerate(made)
    ]


@contextmanager
def flooding(way: str, address: str) -> Iterator[None]:
    """A flood, while the block runs."""
    process = Asked(f"the flood over {way}", "-m", "bench.flood", "--flood", way, address)
    try:
        process.hear()
        yield
        if not process.is_running():
            raise SystemExit(f"the flood over {way} has ended before the last correction")
    finally:
        process.kill()


def flood_grpc(address: str) -> None:
    """Submit until this process is ended; where a call fails, it ends by itself."""
    begun = threading.Barrier(_CALLERS + 1)

    def call(seed: int) -> None:
        batches = [synthetic(first, _BATCH, seed) for first in range(0, 50 * _BATCH, _BATCH)]
        begun.wait()
        try:
            with SyncProducer(address, timeout_seconds=_PATIENCE_SECONDS) as producer:
                for batch in batches:
                    producer.submit(*batch)
        except Exception:  # noqa: BLE001 - whatever it is, it is told, and there is no flood any more
            traceback.print_exc()
            os._exit(1)

    for seed in range(_CALLERS):
        threading.Thread(target=call, args=(100 + seed,)).start()
    begun.wait()
    print("begun", flush=True)


def flood_kafka(bootstrap: str) -> None:
    """Send what is more than can be taken in, and wait to be ended."""
    with KafkaProducer(bootstrap) as producer:
        for one in synthetic(0, _IN_KAFKA, 99):
            producer.send(one)
    print("begun", flush=True)
    time.sleep(3600)


if __name__ == "__main__":
    sys.exit(main())
