"""The same again changes nothing: 20,000 records, submitted again over gRPC, sent again to Kafka, and read again.

First through Kafka into the service. Then each is submitted again over gRPC, with its id: the answer must be the
earlier receipt, or MERGED. Then all are sent to Kafka again. Then the service is stopped, its position is set to
offset 0, and it reads all 40,000 records from there: a dump of the store must be the same, byte for byte.
"""

import hashlib
import sys
import time
from pathlib import Path
from typing import Final

from bench.main_path import RECORDS, decided, encoded
from bench.parts import kafka_beside, producing, read_encoded, records_asked_for, until
from bench.records import ENCODER, NAMESPACE
from bench.report import Figure, at_least, equal, report
from epistream.clients import SyncKnowledgeClient, SyncProducer
from epistream.indexer import positions
from epistream.indexer.model import Place
from epistream.indexer.store import Store, read_only
from epistream.services.kafka.positions import reread
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.topics import EXPERT
from tests.support.service import running_service

_BATCH: Final = 500


def main() -> int:
    records = records_asked_for(__doc__, RECORDS)
    with kafka_beside(encoded(records)) as (folder, bootstrap):
        return measure(folder, bootstrap, records)


def measure(folder: Path, bootstrap: str, records: int) -> int:
    store = folder / "store"
    with running_service(store, kafka=bootstrap) as service, SyncKnowledgeClient(service.address) as client:
        client.create_namespace(NAMESPACE, encoder=ENCODER)
        with producing(bootstrap, folder / "records", 0, 0, records):
            first = decided(client, records)
        begin = time.perf_counter()
        others = others_again(service.address, folder / "records")
        rate = records / (time.perf_counter() - begin)
        over_grpc = client.namespace(NAMESPACE)
        with producing(bootstrap, folder / "records", 0, 0, records):
            await_position(store, 2 * records)
        over_kafka = client.namespace(NAMESPACE)
    before = dumped(store)
    reread(store, EXPERT, 0, 0)
    with running_service(store, kafka=bootstrap):
        await_position(store, 2 * records)
    after = dumped(store)
    return report(
        "again",
        [
            at_least("revisions made by the first time", first.head_revision, "revisions", 1),
            Figure("submitted again over gRPC, in calls of 500", rate, "records/s"),
            equal("answered neither by the earlier receipt nor by MERGED", others, "records", 0),
            equal("changed by submitting all again over gRPC", int(over_grpc != first), "namespaces", 0),
            equal("changed by sending all to Kafka again", int(over_kafka != first), "namespaces", 0),
            equal("dumps that differ after reading Kafka from offset 0", int(before != after), "dumps", 0),
        ],
    )


def others_again(address: str, path: Path) -> int:
    """Submit all records again over gRPC. How many were answered otherwise than as known."""
    known = [pb.Submission.FromString(message) for _, message in read_encoded(path)]
    others = 0
    with SyncProducer(address) as producer:
        for start in range(0, len(known), _BATCH):
            receipts = producer.submit(*known[start : start + _BATCH])
            others += sum(not receipt.earlier and receipt.outcome != pb.OUTCOME_MERGED for receipt in receipts)
    return others


def await_position(store: Path, offset: int) -> None:
    """Wait until every record before an offset has had its effect."""

    def is_there() -> bool:
        with read_only(store) as catalog:
            return positions.read(catalog.connection).get((EXPERT, 0), Place(0)).offset >= offset

    until(is_there, f"the service comes to offset {offset}")


def dumped(folder: Path) -> str:
    """The digest of all that the store says. No service may have it open."""
    store, digest = Store(folder), hashlib.sha256()
    for line in store.logical_dump():
        digest.update(line.encode() + b"\n")
    store.close()
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
