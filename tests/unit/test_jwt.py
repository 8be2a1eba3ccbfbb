"""JWTs: one kind is valid, every other is nobody's."""

import base64
import hmac
import json
import time
from hashlib import sha256
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from epistream.services.security.access import Access
from epistream.services.security.files import Watched
from epistream.services.security.keys import TOKEN_CHARACTERS_MAX
from epistream.wire.errors import InvalidInput
from tests.support.security import AUDIENCE, ISSUER, Issuer, rsa_pair

FILE = f"""
[roles.reader]
verbs = ["read"]
namespaces = ["pharmacy"]

[jwt]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
keys_file = "keys.json"
"""


def access_of(folder: Path, *keys: dict[str, object], text: str = FILE) -> Access:
    (folder / "keys.json").write_text(json.dumps({"keys": keys}))
    (folder / "access.toml").write_text(text)
    return Access.read(folder / "access.toml", Watched())


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def access(tmp_path: Path, issuer: Issuer) -> Access:
    return access_of(tmp_path, issuer.public_key())


def test_a_valid_token_has_the_roles_that_it_names(access: Access, issuer: Issuer) -> None:
    before = time.time()
    principal = access.of_token(issuer.token(["reader", "no-such-role"], seconds=60))
    assert principal is not None
    assert principal.name == "jwt:tester"
    assert len(principal.roles) == 1
    assert principal.expires_at is not None
    assert before + 60 <= principal.expires_at <= time.time() + 71


def test_a_token_without_known_roles_is_somebody_who_may_nothing(access: Access, issuer: Issuer) -> None:
    for roles in ([], ["other"]):
        principal = access.of_token(issuer.token(roles))
        assert principal is not None
        assert principal.roles == ()
    odd = access.of_token(issuer.token([], epistream_roles={"reader": True}))
    assert odd is not None
    assert odd.roles == ()


def test_one_role_may_be_a_text(access: Access, issuer: Issuer) -> None:
    principal = access.of_token(issuer.token([], epistream_roles="reader"))
    assert principal is not None
    assert len(principal.roles) == 1


def unsigned(claims: dict[str, object], **header: object) -> str:
    parts = [{"alg": "none", "typ": "JWT"} | header, claims]
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts) + "."


def signed_with_the_public_key(issuer: Issuer) -> str:
    """The old trick: an HMAC keyed by the public key, hoping that the verifier goes by the header's algorithm."""
    head = unsigned(jwt.decode(issuer.token(["reader"]), options={"verify_signature": False}), alg="HS256", kid="one")
    public = issuer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    digest = hmac.new(public, head[:-1].encode(), sha256).digest()
    return head + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_everything_else_is_nobodys(access: Access, issuer: Issuer) -> None:
    good = issuer.token(["reader"])
    claims = jwt.decode(good, options={"verify_signature": False})
    stranger = Issuer()
    body, other = good.split("."), unsigned(claims | {"sub": "root"}).split(".")[1]
    bad = {
        "expired": issuer.token(["reader"], seconds=-60),
        "not yet": issuer.token(["reader"], nbf=time.time() + 600),
        "another audience": issuer.token(["reader"], aud="other"),
        "another issuer": issuer.token(["reader"], iss="https://evil.example"),
        "issuer with a slash": issuer.token(["reader"], iss=f"{ISSUER}/"),
        "no expiry": issuer.token(["reader"], exp=None),
        "no audience": issuer.token(["reader"], aud=None),
        "no issuer": issuer.token(["reader"], iss=None),
        "no subject": issuer.token(["reader"], sub=None),
        "empty subject": issuer.token(["reader"], sub=""),
        "long subject": issuer.token(["reader"], sub="x" * 201),
        "another key of the same name": stranger.token(["reader"]),
        "an unknown key": Issuer("two").token(["reader"]),
        "alg none": unsigned(claims, kid="one"),
        "alg none without a key": unsigned(claims),
        "alg NONE": unsigned(claims, alg="NONE", kid="one"),
        "public key as a secret": signed_with_the_public_key(issuer),
        "truncated": good[:-10],
        "without signature": ".".join(body[:2]) + ".",
        "other claims under the signature": ".".join((body[0], other, body[2])),
        "two parts": ".".join(body[:2]),
        "five parts": good + ".a.b",
        "empty": "",
        "no JWT": "hello",
        "a NUL": "\0",
        "no ASCII": "ä.ö.ü",
        "oversized": issuer.token(["reader"], padding="x" * TOKEN_CHARACTERS_MAX),
    }
    assert access.of_token(good) is not None
    assert [what for what, token in bad.items() if access.of_token(token) is not None] == []


def test_a_token_that_was_valid_expires(access: Access, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    token = issuer.token(["reader"], seconds=60)
    assert access.of_token(token) is not None
    now = time.time()
    monkeypatch.setattr("epistream.services.security.keys.time.time", lambda: now + 71)
    assert access.of_token(token) is None


def test_keys_rotate(tmp_path: Path) -> None:
    old, new = Issuer("old"), Issuer("new")
    both = access_of(tmp_path, old.public_key(), new.public_key())
    assert both.of_token(old.token([])) is not None
    assert both.of_token(new.token([])) is not None
    later = access_of(tmp_path, new.public_key())
    assert later.of_token(old.token([])) is None
    assert later.of_token(new.token([])) is not None


def test_rsa_works_and_only_with_the_algorithms_of_the_file(tmp_path: Path) -> None:
    key, public = rsa_pair("r")
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "s", "exp": time.time() + 60}
    access = access_of(tmp_path, public)
    assert access.of_token(jwt.encode(claims, key, algorithm="RS256", headers={"kid": "r"})) is not None
    assert access.of_token(jwt.encode(claims, key, algorithm="RS256")) is not None, "the only key needs no name"
    assert access.of_token(jwt.encode(claims, key, algorithm="RS512", headers={"kid": "r"})) is None


def test_a_private_key_is_refused(tmp_path: Path) -> None:
    key, _ = rsa_pair("r")
    private = RSAAlgorithm.to_jwk(key, as_dict=True) | {"kid": "r"}
    with pytest.raises(InvalidInput, match="private key"):
        access_of(tmp_path, private)


@pytest.mark.parametrize(
    "keys",
    [
        '{"keys": []}',
        '{"keys": [{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "s", "alg": "HS256"}]}',
        "{}",
        "[]",
        "no JSON",
    ],
)
def test_a_key_file_that_cannot_be_used_is_named(tmp_path: Path, keys: str) -> None:
    (tmp_path / "keys.json").write_text(keys)
    (tmp_path / "access.toml").write_text(FILE)
    with pytest.raises(InvalidInput, match=r"jwt\.keys_file: .*keys\.json"):
        Access.read(tmp_path / "access.toml", Watched())
