"""What an operator makes: no secret is in the repository. k8s/README.md says how."""

from typing import Final

SECRETS: Final[dict[str, frozenset[str]]] = {
    "epistream-tls": frozenset({"tls.crt", "tls.key", "ca.crt"}),
    "epistream-access": frozenset({"access.toml"}),
    "epistream-backup-token": frozenset({"token"}),
    "epistream-executor-token": frozenset({"token"}),
    "epistream-monitor-token": frozenset({"token"}),
    "epistream-kafka-ca": frozenset({"ca.crt"}),
    "epistream-kafka-password": frozenset({"password"}),
}
"""Their names, and the keys that they have."""
WHOLE_SECRETS: Final = frozenset({"epistream-access"})
"""Those that are mounted with all their keys: beside access.toml may be the keys of a JWT issuer."""
KAFKA_USER: Final = "epistream-kafka"
"""The Secret of the service's KafkaUser. Of a Kafka that others use, too, an operator copies it."""
OF_A_KAFKA_USER: Final = frozenset({"ca.crt", "user.crt", "user.key"})
"""What Strimzi puts into the Secret of a KafkaUser that authenticates by TLS."""
COPIED_OF_A_KAFKA_USER: Final = frozenset({"user.crt", "user.key"})
"""What k8s/README.md has an operator copy of it."""
