"""How a Kafka is reached that asks who is there: what fits together, and that nothing secret is in the value."""

import ssl
from pathlib import Path
from typing import get_args

import pytest
from kafka.errors import KafkaConnectionError, SaslAuthenticationFailedError, TopicAuthorizationFailedError

from epistream.clients.cli import kafka_options
from epistream.clients.kafka_client import is_refusal, translated
from epistream.services.compose import warn_of_plaintext
from epistream.services.settings import Settings
from epistream.wire.errors import Denied, InvalidInput, Unavailable
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity
from tests.support.certificates import Authority
from tests.support.cli import epistream, epistream_process


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A file with a password."""
    path = tmp_path / "there"
    path.write_text("s3cret\n")
    return path


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of an authority, of a certificate, of its key, and of another key."""
    ours = Authority(tmp_path_factory.mktemp("pem"))
    one, other = ours.client("one"), ours.client("other")
    return {
        "ca": ours.ca_file,
        "cert": one["tls_cert_file"],
        "key": one["tls_key_file"],
        "other": other["tls_key_file"],
    }


MISSING = Path("no-such-file")


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"protocol": "SASL_SSL"}, ["kafka_username", "kafka_password_file"]),
        ({"protocol": "SASL_SSL", "username": "me"}, ["kafka_password_file"]),
        ({"username": "me"}, ["kafka_username"]),
        ({"password_file": "there"}, ["kafka_password_file"]),
        ({"protocol": "SSL", "username": "me", "password_file": "there"}, ["kafka_username"]),
        ({"ca_file": "ca"}, ["kafka_ca_file"]),
        (
            {"protocol": "SASL_PLAINTEXT", "username": "me", "password_file": "there", "sasl_mechanism": "PLAIN"},
            ["kafka_sasl_mechanism"],
        ),
        ({"protocol": "SSL", "cert_file": "cert"}, ["kafka_key_file"]),
        ({"protocol": "SSL", "key_file": "key"}, ["kafka_cert_file"]),
        ({"protocol": "SSL", "cert_file": "cert", "key_file": "other"}, ["kafka_cert_file"]),
        ({"protocol": "SSL", "ca_file": "there"}, ["kafka_ca_file"]),
        ({"protocol": "SSL", "ca_file": "ca", "cert_file": "cert", "key_file": "key"}, []),
        ({"protocol": "SSL", "ca_file": MISSING}, ["kafka_ca_file"]),
        ({"protocol": "SASL_SSL", "username": "me", "password_file": MISSING}, ["kafka_password_file"]),
        ({"protocol": "SSL"}, []),
        ({"protocol": "SASL_SSL", "username": "me", "password_file": "there", "ca_file": "ca"}, []),
        ({"protocol": "SASL_PLAINTEXT", "username": "me", "password_file": "there"}, []),
    ],
)
def test_what_does_not_fit_together_is_named(
    there: Path, pem: dict[str, Path], fields: dict[str, object], wrong: list[str]
) -> None:
    files = {"there": there, **pem}
    given = {name: files.get(str(value), value) for name, value in fields.items()}
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
    security = KafkaSecurity("SASL_SSL", "SCRAM-SHA-256", "me", there, ca_file=Path("ca.pem"))
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


@pytest.mark.parametrize(
    ("bootstrap", "security", "warned"),
    [
        ("127.0.0.1:9092,localhost:9092", PLAINTEXT, False),
        ("127.0.0.1:9092,kafka.example:9092", PLAINTEXT, True),
        ("kafka.example:9092", KafkaSecurity("SASL_PLAINTEXT", username="me"), True),
        ("kafka.example:9092", KafkaSecurity("SSL"), False),
    ],
)
def test_whoever_goes_to_other_machines_unencrypted_is_warned(
    caplog: pytest.LogCaptureFixture, bootstrap: str, security: KafkaSecurity, warned: bool
) -> None:
    warn_of_plaintext(bootstrap, security)
    assert ("nothing is encrypted" in caplog.text) == warned


def test_a_refusal_is_told_from_what_passes_by_itself() -> None:
    dropped = KafkaConnectionError(ssl.SSLEOFError(8, "EOF occurred in violation of protocol"))
    refused, forbidden = SaslAuthenticationFailedError("no"), TopicAuthorizationFailedError({"b", "a"})
    assert [is_refusal(error) for error in (dropped, refused, forbidden)] == [False, True, True]
    assert isinstance(translated(dropped, "h:9", "connecting"), Unavailable)
    error = translated(forbidden, "h:9", "reading")
    assert isinstance(error, Denied)
    assert "Not authorised for the topic a, b:" in error.message


@pytest.mark.parametrize("command", [("produce", "-", "-k"), ("redrive", "--kafka")], ids=["produce", "redrive"])
def test_a_command_that_is_told_what_does_not_fit_together_says_so_and_reaches_for_nothing(
    command: tuple[str, ...],
) -> None:
    run = epistream if command[0] == "produce" else epistream_process  # which becomes another program
    done = run(*command, "127.0.0.1:1", EPISTREAM_KAFKA_USERNAME="me")
    assert done.code == 2
    assert "kafka_username" in done.err


def test_the_service_and_the_command_line_say_the_same_of_how_kafka_is_reached() -> None:
    options = {option.name: get_args(option.annotation)[1].help for option in kafka_options._OPTIONS}
    fields = {name: field.description for name, field in Settings.model_fields.items() if name in options}
    assert options == fields
    assert len(options) == 7
