"""Where the service is and who asks: the options of every command that reaches one.

Each is taken from the command line, else from the environment, else from a file, else it has its default. A token
itself is no option, since everybody on the machine sees the arguments of its processes.
"""

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeAlias

import typer

from epistream.clients.cli.exits import Wrong
from epistream.clients.client_settings import (
    CONFIG_VARIABLE,
    DEFAULT_ADDRESS,
    PROFILE_VARIABLE,
    TOKEN_VARIABLE,
    Service,
    service_of,
    variable_of,
)
from epistream.wire.errors import InvalidInput

PANEL: Final = "Connection"
"""The heading of these options in a command's help."""

_Command: TypeAlias = Callable[..., None]


def _text(flags: tuple[str, ...], variable: str, metavar: str, meaning: str) -> Any:
    option = typer.Option(*flags, envvar=variable, metavar=metavar, help=meaning, rich_help_panel=PANEL)
    return Annotated[str | None, option]


ADDRESS: Final = _text(
    ("--address", "-a"), variable_of("address"), "HOST:PORT", f"The service; {DEFAULT_ADDRESS} when nothing is said."
)
_OPTIONS: Final[Mapping[str, Any]] = {
    "tls": Annotated[
        bool | None,
        typer.Option(
            "--tls",
            envvar=variable_of("tls"),
            help="Encrypt, and trust the authorities that this machine trusts.",
            rich_help_panel=PANEL,
        ),
    ],
    "tls_ca_file": _text(
        ("--tls-ca-file",),
        variable_of("tls_ca_file"),
        "FILE",
        "Encrypt, and trust the authorities in this file, in PEM.",
    ),
    "tls_cert_file": _text(
        ("--tls-cert-file",), variable_of("tls_cert_file"), "FILE", "Encrypt, and show this client certificate, in PEM."
    ),
    "tls_key_file": _text(
        ("--tls-key-file",), variable_of("tls_key_file"), "FILE", "The certificate's private key, in PEM."
    ),
    "tls_server_name": _text(
        ("--tls-server-name",),
        variable_of("tls_server_name"),
        "NAME",
        "The name in the service's certificate, where it is not that of the address.",
    ),
    "token_file": _text(
        ("--token-file",),
        variable_of("token_file"),
        "FILE",
        f"Show the API token or JWT in this file. Else the one in {TOKEN_VARIABLE}: no flag takes the token itself,"
        " since others see the arguments of your processes.",
    ),
    "config": _text(
        ("--config",),
        CONFIG_VARIABLE,
        "FILE",
        "A TOML file with these options, by their names with _ for -; ~/.config/epistream/client.toml when nothing is"
        " said.",
    ),
    "profile": _text(
        ("--profile",), PROFILE_VARIABLE, "NAME", "Take the table profile.NAME of that file, and nothing else of it."
    ),
}


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
    # Its reports are for who debugs gRPC; what a person can do about them is in our errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        return service_of(given, given["config"], given["profile"], _warn)
    except InvalidInput as error:
        raise Wrong(error.message) from error


def _warn(text: str) -> None:
    from epistream.clients.cli.show import note

    note(text, style="yellow")
