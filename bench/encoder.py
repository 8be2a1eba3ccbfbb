"""The encoder in the path: what the service reaches when it must encode every record, against the bare encoder.

The same texts, in one run: the first half by the encoder alone, in a process of its own and with nothing else to do;
all of them through Kafka into the service, until one replica has applied them; the second half by the encoder alone. So
a machine whose speed drifts does not decide the ratio.
"""

import argparse
import subprocess
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
        half = records // 2
        seconds = encode_seconds(_WARM_UP, half)
        with LocalKafka(folder / "kafka") as kafka:
            ensure_topics(kafka.bootstrap)
            with running_service(folder / "store", kafka=kafka.bootstrap, encoder="all-MiniLM-L6-v2") as service:
                path, after = path_rate(folder, kafka.bootstrap, service.address, records)
        bare = records / (seconds + encode_seconds(_WARM_UP + half, records - half))
    return report(
        "encoder",
        [
            Figure("the encoder alone", bare, "records/s"),
            Figure("through Kafka to the replica, encoding", path, "records/s"),
            at_least("of the bare encoder's rate", 100 * path / bare, "%", 85),
            equal("records without an outcome", records + _WARM_UP - after, "records", 0),
        ],
    )


def encode_seconds(first: int, count: int) -> float:
    """Seconds that the encoder needs for some texts, given all at once, in another process: nothing stays behind."""
    program = f"from bench.encoder import encode_alone; print(encode_alone({first}, {count}))"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def encode_alone(first: int, count: int) -> float:
    """As `encode_seconds`, in this process. Loading the model and a warm-up are not counted."""
    from epistream.indexer.embed import text_to_embed
    from epistream.indexer.encoder import SentenceTransformerEmbedder

    encoder = SentenceTransformerEmbedder()
    encoder.load()
    texts = [text_to_embed(made.submission) for made in make_records(first + count)]
    encoder.encode(texts[:_WARM_UP])
    begin = time.perf_counter()
    encoder.encode(texts[first:])
    return time.perf_counter() - begin


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
