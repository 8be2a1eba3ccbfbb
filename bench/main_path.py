"""The main path at full speed: 20,000 records through a real Kafka, until one replica has applied them.

First everything as fast as it goes, the producer beside the service; then, when Kafka has been told of all of it, as
many new records at half of that rate, to see how fresh knowledge is. Nothing is pushed before it is on the disk, so
this is also told less the time in which the disk stood still (bench/machine.py). Kafka, producer, service, its poller
and publisher, and the replica are six processes on one machine. Last the same records through the pipeline alone, one
batch after the other in one process, beside an idle Kafka: how fast this machine is just now.
"""

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from bench.engine import new_engine
from bench.machine import watched
from bench.parts import ReplicaProcess, kafka_beside, producing, read_encoded, records_asked_for, until
from bench.records import ENCODER, NAMESPACE, make_records
from bench.report import Figure, at_least, below, equal, report
from epistream.clients import SyncKnowledgeClient
from epistream.clients.demo.publish import decided_count
from epistream.indexer.model import Record
from epistream.services.kafka.backlog import BATCH_RECORDS_MAX
from epistream.v1 import namespace_service_pb2 as ns
from epistream.wire.topics import submission_key
from tests.support.service import RunningService, running_service

RECORDS: Final = 20_000


def main() -> int:
    records = records_asked_for(__doc__, RECORDS)
    with kafka_beside(encoded(2 * records)) as (folder, bootstrap):
        with running_service(folder / "store", kafka=bootstrap) as service:
            figures = measure(folder, bootstrap, service, records)
        alone = alone_rate(folder, records)
    return report(
        "main_path",
        [
            *figures,
            Figure("the pipeline alone, in one process", alone, "records/s"),
            Figure("the first of these figures, of that", figures[0].value / alone, "times"),
        ],
    )


def measure(folder: Path, bootstrap: str, service: RunningService, records: int) -> list[Figure]:
    """The first figure is the rate at full speed."""
    with SyncKnowledgeClient(service.address) as client:
        client.create_namespace(NAMESPACE, encoder=ENCODER)
        replica = ReplicaProcess(service.address, folder)
        with watched(folder) as at_full_speed:
            with producing(bootstrap, folder / "records", 0, 0, records) as begin:
                full = decided(client, records)
            rate = records / (replica.wait_for(full.head_revision) - begin)
        told = records / (until_kafka_is_told(service) - begin)
        with watched(folder) as at_half:
            with producing(bootstrap, folder / "records", rate / 2, records, records):
                after = decided(client, 2 * records)
            replica.wait_for(after.head_revision)
        submitted, applied = replica.finish(full.head_revision)
    p50, p99 = 1000 * np.percentile(applied - submitted, [50, 99])
    less = 1000 * np.percentile(applied - submitted - at_half.waited(submitted, applied), 99)
    return [
        at_least("records committed, searchable and applied", rate, "records/s", 2500),
        Figure("the same until Kafka has every change and outcome, too", told, "records/s"),
        below("freshness p50 at half that rate (submitted to applied by the replica)", float(p50), "ms", 250),
        below("freshness p99 at half that rate", float(p99), "ms", 250),
        Figure("the same, less the time in which the disk stood still", float(less), "ms"),
        *at_full_speed.figures("at full speed"),
        *at_half.figures("at half"),
        equal("outcomes more than records", decided_count(after) - 2 * records, "outcomes", 0),
        at_least("records merged", after.merged_count, "records", 1),
    ]


def alone_rate(folder: Path, records: int) -> float:
    """Records a second through prepare and commit, in the batches of the Kafka intake."""
    messages = itertools.islice(read_encoded(folder / "records"), records)
    sent = [Record(value, 0, (("content-type", b"application/protobuf"),), key) for key, value in messages]
    with new_engine(folder / "alone") as engine:
        begin = time.perf_counter()
        for start in range(0, records, BATCH_RECORDS_MAX):
            engine.pipeline.commit(engine.pipeline.prepare(sent[start : start + BATCH_RECORDS_MAX]))
        return records / (time.perf_counter() - begin)


def until_kafka_is_told(service: RunningService) -> float:
    """Wait until Kafka has every change and outcome; the time at which it had."""
    until(lambda: not service.metric("epistream_outbox_pending"), "Kafka is told everything")
    return time.time()


def encoded(count: int) -> Iterator[tuple[bytes, bytes]]:
    for made in make_records(count):
        made.submission.embedding.float32 = made.vector.tobytes()
        yield submission_key(made.submission), made.submission.SerializeToString()


def decided(
    client: SyncKnowledgeClient, records: int, count: Callable[[ns.Namespace], float] | None = None
) -> ns.Namespace:
    """Wait until that many records have an outcome, as `count` counts them, or `decided_count`; how it is then."""
    counted = count or decided_count
    until(lambda: counted(client.namespace(NAMESPACE)) >= records, f"the outcome of each of {records} records")
    return client.namespace(NAMESPACE)


if __name__ == "__main__":
    sys.exit(main())
