"""Certificates of an authority of the test's own, as files and as gRPC takes them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
import trustme

LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)


class Authority:
    """An authority, its certificate in `ca_file`, and what it signs beside it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_file))

    def serving(self, *names: str, clients: "Authority | None" = None, expired: bool = False) -> grpc.ServerCredentials:
        """What a server at `names` serves TLS with; it takes only clients of `clients`, if given."""
        leaf = self._ca.issue_cert(
            *names, not_before=LONG_AGO if expired else None, not_after=LONG_AGO.replace(day=2) if expired else None
        )
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        roots = clients.ca_file.read_bytes() if clients is not None else None
        pair = (leaf.private_key_pem.bytes(), chain)
        return grpc.ssl_server_credentials([pair], roots, require_client_auth=clients is not None)

    def client(self, name: str) -> dict[str, Any]:
        """A client certificate and its key, in the files of that name: arguments for `Credentials`."""
        leaf = self._ca.issue_cert(common_name=name)
        files = {"tls_cert_file": self._folder / f"{name}.pem", "tls_key_file": self._folder / f"{name}.key"}
        files["tls_cert_file"].write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(files["tls_key_file"]))
        return files
