"""Certificates of an authority of the test's own, as files and as gRPC takes them."""

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)


class Authority:
    """An authority, and what it signs, in a folder.

    Attributes:
        ca_file: its certificate; `ca_pem` are the bytes.
        cert_file: the certificate of a service on this machine, once `service_flags` or `renew` was called.
        key_file: its key.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.ca_file, self.ca_pem = folder / "ca.pem", self._ca.cert_pem.bytes()
        self.cert_file, self.key_file = folder / "service.pem", folder / "service.key"
        put(self.ca_file, self.ca_pem)

    def service_flags(self, *, mutual: bool = False) -> dict[str, str]:
        """Flags of a service with a certificate of this authority; `mutual` asks for those of clients."""
        self.renew()
        flags = {"tls_cert_file": str(self.cert_file), "tls_key_file": str(self.key_file)}
        return flags | ({"tls_client_ca_file": str(self.ca_file)} if mutual else {})

    def renew(self) -> None:
        """A new certificate of the service, in place of the one before."""
        leaf = self._ca.issue_cert("localhost", "127.0.0.1")
        put(self.key_file, leaf.private_key_pem.bytes())
        put(self.cert_file, _chain(leaf))

    def channel_credentials(self, name: str | None = None, *, seconds: float = 3600) -> grpc.ChannelCredentials:
        """What a channel needs to this authority's services.

        With a certificate for a DNS name where one is given, which is valid for so long.
        """
        if name is None:
            return grpc.ssl_channel_credentials(self.ca_pem)
        leaf = self._ca.issue_cert(name, not_after=datetime.now(UTC) + timedelta(seconds=seconds))
        return grpc.ssl_channel_credentials(self.ca_pem, leaf.private_key_pem.bytes(), _chain(leaf))

    def named(self, common_name: str, *alternatives: x509.GeneralName) -> grpc.ChannelCredentials:
        """What a channel needs, with a client certificate of this common name and alternatives of any kind, or none."""
        ca = x509.load_pem_x509_certificate(self.ca_pem)
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        made = x509.CertificateBuilder(
            ca.subject,
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]),
            key.public_key(),
            x509.random_serial_number(),
            now - timedelta(hours=1),
            now + timedelta(hours=1),
            [x509.Extension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, False, x509.SubjectAlternativeName(alternatives))]
            if alternatives
            else [],
        )
        signer: Any = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        signed = made.sign(signer, hashes.SHA256())
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return grpc.ssl_channel_credentials(
            self.ca_pem, key.private_bytes(*form), signed.public_bytes(serialization.Encoding.PEM)
        )

    def serving(self, *names: str, clients: "Authority | None" = None, expired: bool = False) -> grpc.ServerCredentials:
        """What a server at `names` serves TLS with; it takes only clients of `clients`, if given."""
        leaf = self._ca.issue_cert(
            *names, not_before=LONG_AGO if expired else None, not_after=LONG_AGO.replace(day=2) if expired else None
        )
        roots = clients.ca_file.read_bytes() if clients is not None else None
        pair = (leaf.private_key_pem.bytes(), _chain(leaf))
        return grpc.ssl_server_credentials([pair], roots, require_client_auth=clients is not None)

    def client(self, name: str, *more: str) -> dict[str, Any]:
        """A client certificate, for `more` names beside its own, and its key, in files: arguments for `Credentials`."""
        leaf = self._ca.issue_cert(*more, common_name=name)
        files = {"tls_cert_file": self._folder / f"{name}.pem", "tls_key_file": self._folder / f"{name}.key"}
        files["tls_cert_file"].write_bytes(_chain(leaf))
        leaf.private_key_pem.write_to_path(str(files["tls_key_file"]))
        return files

    def keystore(self, path: Path) -> None:
        """A new certificate for `localhost` and its key, in one file as Java takes them: the key as PKCS #8."""
        leaf = self._ca.issue_cert("localhost")
        key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.write_bytes(key.private_bytes(*form) + _chain(leaf))


class SecretVolume:
    """A folder as the kubelet mounts a Secret: each file is a link through `..data`, which is switched over at once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder, self._number = folder, 0

    def put(self, files: Mapping[str, bytes]) -> None:
        """Switch over to these files; those before are removed."""
        data, unfinished = self._folder / "..data", self._folder / "..data_tmp"
        before = data.resolve() if data.is_symlink() else None
        self._number += 1
        real = self._folder / f"..version_{self._number}"
        real.mkdir()
        for name, content in files.items():
            (real / name).write_bytes(content)
        unfinished.symlink_to(real.name)
        unfinished.replace(data)
        for name in files:
            if not (self._folder / name).is_symlink():
                (self._folder / name).symlink_to(f"..data/{name}")
        if before is not None:
            shutil.rmtree(before)


def put(path: Path, content: bytes | str) -> None:
    """Replace a file at once, as Kubernetes does: nobody reads half of it."""
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
    unfinished.replace(path)


def _chain(leaf: trustme.LeafCert) -> bytes:
    return b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
