"""The encoder in the path: what the service reaches when it must encode every record, against the bare encoder.

The same texts, in one run: first the encoder alone in a process of its own, with nothing else to do; then through
Kafka into the service, until one replica has applied all.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.main_path import decided, outcomes
from bench.parts import ReplicaProcess, producing, write_encoded
from bench.records import NAMESPACE, make_records
from bench.report import Figure, at_least, equal, report
from epistream.clients import SyncKnowledgeClient
from epistream.services.kafka.local import LocalKafka
from epistream.services.kafka.topics import ensure_topics
from epistream.wire.topics import submission_key
from tests.support.service import running_service

RECORDS: Final = 6_000
_WARM_UP: Final = 256


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    records = parser.parse_args().records
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_encoded(folder / "records", encoded(records + _WARM_UP))
        bare = bare_rate(records)
        with LocalKafka(folder / "kafka") as kafka:
            ensure_topics(kafka.bootstrap)
            with running_service(folder / "store", kafka=kafka.bootstrap, encoder="all-MiniLM-L6-v2") as service:
                path, after = path_rate(folder, kafka.bootstrap, service.address, records)
    return report(
        "encoder",
        [
            Figure("the encoder alone", bare, "records/s"),
            Figure("through Kafka to the replica, encoding", path, "records/s"),
            at_least("of the bare encoder's rate", 100 * path / bare, "%", 85),
            equal("records without an outcome", records + _WARM_UP - after, "records", 0),
        ],
    )


def bare_rate(records: int) -> float:
    """Records a second of the encoder alone, in another process, so that nothing of it stays behind."""
    import subprocess

    program = f"from bench.encoder import encode_alone; print(encode_alone({records}))"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def encode_alone(records: int) -> float:
    """Records a second that the encoder reaches when it is given all texts at once."""
    from epistream.indexer.embed import text_to_embed
    from epistream.indexer.encoder import SentenceTransformerEmbedder

    encoder = SentenceTransformerEmbedder()
    encoder.load()
    texts = [text_to_embed(made.submission) for made in make_records(records + _WARM_UP)]
    encoder.encode(texts[:_WARM_UP])
    begin = time.perf_counter()
    encoder.encode(texts[_WARM_UP:])
    return records / (time.perf_counter() - begin)


def path_rate(folder: Path, bootstrap: str, address: str, records: int) -> tuple[float, int]:
    """Records a second from the first record sent to the last one applied, and how many were decided in all."""
    with SyncKnowledgeClient(address) as client:
        client.create_namespace(NAMESPACE)
        replica = ReplicaProcess(address, folder)
        with producing(bootstrap, folder / "records", 0, 0, _WARM_UP):
            decided(client, _WARM_UP)
        with producing(bootstrap, folder / "records", 0, _WARM_UP, records) as begin:
            namespace = decided(client, records + _WARM_UP)
        rate = records / (replica.wait_for(namespace.head_revision) - begin)
        replica.finish()
        return rate, outcomes(namespace)


def encoded(count: int) -> Iterator[tuple[bytes, bytes]]:
    for made in make_records(count):
        yield submission_key(made.submission), made.submission.SerializeToString()


if __name__ == "__main__":
    sys.exit(main())
