"""Settings that the manifests use and the service is about to have."""

from typing import Final

SETTINGS_TO_COME: Final = frozenset(
    {
        "kafka_security",
        "kafka_sasl_mechanism",
        "kafka_username",
        "kafka_password_file",
        "kafka_ca_file",
        "kafka_cert_file",
        "kafka_key_file",
    }
)
"""Empty this when they are there: the files are then loaded whole, and the image's health is asked at its own port."""
