"""What security costs the main path: the same records in turns through a service without any, and through one with all.

With all is: Kafka over TLS with users (SCRAM) and ACLs for the producer, the poller and the publisher; gRPC over TLS;
an access file, with a token for the replica; an audit log. Traces are off in both, as they are by default. Each turn
has a new store and a new replica; the Kafka is one, and a service begins at its end. Its Java compiles as one of a
cluster does: the quick compiler alone, which is better for a broker on one's own machine, has none of the processor's
instructions for AES.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.main_path import decided, encoded
from bench.parts import ReplicaProcess, producing, until, write_encoded
from bench.records import ENCODER, NAMESPACE
from bench.report import Figure, at_least, of_each_turn, report
from epistream.clients import Credentials, SyncKnowledgeClient
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity
from tests.support.certificates import Authority
from tests.support.secure_kafka import SecureKafka, a_secure_kafka, documented
from tests.support.security import hash_of
from tests.support.service import RunningService, running_service

RECORDS: Final = 20_000
TURNS: Final = 7
TARGET: Final = 0.9
_AS_IN_A_CLUSTER: Final = ("-XX:TieredStopAtLevel=4",)

ACCESS: Final = f"""
[roles.all]
verbs = ["read", "write", "watch", "admin"]
namespaces = ["*"]

[principals.bench]
roles = ["all"]
token_hashes = ["{hash_of("bench")}"]
"""


@dataclass(frozen=True, slots=True)
class Way:
    """How everybody gets in."""

    flags: Mapping[str, str]
    kafka: str
    service: KafkaSecurity = PLAINTEXT
    producer: KafkaSecurity = PLAINTEXT
    credentials: Credentials | None = None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--turns", type=int, default=TURNS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_encoded(folder / "records", encoded(arguments.records))
        with a_secure_kafka(folder, _AS_IN_A_CLUSTER) as kafka:
            bare, secured = Way({}, kafka.kafka.bootstrap), with_all(folder, kafka)
            pairs = []
            for turn in range(arguments.turns):
                # Whichever comes second finds the machine warmer, or busier with what the first one left behind.
                ways = (bare, secured) if turn % 2 == 0 else (secured, bare)
                rates = [rate(folder, f"{turn}-{number}", way, arguments.records) for number, way in enumerate(ways)]
                pairs.append((rates[0], rates[1]) if turn % 2 == 0 else (rates[1], rates[0]))
    ratios = [with_security / without for without, with_security in pairs]
    return report(
        "overhead",
        [
            Figure("without any", statistics.median(without for without, _ in pairs), "records/s"),
            Figure("with all", statistics.median(with_security for _, with_security in pairs), "records/s"),
            *of_each_turn(ratios, at_least, TARGET),
        ],
    )


def with_all(folder: Path, kafka: SecureKafka) -> Way:
    """The way in with everything."""
    service, producer = kafka.user("service", "secret"), kafka.user("producer", "secret")
    kafka.allow(*documented("service", "service"), *documented("producer", "producer"))
    authority = Authority(folder / "authority")
    (folder / "access.toml").write_text(ACCESS)
    (folder / "token").write_text("bench")
    flags = authority.service_flags() | {
        "access_file": str(folder / "access.toml"),
        "audit_file": str(folder / "audit.jsonl"),
    }
    credentials = Credentials(tls_ca_file=authority.ca_file, token_file=folder / "token")
    return Way(flags | flags_of(service), kafka.users, service, producer, credentials)


def flags_of(security: KafkaSecurity) -> dict[str, str]:
    return {
        "kafka_security": security.protocol,
        "kafka_sasl_mechanism": security.sasl_mechanism,
        "kafka_username": str(security.username),
        "kafka_password_file": str(security.password_file),
        "kafka_ca_file": str(security.ca_file),
    }


def rate(folder: Path, name: str, way: Way, records: int) -> float:
    """Records a second, from the first that Kafka has acknowledged until the replica has applied the last."""
    own = folder / name
    own.mkdir()
    with (
        running_service(own / "store", way.flags, kafka=way.kafka, kafka_start="latest") as service,
        SyncKnowledgeClient(service.address, credentials=way.credentials) as client,
    ):
        client.create_namespace(NAMESPACE, encoder=ENCODER)
        until_reading(service)
        replica = ReplicaProcess(service.address, own, way.credentials)
        with producing(way.kafka, folder / "records", 0, 0, records, way.producer) as begin:
            head = decided(client, records).head_revision
        applied = replica.wait_for(head)
        replica.finish()
    return records / (applied - begin)


def until_reading(service: RunningService) -> None:
    """Wait until the service has found its partitions: it begins at their ends."""
    until(lambda: "is read for the first time" in service.logged(), "the service reads from Kafka")


if __name__ == "__main__":
    sys.exit(main())
