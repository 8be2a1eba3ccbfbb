"""JWTs: which keys sign them, and what a valid one says."""

import hashlib
import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import jwt
from pydantic import BaseModel, ConfigDict, Field

from epistream.services.security.files import Watched
from epistream.wire.errors import InvalidInput

TOKEN_CHARACTERS_MAX: Final = 8 * 1024
"""Of a JWT. gRPC takes 16 KiB of metadata in all; the issuers' own limits are lower."""
SUBJECT_CHARACTERS_MAX: Final = 200
_REMEMBERED: Final = 10_000
"""How many valid tokens are remembered, so that each is verified once and not at every call (30 to 150 us)."""

# Only with keys of which the public half suffices here: a service that could be read must not be able to sign.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class JwtSettings(BaseModel):
    """Whose JWTs are believed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1)
    """The claim `iss`, exactly."""
    audience: str = Field(min_length=1)
    """One of the claim `aud`."""
    keys_file: Path
    """A JSON Web Key Set (RFC 7517), relative to the access file. To rotate: add a key, later take the old one out."""
    algorithms: tuple[Algorithm, ...] = Field(("RS256", "ES256", "EdDSA"), min_length=1)
    roles_claim: str = Field("epistream_roles", min_length=1)
    """The claim with the names of roles. Names that the access file lacks grant nothing."""
    leeway_seconds: float = Field(10.0, ge=0, le=300)
    """How far the issuer's clock may be off."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says."""

    subject: str
    roles: tuple[str, ...]
    expires_at: float
    """Unix time in seconds."""


class Verifier:
    """Verifies tokens with the keys of one reading of the key file. Used on the event loop's thread only."""

    def __init__(self, settings: JwtSettings, keys: jwt.PyJWKSet) -> None:
        """Use `read`."""
        self._settings, self._keys = settings, keys
        self._valid: OrderedDict[bytes, Claims] = OrderedDict()

    @classmethod
    def read(cls, settings: JwtSettings, folder: Path, watched: Watched) -> "Verifier":
        """With the keys of the file, which is relative to `folder`, read through `watched`. Blocks.

        Raises:
            InvalidInput: the file cannot be read, or holds no usable key.
        """
        path = folder / settings.keys_file
        try:
            read = json.loads(watched.read(path))
            keys = jwt.PyJWKSet.from_dict(read if isinstance(read, dict) else {})
        except Exception as error:  # whatever a file makes of the library, it is no key set
            raise InvalidInput.at("jwt.keys_file", f"{path} cannot be read as a JSON Web Key Set: {error}") from error
        if any("d" in key for key in read["keys"] if isinstance(key, dict)):
            raise InvalidInput.at("jwt.keys_file", f"{path} holds a private key (d): give public keys only")
        if any(key.key_type == "oct" for key in keys.keys):
            raise InvalidInput.at("jwt.keys_file", f"{path} holds a secret key (oct): give public keys only")
        return cls(settings, keys)

    def claims(self, token: str) -> Claims | None:
        """What a token says; None when it is not valid now, for whatever reason: callers are told no more."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._valid.get(digest)
        if known is None:
            known = self._verified(token)
            if known is not None:
                self._valid[digest] = known
                if len(self._valid) > _REMEMBERED:
                    self._valid.popitem(last=False)
        return known if known is not None and time.time() < known.expires_at else None

    def _verified(self, token: str) -> Claims | None:
        if len(token) > TOKEN_CHARACTERS_MAX:
            return None
        settings = self._settings
        try:
            decoded = jwt.decode(
                token,
                self._key(jwt.get_unverified_header(token)),
                algorithms=list(settings.algorithms),
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=settings.leeway_seconds,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            expires_at = float(decoded["exp"]) + settings.leeway_seconds
        except Exception:  # noqa: BLE001 - whatever a token makes of the library, it is not valid
            return None
        if not 1 <= len(decoded["sub"]) <= SUBJECT_CHARACTERS_MAX:
            return None
        roles = decoded.get(settings.roles_claim, ())
        named = (roles,) if isinstance(roles, str) else tuple(r for r in _listed(roles) if isinstance(r, str))
        return Claims(decoded["sub"], named, expires_at)

    def _key(self, header: dict[str, Any]) -> jwt.PyJWK:
        """The key that a token names; of a set with one key that one, where the token names none."""
        if "kid" in header:
            return self._keys[header["kid"]]
        [only] = self._keys.keys  # raises ValueError where there are more
        return only


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
