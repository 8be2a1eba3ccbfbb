"""The options that say how a Kafka is reached that asks who is there: the same for every command that speaks to one."""

import enum
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer

from epistream.wire.errors import InvalidInput
from epistream.wire.kafka_security import SETTINGS, KafkaSecurity


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


def _security(chosen: Mapping[str, object]) -> KafkaSecurity:
    try:
        return KafkaSecurity.of_settings(
            {name: value.value if isinstance(value, enum.Enum) else value for name, value in chosen.items()}
        )
    except InvalidInput as error:
        raise typer.BadParameter(error.message) from error


def _option(name: str, kind: Any, default: object = None) -> inspect.Parameter:
    option = typer.Option(
        f"--{name.replace('_', '-')}", envvar=f"EPISTREAM_{name.upper()}", case_sensitive=False, help=SETTINGS[name]
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


_CHOICES: Final[Mapping[str, tuple[Any, object]]] = {
    "kafka_security": (ProtocolChoice, ProtocolChoice.PLAINTEXT),
    "kafka_sasl_mechanism": (MechanismChoice, MechanismChoice.SCRAM_SHA_512),
    "kafka_username": (str | None, None),
}
_OPTIONS: Final = tuple(_option(name, *_CHOICES.get(name, (Path | None, None))) for name in SETTINGS)
