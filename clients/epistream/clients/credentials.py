"""What a client shows to a service, and how it knows that the service is the right one.

Files are read when a channel is made. A token's file is read again when it has changed; those for TLS are, when a
connection must be made anew (`epistream.clients.channel.Connection`), since a gRPC channel keeps what it was made with.
"""

import ipaddress
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import grpc

from epistream.wire.errors import InvalidInput

FilesState: TypeAlias = tuple[tuple[int, ...] | None, ...]
"""Changes when one of the files does."""

_log: Final = logging.getLogger(__name__)


class ForChannel(NamedTuple):
    """What gRPC makes a channel of."""

    credentials: grpc.ChannelCredentials | None = None
    """None where nothing is encrypted or shown."""
    options: Sequence[tuple[str, str]] = ()
    """Beside the usual ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a client shows to a service, and how it knows that the service is the right one.

    The connection is encrypted as soon as one of the names that begin with `tls` is given. A token goes with every call
    of an encrypted connection; over an unencrypted one only to a service on this machine.

    Raises:
        InvalidInput: what is given does not go together.
    """

    tls: bool = False
    """Encrypt, and trust whom this machine trusts."""
    tls_ca_file: str | Path | None = None
    """Encrypt, and trust whoever has a certificate of one of these authorities, in PEM, instead."""
    tls_cert_file: str | Path | None = None
    """Who this client is: a certificate and the ones between it and the authority, in PEM. The service must know it."""
    tls_key_file: str | Path | None = None
    """The certificate's private key, in PEM, not encrypted."""
    tls_server_name: str | None = None
    """The name that must be in the service's certificate; that of the target when not given."""
    token: str | None = field(default=None, repr=False)
    """Who this client is: an API token or a JWT."""
    token_file: str | Path | None = None
    """The same, in a file that is read again whenever it has changed."""

    def __post_init__(self) -> None:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            given, missing = "tls_cert_file", "tls_key_file"
            if self.tls_cert_file is None:
                given, missing = missing, given
            raise InvalidInput.at(missing, f"expected beside {given}: a certificate and its key go together")
        if self.token is not None and self.token_file is not None:
            raise InvalidInput.at("token", "expected either token or token_file, found both")
        if self.token is not None:
            _well_formed(self.token, "token", "it")

    @property
    def encrypted(self) -> bool:
        """Whether the connection is encrypted."""
        wanted = (self.tls_ca_file, self.tls_cert_file, self.tls_server_name)
        return self.tls or any(value is not None for value in wanted)

    def files(self) -> FilesState:
        """The state of all files. Blocks for as long as the file system takes to tell."""
        return (*self.tls_files(), *_files_state(self.token_file))

    def tls_files(self) -> FilesState:
        """The state of those for TLS, which a channel keeps as it read them: a token's it reads again. As `files`."""
        return _files_state(self.tls_ca_file, self.tls_cert_file, self.tls_key_file)

    def for_channel(self, target: str) -> ForChannel:
        """What gRPC makes a channel to `target` (`host:port`) of. Reads the files.

        Raises:
            InvalidInput: a file cannot be read, is not what it must be, or a token would be sent for all to read.
        """
        caller = self._caller()
        if not self.encrypted:
            if caller is None:
                return ForChannel()
            if not _is_loopback(target):
                raise InvalidInput.at(
                    "token",
                    f"a token is not sent to {target} without encryption, since whoever is on the way could read it and"
                    " use it. Give tls_ca_file, or tls for an authority that this machine trusts",
                )
            # They hold for connections within this machine only, whatever the target's name resolves to.
            return ForChannel(grpc.composite_channel_credentials(grpc.local_channel_credentials(), caller))
        channel = self._tls()
        named = (("grpc.ssl_target_name_override", self.tls_server_name),) if self.tls_server_name is not None else ()
        return ForChannel(channel if caller is None else grpc.composite_channel_credentials(channel, caller), named)

    def _tls(self) -> grpc.ChannelCredentials:
        roots = chain = key = None
        if self.tls_ca_file is not None:
            roots = _pem("tls_ca_file", Path(self.tls_ca_file), _check_authorities)
        if self.tls_cert_file is not None and self.tls_key_file is not None:
            chain = _pem("tls_cert_file", Path(self.tls_cert_file))
            key = _pem("tls_key_file", Path(self.tls_key_file))
            _check_pair(Path(self.tls_cert_file), Path(self.tls_key_file))
        return grpc.ssl_channel_credentials(roots, key, chain)

    def _caller(self) -> grpc.CallCredentials | None:
        if self.token is not None:
            return grpc.access_token_call_credentials(self.token)
        if self.token_file is not None:
            return grpc.metadata_call_credentials(_TokenOfFile(Path(self.token_file)))
        return None


class _TokenOfFile(grpc.AuthMetadataPlugin):
    """Has gRPC send the token in a file, as it is when a call begins. gRPC asks in any thread."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput: there is no token in it."""
        self._path = path
        self._known = (_file_state(path), _token(path))

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:  # noqa: ARG002 -- as gRPC calls it
        """Tells gRPC the metadata."""
        callback((("authorization", f"Bearer {self._newest()}"),), None)

    def _newest(self) -> str:
        state = _file_state(self._path)
        if state != self._known[0]:
            try:
                self._known = (state, _token(self._path))
            except InvalidInput as error:  # whoever replaces it may not be done: the last token may still be good
                _log.warning("going on with the token read before: %s", error.message)
        return self._known[1]


def _files_state(*paths: str | Path | None) -> FilesState:
    return tuple(None if path is None else _file_state(Path(path)) for path in paths)


def _file_state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput.at(name, f"{path} cannot be read: {error.strerror or error}") from error


def _token(path: Path) -> str:
    token = _read("token_file", path).decode("utf-8", "replace").strip()
    _well_formed(token, "token_file", str(path))
    return token


def _well_formed(token: str, name: str, where: str) -> None:
    """Refuses what cannot be a token, without showing it: gRPC would say something else about it."""
    if not token:
        raise InvalidInput.at(name, f"{where} is empty; expected a token")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInput.at(name, f"{where} holds no token: expected one word of printable ASCII")


def _pem(name: str, path: Path, check: Callable[[bytes], None] | None = None) -> bytes:
    """The bytes of a file in PEM. What gRPC says of one that is none is only that it failed."""
    pem = _read(name, path)
    try:
        if b"-----BEGIN " not in pem:
            raise InvalidInput.at(name, f"{path} is not in PEM: expected a line -----BEGIN …-----")
        if check is not None:
            check(pem)
    except ssl.SSLError as error:
        raise InvalidInput.at(name, f"{path} holds no certificate that can be used: {_reason(error)}") from error
    return pem


def _check_authorities(pem: bytes) -> None:
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii", "ignore"))


def _check_pair(certificate: Path, key: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # without it OpenSSL asks the terminal
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = f"{key} is not the key of the certificate in {certificate}"
        else:
            text = f"{key} and the certificate in {certificate} cannot be used: {_reason(error)}"
            text += ". Expected PEM, the key not encrypted"
        raise InvalidInput.at("tls_key_file", text) from error
    except OSError as error:  # replaced since it was read
        raise InvalidInput.at("tls_key_file", f"{key} cannot be read: {error.strerror or error}") from error


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or error.strerror or str(error)).lower().replace("_", " ")


def _is_loopback(target: str) -> bool:
    host = target.removeprefix("dns:///").rpartition(":")[0].removeprefix("[").removesuffix("]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
