"""What may be given as credentials, and what is said of what may not."""

import contextlib
import os
from pathlib import Path
from typing import Any

import grpc
import pytest

from epistream.clients import Credentials, InvalidInput
from epistream.clients.channel import Connection
from epistream.clients.failures import failure
from epistream.wire.errors import Unavailable
from tests.support.certificates import Authority

ADDRESS = "127.0.0.1:7443"
ELSEWHERE = "knowledge.example.org:7443"


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


def refusal(target: str = ADDRESS, **given: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        Credentials(**given).for_channel(target)
    return caught.value.message


def test_nothing_given_is_nothing_encrypted_and_nobody_in_particular() -> None:
    assert Credentials().for_channel(ELSEWHERE) == (None, ())
    assert not Credentials(token="t").encrypted


def test_each_name_that_begins_with_tls_encrypts(ours: Authority) -> None:
    for given in ({"tls": True}, {"tls_ca_file": ours.ca_file}, {"tls_server_name": "k"}, ours.client("ada")):
        credentials = Credentials(**given)
        assert credentials.encrypted
        assert isinstance(credentials.for_channel(ELSEWHERE).credentials, grpc.ChannelCredentials)


def test_a_certificate_and_its_key_go_together(ours: Authority) -> None:
    pair = ours.client("ada")
    assert "tls_key_file: expected beside tls_cert_file" in refusal(tls_cert_file=pair["tls_cert_file"])
    assert "tls_cert_file: expected beside tls_key_file" in refusal(tls_key_file=pair["tls_key_file"])
    told = refusal(tls_cert_file=pair["tls_cert_file"], tls_key_file=ours.client("grace")["tls_key_file"])
    assert "grace.key is not the key of the certificate in" in told


def test_a_file_that_cannot_be_used_is_named(ours: Authority, tmp_path: Path) -> None:
    nothing, text, damaged = tmp_path / "nothing", tmp_path / "text", tmp_path / "damaged"
    text.write_text("hello\n")
    damaged.write_bytes(ours.ca_file.read_bytes()[:200])
    assert refusal(tls_ca_file=nothing) == f"tls_ca_file: {nothing} cannot be read: No such file or directory"
    assert f"tls_ca_file: {tmp_path} cannot be read" in refusal(tls_ca_file=tmp_path)
    assert f"tls_ca_file: {text} is not in PEM" in refusal(tls_ca_file=str(text))
    assert f"tls_ca_file: {damaged} holds no certificate" in refusal(tls_ca_file=damaged)
    pair = ours.client("ada")
    assert f"tls_cert_file: {text} is not in PEM" in refusal(**pair | {"tls_cert_file": text})
    assert f"tls_key_file: {nothing} cannot be read" in refusal(**pair | {"tls_key_file": nothing})
    assert f"{damaged} and the certificate in" in refusal(**pair | {"tls_key_file": damaged})


def test_a_key_that_is_encrypted_is_refused_and_no_password_asked_for(ours: Authority, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form

    pair = ours.client("ada")
    key = form.load_pem_private_key(pair["tls_key_file"].read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"secret"))
    )
    assert "the key not encrypted" in refusal(**pair | {"tls_key_file": locked})


@pytest.mark.parametrize(
    ("content", "told"),
    [("", "is empty"), ("  \n", "is empty"), ("two words", "holds no token"), ("schlüssel", "holds no token")],
)
def test_what_cannot_be_a_token_is_refused_and_not_shown(content: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(content, encoding="utf-8")
    assert told in refusal(token_file=path)
    assert told in refusal(token=content.strip())
    assert not content.strip() or content.strip() not in refusal(token_file=path)


def test_a_token_is_given_in_one_way(tmp_path: Path) -> None:
    assert "expected either token or token_file" in refusal(token="t", token_file=tmp_path / "token")


@pytest.mark.parametrize(
    "target", [ELSEWHERE, "10.0.0.1:7443", "0.0.0.0:7443", "dns:///knowledge:7443", "localhost.example.org:1"]
)
def test_a_token_is_not_sent_to_another_machine_for_all_to_read(target: str) -> None:
    assert "not sent to" in refusal(target, token="secret")
    assert "secret" not in refusal(target, token="secret")
    assert Credentials(token="secret", tls=True).for_channel(target).credentials is not None


@pytest.mark.parametrize("target", [ADDRESS, "localhost:1", "[::1]:1", "127.5.5.5:1", "dns:///localhost:1"])
def test_a_token_may_be_sent_within_this_machine(target: str) -> None:
    assert Credentials(token="secret").for_channel(target).credentials is not None


def test_no_secret_is_in_what_is_printed(tmp_path: Path) -> None:
    assert "secret" not in repr(Credentials(token="secret", tls=True))
    assert str(tmp_path) in repr(Credentials(token_file=tmp_path))


def test_the_state_of_the_files_changes_when_one_is_replaced(ours: Authority, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    credentials = Credentials(tls_ca_file=ours.ca_file, token_file=token)
    before = credentials.files()
    assert credentials.files() == before
    new = tmp_path / "new"
    new.write_text("two")
    new.replace(token)
    assert credentials.files() != before
    token.unlink()
    assert credentials.files()[-1] is None


async def test_a_channel_brings_its_own_credentials() -> None:
    with contextlib.closing(grpc.insecure_channel(ADDRESS)):
        channel = grpc.aio.insecure_channel(ADDRESS)
        with pytest.raises(InvalidInput, match="a channel has credentials already"):
            Connection(channel, Credentials(tls=True))
        await channel.close()


async def test_files_that_are_being_replaced_leave_what_was_read_before(ours: Authority) -> None:
    pair = ours.client("ada")
    connection = Connection(ADDRESS, Credentials(tls_ca_file=ours.ca_file, **pair))
    first = connection.channel
    assert not connection.renew()
    whole = pair["tls_cert_file"].read_bytes()
    pair["tls_cert_file"].write_bytes(whole[:100])
    assert not connection.renew()
    assert connection.channel is first
    pair["tls_cert_file"].write_bytes(whole)
    os.utime(pair["tls_cert_file"], ns=(1, 1))
    assert connection.renew()
    assert connection.channel is not first
    await connection.aclose()


def test_what_is_wrong_with_tls_is_told_apart_from_a_service_that_is_away() -> None:
    expired = failure(grpc.StatusCode.UNAVAILABLE, "CERTIFICATE_VERIFY_FAILED: certificate has expired: OK")
    away = failure(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; Connection refused")
    closed = failure(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: Socket closed")
    assert isinstance(expired, Unavailable)
    assert (expired.reason, away.reason, closed.reason) == ("TLS", "UNAVAILABLE", "UNAVAILABLE")
    assert "renew it" in expired.message
    assert "TLS" not in away.message
    assert "may expect TLS" in closed.message
