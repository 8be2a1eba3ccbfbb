"""A Kafka that asks who is there: TLS with users, TLS with client certificates, and ACLs that allow nobody anything."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from epistream.services.kafka import clients
from epistream.services.kafka.local import LocalKafka, Variant, free_ports
from epistream.services.kafka.topics import ensure_topics
from epistream.wire.kafka_security import KafkaSecurity, Mechanism
from tests.support.certificates import Authority
from tests.support.kafka import Kafka
from tests.support.kafka_runtime import kafka_runtime

_DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "kafka.md"
_SCRAM: Final = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@dataclass(frozen=True, slots=True)
class Acl:
    """Who may do what with what."""

    user: str
    resource: str
    name: str
    """A `*` at its end makes it a prefix."""
    operation: str


@dataclass(frozen=True, slots=True)
class SecureKafka:
    """The running Kafka.

    Attributes:
        broker: its process.
        kafka: its listener on which everybody is its administrator, for what the tests prepare and look at.
        users: the address of the listener for users with a password, over TLS.
        certificates: the address of the listener for owners of a certificate.
        folder: where passwords are.
        authority: what it trusts certificates by, and its own certificate is from.
    """

    broker: LocalKafka
    kafka: Kafka
    users: str
    certificates: str
    folder: Path
    authority: Authority

    def user(self, name: str, password: str, mechanism: Mechanism = "SCRAM-SHA-512") -> KafkaSecurity:
        """How this user gets in; it is made, or gets another password."""
        from kafka.admin import UserScramCredentialUpsertion

        with clients.admin(self.kafka.bootstrap, "test") as admin:
            admin.alter_user_scram_credentials([UserScramCredentialUpsertion(name, mechanism, password)])
        return self.claims_to_be(name, password, mechanism)

    def claims_to_be(self, name: str, password: str, mechanism: Mechanism = "SCRAM-SHA-512") -> KafkaSecurity:
        """How somebody tries to get in."""
        file = self.folder / f"{name}.password"
        file.write_text(f"{password}\n")
        return KafkaSecurity("SASL_SSL", mechanism, name, file, self.authority.ca_file)

    def owner(self, name: str) -> KafkaSecurity:
        """How the owner of a certificate for this name gets in."""
        files = self.authority.client(name, f"{name}@example.org")  # Java takes none without such a name
        cert_file, key_file = files["tls_cert_file"], files["tls_key_file"]
        return KafkaSecurity("SSL", ca_file=self.authority.ca_file, cert_file=cert_file, key_file=key_file)

    def allow(self, *acls: Acl) -> None:
        """From now on they may."""
        with clients.admin(self.kafka.bootstrap, "test") as admin:
            done = admin.create_acls([_acl(one) for one in acls])
        assert not done["failed"], done

    def forbid(self, *acls: Acl) -> None:
        """They may not any more."""
        with clients.admin(self.kafka.bootstrap, "test") as admin:
            for _, removed, _ in admin.delete_acls([_acl(one) for one in acls]):
                assert removed


def documented(who: str, user: str) -> list[Acl]:
    """What docs/kafka.md says that one of its parts needs, for this user of Kafka."""
    rows = re.findall(rf"^\| {who} \| (\w+) \| (.+) \| (\w+) \|$", _DOCUMENT.read_text(), re.MULTILINE)
    return [
        Acl(user, kind, name, operation) for kind, names, operation in rows for name in re.findall("`(.+?)`", names)
    ]


@contextmanager
def a_secure_kafka(folder: Path, jvm_options: Sequence[str] = ()) -> Iterator[SecureKafka]:
    """One with Epistream's topics, as long as the block."""
    authority = Authority(folder)
    authority.keystore(folder / "broker.pem")
    users, certificates = free_ports(2)
    variant = Variant(_properties(users, certificates, folder), jvm_options=jvm_options)
    with LocalKafka(folder / "kafka", runtime=kafka_runtime(), variant=variant) as kafka:
        ensure_topics(kafka.bootstrap)
        here = Kafka(kafka.bootstrap)
        yield SecureKafka(kafka, here, f"localhost:{users}", f"localhost:{certificates}", folder, authority)


def _properties(users: int, certificates: int, folder: Path) -> dict[str, str | None]:
    own = "PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}"
    return {
        "listeners": f"{own},USERS://127.0.0.1:{users},CERTIFICATES://127.0.0.1:{certificates}",
        "advertised.listeners": f"{own},USERS://localhost:{users},CERTIFICATES://localhost:{certificates}",
        "listener.security.protocol.map": ("CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,USERS:SASL_SSL,CERTIFICATES:SSL"),
        "listener.name.users.sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256",
        "listener.name.users.scram-sha-512.sasl.jaas.config": _SCRAM,
        "listener.name.users.scram-sha-256.sasl.jaas.config": _SCRAM,
        # So often a user has to show the password again on a connection that goes on.
        "listener.name.users.connections.max.reauth.ms": "4000",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.certificates.ssl.client.auth": "required",
        "listener.name.certificates.ssl.principal.mapping.rules": r"RULE:^.*CN=([^,]+).*$/$1/",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }


def _acl(acl: Acl) -> Any:
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType

    kind = ACLResourcePatternType.PREFIXED if acl.name.endswith("*") else ACLResourcePatternType.LITERAL
    return ACL(
        principal=f"User:{acl.user}",
        host="*",
        operation=ACLOperation[acl.operation],
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePattern(ResourceType[acl.resource.upper()], acl.name.removesuffix("*"), kind),
    )
