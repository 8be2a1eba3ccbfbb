"""The encoder in the path: what the service reaches when it must encode every record, against the bare encoder.

The same texts, in one run: the first half by the encoder alone, in a process of its own and with nothing else to do;
all of them through Kafka into the service, until one replica has applied them; the second half by the encoder alone. So
a machine whose speed drifts does not decide the ratio.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.main_path import decided, outcomes
from bench.parts import ReplicaProcess, kafka_beside, producing, records_asked_for
from bench.records import NAMESPACE, make_records
from bench.report import Figure, at_least, equal, report
from epistream.clients import SyncKnowledgeClient
from epistream.wire.topics import submission_key
from tests.support.service import running_service

RECORDS: Final = 6_000
_WARM_UP: Final = 256


def main() -> int:
    records = records_asked_for(__doc__, RECORDS)
    half = records // 2
    seconds = encode_seconds(_WARM_UP, half)
    with (
        kafka_beside(encoded(records + _WARM_UP)) as (folder, bootstrap),
        running_service(folder / "store", kafka=bootstrap, encoder="all-MiniLM-L6-v2") as service,
    ):
        path, after = path_rate(folder, bootstrap, service.address, records)
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
