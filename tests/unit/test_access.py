"""The access file: what it grants, what it does not, and what is wrong with it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from epistream.services.security import command
from epistream.services.security.access import ANYBODY, EVERY_VERB, Access, Principal, Verb
from epistream.services.security.files import Watched
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import InvalidInput
from tests.support.security import hash_of

READ, WRITE, ADMIN = frozenset((Verb.READ,)), frozenset((Verb.WRITE,)), frozenset((Verb.ADMIN,))

FILE = f"""
[roles.reader]
verbs = ["read", "watch"]
namespaces = ["pharmacy", "public.*"]

[roles.generator]
verbs = ["write"]
namespaces = ["pharmacy"]
origins = ["SYNTHETIC"]
producers = ["writer-*"]

[roles.follower]
verbs = ["watch"]
namespaces = ["pharmacy"]
consumers = ["ward-*"]

[roles.operator]
verbs = ["admin", "monitor"]
namespaces = ["*"]

[principals.advisor]
roles = ["reader"]
token_hashes = ["{hash_of("advisor's")}", "{hash_of("advisor's next")}"]
certificates = ["advisor.models.example"]
limits = {{ calls_per_second = 5, streams = 2 }}

[principals.writer]
roles = ["reader", "generator"]
token_hashes = ["{hash_of("writer's")}"]

[principals.root]
roles = ["operator"]
token_hashes = ["{hash_of("root's")}"]

[principals.ward]
roles = ["follower", "generator"]
token_hashes = ["{hash_of("ward's")}"]

[principals.nobody]
token_hashes = ["{hash_of("nobody's")}"]

[limits]
calls_per_second = 100
"""


def access_of(folder: Path, text: str) -> Access:
    path = folder / "access.toml"
    path.write_text(text)
    return Access.read(path, Watched())


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return access_of(tmp_path, FILE)


def of_token(access: Access, token: str) -> Principal:
    principal = access.of_token(token)
    assert principal is not None
    return principal


def test_a_token_is_of_one_principal_and_another_of_nobody(access: Access) -> None:
    assert of_token(access, "advisor's").name == "advisor"
    assert of_token(access, "advisor's next").name == "advisor"
    assert of_token(access, "writer's").name == "writer"
    for token in ("", "advisor", "advisor's ", hash_of("advisor's"), "Advisor's"):
        assert access.of_token(token) is None


def test_a_certificate_is_known_by_its_name_and_never_mistaken_for_a_token(access: Access) -> None:
    found = access.of_certificate(["other.example", "advisor.models.example"])
    assert found is not None
    assert found.name == "advisor"
    assert access.of_certificate(["advisor", hash_of("advisor's"), ""]) is None
    assert access.of_token("certificate:advisor.models.example") is None


def test_without_credentials_nobody_is_anybody(access: Access) -> None:
    assert access.guarded
    assert access.of_nobody() is None


def test_without_a_file_anybody_may_do_anything() -> None:
    access = Access.unguarded()
    assert not access.guarded
    for principal in (access.of_nobody(), access.of_token("whatever"), access.of_certificate([])):
        assert principal is not None
        assert principal.name == ANYBODY
        assert principal.may(EVERY_VERB, "any")
        assert principal.may_everywhere(ADMIN)
        assert principal.may_submit("any", pb.ORIGIN_EXPERT, "anyone")
        assert principal.may_subscribe("any", "anyone")


@pytest.mark.parametrize(
    ("token", "verbs", "namespace", "granted"),
    [
        ("advisor's", READ, "pharmacy", True),
        ("advisor's", READ, "public.news", True),
        ("advisor's", READ, "public.", True),
        ("advisor's", READ, "public", False),
        ("advisor's", READ, "pharmacy2", False),
        ("advisor's", READ, "Pharmacy", False),
        ("advisor's", READ, "", False),
        ("advisor's", WRITE, "pharmacy", False),
        ("advisor's", READ | WRITE, "pharmacy", True),
        ("writer's", WRITE, "pharmacy", True),
        ("writer's", WRITE, "public.news", False),
        ("root's", ADMIN, "anything", True),
        ("root's", READ, "anything", False),
        ("nobody's", EVERY_VERB, "pharmacy", False),
    ],
)
def test_a_role_grants_its_verbs_in_its_namespaces(
    access: Access, token: str, verbs: frozenset[Verb], namespace: str, granted: bool
) -> None:
    assert of_token(access, token).may(verbs, namespace) is granted


def test_only_a_star_alone_is_everywhere(access: Access) -> None:
    assert of_token(access, "root's").may_everywhere(ADMIN)
    assert not of_token(access, "root's").may_everywhere(READ)
    assert not of_token(access, "advisor's").may_everywhere(READ)


@pytest.mark.parametrize(
    ("namespace", "origin", "producer", "granted"),
    [
        ("pharmacy", pb.ORIGIN_SYNTHETIC, "writer-7", True),
        ("pharmacy", pb.ORIGIN_EXPERT, "writer-7", False),
        ("pharmacy", pb.ORIGIN_SYNTHETIC, "dr-ada", False),
        ("pharmacy", pb.ORIGIN_SYNTHETIC, "", False),
        ("public.news", pb.ORIGIN_SYNTHETIC, "writer-7", False),
        ("pharmacy", 99, "writer-7", False),
        ("pharmacy", pb.ORIGIN_UNSPECIFIED, "writer-7", False),
    ],
)
def test_a_generator_cannot_pass_for_an_expert(
    access: Access, namespace: str, origin: int, producer: str, granted: bool
) -> None:
    assert of_token(access, "writer's").may_submit(namespace, origin, producer) is granted


@pytest.mark.parametrize(
    ("token", "namespace", "consumer", "granted"),
    [
        ("ward's", "pharmacy", "ward-3", True),
        ("ward's", "pharmacy", "advisor", False),
        ("ward's", "pharmacy", "", False),
        ("ward's", "public.news", "ward-3", False),
        ("advisor's", "pharmacy", "whoever", True),
        ("advisor's", "other", "whoever", False),
        ("root's", "pharmacy", "whoever", False),
    ],
)
def test_a_follower_cannot_pass_for_another(
    access: Access, token: str, namespace: str, consumer: str, granted: bool
) -> None:
    assert of_token(access, token).may_subscribe(namespace, consumer) is granted


def test_limits_are_ones_own_or_everybodys(access: Access) -> None:
    assert of_token(access, "advisor's").limits.calls_per_second == 5
    assert of_token(access, "advisor's").limits.streams == 2
    assert of_token(access, "writer's").limits.calls_per_second == 100
    assert of_token(access, "writer's").limits.streams is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[roles.a]\nverbs = ["fly"]\nnamespaces = ["x"]', "roles.a.verbs"),
        ('[roles.a]\nverbs = []\nnamespaces = ["x"]', "roles.a.verbs"),
        ('[roles.a]\nverbs = ["read"]\nnamespaces = []', "roles.a.namespaces"),
        ('[roles.a]\nverbs = ["read"]', "roles.a.namespaces"),
        ('[roles.a]\nverbs = ["read"]\nnamespaces = ["a*b"]', "roles.a.namespaces"),
        ('[roles.a]\nverbs = ["watch"]\nnamespaces = ["x"]\nconsumers = ["a*b"]', "roles.a.consumers"),
        ('[roles.a]\nverbs = ["write"]\nnamespaces = ["x"]\norigins = ["expert"]', "EXPERT"),
        ('[principals.p]\nroles = ["a"]', "there is no role 'a'"),
        ('[principals.p]\ntoken_hashes = ["secret"]', "principals.p.token_hashes"),
        ('[principals.p]\ntokens = ["secret"]', "principals.p.tokens"),
        ('[principals.p]\ncertificates = ["x"]\n[principals.q]\ncertificates = ["x"]', "already stands for p"),
        ("[limits]\nstreams = 0", "limits.streams"),
        ("[limits]\ncallz = 3", "limits.callz"),
        ("rolls = 1", "rolls"),
        ("[principals.'jwt:ada']", "those of JWTs"),
        ('[jwt]\nissuer = "i"\naudience = "a"\nkeys_file = "no.json"', "jwt.keys_file"),
        ('[jwt]\nissuer = "i"\naudience = "a"\nkeys_file = "k"\nalgorithms = ["HS256"]', "jwt.algorithms"),
        ('[jwt]\nissuer = "i"\naudience = "a"\nkeys_file = "k"\nalgorithms = ["none"]', "jwt.algorithms"),
        ("[roles", "cannot be read"),
        pytest.param(f"rolls = {'[' * 3000}", "cannot be read", id="deep"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=r"access\.toml|jwt\.keys_file") as error:
        access_of(tmp_path, text)
    assert says in error.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no\.toml cannot be read"):
        Access.read(tmp_path / "no.toml", Watched())


def test_an_empty_file_denies_everybody(tmp_path: Path) -> None:
    access = access_of(tmp_path, "")
    assert access.guarded
    assert access.of_nobody() is None
    assert access.of_token("x") is None


def test_who_has_neither_tokens_nor_certificates_is_listed_as_whom_nobody_can_be(tmp_path: Path) -> None:
    path = tmp_path / "access.toml"
    path.write_text(f'{FILE}\n[principals.forgotten]\nroles = ["reader"]\n')
    told = CliRunner().invoke(command.access, ["check", str(path)])
    assert "forgotten, whom nobody can be: no token_hashes, no certificates\n  read watch in pharmacy" in told.output
    assert told.output.count("whom nobody can be") == 1
    as_json = json.loads(CliRunner().invoke(command.access, ["check", str(path), "--json"]).output)
    assert as_json["unproven"] == ["forgotten"]
    assert "forgotten" in as_json["principals"]


@pytest.mark.parametrize(
    ("namespaces", "vain"), [('["*"]', False), ('["pharmacy", "*"]', False), ('["pharmacy*"]', True)]
)
def test_a_role_whose_monitor_grants_nothing_is_listed_so(tmp_path: Path, namespaces: str, vain: bool) -> None:
    path = tmp_path / "access.toml"
    path.write_text(f'[roles.r]\nverbs = ["monitor"]\nnamespaces = {namespaces}\n[principals.p]\nroles = ["r"]\n')
    told = CliRunner().invoke(command.access, ["check", str(path)])
    assert ("monitor grants nothing: it needs *" in told.output) is vain
