"""A service with TLS, an access file and an audit file, and the principals of the tests of who may do what."""

import asyncio
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.support.certificates import Authority
from tests.support.security import AUDIENCE, ISSUER, Issuer, client_with, hash_of
from tests.support.service import RunningService, running_service

PATIENCE_SECONDS: Final = 20.0
VERBS: Final = ("read", "write", "review", "watch", "admin")
NAMESPACES: Final = ("a", "b")

LIMITS: Final = {
    "lasting": "",
    "small": "message_bytes = 200",
    "seldom": "submissions_per_second = 0.001",
    "hasty": "calls_per_second = 0.001",
    "weighty": "bytes_per_second = 0.001",
    "single": "calls = 1",
    "narrow": "in_hand_bytes = 1",
    "careless": "",
}
"""Who has the role `lasting`, and within which limit."""


def lasting(name: str) -> str:
    """A principal of LIMITS in an access file."""
    return f"""
[principals.{name}]
roles = ["lasting"]
token_hashes = ["{hash_of(name)}"]
limits = {{ {LIMITS[name]} }}
"""


ACCESS: Final = f"""
[jwt]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
keys_file = "keys.json"
leeway_seconds = 0

[roles.lasting]
verbs = ["read", "write", "watch", "admin"]
namespaces = ["*"]

{"".join(map(lasting, LIMITS))}
[roles.ward]
verbs = ["watch"]
namespaces = ["a"]
consumers = ["ward-*"]

[principals.ward]
roles = ["ward"]
token_hashes = ["{hash_of("ward")}"]

[roles.all]
verbs = ["read", "write", "review", "watch", "admin", "monitor"]
namespaces = ["*"]

[principals.root]
roles = ["all"]
token_hashes = ["{hash_of("root")}"]

[roles.monitor-a]
verbs = ["monitor"]
namespaces = ["a", "b*"]

[principals.monitor-a]
roles = ["monitor-a"]
token_hashes = ["{hash_of("monitor-a")}"]

[roles.reviewers]
verbs = ["review"]
namespaces = ["a"]
origins = ["COLLABORATIVE"]
producers = ["dr-*"]

[principals.reviewer]
roles = ["reviewers"]
token_hashes = ["{hash_of("reviewer")}"]

[roles.writers]
verbs = ["write"]
namespaces = ["a"]
producers = ["writer-*"]

[principals.writer]
roles = ["writers"]
token_hashes = ["{hash_of("writer")}"]
""" + "".join(
    f"""
[roles.{verb}-{namespace}]
verbs = ["{verb}"]
namespaces = ["{namespace}"]

[principals.{verb}-{namespace}]
roles = ["{verb}-{namespace}"]
token_hashes = ["{hash_of(f"{verb}-{namespace}")}"]
"""
    for verb, namespace in itertools.product(VERBS, NAMESPACES)
)

ROOT_ACCESS: Final = f"""
[roles.all]
verbs = ["read", "write", "watch", "admin", "monitor"]
namespaces = ["*"]

[principals.root]
roles = ["all"]
token_hashes = ["{hash_of("root")}"]
certificates = ["root.example", "root@example", "10.0.0.5", "spiffe://example/root"]
"""
"""Root alone, by a token or by a certificate."""


class Secured:
    """A service with TLS and an access file."""

    def __init__(self, folder: Path, authority: Authority, issuer: Issuer, service: RunningService) -> None:
        self.folder, self.authority, self.issuer, self.service = folder, authority, issuer, service

    def client(self, token: str | None, *options: tuple[str, int]) -> Any:
        """A client that shows a token."""
        return client_with(self.service.address, self.authority.channel_credentials(), token, *options)

    def audit(self) -> list[dict[str, Any]]:
        """The lines of the audit log."""
        return [json.loads(line) for line in (self.folder / "audit.jsonl").read_text().splitlines()]


def start(folder: Path, access: str, environment: Mapping[str, str] | None = None, /, **more: str) -> Iterator[Secured]:
    """One over `folder`, with an access file and more settings by their names, which is stopped in the end.

    `environment` is what its environment has besides this process's.
    """
    authority, issuer = Authority(folder), Issuer()
    (folder / "keys.json").write_text(json.dumps({"keys": [issuer.public_key()]}))
    (folder / "access.toml").write_text(access)
    flags = authority.service_flags() | {
        "access_file": str(folder / "access.toml"),
        "audit_file": str(folder / "audit.jsonl"),
    }
    with running_service(folder / "data", flags | more, environment=environment) as service:
        yield Secured(folder, authority, issuer, service)


def over_tls(authority: Authority, folder: Path, *, mutual: bool = False, **more: str) -> Iterator[RunningService]:
    """A service that knows root alone; `mutual` asks for clients' certificates. With `more` settings."""
    (folder / "access.toml").write_text(ROOT_ACCESS)
    flags = authority.service_flags(mutual=mutual) | {"access_file": str(folder / "access.toml")} | more
    with running_service(folder / "data", flags, health_address="127.0.0.1:0") as service:
        yield service


async def metrics(secured: Secured, token: str | None) -> str:
    """The page, over HTTPS."""
    return await asyncio.to_thread(secured.service.metrics_page, ca=secured.authority.ca_pem, token=token)


def sample(page: str, name: str) -> float:
    """The sum of a metric's samples."""
    lines = (line.rpartition(" ") for line in page.splitlines() if line.startswith(name))
    return sum(float(value) for _, _, value in lines)
