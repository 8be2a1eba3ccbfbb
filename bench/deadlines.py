"""What has to happen within a time while records come in over Kafka, 500 a second.

A record that cannot be read: from when Kafka has it until its dead letter is in Kafka. How far Kafka's group, by which
others see how far the service is, is behind what came: of what it has not been told, the time of the oldest (at that
pace; what the store lacks of it, too, so it is never less than what was asked about). And from SIGTERM until the
health service says NOT_SERVING.
"""

import itertools
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from bench.machine import again_and_again
from bench.main_path import encoded
from bench.parts import Sent, kafka_beside, producing, records_asked_for
from bench.records import ENCODER, NAMESPACE
from bench.report import Figure, at_least, below, report
from epistream.clients import SyncKnowledgeClient
from epistream.clients.kafka_producer import CappedProducer, ProducerLimits
from epistream.services.kafka.clients import admin, consumer, polled
from epistream.wire import topics
from tests.support.service import RunningService, running_service

PER_SECOND: Final = 500
RECORDS: Final = 30 * PER_SECOND
STOPS: Final = 5
GROUP: Final = "bench"
_POISON_EVERY_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.1
_PATIENCE_SECONDS: Final = 30.0


def main() -> int:
    records = records_asked_for(__doc__, RECORDS)
    with (
        kafka_beside(encoded(2 * records)) as (folder, bootstrap),
        running_service(folder / "store", kafka=bootstrap, kafka_group=GROUP, health_address="127.0.0.1:0") as service,
    ):
        with SyncKnowledgeClient(service.address) as client:
            client.create_namespace(NAMESPACE, encoder=ENCODER)
        with producing(bootstrap, folder / "records", PER_SECOND, 0, records):
            ends_at = time.monotonic() + records / PER_SECOND
            with looking_at_the_group(bootstrap) as behind:
                letters = list(dead_letters(bootstrap, ends_at))
        with producing(bootstrap, folder / "records", PER_SECOND, records, records):
            ends_at = time.monotonic() + records / PER_SECOND
            stops = [until_not_serving(service) for _ in range(STOPS)]
            if time.monotonic() > ends_at:
                raise SystemExit("no records came any more at the last stop: take more --records")
    return report(
        "deadlines",
        [
            Figure("a record that cannot be read, until it is a dead letter in Kafka: p50", np.median(letters), "s"),
            below(f"the slowest of {len(letters)}", max(letters), "s", 1.0),
            at_least("looks at Kafka's group", len(behind), "looks", records / PER_SECOND),
            below("Kafka's group behind what came, at most", max(behind), "s", 5.0),
            below(f"SIGTERM to NOT_SERVING, the slowest of {STOPS}", max(stops), "s", 1.0),
        ],
    )


def dead_letters(bootstrap: str, ends_at: float) -> Iterator[float]:
    """One record after the other that cannot be read: how long until its dead letter is there, seconds."""
    from kafka import TopicPartition

    letters = TopicPartition(topics.dead_letter_topic(topics.EXPERT), 0)
    with (
        CappedProducer(bootstrap, ProducerLimits()) as producer,
        consumer(bootstrap, "bench-letters") as reader,
    ):
        reader.assign([letters])
        reader.seek_to_end(letters)
        reader.position(letters)  # seeking is lazy
        for number in itertools.count():
            if time.monotonic() > ends_at:
                return
            value = f"no submission {number}".encode()
            producer.send_page([Sent(b"", value)]).result(_PATIENCE_SECONDS)
            sent = time.monotonic()
            while value not in [one.value for page in polled(reader, 100, 100).values() for one in page]:
                if time.monotonic() - sent > _PATIENCE_SECONDS:
                    raise SystemExit("a dead letter did not come")
            yield time.monotonic() - sent
            time.sleep(_POISON_EVERY_SECONDS)


@contextmanager
def looking_at_the_group(bootstrap: str) -> Iterator[list[float]]:
    """While the block runs: how long what came has not been told to the group, at each look, seconds."""
    behind, came = list[float](), [(time.monotonic(), 0)]
    with admin(bootstrap, "bench-group") as asked:

        def look() -> None:
            end, told = offsets(asked)
            now = time.monotonic()
            came.append((now, end))
            # From the last look on at which all that was there has been told by now.
            while len(came) > 1 and came[1][1] <= told:
                came.pop(0)
            behind.append(now - came[0][0])

        with again_and_again(look, _LOOK_SECONDS):
            yield behind


def offsets(asked: Any) -> tuple[int, int]:
    """Where the topic ends, and how far the group was told."""
    from kafka import TopicPartition
    from kafka.admin import OffsetSpec

    partition = TopicPartition(topics.EXPERT, 0)
    ends = asked.list_partition_offsets({partition: OffsetSpec.LATEST})
    told = asked.list_group_offsets({GROUP: [partition]})[GROUP]
    return ends[partition].offset, told[partition].offset if partition in told else 0


def until_not_serving(service: RunningService) -> float:
    """Seconds from SIGTERM until the health service says so; the service then ends and is started again."""
    with grpc.insecure_channel(service.health_address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=_PATIENCE_SECONDS)
        told = [next(watch).status]
        begun = time.monotonic()
        service.signal(signal.SIGTERM)
        told.append(next(watch).status)
        seconds = time.monotonic() - begun
    if told != [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]:
        raise SystemExit(f"health said {told}")
    service.wait()
    service.restart()
    return seconds


if __name__ == "__main__":
    sys.exit(main())
