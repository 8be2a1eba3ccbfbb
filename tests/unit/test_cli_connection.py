"""Where the command line takes the connection's options from, and which goes before which."""

import os
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from epistream.clients.cli.connection import reaching
from epistream.clients.cli.exits import Wrong
from epistream.clients.client_settings import Service
from epistream.clients.credentials import Credentials
from tests.support.certificates import Authority


class Home:
    """A user's own folder of settings, and a command that only says what it was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "epistream" / "client.toml"
        self.config.parent.mkdir()
        self.noted = ""

    def __call__(self, *arguments: str, **environment: str) -> Service:
        given: list[Service] = []
        app = typer.Typer()

        @app.command()
        @reaching
        def command(
            word: Annotated[str, typer.Argument()] = "",
            *,
            service: Service,
            loud: Annotated[bool, typer.Option()] = False,
        ) -> None:
            assert (word, loud) == ("word", True)
            given.append(service)

        environment = {"XDG_CONFIG_HOME": str(self.folder)} | environment
        result = CliRunner().invoke(app, ["word", "--loud", *arguments], env=environment)
        self.noted = result.stderr
        if result.exception is not None:
            raise result.exception
        return given[0]

    def says(self, text: str) -> None:
        self.config.write_text(text)
        self.config.chmod(0o600)

    def token(self, name: str) -> str:
        (self.folder / name).write_text(name)
        return str(self.folder / name)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in [name for name in os.environ if name.startswith("EPISTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")  # so that what the command sets is taken back
    return Home(tmp_path)


def test_where_nothing_is_said_the_service_is_here_and_nothing_is_shown(home: Home) -> None:
    assert home() == Service("127.0.0.1:7443", None)


def test_a_flag_goes_before_a_variable_and_that_before_the_file(home: Home) -> None:
    home.says('address = "localhost:1"\ntls_server_name = "file"\ntoken_file = "token-of-file"\ntls = true\n')
    for name in ("token-of-variable", "token-of-flag"):
        home.token(name)
    (home.config.parent / "token-of-file").write_text("t")
    by_file = Credentials(tls=True, tls_server_name="file", token_file=str(home.config.parent / "token-of-file"))
    assert home() == Service("localhost:1", by_file)
    variables = {
        "EPISTREAM_ADDRESS": "localhost:2",
        "EPISTREAM_TLS_SERVER_NAME": "variable",
        "EPISTREAM_TOKEN_FILE": home.token("token-of-variable"),
        "EPISTREAM_TLS": "0",
    }
    by_variable = Credentials(tls_server_name="variable", token_file=home.token("token-of-variable"))
    assert home(**variables) == Service("localhost:2", by_variable)
    flags = ("-a", "localhost:3", "--tls-server-name=flag", "--token-file", home.token("token-of-flag"), "--tls")
    by_flag = Credentials(tls=True, tls_server_name="flag", token_file=home.token("token-of-flag"))
    assert home(*flags, **variables) == Service("localhost:3", by_flag)


def test_every_file_of_tls_has_its_flag_and_variable_and_name(home: Home) -> None:
    ours = Authority(home.folder / "ours")
    files = {"tls_ca_file": ours.ca_file, **ours.client("ada")}
    texts = {name: str(path) for name, path in files.items()}
    flags = [f"--{name.replace('_', '-')}={path}" for name, path in files.items()]
    wanted = Service("127.0.0.1:7443", Credentials(**texts))  # type: ignore[arg-type] # only the files
    assert home(*flags) == wanted
    assert home(**{f"EPISTREAM_{name.upper()}": path for name, path in texts.items()}) == wanted
    home.says("".join(f'{name} = "../ours/{path.name}"\n' for name, path in files.items()))
    found = home().credentials
    assert found is not None
    assert [Path(str(path)).resolve() for path in (found.tls_ca_file, found.tls_cert_file, found.tls_key_file)] == [
        path.resolve() for path in files.values()
    ]


@pytest.mark.parametrize(
    ("flag", "variable", "variable_file", "file", "shown"),
    [
        (True, "v", True, 'token = "f"', "flag"),
        (False, "v", True, 'token = "f"', "variable-file"),
        (False, "v", False, 'token = "f"', "v"),
        (False, "v", False, 'token_file = "file"', "v"),
        (False, "", False, 'token = "f"', "f"),
        (False, "", True, 'token = "f"', "variable-file"),
    ],
)
def test_the_token_is_the_one_that_goes_before(
    home: Home, flag: bool, variable: str, variable_file: bool, file: str, shown: str
) -> None:
    home.says(file)
    arguments = ("--token-file", home.token("flag")) if flag else ()
    environment = {"EPISTREAM_TOKEN": variable} if variable else {}
    environment |= {"EPISTREAM_TOKEN_FILE": home.token("variable-file")} if variable_file else {}
    found = home(*arguments, **environment).credentials
    assert found is not None
    assert (found.token or Path(str(found.token_file)).name) == shown


def test_no_flag_takes_the_token_itself(home: Home) -> None:
    with pytest.raises(SystemExit) as caught:
        home("--token", "secret")
    assert caught.value.code == 2


def test_a_profile_holds_instead_of_the_rest_of_the_file(home: Home) -> None:
    home.says(
        'tls = true\ntoken = "t"\n[profile.near]\naddress = "localhost:1"\n[profile.far]\ntls_server_name = "k"\n'
    )
    assert home("--profile", "near") == Service("localhost:1", None)
    assert home(EPISTREAM_PROFILE="far") == Service("127.0.0.1:7443", Credentials(tls_server_name="k"))
    assert home() == Service("127.0.0.1:7443", Credentials(tls=True, token="t"))
    with pytest.raises(Wrong, match=r"no table \[profile.farther\]; there are: far, near"):
        home("--profile", "farther")


def test_another_file_may_be_named(home: Home) -> None:
    home.says('address = "localhost:1"')
    other = home.folder / "other.toml"
    other.write_text('address = "localhost:2"')
    assert home("--config", str(other)).address == home(EPISTREAM_CLIENT_CONFIG=str(other)).address == "localhost:2"
    with pytest.raises(Wrong, match="cannot be read: No such file"):
        home("--config", str(home.folder / "nothing"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("address = ", "is not TOML"),
        pytest.param(f"address = {'[' * 3000}", "is not TOML", id="deep"),
        ("tls_ca_fil = 'ca.pem'", "nothing is called 'tls_ca_fil'; expected address, tls, "),
        ("tls = 'yes'", "tls: expected true or false, found 'yes'"),
        ("address = 7443", "address: expected a text, found 7443"),
        ("profile = 'near'", "expected tables"),
        ("token = 't'\ntoken_file = 'f'", "expected either token or token_file"),
        ("tls_ca_file = 'nothing.pem'", "nothing.pem cannot be read"),
        ("tls_key_file = 'key.pem'", "tls_cert_file: expected beside tls_key_file"),
        ("address = 'knowledge.example.org:7443'\ntoken = 't'", "not sent to knowledge.example.org:7443 without"),
    ],
)
def test_what_is_wrong_with_the_file_is_named(home: Home, text: str, told: str) -> None:
    home.says(text)
    with pytest.raises(Wrong) as caught:
        home()
    assert told in caught.value.message


def test_a_file_with_a_token_that_others_can_read_is_warned_of(home: Home) -> None:
    for text, mode, warned in (
        ('token = "secret"', 0o600, False),
        ('token = "secret"', 0o640, True),
        ('token = "secret"', 0o604, True),
        ('token_file = "token"', 0o644, False),
    ):
        home.says(text)
        home.config.chmod(mode)
        (home.config.parent / "token").write_text("t")
        home()
        assert ("others can read it" in home.noted) is warned, (text, oct(mode))
        assert "secret" not in home.noted
