"""Tokens and JWTs for tests, and clients that show them."""

import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import grpc.aio
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.support.rpc import Client

ISSUER: Final = "https://id.example"
AUDIENCE: Final = "epistream"


class Issuer:
    """Issues JWTs, as an identity provider does."""

    def __init__(self, key_id: str = "one") -> None:
        self.key_id = key_id
        self.key = ec.generate_private_key(ec.SECP256R1())

    def public_key(self) -> dict[str, Any]:
        """As a JSON Web Key."""
        return ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True) | {"kid": self.key_id, "alg": "ES256"}

    def token(self, roles: Sequence[str], *, seconds: float = 600, **claims: object) -> str:
        """A token that is valid for so long, with other claims where they are given; None leaves one out."""
        now = time.time()
        said: dict[str, object] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "tester",
            "iat": now,
            "exp": now + seconds,
            "epistream_roles": list(roles),
        }
        kept = {name: value for name, value in (said | claims).items() if value is not None}
        return jwt.encode(kept, self.key, algorithm="ES256", headers={"kid": self.key_id})


def rsa_pair(key_id: str) -> tuple[rsa.RSAPrivateKey, dict[str, Any]]:
    """A private key, and its public half as a JSON Web Key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key, RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": key_id}


def hash_of(token: str) -> str:
    """What an access file holds of a token; written out here, so that a change of it breaks a test."""
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


@asynccontextmanager
async def client_with(
    address: str, credentials: grpc.ChannelCredentials, token: str | None = None, *options: tuple[str, int]
) -> AsyncIterator[Client]:
    """A client over TLS that shows a token with each call."""
    if token is not None:
        shown = grpc.access_token_call_credentials(token)
        credentials = grpc.composite_channel_credentials(credentials, shown)
    channel = grpc.aio.secure_channel(address, credentials, options)
    try:
        yield Client(channel)
    finally:
        await channel.close()
