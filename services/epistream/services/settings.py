"""What an operator can set. The only reader of the environment and of the settings file.

A flag of the command line goes before an environment variable (`EPISTREAM_` and the name in capitals), that before the
TOML file named by `config`, and that before the default. The descriptions here are the command line's help.
"""

import ipaddress
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from epistream.indexer.paging import ANSWER_BYTES_MAX
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import FieldViolation, InvalidInput, in_words
from epistream.wire.kafka_security import SETTINGS as KAFKA_SECURITY
from epistream.wire.kafka_security import KafkaSecurity, Mechanism, Protocol
from epistream.wire.origins import PEOPLE
from epistream.wire.topics import CARRIED, SUBMISSIONS

DEFAULT_ADDRESS: Final = "127.0.0.1:7443"
DEFAULT_FOLDER: Final = Path("epistream-data")
MEBIBYTE: Final = 1024 * 1024
CONNECTION_SECONDS: Final = 3600
"""How long a connection lives that stands on a client certificate, unless it is set."""


class Settings(BaseSettings):
    """The settings of a service process."""

    model_config = SettingsConfigDict(env_prefix="EPISTREAM_", frozen=True, extra="forbid")

    config: Path | None = Field(
        None, description="A TOML file with settings: the names of these flags, with `_` for `-`."
    )
    folder: Path = Field(DEFAULT_FOLDER, description="The folder of the store. It is made if there is none.")
    address: str = Field(DEFAULT_ADDRESS, description="Where gRPC is served, as HOST:PORT. Port 0 takes a free one.")
    metrics_address: str = Field(
        "127.0.0.1:9464", description="Where Prometheus reads the metrics, as HOST:PORT. Empty: nowhere."
    )
    health_address: str = Field(
        "",
        description="Where the health service is alone and in plaintext, for Kubernetes' probes. Empty: nowhere.",
    )
    tls_cert_file: Path | None = Field(
        None, description="The service's certificate in PEM, for gRPC and the metrics. Read again when it changes."
    )
    tls_key_file: Path | None = Field(None, description="Its private key in PEM.")
    tls_client_ca_file: Path | None = Field(
        None, description="The CA of client certificates in PEM. With it every gRPC client must have one."
    )
    access_file: Path | None = Field(
        None,
        description="Who may do what, in TOML (docs/security.md). Without, anybody may. Read again when it changes.",
    )
    audit_file: Path | None = Field(
        None, description="Gets a line of JSON for each call that changes something or is denied. Rotated."
    )
    reflection: bool | None = Field(
        None, description="Tell clients the protos when asked. By default where there is no access file."
    )
    insecure: bool = Field(
        default=False,
        description="Serve where other machines reach it without TLS, or without an access file.",
    )
    addresses_file: Path | None = Field(
        None,
        description="A file that gets the bound addresses and the process id, as JSON, once the service answers.",
    )
    instance_index: int = Field(
        0,
        ge=0,
        description="Which of the instances of a StatefulSet this is. One owns the store: any but 0 does not start.",
    )
    encoder: str = Field(
        "all-MiniLM-L6-v2",
        description="Turns text into vectors: a sentence-transformers model (the default is packaged), or `none`.",
    )
    kafka: str | None = Field(
        None,
        description="Kafka's bootstrap servers, HOST:PORT,HOST:PORT. Without, knowledge comes in over gRPC only.",
    )
    kafka_security: Protocol = Field("PLAINTEXT", description=KAFKA_SECURITY["kafka_security"])
    kafka_sasl_mechanism: Mechanism = Field("SCRAM-SHA-512", description=KAFKA_SECURITY["kafka_sasl_mechanism"])
    kafka_username: str | None = Field(None, description=KAFKA_SECURITY["kafka_username"])
    kafka_password_file: Path | None = Field(None, description=KAFKA_SECURITY["kafka_password_file"])
    kafka_ca_file: Path | None = Field(None, description=KAFKA_SECURITY["kafka_ca_file"])
    kafka_cert_file: Path | None = Field(None, description=KAFKA_SECURITY["kafka_cert_file"])
    kafka_key_file: Path | None = Field(None, description=KAFKA_SECURITY["kafka_key_file"])
    kafka_topics: Annotated[tuple[str, ...], NoDecode] = Field(
        SUBMISSIONS,
        min_length=1,
        description="The topics to read submissions from, separated by commas.",
    )
    kafka_topic_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="The origins that topics carry, as TOPIC=ORIGIN+ORIGIN, separated by commas. Others are refused."
        " Not named: our topics carry what docs/kafka.md says, any other carries all. What carries EXPERT and"
        " COLLABORATIVE only goes ahead of the others.",
    )
    kafka_group: str = Field(
        "epistream", min_length=1, description="The consumer group under which progress is shown to Kafka's tools."
    )
    kafka_start: Literal["earliest", "latest"] = Field(
        "earliest",
        description="Where a topic begins that the store has never read. A partition that is added to it later begins"
        " at its oldest record.",
    )
    trace_endpoint: str = Field(
        "",
        description="Where spans are sent, by OTLP over gRPC, such as http://127.0.0.1:4317. Empty: nothing is traced.",
    )
    trace_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Which share is traced of what comes without a trace of its producer's, which decides otherwise.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least severity to log.")
    drain_seconds: float = Field(
        10.0, ge=0, le=600, description="How long calls in flight may take to end after a signal to stop."
    )
    max_message_bytes: int = Field(
        16 * MEBIBYTE, ge=2 * MEBIBYTE, le=512 * MEBIBYTE, description="The largest gRPC message that is taken."
    )
    receive_window_bytes: int = Field(
        64 * 1024,
        ge=64 * 1024,
        le=16 * MEBIBYTE,
        description="How much a caller may send of a call before it is read: the most in one round trip.",
    )
    max_answer_bytes: int = Field(
        ANSWER_BYTES_MAX, ge=2 * MEBIBYTE, le=512 * MEBIBYTE, description="The largest gRPC answer that is sent."
    )
    max_submissions_per_call: int = Field(
        1000, ge=1, le=1000, description="The most submissions in one request, or in one message of a stream."
    )
    max_calls: int = Field(
        1000, ge=1, description="The most unary calls and submitting streams at one time. More are turned away."
    )
    max_streams: int = Field(1000, ge=1, description="The most subscriptions at one time. More are turned away.")
    max_connection_age_seconds: int | None = Field(
        None,
        ge=0,
        description="How long a gRPC connection may live; 0 for ever. By default an hour with client certificates.",
    )
    default_call_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="The deadline of a unary call that brings none.",
    )
    progress_interval_seconds: float = Field(
        1.0,
        ge=0.1,
        le=60,
        description="How often an idle subscription is told its progress, unless it says.",
    )
    signals_interval_seconds: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="How often the signals are measured at most, after something was decided; 0 for never.",
    )

    @field_validator("kafka_topics", "kafka_topic_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _belong_together(self) -> "Settings":
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file are needed together")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_client_ca_file needs tls_cert_file and tls_key_file")
        self.security_of_kafka()
        self.carried()
        return self

    def carried(self) -> Mapping[str, Collection[pb.Origin.ValueType]]:
        """The origins that each topic carries; one that is not in it carries all.

        Raises:
            ValueError: `kafka_topic_origins` is wrong.
        """
        named: dict[str, Collection[pb.Origin.ValueType]] = {}
        for entry in self.kafka_topic_origins:
            topic, _, origins = entry.partition("=")
            if topic not in self.kafka_topics or topic in named:
                why = "is there twice" if topic in named else "is not among kafka_topics"
                raise ValueError(f"kafka_topic_origins: the topic {topic!r} {why}")
            named[topic] = {_origin(name) for name in origins.split("+")}
        return {**CARRIED, **named}

    def topics_of_people(self) -> frozenset[str]:
        """The topics that carry nothing but what people say.

        Raises:
            ValueError: `kafka_topic_origins` is wrong.
        """
        return frozenset(topic for topic, origins in self.carried().items() if set(origins) <= PEOPLE)

    def security_of_kafka(self) -> KafkaSecurity:
        """How Kafka is reached.

        Raises:
            InvalidInput: the settings do not fit together.
        """
        return KafkaSecurity.of_settings(self.model_dump())

    @property
    def connection_seconds(self) -> int | None:
        """How long a gRPC connection may live; None for as long as its client likes.

        A client certificate is looked at when a connection is made, and never after.
        """
        if self.max_connection_age_seconds is None:
            return CONNECTION_SECONDS if self.tls_client_ca_file is not None else None
        return self.max_connection_age_seconds or None

    @field_validator("address", "metrics_address", "health_address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator("trace_endpoint")
    @classmethod
    def _is_endpoint(cls, value: str) -> str:
        scheme, _, address = value.partition("://")
        if value and (scheme not in {"http", "https"} or not address):
            raise ValueError(f"expected http://HOST:PORT, or https:// with TLS, found {value!r}")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file."""
        named = init_settings().get("config") or env_settings().get("config")
        return init_settings, env_settings, _File(settings_cls, Path(named) if named else None)

    @classmethod
    def load(cls, **flags: object) -> "Settings":
        """The settings that hold, given the flags of a command line.

        Raises:
            InvalidInput: a value is wrong, or the file cannot be read.
        """
        try:
            return cls(**flags)  # type: ignore[arg-type] # checked by pydantic, field by field
        except ValidationError as error:
            violations = [FieldViolation(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
            listed = "; ".join(map(in_words, violations))
            raise InvalidInput(f"the settings are wrong: {listed}", *violations) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            raise InvalidInput(f"the settings file cannot be read: {error}") from error


def _origin(name: str) -> pb.Origin.ValueType:
    """The origin of a name without its prefix."""
    known = {pb.Origin.Name(origin).removeprefix("ORIGIN_"): origin for origin in sorted(pb.Origin.values()) if origin}
    if name not in known:
        raise ValueError(f"kafka_topic_origins: expected some of {', '.join(known)} with + between, found {name!r}")
    return known[name]


class _File(PydanticBaseSettingsSource):
    """The values of the TOML file."""

    def __init__(self, settings_cls: type[BaseSettings], path: Path | None) -> None:
        super().__init__(settings_cls)
        self._values = tomllib.loads(path.read_text()) if path is not None else {}

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - as pydantic calls it
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(self._values)


def split_address(address: str) -> tuple[str, int]:
    """The host and port of `HOST:PORT`; the host of `[::1]:7443` comes without brackets.

    Raises:
        ValueError: it is anything else.
    """
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"expected HOST:PORT, such as 127.0.0.1:7443, found {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach `HOST:PORT`."""
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
