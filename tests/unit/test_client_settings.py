"""What a program takes from the environment and the user's file: as the command line (test_cli_connection.py)."""

import logging
import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from epistream.clients import configured
from epistream.clients.cli.connection import reaching
from epistream.clients.cli.exits import Wrong
from epistream.clients.client_settings import Service
from epistream.clients.credentials import Credentials
from epistream.wire.errors import InvalidInput

FILE = """
address = "localhost:1"
token = "of the file"
[profile.far]
address = "localhost:2"
tls = true
token_file = "token"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own file, and beside it one with a token; nothing is in the environment."""
    for name in [name for name in os.environ if name.startswith("EPISTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    config = tmp_path / "epistream" / "client.toml"
    config.parent.mkdir()
    config.write_text(FILE.replace("of the file", "of-the-file"))
    config.chmod(0o600)
    (config.parent / "token").write_text("of-a-token-file")
    return config


def of_the_command_line() -> Service:
    found: list[Service] = []
    app = typer.Typer()

    @app.command()
    @reaching
    def command(*, service: Service) -> None:
        found.append(service)

    result = CliRunner().invoke(app, [])
    if result.exception is not None:
        raise result.exception
    return found[0]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"EPISTREAM_PROFILE": "far"},
        {"EPISTREAM_PROFILE": ""},
        {"EPISTREAM_ADDRESS": "localhost:3", "EPISTREAM_TOKEN": "another"},
        {"EPISTREAM_TLS": "yes", "EPISTREAM_TLS_SERVER_NAME": "name"},
        {"EPISTREAM_PROFILE": "far", "EPISTREAM_TLS": "off"},
        {"EPISTREAM_TLS": ""},
    ],
)
def test_a_program_takes_what_the_command_line_takes(
    config: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert configured() == of_the_command_line() != Service("127.0.0.1:7443", None), config


def test_what_is_given_goes_before_the_environment(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = config.with_name("other.toml")
    other.write_text('[profile.near]\naddress = "localhost:4"\n')
    monkeypatch.setenv("EPISTREAM_CLIENT_CONFIG", str(other))
    monkeypatch.setenv("EPISTREAM_PROFILE", "near")
    assert configured() == Service("localhost:4", None)
    by_profile = Credentials(tls=True, token_file=str(config.with_name("token")))
    assert configured(config, "far") == Service("localhost:2", by_profile)


def test_where_nothing_is_said_the_service_is_here_and_nothing_is_shown(config: Path) -> None:
    config.unlink()
    assert configured() == Service("127.0.0.1:7443", None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("EPISTREAM_PROFILE", "nowhere"), ("EPISTREAM_CLIENT_CONFIG", "nothing.toml"), ("EPISTREAM_TLS_CA_FILE", "no")],
)
def test_what_is_wrong_is_told_as_by_the_command_line(
    config: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput) as told:
        configured()
    with pytest.raises(Wrong) as said:
        of_the_command_line()
    assert told.value.message == said.value.message, config


def test_a_switch_is_on_or_off(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPISTREAM_TLS", "perhaps")
    with pytest.raises(InvalidInput, match="EPISTREAM_TLS: expected true or false, found 'perhaps'"):
        configured(config)


def test_a_user_without_a_home_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)

    assert configured() == Service("127.0.0.1:7443", None)
    with pytest.raises(InvalidInput, match="without a home has no file with a profile work"):
        configured(profile="work")


def test_a_token_that_is_none_is_not_shown(config: Path) -> None:
    config.write_text('token = ["a secret"]')

    with pytest.raises(InvalidInput) as raised:
        configured()

    assert "token: expected a text" in raised.value.message
    assert "secret" not in raised.value.message


def test_a_token_that_others_can_read_is_warned_of(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        configured()
        assert caplog.text == ""
        config.chmod(0o644)
        configured()
    assert "others can read it" in caplog.text
    assert "of-the-file" not in caplog.text
