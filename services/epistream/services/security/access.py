"""Who may do what: the access file, read into one frozen value. Pure but for reading files.

```toml
[roles.reader]
verbs = ["read", "watch"]
namespaces = ["pharmacy", "public.*"]          # a `*` at the end stands for any rest
consumers = ["advisor"]                        # in whose name it may subscribe; anybody's when absent

[roles.generator]
verbs = ["write"]
namespaces = ["pharmacy"]
origins = ["SYNTHETIC"]                        # what it may say its submissions are; all when absent
producers = ["writer-*"]                       # in whose name it may submit; anybody's when absent

[principals.advisor]
roles = ["reader"]
token_hashes = ["sha256:…"]                    # of `epistream access token`
certificates = ["advisor.models.example"]      # a name of its client certificate
limits = { calls_per_second = 200, streams = 10 }

[limits]                                       # of each principal that has none of its own
calls_per_second = 1000

[jwt]
issuer = "https://id.example"
audience = "epistream"
keys_file = "jwks.json"                        # beside this file; read again when it changes
```

What no role grants is denied. docs/security.md explains each field.
"""

import enum
import hashlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from epistream.services.security.files import Watched
from epistream.services.security.keys import Claims, JwtSettings, Verifier
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import FieldViolation, InvalidInput, in_words

JWT_PREFIX: Final = "jwt:"
"""What the principals of JWTs begin with; the subject follows."""
HASH_PREFIX: Final = "sha256:"
ANYBODY: Final = "anybody"
"""The principal of every caller where there is no access file."""
_ORIGIN: Final = "ORIGIN_"


class Verb(enum.StrEnum):
    """What can be done in a namespace."""

    READ = "read"
    """Get, search, history, diff."""
    WRITE = "write"
    """Submit and retract."""
    REVIEW = "review"
    """See what is held, decide it, and resolve conflicts."""
    WATCH = "watch"
    """Subscribe, and see who has applied what."""
    ADMIN = "admin"
    """Make namespaces, change their policies, take backups."""
    MONITOR = "monitor"
    """Read the metrics, which are of all namespaces: granted in all or not at all."""


EVERY_VERB: Final = frozenset(Verb)
Pattern = Annotated[str, StringConstraints(pattern=r"^[^*]*\*?$", min_length=1)]
"""A name, or the beginning of names and `*`."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Model):
    """What one principal may use at most; None for no bound of its own."""

    calls_per_second: float | None = Field(None, gt=0)
    """Calls begun. A second's worth may come at once."""
    submissions_per_second: float | None = Field(None, gt=0)
    bytes_per_second: float | None = Field(None, gt=0)
    """Of requests that submit."""
    message_bytes: int | None = Field(None, gt=0)
    """The largest request, or message of a stream."""
    in_hand_bytes: int | None = Field(None, gt=0)
    """Of its requests that are worked on at one time. One larger request is worked on alone."""
    calls: int | None = Field(None, gt=0)
    """Unary calls open at one time: WaitApplied may last."""
    streams: int | None = Field(None, gt=0)
    """Open at one time. A subscription that is not read holds up to 4 MiB."""


NO_LIMITS: Final = Limits.model_validate({})


class Role(_Model):
    """Verbs in namespaces."""

    verbs: frozenset[Verb] = Field(min_length=1)
    namespaces: tuple[Pattern, ...] = Field(min_length=1)
    origins: tuple[str, ...] | None = None
    """Names of Origin without their prefix."""
    producers: tuple[Pattern, ...] | None = None
    consumers: tuple[Pattern, ...] | None = None

    @model_validator(mode="after")
    def _origins_exist(self) -> "Role":
        known = [name.removeprefix(_ORIGIN) for name, number in pb.Origin.items() if number]
        for origin in self.origins or ():
            if origin not in known:
                raise ValueError(f"origins: expected some of {', '.join(known)}, found {origin!r}")
        return self

    def grants(self, verbs: frozenset[Verb], namespace: str) -> bool:
        """Whether it grants one of `verbs` in a namespace."""
        return not verbs.isdisjoint(self.verbs) and _fits(namespace, self.namespaces)

    def grants_everywhere(self, verbs: frozenset[Verb]) -> bool:
        """Whether it grants one of `verbs` in all namespaces, those to come among them."""
        return not verbs.isdisjoint(self.verbs) and "*" in self.namespaces

    def grants_submission(self, namespace: str, origin: int, producer: str) -> bool:
        """Whether it grants to submit with this origin in this producer's name."""
        return (
            self.grants(_WRITE, namespace)
            and (self.origins is None or origin_name(origin) in self.origins)
            and (self.producers is None or _fits(producer, self.producers))
        )

    def grants_review(self, namespace: str, origin: int, reviewer: str) -> bool:
        """Whether it grants to decide with this origin in this reviewer's name."""
        return (
            self.grants(_REVIEW, namespace)
            and (self.origins is None or origin_name(origin) in self.origins)
            and (self.producers is None or _fits(reviewer, self.producers))
        )

    def grants_subscription(self, namespace: str, consumer: str) -> bool:
        """Whether it grants to subscribe in this consumer's name."""
        return self.grants(_WATCH, namespace) and (self.consumers is None or _fits(consumer, self.consumers))

    def grants_names(self, namespace: str, producer: str) -> bool:
        """Whether it grants to submit something with these names; an empty one is none and may be any."""
        return (
            not _WRITE.isdisjoint(self.verbs)
            and (not namespace or _fits(namespace, self.namespaces))
            and (not producer or self.producers is None or _fits(producer, self.producers))
        )


_WRITE: Final = frozenset((Verb.WRITE,))
_REVIEW: Final = frozenset((Verb.REVIEW,))
_WATCH: Final = frozenset((Verb.WATCH,))


class _Principal(_Model):
    roles: tuple[str, ...] = ()
    token_hashes: tuple[Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")], ...] = ()
    certificates: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = ()
    limits: Limits | None = None


class _File(_Model):
    roles: Mapping[str, Role] = Field(default_factory=dict)
    principals: Mapping[Annotated[str, StringConstraints(min_length=1)], _Principal] = Field(default_factory=dict)
    limits: Limits = NO_LIMITS
    jwt: JwtSettings | None = None

    @model_validator(mode="after")
    def _names_exist(self) -> "_File":
        seen: dict[str, str] = {}
        for name, principal in self.principals.items():
            if name.startswith(JWT_PREFIX):
                raise ValueError(f"principals.{name}: names that begin with {JWT_PREFIX} are those of JWTs")
            for role in principal.roles:
                if role not in self.roles:
                    raise ValueError(f"principals.{name}.roles: there is no role {role!r}")
            for proof in (*principal.token_hashes, *principal.certificates):
                if proof in seen:
                    raise ValueError(f"principals.{name}: {proof} already stands for {seen[proof]}")
                seen[proof] = name
        return self


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody, proven, and what they may do."""

    name: str
    roles: tuple[Role, ...]
    limits: Limits
    expires_at: float | None = None
    """Until when the proof holds, as Unix time in seconds; None for as long as the access file says so."""

    def may(self, verbs: frozenset[Verb], namespace: str) -> bool:
        """Whether a role grants one of `verbs` in a namespace."""
        return any(role.grants(verbs, namespace) for role in self.roles)

    def may_everywhere(self, verbs: frozenset[Verb]) -> bool:
        """Whether a role grants one of `verbs` in all namespaces."""
        return any(role.grants_everywhere(verbs) for role in self.roles)

    def may_submit(self, namespace: str, origin: int, producer: str) -> bool:
        """Whether a role grants to submit with this origin in this producer's name."""
        return any(role.grants_submission(namespace, origin, producer) for role in self.roles)

    def may_review(self, namespace: str, origin: int, reviewer: str) -> bool:
        """Whether a role grants to decide with this origin in this reviewer's name."""
        return any(role.grants_review(namespace, origin, reviewer) for role in self.roles)

    def may_subscribe(self, namespace: str, consumer: str) -> bool:
        """Whether a role grants to subscribe in this consumer's name."""
        return any(role.grants_subscription(namespace, consumer) for role in self.roles)

    def may_name(self, namespace: str, producer: str) -> bool:
        """Whether a role grants to submit something with these names; an empty one is none and may be any."""
        return any(role.grants_names(namespace, producer) for role in self.roles)


_ALL: Final = Role(verbs=EVERY_VERB, namespaces=("*",))
_ANYBODY: Final = Principal(ANYBODY, (_ALL,), NO_LIMITS)


class Access:
    """An access file as it was when it was read; or, without one, leave for anybody to do anything."""

    def __init__(self, file: _File | None, verifier: Verifier | None) -> None:
        """Use `read` or `unguarded`."""
        self._file, self._verifier = file, verifier
        self._by_proof: dict[str, Principal] = {}
        self.principals: Final[dict[str, Principal]] = {}
        """Those that the file names, by name."""
        if file is not None:
            for name, principal in file.principals.items():
                made = Principal(name, self._roles(principal.roles), principal.limits or file.limits)
                self.principals[name] = made
                for proof in (*principal.token_hashes, *map(_certificate_key, principal.certificates)):
                    self._by_proof[proof] = made

    @classmethod
    def unguarded(cls) -> "Access":
        """Nobody is asked who they are."""
        return cls(None, None)

    @classmethod
    def read(cls, path: Path, watched: Watched) -> "Access":
        """The access file at `path`, and the keys it names, read through `watched`. Blocks.

        Raises:
            InvalidInput: a file cannot be read, or is wrong.
        """
        try:
            parsed = _File.model_validate(tomllib.loads(watched.read(path).decode()))
        except ValidationError as error:
            violations = [FieldViolation(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
            listed = "; ".join(map(in_words, violations))
            raise InvalidInput(f"the access file {path} is wrong: {listed}", *violations) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            raise InvalidInput(f"the access file {path} cannot be read: {error}") from error
        return cls(parsed, Verifier.read(parsed.jwt, path.parent, watched) if parsed.jwt is not None else None)

    @property
    def guarded(self) -> bool:
        """Whether callers must say who they are."""
        return self._file is not None

    @property
    def unproven(self) -> Sequence[str]:
        """The principals that nobody can be: the file gives them neither tokens nor certificates."""
        proven = {principal.name for principal in self._by_proof.values()}
        return sorted(self.principals.keys() - proven)

    def of_token(self, token: str) -> Principal | None:
        """Whose token this is: an API token of the file or a JWT; None for nobody's that is valid now."""
        if self._file is None:
            return _ANYBODY
        known = self._by_proof.get(token_hash(token))
        if known is not None or self._verifier is None:
            return known
        claims = self._verifier.claims(token)
        return self._of_claims(claims) if claims is not None else None

    def of_certificate(self, names: Iterable[str]) -> Principal | None:
        """Whose client certificate has one of these names; None for nobody's."""
        if self._file is None:
            return _ANYBODY
        found = (self._by_proof.get(_certificate_key(name)) for name in names)
        return next((principal for principal in found if principal is not None), None)

    def of_nobody(self) -> Principal | None:
        """Who somebody without credentials is."""
        return _ANYBODY if self._file is None else None

    def _of_claims(self, claims: Claims) -> Principal:
        assert self._file is not None  # noqa: S101 - only then is there a verifier
        known = [name for name in claims.roles if name in self._file.roles]
        return Principal(f"{JWT_PREFIX}{claims.subject}", self._roles(known), self._file.limits, claims.expires_at)

    def _roles(self, names: Iterable[str]) -> tuple[Role, ...]:
        assert self._file is not None  # noqa: S101 - as above
        return tuple(self._file.roles[name] for name in names)


def token_hash(token: str) -> str:
    """What the access file holds of an API token.

    One round of SHA-256 is enough: these tokens are 256 random bits, which nobody finds by trying. Looking a hash up
    takes a time that tells nothing of the token.
    """
    return HASH_PREFIX + hashlib.sha256(token.encode()).hexdigest()


def _certificate_key(name: str) -> str:
    return f"certificate:{name}"


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(name.startswith(p[:-1]) if p.endswith("*") else name == p for p in patterns)


def origin_name(origin: int) -> str:
    """`EXPERT` for ORIGIN_EXPERT; the number where it has no name."""
    return pb.Origin.Name(origin).removeprefix(_ORIGIN) if origin in pb.Origin.values() else str(origin)  # type: ignore[arg-type]
