"""The options that say how a Kafka is reached that asks who is there: the same for every command that speaks to one."""

import enum
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer

from epistream.wire.errors import InvalidInput


class ProtocolChoice(enum.StrEnum):
    """What a listener of Kafka speaks."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class MechanismChoice(enum.StrEnum):
    """How a password is shown to Kafka."""

    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"
    PLAIN = "PLAIN"


def with_kafka_security(command: Callable[..., None]) -> Callable[..., None]:
    """A command that gets these options, too, and finds what they mean in its parameter `security`.

    It is wrong usage where they do not fit together, or a file cannot be read.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [p.replace(annotation=hints[p.name]) for p in inspect.signature(command).parameters.values()]
    signature = inspect.Signature([*(p for p in own if p.name != "security"), *_OPTIONS])

    @functools.wraps(command)
    def with_security(**given: Any) -> None:
        chosen = {option.name: given.pop(option.name) for option in _OPTIONS}
        command(**given, security=_security(chosen))

    with_security.__signature__ = signature  # type: ignore[attr-defined]
    with_security.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    return with_security


def _security(chosen: Mapping[str, object]) -> object:
    from epistream.wire.kafka_security import KafkaSecurity

    try:
        return KafkaSecurity.of_settings(
            {name: value.value if isinstance(value, enum.Enum) else value for name, value in chosen.items()}
        )
    except InvalidInput as error:
        raise typer.BadParameter(error.message) from error


def _option(name: str, kind: Any, description: str, default: object = None) -> inspect.Parameter:
    option = typer.Option(
        f"--{name.replace('_', '-')}", envvar=f"EPISTREAM_{name.upper()}", case_sensitive=False, help=description
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


_OPTIONS: Final = (
    _option(
        "kafka_security",
        ProtocolChoice,
        "What Kafka's listener speaks: SSL is TLS, SASL a user with a password.",
        ProtocolChoice.PLAINTEXT,
    ),
    _option(
        "kafka_sasl_mechanism",
        MechanismChoice,
        "How the password is shown, with SASL.",
        MechanismChoice.SCRAM_SHA_512,
    ),
    _option("kafka_username", str | None, "The user of Kafka, with SASL."),
    _option("kafka_password_file", Path | None, "A file with the user's password."),
    _option(
        "kafka_ca_file",
        Path | None,
        "A PEM file with the authorities that Kafka's certificates are trusted by; else the system's.",
    ),
    _option("kafka_cert_file", Path | None, "A PEM file with the certificate to show, where Kafka asks for one."),
    _option("kafka_key_file", Path | None, "A PEM file with that certificate's key."),
)
