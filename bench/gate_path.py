"""What the gate costs the main path: 20,000 records with vectors through Kafka until a replica has applied them.

By its default policy, and by a service whose gate asks nothing (bench/ungated.py), in turns, each with a Kafka and a
store of its own, and each first as often as the other; what counts is the ratio within a turn. Half of the records are
synthetic, in turns with people's. A thousand records of people and a synthetic one, before, make the anchor window and
are not counted. What the gate holds is not pushed, and the replica has less to apply: how much is printed.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator
from typing import Final

from bench.gate import BEFORE, MORE_MAX, RECORDS, sent
from bench.main_path import decided
from bench.parts import ReplicaProcess, kafka_beside, producing, summed
from bench.records import ENCODER, NAMESPACE, make_records
from bench.report import Figure, below, of_each_turn, report
from epistream.clients import SyncKnowledgeClient
from epistream.v1 import namespace_service_pb2 as ns
from epistream.wire import topics
from epistream.wire.topics import submission_key
from tests.support.service import PROGRAM, running_service

TURNS: Final = 4
UNGATED: Final = "bench.ungated"
_CARRIES: Final = f"{topics.EXPERT}=EXPERT+COLLABORATIVE+SYNTHETIC"
"""One topic for all, so that they come in their order."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--turns", type=int, default=TURNS)
    given = parser.parse_args()
    found: dict[str, list[tuple[float, int]]] = {UNGATED: [], PROGRAM: []}
    for turn in range(given.turns):
        for program in sorted(found, reverse=turn % 2 == 1):
            found[program].append(taken_by(program, given.records))
    without, having = ([us for us, _ in taken] for taken in found.values())
    more = [one / other for one, other in zip(having, without, strict=True)]
    return report(
        "gate_path",
        [
            Figure("half of the records synthetic, through Kafka: without", statistics.median(without), "µs a record"),
            Figure("with the gate", statistics.median(having), "µs a record"),
            *of_each_turn(more, below, MORE_MAX),
            Figure(
                "held without the gate, for what they contradict", max(held for _, held in found[UNGATED]), "records"
            ),
            Figure("held with it", max(held for _, held in found[PROGRAM]), "records"),
        ],
    )


def taken_by(program: str, records: int) -> tuple[float, int]:
    """Microseconds a record until the replica has applied the last, and how many are held in the end."""
    first = BEFORE + 1
    flags = {"kafka_topic_origins": _CARRIES}
    with (
        kafka_beside(encoded(first + records)) as (folder, bootstrap),
        running_service(folder / "store", flags, kafka=bootstrap, program=program) as service,
        SyncKnowledgeClient(service.address) as client,
    ):
        client.create_namespace(NAMESPACE, encoder=ENCODER)
        replica = ReplicaProcess(service.address, folder)

        def count(_: ns.Namespace) -> float:
            # What is held may end: the namespace's counts do not tell how many records have an outcome.
            return summed(service, "epistream_ingest_records_total")

        with producing(bootstrap, folder / "records", 0, 0, first):
            replica.wait_for(decided(client, first, count).head_revision)
        with producing(bootstrap, folder / "records", 0, first, records) as begin:
            namespace = decided(client, first + records, count)
        end = replica.wait_for(namespace.head_revision)
        replica.finish(namespace.head_revision)
    return 1e6 * (end - begin) / records, namespace.held_count


def encoded(count: int) -> Iterator[tuple[bytes, bytes]]:
    for number, made in enumerate(make_records(count)):
        key = submission_key(made.submission)
        yield key, sent(made.submission, made.vector, number, half=True)


if __name__ == "__main__":
    sys.exit(main())
