"""The command line with credentials, against a service with TLS."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from epistream.clients import Denied
from epistream.v1 import knowledge_pb2 as pb
from tests.support.certificates import Authority
from tests.support.cli import Ran, epistream
from tests.support.histories import random_history, state_after
from tests.support.scripted_server import Caller, ScriptedServer

HISTORY = random_history(20, seed=1)
ITEM = next(iter(state_after(HISTORY, 20)))


class Closed:
    """A service that knows one certificate's holder by name, and one token, and the command line pointed at it."""

    def __init__(self, folder: Path) -> None:
        self.ours = Authority(folder / "ours")
        self.server = ScriptedServer(HISTORY)
        self.server.tls = self.ours.serving("127.0.0.1", clients=self.ours)
        self.server.refuses = self._refuses
        self.files = {"tls_ca_file": self.ours.ca_file, **self.ours.client("advisor"), "token_file": folder / "token"}
        self.files["token_file"].write_text("secret\n")

    async def __call__(self, *arguments: str, **files: Path | str) -> Ran:
        """Runs a command with its flags for files, or others."""
        flags = [f"--{name.replace('_', '-')}={path}" for name, path in ({**self.files, **files}).items()]
        return await asyncio.to_thread(epistream, *arguments, "-a", self.server.address, *flags)

    def _refuses(self, caller: Caller) -> Denied | None:
        known = caller == Caller("Bearer secret", "advisor")
        return None if known else Denied(f"who is {caller.authorization}?", reason="UNAUTHENTICATED")


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[Closed]:
    closed = Closed(tmp_path)
    async with closed.server:
        yield closed


async def test_every_kind_of_command_shows_who_asks(closed: Closed) -> None:
    of_ada = ("-n", "tests", "-o", "expert", "-p", "ada", "--json")
    for arguments in (
        ("get", ITEM, "-n", "tests", "--json"),
        ("history", ITEM, "-n", "tests", "--json"),
        ("diff", "3", "-n", "tests", "--json"),
        ("search", "anything", "-n", "tests", "--json"),
        ("submit", "The limit is 5 mg.", *of_ada),
        ("retract", "limit", *of_ada),
        ("watch", "-n", "tests", "--after", "0", "--count", "2", "--json"),
    ):
        done = await closed(*arguments)
        assert (done.code, done.err) == (0, ""), arguments
    assert set(closed.server.callers) == {Caller("Bearer secret", "advisor")}
    assert [change.revision for change in done.messages(pb.Change)] == [1, 2]


async def test_who_is_not_known_is_told_so_at_once(closed: Closed, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    for arguments in (
        ("search", "anything", "-n", "tests"),
        ("watch", "-n", "tests"),
        ("submit", "a b", "-n", "tests"),
    ):
        done = await closed(*arguments, token_file=tmp_path / "other")
        assert (done.code, done.out, done.err) == (1, "", "who is Bearer other?\n"), arguments


async def test_a_service_that_is_not_the_right_one_is_told_of_at_once(closed: Closed, tmp_path: Path) -> None:
    strange = Authority(tmp_path / "strange")
    for arguments in (("search", "anything", "-n", "tests"), ("submit", "a b", "-n", "tests")):
        done = await closed(*arguments, "--timeout", "300", tls_ca_file=strange.ca_file)
        assert done.code == 3
        assert "check the address, and that tls_ca_file holds the authority" in done.err
    assert not closed.server.callers


async def test_files_that_cannot_be_used_are_wrong_usage(closed: Closed, tmp_path: Path) -> None:
    done = await closed("search", "anything", "-n", "tests", tls_ca_file=tmp_path / "nothing")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"tls_ca_file: {tmp_path / 'nothing'} cannot be read: No such file or directory\n"
