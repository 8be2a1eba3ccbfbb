"""The encoder in the path: what the service reaches when it must encode every record, against the bare encoder.

The same texts in one run, a thousand at a time: the first half of them by the encoder alone, in a process of its own
while the service and the replica are stopped and Kafka has nothing to do; all of them through Kafka into the service,
until the replica has applied them; the second half by the encoder alone. So a machine that is faster in one half minute
than in the next, as shared ones are, does not decide the ratio. What it costs to begin and to end counts six times.
"""

import sys
import time
from collections.abc import Iterator
from typing import Final

from bench.main_path import decided
from bench.parts import Asked, ReplicaProcess, kafka_beside, producing, records_asked_for, stopped
from bench.records import NAMESPACE, make_records
from bench.report import Figure, at_least, equal, report
from epistream.clients import SyncKnowledgeClient
from epistream.clients.demo.publish import decided_count
from epistream.wire.topics import submission_key
from tests.support.service import running_service

RECORDS: Final = 6_000
_TURN: Final = 1_000
_WARM_UP: Final = 256


def main() -> int:
    records = records_asked_for(__doc__, RECORDS)
    with (
        kafka_beside(encoded(_WARM_UP + records)) as (folder, bootstrap),
        running_service(folder / "store", kafka=bootstrap, encoder="all-MiniLM-L6-v2") as service,
        SyncKnowledgeClient(service.address) as client,
    ):
        client.create_namespace(NAMESPACE)
        replica = ReplicaProcess(service.address, folder)
        bare = Asked(
            "the bare encoder", "-c", f"from bench.encoder import encode_alone; encode_alone({_WARM_UP + records})"
        )

        def by_itself(first: int, count: int) -> float:
            with stopped(service.pid, replica.pid):
                return float(bare.ask(f"{first} {count}"))

        def through_the_path(first: int, count: int) -> float:
            with producing(bootstrap, folder / "records", 0, first, count) as begin:
                namespace = decided(client, first + count)
            return replica.wait_for(namespace.head_revision) - begin

        bare.ask(f"0 {_WARM_UP}")
        through_the_path(0, _WARM_UP)
        bare_seconds = path_seconds = 0.0
        for first in range(_WARM_UP, _WARM_UP + records, _TURN):
            count = min(_TURN, _WARM_UP + records - first)
            bare_seconds += by_itself(first, count // 2)
            path_seconds += through_the_path(first, count)
            bare_seconds += by_itself(first + count // 2, count - count // 2)
        bare.finish()
        replica.finish()
        more = decided_count(client.namespace(NAMESPACE)) - _WARM_UP - records
    return report(
        "encoder",
        [
            Figure("the encoder alone", records / bare_seconds, "records/s"),
            Figure("through Kafka to the replica, encoding", records / path_seconds, "records/s"),
            at_least("of the bare encoder's rate", 100 * bare_seconds / path_seconds, "%", 85),
            equal("outcomes more than records", more, "outcomes", 0),
        ],
    )


def encode_alone(records: int) -> None:
    """Hear lines of a first record and a count; print how many seconds their texts take, given all at once."""
    from epistream.indexer.embed import text_to_embed
    from epistream.indexer.encoder import SentenceTransformerEmbedder

    encoder = SentenceTransformerEmbedder()
    encoder.load()
    texts = [text_to_embed(made.submission) for made in make_records(records)]
    for line in sys.stdin:
        first, count = map(int, line.split())
        begin = time.perf_counter()
        encoder.encode(texts[first : first + count])
        print(time.perf_counter() - begin, flush=True)


def encoded(count: int) -> Iterator[tuple[bytes, bytes]]:
    for made in make_records(count):
        yield submission_key(made.submission), made.submission.SerializeToString()


if __name__ == "__main__":
    sys.exit(main())
