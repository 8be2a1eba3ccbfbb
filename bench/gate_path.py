"""What the gate costs the main path: 20,000 records with vectors through Kafka until a replica has applied them.

By its default policy, and by a service whose gate asks nothing (bench/ungated.py), in turns, each with a Kafka and a
store of its own, and each first as often as the other; what counts is the ratio within a turn. Once all records are
people's, as on the main path (bench/main_path.py), once half of them are synthetic, in turns with people's. A thousand
records of people before them, and there a synthetic one, make the anchor window and are not counted. What the gate
holds is not pushed, and the replica has less to apply: how much is printed.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
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

TURNS: Final = 3
UNGATED: Final = "bench.ungated"
_CARRIES: Final = f"{topics.EXPERT}=EXPERT+COLLABORATIVE+SYNTHETIC"
"""One topic for all, so that they come in their order."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--turns", type=int, default=TURNS)
    given = parser.parse_args()
    ways = [(half, program) for half in (False, True) for program in (UNGATED, PROGRAM)]
    found: dict[tuple[bool, str], list[tuple[float, int]]] = {way: [] for way in ways}
    for turn in range(given.turns):
        for half, program in ways[:: 1 if turn % 2 == 0 else -1]:
            found[half, program].append(taken_by(program, given.records, half=half))
    return report(
        "gate_path",
        [
            *_compared("people's records, through Kafka", found[False, UNGATED], found[False, PROGRAM]),
            *_compared("half of the records synthetic", found[True, UNGATED], found[True, PROGRAM]),
        ],
    )


def _compared(name: str, without: Sequence[tuple[float, int]], having: Sequence[tuple[float, int]]) -> list[Figure]:
    more = [one / other for (one, _), (other, _) in zip(having, without, strict=True)]
    return [
        Figure(f"{name}: without the gate", statistics.median(us for us, _ in without), "µs a record"),
        Figure("with it", statistics.median(us for us, _ in having), "µs a record"),
        *of_each_turn(more, below, MORE_MAX),
        Figure("held without the gate, for what they contradict", max(held for _, held in without), "records"),
        Figure("held with it", max(held for _, held in having), "records"),
    ]


def taken_by(program: str, records: int, *, half: bool) -> tuple[float, int]:
    """Microseconds a record until the replica has applied the last, and how many are held in the end."""
    first = BEFORE + 1
    flags = {"kafka_topic_origins": _CARRIES}
    with (
        kafka_beside(encoded(first + records, half=half)) as (folder, bootstrap),
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


def encoded(count: int, *, half: bool) -> Iterator[tuple[bytes, bytes]]:
    for number, made in enumerate(make_records(count)):
        key = submission_key(made.submission)
        yield key, sent(made.submission, made.vector, number, half=half)


if __name__ == "__main__":
    sys.exit(main())
