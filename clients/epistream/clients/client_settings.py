"""Where the service is and who asks, as the environment and the user's own file say it.

The command line has it from here, and programs can have it, too: what holds for one holds for the other.
"""

import logging
import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from epistream.clients.credentials import Credentials
from epistream.wire.errors import InvalidInput

DEFAULT_ADDRESS: Final = "127.0.0.1:7443"
"""Where a service listens by itself."""
TOKEN_VARIABLE: Final = "EPISTREAM_TOKEN"  # noqa: S105 -- the name of a variable
CONFIG_VARIABLE: Final = "EPISTREAM_CLIENT_CONFIG"
PROFILE_VARIABLE: Final = "EPISTREAM_PROFILE"
_FILES: Final = ("tls_ca_file", "tls_cert_file", "tls_key_file", "token_file")
_NAMES: Final = ("address", "tls", "tls_ca_file", "tls_cert_file", "tls_key_file", "tls_server_name", "token_file")
_YES: Final = ("1", "true", "t", "yes", "y", "on")
_NO: Final = ("0", "false", "f", "no", "n", "off")

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """A service, and what to show to it."""

    address: str
    """HOST:PORT."""
    credentials: Credentials | None
    """None when nothing was said: not encrypted, and nobody in particular."""


def configured(config: str | Path | None = None, profile: str | None = None) -> Service:
    """The service that the command line would reach without a flag.

    Each of address, `tls…`, `token_file` and `token` is taken from its variable (`EPISTREAM_ADDRESS` and so on), else
    from the file: `config`, else the one in EPISTREAM_CLIENT_CONFIG, else `~/.config/epistream/client.toml` if it is
    there. With a profile, here or in EPISTREAM_PROFILE, from the file's table `profile.NAME` alone. Reads the files.

    Raises:
        InvalidInput: what is said cannot be used.
    """
    given: dict[str, Any] = {name: os.environ.get(variable_of(name)) or None for name in _NAMES}
    if given["tls"] is not None:
        given["tls"] = _yes_or_no(given["tls"])
    named = config if config is not None else os.environ.get(CONFIG_VARIABLE) or None
    return service_of(given, named, profile if profile is not None else os.environ.get(PROFILE_VARIABLE) or None)


def service_of(
    given: Mapping[str, Any], config: str | Path | None, profile: str | None, warn: Callable[[str], None] = _log.warning
) -> Service:
    """What holds, where some of it is `given` and goes before the file; None stands for what is not.

    `warn` is told of a token that others can read.

    Raises:
        InvalidInput: what is said cannot be used.
    """
    known = _said_in_file(config, profile, warn)
    token = os.environ.get(TOKEN_VARIABLE)
    if given["token_file"] is not None:
        known.pop("token", None)
    elif token:
        known.pop("token_file", None)
        known["token"] = token
    known |= {name: given[name] for name in _NAMES if given[name] is not None}
    address = known.pop("address", DEFAULT_ADDRESS)
    if not known:
        return Service(address, None)
    credentials = Credentials(**known)
    credentials.for_channel(address)  # so that what is wrong with the files is told at once
    return Service(address, credentials)


def variable_of(name: str) -> str:
    """The variable with the address, or with a field of `Credentials`."""
    return f"EPISTREAM_{name.upper()}"


def _yes_or_no(said: str) -> bool:
    if said.strip().lower() not in _YES + _NO:
        raise InvalidInput.at(variable_of("tls"), f"expected true or false, found {said!r}")
    return said.strip().lower() in _YES


def _said_in_file(named: str | Path | None, profile: str | None, warn: Callable[[str], None]) -> dict[str, Any]:
    """What the file says; nothing where there is none and none was named."""
    path = Path(named) if named is not None else _own_file()
    if named is None and profile is None and (path is None or not os.access(path, os.F_OK)):
        return {}
    if path is None:
        raise InvalidInput(f"a user without a home has no file with a profile {profile}: name the file")
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is not TOML: {error}") from error
    profiles = table.pop("profile", {})
    if not isinstance(profiles, dict) or not all(isinstance(one, dict) for one in profiles.values()):
        raise InvalidInput(f"{path}: profile: expected tables [profile.NAME]")
    if profile is not None:
        if profile not in profiles:
            there = ", ".join(sorted(profiles)) or "none"
            raise InvalidInput(f"{path} has no table [profile.{profile}]; there are: {there}")
        table = profiles[profile]
    _check(table, path)
    if "token" in table and os.name == "posix" and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"{path} holds a token, and others can read it: chmod 600 {path}")
    return table | {name: str(path.parent / Path(table[name]).expanduser()) for name in _FILES if name in table}


def _own_file() -> Path | None:
    """Where a user's file is; None for a user without a home, as in a container."""
    try:
        home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    except RuntimeError:
        return None
    return Path(home, "epistream", "client.toml")


def _check(table: Mapping[str, Any], path: Path) -> None:
    allowed = (*_NAMES, "token")
    for name, value in table.items():
        if name not in allowed:
            raise InvalidInput(f"{path}: nothing is called {name!r}; expected {', '.join(allowed)}, or [profile.NAME]")
        kind, called = (bool, "true or false") if name == "tls" else (str, "a text")
        if not isinstance(value, kind):
            found = "" if name == "token" else f", found {value!r}"
            raise InvalidInput(f"{path}: {name}: expected {called}{found}")
