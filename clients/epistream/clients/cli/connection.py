"""Where the service is and who asks: the options of every command that reaches one.

Each is taken from the command line, else from the environment, else from a file, else it has its default. A token
itself is no option, since everybody on the machine sees the arguments of its processes.
"""

import functools
import inspect
import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from epistream.clients.cli.exits import Wrong
from epistream.clients.cli.options import DEFAULT_ADDRESS
from epistream.wire.errors import InvalidInput

if TYPE_CHECKING:
    from epistream.clients.credentials import Credentials

PANEL: Final = "Connection"
"""The heading of these options in a command's help."""
_TOKEN_VARIABLE: Final = "EPISTREAM_TOKEN"  # noqa: S105 -- the name of a variable
_FILES: Final = ("tls_ca_file", "tls_cert_file", "tls_key_file", "token_file")
_IN_CONFIG: Final = ("address", "tls", "tls_ca_file", "tls_cert_file", "tls_key_file", "tls_server_name", "token_file")

_Command: TypeAlias = Callable[..., None]


def _text(flags: tuple[str, ...], variable: str, metavar: str, meaning: str) -> Any:
    option = typer.Option(*flags, envvar=variable, metavar=metavar, help=meaning, rich_help_panel=PANEL)
    return Annotated[str | None, option]


ADDRESS: Final = _text(
    ("--address", "-a"), "EPISTREAM_ADDRESS", "HOST:PORT", f"The service; {DEFAULT_ADDRESS} when nothing is said."
)
_OPTIONS: Final[Mapping[str, Any]] = {
    "tls": Annotated[
        bool | None,
        typer.Option(
            "--tls",
            envvar="EPISTREAM_TLS",
            help="Encrypt, and trust the authorities that this machine trusts.",
            rich_help_panel=PANEL,
        ),
    ],
    "tls_ca_file": _text(
        ("--tls-ca-file",), "EPISTREAM_TLS_CA_FILE", "FILE", "Encrypt, and trust the authorities in this file, in PEM."
    ),
    "tls_cert_file": _text(
        ("--tls-cert-file",), "EPISTREAM_TLS_CERT_FILE", "FILE", "Encrypt, and show this client certificate, in PEM."
    ),
    "tls_key_file": _text(
        ("--tls-key-file",), "EPISTREAM_TLS_KEY_FILE", "FILE", "The certificate's private key, in PEM."
    ),
    "tls_server_name": _text(
        ("--tls-server-name",),
        "EPISTREAM_TLS_SERVER_NAME",
        "NAME",
        "The name in the service's certificate, where it is not that of the address.",
    ),
    "token_file": _text(
        ("--token-file",),
        "EPISTREAM_TOKEN_FILE",
        "FILE",
        f"Show the API token or JWT in this file. Else the one in {_TOKEN_VARIABLE}: no flag takes the token itself,"
        " since others see the arguments of your processes.",
    ),
    "config": _text(
        ("--config",),
        "EPISTREAM_CLIENT_CONFIG",
        "FILE",
        "A TOML file with these options, by their names with _ for -; ~/.config/epistream/client.toml when nothing is"
        " said.",
    ),
    "profile": _text(
        ("--profile",), "EPISTREAM_PROFILE", "NAME", "Take the table profile.NAME of that file, and nothing else of it."
    ),
}


@dataclass(frozen=True, slots=True)
class Service:
    """A service, and what to show to it."""

    address: str
    """HOST:PORT."""
    credentials: "Credentials | None"
    """None when nothing was said: not encrypted, and nobody in particular."""


def reaching(command: _Command) -> _Command:
    """`command` with the options that say where the service is and who asks, in place of its parameter `service`.

    It raises `Wrong` when what they say cannot be used.
    """
    return reaching_at("address", ADDRESS)(command)


def reaching_at(name: str, address: Any) -> Callable[[_Command], _Command]:
    """As `reaching`, with an option for the address of this name and annotation."""
    options = {name: address, **_OPTIONS}

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            chosen = {option: given.pop(option) for option in options}
            command(**given, service=_service({"address": chosen.pop(name), **chosen}))

        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command).parameters.values():
            parameters += _parameters(options) if parameter.name == "service" else [parameter]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # it is what typer reads
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _parameters(options: Mapping[str, Any]) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in options.items()
    ]


def _service(given: Mapping[str, Any]) -> Service:
    """What holds of all that was said. The files are read, so that what is wrong with them is told at once."""
    from epistream.clients.credentials import Credentials

    known = _configured(given["config"], given["profile"])
    token = os.environ.get(_TOKEN_VARIABLE)
    if given["token_file"] is not None:
        known.pop("token", None)
    elif token:
        known.pop("token_file", None)
        known["token"] = token
    known |= {name: given[name] for name in _IN_CONFIG if given[name] is not None}
    address = known.pop("address", DEFAULT_ADDRESS)
    if not known:
        return Service(address, None)
    # Its reports are for who debugs gRPC; what a person can do about them is in our errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        credentials = Credentials(**known)
        credentials.for_channel(address)
    except InvalidInput as error:
        raise Wrong(error.message) from error
    return Service(address, credentials)


def _configured(named: str | None, profile: str | None) -> dict[str, Any]:
    """What the file says; nothing where there is none and none was named."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    path = Path(named) if named is not None else Path(home, "epistream", "client.toml")
    if named is None and profile is None and not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Wrong(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise Wrong(f"{path} is not TOML: {error}") from error
    profiles = table.pop("profile", {})
    if not isinstance(profiles, dict) or not all(isinstance(one, dict) for one in profiles.values()):
        raise Wrong(f"{path}: profile: expected tables [profile.NAME]")
    if profile is not None:
        if profile not in profiles:
            raise Wrong(f"{path} has no table [profile.{profile}]; there are: {', '.join(sorted(profiles)) or 'none'}")
        table = profiles[profile]
    _check(table, path)
    return table | {name: str(path.parent / Path(table[name]).expanduser()) for name in _FILES if name in table}


def _check(table: Mapping[str, Any], path: Path) -> None:
    allowed = (*_IN_CONFIG, "token")
    for name, value in table.items():
        if name not in allowed:
            raise Wrong(f"{path}: nothing is called {name!r}; expected {', '.join(allowed)}, or [profile.NAME]")
        kind, called = (bool, "true or false") if name == "tls" else (str, "a text")
        if not isinstance(value, kind):
            raise Wrong(f"{path}: {name}: expected {called}, found {value!r}")
    if "token" in table and os.name == "posix" and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        from epistream.clients.cli.show import note

        note(f"{path} holds a token, and others can read it: chmod 600 {path}", style="yellow")
