"""The options that several commands share, and what they are turned into."""

import contextlib
import enum
import socket
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from epistream.clients.cli.exits import Wrong
from epistream.clients.client_settings import DEFAULT_ADDRESS
from epistream.wire.errors import Unavailable

if TYPE_CHECKING:
    from epistream.v1 import knowledge_pb2 as pb

DEFAULT_SECONDS: Final = 60.0
_CONNECT_SECONDS: Final = 3.0
_PORT_MAX: Final = 65535


class OriginChoice(enum.StrEnum):
    """How knowledge came to be, by falling authority."""

    EXPERT = "EXPERT"
    COLLABORATIVE = "COLLABORATIVE"
    CRAWLED = "CRAWLED"
    SYNTHETIC = "SYNTHETIC"


class ModalityChoice(enum.StrEnum):
    """What kind of knowledge it is."""

    TEXT = "TEXT"
    CODE = "CODE"
    IMAGE = "IMAGE"
    VIDEO = "VIDEO"


Address = Annotated[str, typer.Option("--address", "-a", envvar="EPISTREAM_ADDRESS", help="The service, as HOST:PORT.")]
Timeout = Annotated[
    float,
    typer.Option("--timeout", min=0.1, help="How many seconds to wait for the service, and for its encoder to load."),
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", envvar="EPISTREAM_NAMESPACE", help="The namespace.")]
Json = Annotated[bool, typer.Option("--json", help="Print protobuf's JSON form, one object a line.")]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="POINT",
        help="A revision such as 120, or a time such as 2026-01-31T12:00:00Z. Now when not given.",
    ),
]
Origins = Annotated[
    list[OriginChoice] | None,
    typer.Option(
        "--origin",
        metavar="ORIGIN",
        case_sensitive=False,
        help="Only this origin: expert, collaborative, crawled or synthetic. May be repeated.",
    ),
]
Modalities = Annotated[
    list[ModalityChoice] | None,
    typer.Option(
        "--modality",
        metavar="MODALITY",
        case_sensitive=False,
        help="Only this modality: text, code, image or video. May be repeated.",
    ),
]
Producers = Annotated[list[str] | None, typer.Option("--producer", help="Only of this producer. May be repeated.")]
Attributes = Annotated[
    list[str] | None,
    typer.Option("--attribute", metavar="KEY=VALUE", help="Only with this attribute. May be repeated."),
]

DefaultNamespace = Annotated[
    str, typer.Option("--namespace", "-n", envvar="EPISTREAM_NAMESPACE", help="The namespace, where a line names none.")
]
DefaultProducer = Annotated[str, typer.Option("--producer", "-p", help="Who says so, where a line names nobody.")]
DefaultOrigin = Annotated[
    OriginChoice | None,
    typer.Option(
        "--origin",
        "-o",
        metavar="ORIGIN",
        case_sensitive=False,
        help="How it came to be, where a line does not say: expert, collaborative, crawled or synthetic.",
    ),
]
DefaultModality = Annotated[
    ModalityChoice,
    typer.Option("--modality", "-m", case_sensitive=False, help="What kind it is, where a line does not say."),
]
DefaultSource = Annotated[str, typer.Option("--source", help="What it was taken from, where a line does not say.")]
DefaultGenerator = Annotated[
    str, typer.Option("--generator", help="The model that made it, where a line does not say.")
]
DefaultLicence = Annotated[
    str, typer.Option("--licence", help="Its licence, as an SPDX identifier, where a line does not say.")
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--attribute", metavar="KEY=VALUE", help="An attribute to add to each. May be repeated."),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first line that is wrong or refused.")]
KafkaAddress = Annotated[
    str, typer.Option("--kafka", "-k", envvar="EPISTREAM_KAFKA", help="Kafka's bootstrap servers, HOST:PORT,HOST:PORT.")
]


def point(text: str | None) -> int | datetime | None:
    """A revision or a time, as `--as-of` takes them.

    Raises:
        typer.BadParameter: it is neither.
    """
    if text is None:
        return None
    if text.isdecimal():
        return int(text)
    found = _with_zone(text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is neither a revision, such as 120, nor a time with its zone, such as 2026-01-31T12:00:00Z"
        )
    return found


def moment(text: str | None) -> datetime | None:
    """A time in the world, as `--valid-from` and `--valid-at` take it; of a date its midnight in UTC.

    Raises:
        typer.BadParameter: it is none.
    """
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    found = _with_zone(text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is neither a date, such as 2026-01-31, nor a time with its zone, such as 2026-01-31T12:00:00Z"
        )
    return found


def _with_zone(text: str) -> datetime | None:
    """A time that says its zone, in UTC; None where it is none, says none, or is in UTC of no year from 1 to 9999."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def pairs(texts: list[str] | None) -> dict[str, str]:
    """The attributes of repeated `KEY=VALUE`.

    Raises:
        typer.BadParameter: one has no `=`.
    """
    split = [text.partition("=") for text in texts or ()]
    for key, separator, _ in split:
        if not separator or not key:
            raise typer.BadParameter(f"{key!r} must be KEY=VALUE")
    return {key: value for key, _, value in split}


def only(
    origins: list[OriginChoice] | None,
    modalities: list[ModalityChoice] | None,
    producers: list[str] | None,
    attributes: list[str] | None,
) -> "pb.Filter | None":
    """The filter of the options; None when none was given."""
    from epistream.v1 import knowledge_pb2 as pb

    wanted = pb.Filter(
        origins=[pb.Origin.Value(f"ORIGIN_{origin}") for origin in origins or ()],
        modalities=[pb.Modality.Value(f"MODALITY_{modality}") for modality in modalities or ()],
        producers=producers,
        attributes=pairs(attributes),
    )
    return wanted if wanted != pb.Filter() else None


def reach(address: str) -> str:
    """The address again, if something listens there.

    A client would go on trying for as long as a call may take; whoever types a command wants to know at once.

    Raises:
        Wrong: it is no HOST:PORT.
        Unavailable: nothing listens there.
    """
    try:
        _connect(address)
    except OSError as error:
        hint = "Start a service with `epistream up`, or give its address with --address or EPISTREAM_ADDRESS."
        raise Unavailable(f"No service can be reached at {address}: {error}. {hint}") from error
    return address


def reach_kafka(bootstrap: str) -> str:
    """The bootstrap servers again, if one of them listens. Raises as `reach`."""
    errors = []
    for broker in bootstrap.split(","):
        try:
            _connect(broker.strip())
        except OSError as error:
            errors.append(error)
        else:
            return bootstrap
    hint = "Start one with `epistream kafka up`, or give its address with --kafka or EPISTREAM_KAFKA."
    raise Unavailable(f"No Kafka can be reached at {bootstrap}: {errors[-1]}. {hint}") from errors[-1]


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of HOST:PORT, an IPv6 address without its brackets. Raises Wrong: it is none."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > _PORT_MAX:
        raise Wrong(f"{address!r} is no address: expected HOST:PORT, such as {DEFAULT_ADDRESS}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _connect(address: str) -> None:
    socket.create_connection(host_and_port(address), _CONNECT_SECONDS).close()
