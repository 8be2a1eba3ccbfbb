"""Whatever an access file, a key set or a token that is rightly signed says, it is taken or refused, and told how."""

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epistream.services.security.access import Access, Verb
from epistream.services.security.files import Watched
from epistream.wire.errors import InvalidInput
from tests.support.security import AUDIENCE, ISSUER, Issuer, hash_of

SOME_BYTES = st.binary(max_size=300)
TEXTS = st.text(max_size=12)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.integers(10**400, 10**401), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)
NAMED = f'issuer = "{ISSUER}"\naudience = "{AUDIENCE}"\nkeys_file = "keys.json"'
ISSUED = Issuer()
KEY = ISSUED.public_key()


def nearly(right: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """What stands there, or anything."""
    return st.one_of(right, right, JSON)


patterns = st.lists(st.sampled_from(["a", "a*", "*", "", "a*b", "**"]), max_size=2)
roles = st.fixed_dictionaries(
    {"verbs": nearly(st.lists(st.sampled_from(list(Verb)), max_size=2)), "namespaces": nearly(patterns)},
    optional={
        "origins": nearly(st.lists(st.sampled_from(["EXPERT", "SYNTHETIC", "UNSPECIFIED", ""]), max_size=2)),
        "producers": nearly(patterns),
        "consumers": nearly(patterns),
    },
)
limits = st.dictionaries(
    st.sampled_from(["calls_per_second", "streams", "message_bytes"]), nearly(st.floats(-1, 10)), max_size=2
)
principals = st.fixed_dictionaries(
    {"roles": nearly(st.lists(st.sampled_from(["all", "none"]), max_size=2))},
    optional={
        "token_hashes": nearly(st.lists(st.sampled_from([hash_of("a"), hash_of("b"), "sha256:0"]), max_size=2)),
        "certificates": nearly(st.lists(st.sampled_from(["", "a.example"]), max_size=2)),
        "limits": nearly(limits),
    },
)
files = st.fixed_dictionaries(
    {},
    optional={
        "roles": nearly(st.dictionaries(st.sampled_from(["all", ""]), nearly(roles), max_size=2)),
        "principals": nearly(st.dictionaries(st.sampled_from(["ada", "jwt:ada", ""]), nearly(principals), max_size=2)),
        "limits": nearly(limits),
        "jwt": nearly(st.just({"issuer": ISSUER, "audience": AUDIENCE, "keys_file": "keys.json"})),
    },
)


def toml(value: object) -> str:
    """A value as TOML has it in one line; where it has none, as JSON does, which a person might write."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)


@given(st.one_of(SOME_BYTES, files))
def test_any_access_file_is_taken_or_refused(content: bytes | dict[str, object]) -> None:
    raw = content if isinstance(content, bytes) else "\n".join(f"{k} = {toml(v)}" for k, v in content.items()).encode()
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "keys.json").write_text(json.dumps({"keys": [KEY]}))
        (folder / "access.toml").write_bytes(raw)
        try:
            access = Access.read(folder / "access.toml", Watched())
        except InvalidInput as error:
            error.message.encode()
            return
    assert access.of_token("nobody's") is None


key_values = nearly(st.sampled_from(["RSA", "EC", "oct", "OKP", "P-256", "P-521", "sig", "ES256", "AQAB", "AQ==", ""]))
key_names = st.sampled_from(["kty", "crv", "x", "y", "n", "e", "k", "d", "kid", "alg", "use", "key_ops", "x5c"])
keys = st.one_of(
    JSON,
    st.dictionaries(key_names, key_values, max_size=6),
    st.dictionaries(key_names, key_values, max_size=3).map(lambda changed: KEY | changed),
)


@given(st.one_of(SOME_BYTES, JSON.map(json.dumps), st.lists(keys, max_size=3).map(lambda k: json.dumps({"keys": k}))))
def test_any_key_set_is_taken_or_refused(content: bytes | str) -> None:
    assert_key_set_is_taken_or_refused(content)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(json.dumps({"keys": [KEY, 1]}), id="what is no key beside a good one"),
        pytest.param(b'{"keys": {"a": "b"}}', id="no list of keys"),
        pytest.param(b"[" * 2000, id="nested too deep"),
    ],
)
def test_a_key_set_found_by_fuzzing_is_taken_or_refused(content: bytes | str) -> None:
    assert_key_set_is_taken_or_refused(content)


def assert_key_set_is_taken_or_refused(content: bytes | str) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "keys.json").write_bytes(content if isinstance(content, bytes) else content.encode())
        (folder / "access.toml").write_text(f"[jwt]\n{NAMED}\n")
        try:
            access = Access.read(folder / "access.toml", Watched())
        except InvalidInput as error:
            assert error.violations[0].field == "jwt.keys_file"  # noqa: PT017 - either will do
            return
    assert access.of_token("nobody's") is None


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Access:
    """An access file that knows the issuer."""
    folder = tmp_path_factory.mktemp("access")
    (folder / "keys.json").write_text(json.dumps({"keys": [KEY]}))
    (folder / "access.toml").write_text(f'[roles.all]\nverbs = ["admin"]\nnamespaces = ["*"]\n[jwt]\n{NAMED}\n')
    return Access.read(folder / "access.toml", Watched())


claims = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "iat", "nbf", "exp", "epistream_roles", "crit"]),
    st.one_of(JSON, st.lists(st.sampled_from(["all", "none"]))),
)


@given(claims)
def test_any_token_of_the_issuer_is_somebodys_or_nobodys(known: Access, said: dict[str, object]) -> None:
    assert_token_is_somebodys_or_nobodys(known, said)


@pytest.mark.parametrize("expiry", [10**400, float("inf")], ids=["beyond any float", "infinite"])
def test_a_token_with_an_expiry_found_by_fuzzing_is_somebodys_or_nobodys(known: Access, expiry: float) -> None:
    assert_token_is_somebodys_or_nobodys(known, {"exp": expiry})


def assert_token_is_somebodys_or_nobodys(known: Access, said: dict[str, object]) -> None:
    right: dict[str, object] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": 2**33, "epistream_roles": ["all"]}
    body = json.dumps(right | said).encode()
    token = jwt.api_jws.encode(body, ISSUED.key, algorithm="ES256", headers={"kid": ISSUED.key_id})
    whose = known.of_token(token)
    assert whose is None or whose.name.startswith("jwt:")
