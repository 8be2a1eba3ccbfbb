"""How a Kafka is reached that asks who is there: one value for every client of ours, and what is wrong with it."""

import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from epistream.wire.errors import FieldViolation, InvalidInput

Protocol: TypeAlias = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism: TypeAlias = Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"]

_FILES: Final = ("password_file", "ca_file", "cert_file", "key_file")
SETTINGS: Final[Mapping[str, str]] = {
    "kafka_security": "What Kafka's listener speaks: PLAINTEXT, SSL (TLS), SASL_PLAINTEXT, SASL_SSL (a user, by TLS).",
    "kafka_sasl_mechanism": "How the password is shown with SASL: SCRAM-SHA-256, SCRAM-SHA-512; PLAIN over SASL_SSL.",
    "kafka_username": "The user of Kafka, with SASL.",
    "kafka_password_file": "A file with the user's password, read anew for each connection to Kafka.",
    "kafka_ca_file": "A PEM file with the authorities that Kafka's certificates are trusted by; else the system's.",
    "kafka_cert_file": "A PEM file with the certificate that is shown to Kafka, where it asks for one.",
    "kafka_key_file": "A PEM file with that certificate's key.",
}
"""The settings that say how Kafka is reached, and what each means: the same for the service and every command."""


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """The protocol of Kafka's listener, and what it asks for. The fields are the settings `kafka_…` of the same name.

    It names files and holds no secret, so it may be logged and given to another process by its command line. The files
    are read anew for each connection: a password or certificate that is renewed in its file is used from the next one.
    """

    protocol: Protocol = "PLAINTEXT"
    """What the listener speaks: `SSL` is TLS, `SASL` is a user with a password."""
    sasl_mechanism: Mechanism = "SCRAM-SHA-512"
    """How the password is shown. With SCRAM the broker is not told it; PLAIN sends it, so only over SASL_SSL."""
    username: str = ""
    """Who this is, with SASL."""
    password_file: Path | None = None
    """The file that has nothing but the password; a line break at its end is not taken."""
    ca_file: Path | None = None
    """The authorities that brokers' certificates are trusted by, as PEM. Those of the system when None."""
    cert_file: Path | None = None
    """Our certificate, and what it was signed by, as PEM, for brokers that ask for one."""
    key_file: Path | None = None
    """The key of our certificate, as PEM."""

    @property
    def encrypts(self) -> bool:
        """Whether nobody can read along."""
        return self.protocol in {"SSL", "SASL_SSL"}

    @property
    def has_user(self) -> bool:
        """Whether a user name and a password are shown."""
        return self.protocol in {"SASL_PLAINTEXT", "SASL_SSL"}

    def check(self) -> None:
        """Look at the fields together, and for the files.

        Raises:
            InvalidInput: something is missing, is there in vain, or cannot be read; `violations` name all.
        """
        if violations := [*self._violations()]:
            listed = "; ".join(f"{v.field}: {v.description}" for v in violations)
            raise InvalidInput(f"the settings for Kafka are wrong: {listed}", *violations)

    def password(self) -> str:
        """What the password file holds now.

        Raises:
            InvalidInput: there is none, it cannot be read, or it is empty.
        """
        if self.password_file is None:
            raise InvalidInput.at("kafka_password_file", "expected a file with the password")
        try:
            password = self.password_file.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput.at("kafka_password_file", f"{self.password_file} cannot be read: {error}") from error
        if not password:
            raise InvalidInput.at("kafka_password_file", f"{self.password_file} is empty: expected the password")
        return password

    def client_settings(self) -> dict[str, Any]:
        """What kafka-python's clients are made with. Holds the password: do not log it.

        Raises:
            InvalidInput: as `check` and `password`.
        """
        self.check()
        settings: dict[str, Any] = {"security_protocol": self.protocol}
        if self.encrypts:
            settings |= {
                "ssl_cafile": _text(self.ca_file),
                "ssl_certfile": _text(self.cert_file),
                "ssl_keyfile": _text(self.key_file),
            }
        if self.has_user:
            settings |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password(),
            }
        return settings

    def describe(self) -> str:
        """For people, such as `SASL_SSL as epistream (SCRAM-SHA-512)`."""
        text = str(self.protocol)
        if self.has_user:
            text += f" as {self.username} ({self.sasl_mechanism})"
        if self.cert_file is not None:
            text += f" with the certificate {self.cert_file}"
        return text

    def to_argument(self) -> str:
        """This value as one argument of a command line."""
        return json.dumps({name: str(value) for name, value in asdict(self).items() if value is not None})

    @classmethod
    def from_argument(cls, text: str) -> "KafkaSecurity":
        """The value that `to_argument` was asked for."""
        fields: dict[str, Any] = json.loads(text)
        fields |= {name: Path(fields[name]) for name in _FILES if name in fields}
        return cls(**fields)

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> "KafkaSecurity":
        """The value of the settings `kafka_security`, `kafka_username` and so on; those that are None are not set.

        Raises:
            InvalidInput: as `check`.
        """
        names = {"protocol": "kafka_security"} | {
            name: f"kafka_{name}" for name in ("sasl_mechanism", "username", *_FILES)
        }
        chosen = {name: settings.get(setting) for name, setting in names.items()}
        given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
        security = cls(**given)
        security.check()
        return security

    def _violations(self) -> Iterator[FieldViolation]:
        def wrong(field: str, description: str) -> FieldViolation:
            return FieldViolation(f"kafka_{field}", description)

        if self.has_user and not self.username:
            yield wrong("username", f"{self.protocol} needs a user name")
        if self.has_user and self.password_file is None:
            yield wrong("password_file", f"{self.protocol} needs a file with the user's password")
        if not self.has_user and (self.username or self.password_file is not None):
            field = "username" if self.username else "password_file"
            yield wrong(field, f"{self.protocol} shows no password: set kafka_security to SASL_SSL, or take it away")
        if self.sasl_mechanism == "PLAIN" and self.protocol == "SASL_PLAINTEXT":
            yield wrong("sasl_mechanism", "PLAIN would send the password for all to read: use SASL_SSL, or SCRAM")
        if not self.encrypts:
            for field in ("ca_file", "cert_file", "key_file"):
                if getattr(self, field) is not None:
                    yield wrong(field, f"{self.protocol} has no certificates: set kafka_security to SSL or SASL_SSL")
        if (self.cert_file is None) != (self.key_file is None):
            missing = "cert_file" if self.cert_file is None else "key_file"
            yield wrong(missing, "a certificate and its key belong together: give both, or none")
        for field in _FILES:
            path: Path | None = getattr(self, field)
            if path is not None and (why := _unreadable(path)):
                yield wrong(field, f"{path} cannot be read: {why}")
        yield from self._violations_of_pem()

    def _violations_of_pem(self) -> Iterator[FieldViolation]:
        """What is wrong inside of the files that are there."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca_file is not None and not _unreadable(self.ca_file):
            try:
                context.load_verify_locations(self.ca_file)
            except ssl.SSLError as error:
                yield FieldViolation("kafka_ca_file", f"{self.ca_file} holds no certificates as PEM: {error}")
        if self.cert_file is None or self.key_file is None or _unreadable(self.cert_file) or _unreadable(self.key_file):
            return
        try:
            # With a password, so that nobody is asked for one.
            context.load_cert_chain(self.cert_file, self.key_file, password="")
        except ssl.SSLError as error:
            what = f"{self.cert_file} and {self.key_file} are no certificate and its key without a password"
            yield FieldViolation("kafka_cert_file", f"{what}, as PEM: {error}")


PLAINTEXT: Final = KafkaSecurity()
"""Nothing is encrypted, and nobody is asked who they are."""


def _unreadable(path: Path) -> str:
    """Why a file cannot be read; empty when it can."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None
