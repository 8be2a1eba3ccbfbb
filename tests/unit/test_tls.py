"""Certificates that change while they are in use."""

import ssl
from pathlib import Path
from typing import Final

import pytest

from epistream.services.security.tls import Tls, TlsFiles
from tests.support.certificates import Authority, put

ELLIPTIC: Final = bytes.fromhex("06072a8648ce3d0201")
UNKNOWN: Final = bytes.fromhex("06072a8648ce3d027f")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.renew()
    return authority


def with_an_unknown_key(pem: bytes) -> bytes:
    """The certificate with a key of an algorithm that nobody knows, which only shows when the key is looked at."""
    end = b"-----END CERTIFICATE-----\n"
    der = ssl.PEM_cert_to_DER_cert((pem.partition(end)[0] + end).decode())
    assert ELLIPTIC in der
    return ssl.DER_cert_to_PEM_cert(der.replace(ELLIPTIC, UNKNOWN)).encode()


def test_whatever_is_wrong_with_a_new_certificate_the_one_before_is_served_on(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[str] = []
    tls = Tls(TlsFiles(authority.cert_file, authority.key_file), failures.append)
    until, serving = tls.not_after(), tls.https_context()
    put(authority.cert_file, with_an_unknown_key(authority.cert_file.read_bytes()))
    tls.refresh()
    assert failures == ["tls_files"]
    assert "the earlier ones still are" in caplog.text
    assert (tls.not_after(), tls.https_context()) == (until, serving)
    tls.refresh()
    assert failures == ["tls_files"] * 2, "it is looked at again"
    authority.renew()
    tls.refresh()
    assert failures == ["tls_files"] * 2
    assert tls.https_context() is not serving
