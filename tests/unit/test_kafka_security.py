"""How a Kafka is reached that asks who is there: what fits together, and that nothing secret is in the value."""

import ssl
from pathlib import Path

import pytest
from kafka.errors import KafkaConnectionError, SaslAuthenticationFailedError, TopicAuthorizationFailedError

from epistream.clients.kafka_client import is_refusal, translated
from epistream.services.settings import Settings
from epistream.wire.errors import Denied, InvalidInput, Unavailable
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A file that can be read."""
    path = tmp_path / "there"
    path.write_text("s3cret\n")
    return path


MISSING = Path("no-such-file")


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"protocol": "SASL_SSL"}, ["kafka_username", "kafka_password_file"]),
        ({"protocol": "SASL_SSL", "username": "me"}, ["kafka_password_file"]),
        ({"username": "me"}, ["kafka_username"]),
        ({"password_file": "there"}, ["kafka_password_file"]),
        ({"protocol": "SSL", "username": "me", "password_file": "there"}, ["kafka_username"]),
        ({"ca_file": "there"}, ["kafka_ca_file"]),
        (
            {"protocol": "SASL_PLAINTEXT", "username": "me", "password_file": "there", "sasl_mechanism": "PLAIN"},
            ["kafka_sasl_mechanism"],
        ),
        ({"protocol": "SSL", "cert_file": "there"}, ["kafka_key_file"]),
        ({"protocol": "SSL", "key_file": "there"}, ["kafka_cert_file"]),
        ({"protocol": "SSL", "ca_file": MISSING}, ["kafka_ca_file"]),
        ({"protocol": "SASL_SSL", "username": "me", "password_file": MISSING}, ["kafka_password_file"]),
        ({"protocol": "SSL"}, []),
        ({"protocol": "SASL_SSL", "username": "me", "password_file": "there", "ca_file": "there"}, []),
        ({"protocol": "SASL_PLAINTEXT", "username": "me", "password_file": "there"}, []),
    ],
)
def test_what_does_not_fit_together_is_named(there: Path, fields: dict[str, object], wrong: list[str]) -> None:
    given = {name: there if value == "there" else value for name, value in fields.items()}
    security = KafkaSecurity(**given)  # type: ignore[arg-type]
    settings = {"kafka_security" if name == "protocol" else f"kafka_{name}": value for name, value in given.items()}
    if not wrong:
        security.check()
        assert Settings.load(**settings).security_of_kafka() == security
        return
    for refused in (security.check, lambda: Settings.load(**settings)):
        with pytest.raises(InvalidInput) as error:
            refused()
        assert [violation.field for violation in error.value.violations] == wrong


def test_the_value_names_files_and_holds_nothing_of_them(there: Path) -> None:
    security = KafkaSecurity("SASL_SSL", "SCRAM-SHA-256", "me", there, ca_file=there)
    assert KafkaSecurity.from_argument(security.to_argument()) == security
    assert KafkaSecurity.from_argument(PLAINTEXT.to_argument()) == PLAINTEXT
    for text in (repr(security), security.to_argument(), security.describe()):
        assert "s3cret" not in text
    assert security.describe() == "SASL_SSL as me (SCRAM-SHA-256)"


def test_a_password_is_read_anew_without_the_line_break_at_its_end(there: Path) -> None:
    security = KafkaSecurity("SASL_SSL", username="me", password_file=there)
    assert security.client_settings()["sasl_plain_password"] == security.password() == "s3cret"
    there.write_text(" another \r\n")
    assert security.password() == " another "
    there.write_text("\n")
    with pytest.raises(InvalidInput, match="is empty"):
        security.password()
    there.write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="cannot be read"):
        security.password()


def test_a_refusal_is_told_from_what_passes_by_itself() -> None:
    dropped = KafkaConnectionError(ssl.SSLEOFError(8, "EOF occurred in violation of protocol"))
    refused, forbidden = SaslAuthenticationFailedError("no"), TopicAuthorizationFailedError({"b", "a"})
    assert [is_refusal(error) for error in (dropped, refused, forbidden)] == [False, True, True]
    assert isinstance(translated(dropped, "h:9", "connecting"), Unavailable)
    error = translated(forbidden, "h:9", "reading")
    assert isinstance(error, Denied)
    assert "Not authorised for the topic a, b:" in error.message
