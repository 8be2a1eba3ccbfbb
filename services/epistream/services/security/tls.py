"""Certificates from files, for gRPC and for the metrics. New ones are used for new connections, without a restart."""

import logging
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from epistream.services.security.files import Watched
from epistream.wire.errors import InvalidInput

_LOG: Final = logging.getLogger(__name__)

LOOK_EVERY_SECONDS: Final = 0.1
"""How often connections look at the files. gRPC asks in the middle of a handshake, on a thread that needs Python's lock
for it: at 200 connections a second a look at each cost every other call 2 ms at its p99 (bench/hostile.py)."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificates are, all in PEM."""

    certificate: Path
    """The service's own, and those that lead to its CA."""
    key: Path
    """Its private key, without a password."""
    client_ca: Path | None = None
    """Whose client certificates are believed. With it, every gRPC client must have one."""


@dataclass(frozen=True, slots=True)
class _Material:
    certificate: bytes
    key: bytes
    client_ca: bytes | None
    not_after: float


class Tls:
    """The certificates as they are now. Thread-safe.

    When the files change they are read again at the next connection, but not more often than LOOK_EVERY_SECONDS. When
    they do not fit together, for example since only one of two was written yet, what was read before is used on, and
    they are read again at a later connection.
    """

    def __init__(self, files: TlsFiles, failed: Callable[[str], None]) -> None:
        """Reads the files. Blocks.

        Args:
            files: the files.
            failed: called with `tls_files`, on any thread, when they were changed and cannot be used.

        Raises:
            InvalidInput: a file cannot be read, or they do not fit together.
        """
        self._files, self._failed = files, failed
        self._lock = threading.Lock()
        self._watched = Watched()
        self._looked = time.monotonic()
        self._material, self._context = self._made()

    def not_after(self) -> float:
        """When the service's certificate expires, as Unix time in seconds."""
        return self._material.not_after

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For a gRPC server: asks at each new connection whether there are new certificates."""
        served = self._material

        def newer() -> grpc.ServerCertificateConfiguration | None:
            nonlocal served
            if time.monotonic() - self._looked >= LOOK_EVERY_SECONDS:
                self.refresh()
            if self._material is served:
                return None
            served = self._material
            return _configuration(served)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(served),
            newer,  # type: ignore[arg-type] # None is allowed, the types do not say so
            require_client_authentication=served.client_ca is not None,
        )

    def https_context(self) -> ssl.SSLContext:
        """For the next connection of an HTTPS server, which calls `refresh` before."""
        return self._context

    def refresh(self) -> None:
        """Read the files again if they have changed. Blocks for some microseconds if not. Raises nothing."""
        with self._lock:
            self._looked = time.monotonic()
            try:
                if not self._watched.changed():
                    return
                self._material, self._context = self._made()
            except Exception as error:  # noqa: BLE001 - whatever it is, what serves must go on serving
                self._watched.look_again()
                self._failed("tls_files")
                _LOG.error("The certificates were changed and cannot be used; the earlier ones still are: %s", error)
            else:
                _LOG.info("The certificates were read again")

    def _made(self) -> tuple[_Material, ssl.SSLContext]:
        """What the files make now, all of it or an error."""
        material = _read(self._files, self._watched)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._files.certificate, self._files.key)
        except OSError as error:  # ssl.SSLError is one
            raise InvalidInput.at("tls_cert_file", f"{self._files.certificate} cannot be used: {error}") from error
        return material, context


def _configuration(material: _Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.certificate)], root_certificates=material.client_ca
    )


def _read(files: TlsFiles, watched: Watched) -> _Material:
    try:
        certificate, key = watched.read(files.certificate), watched.read(files.key)
        client_ca = watched.read(files.client_ca) if files.client_ca is not None else None
    except OSError as error:
        raise InvalidInput(f"a certificate or key cannot be read: {error}") from error
    own = _certificates("tls_cert_file", files.certificate, certificate)[0]
    if files.client_ca is not None and client_ca is not None:
        _certificates("tls_client_ca_file", files.client_ca, client_ca)
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput.at("tls_key_file", f"{files.key} holds no private key in PEM without a password") from error
    if _encoded(private) != _encoded(own):
        raise InvalidInput.at(
            "tls_key_file", f"{files.key} is not the key of the first certificate in {files.certificate}"
        )
    return _Material(certificate, key, client_ca, own.not_valid_after_utc.timestamp())


def _certificates(field: str, path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InvalidInput.at(field, f"{path} holds no certificate in PEM: {error}") from error


def _encoded(holder: x509.Certificate | PrivateKeyTypes) -> bytes:
    """The public key in DER, to compare."""
    public: Any = holder.public_key()
    encoded: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded
