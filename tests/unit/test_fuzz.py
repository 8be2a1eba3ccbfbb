"""Whatever comes from outside gets an answer or an error that says what is wrong. Records: tests/unit/test_decode.py.

`make robustness` runs these, and all other tests of hypothesis, with many more examples: tests/support/fuzzing.py.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from google.protobuf import field_mask_pb2
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from epistream.clients.cli.jsonl import Defaults, read_lines
from epistream.indexer.engine import Engine
from epistream.indexer.feed import Wish
from epistream.indexer.filters import is_empty, matches
from epistream.indexer.index import ExactIndex, Searchable, Unusable, load_snapshot, save_snapshot
from epistream.indexer.index.snapshot import LENGTH_BYTES, MAGIC
from epistream.indexer.paging import REVISION_MAX, page_token
from epistream.indexer.vectors import vector_of
from epistream.services.security.access import Access
from epistream.services.security.files import Watched
from epistream.services.settings import Settings
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from epistream.wire.errors import InvalidInput, NotFound, Resync
from tests.support.knowing import NAMESPACE, commit, open_engine, submission
from tests.support.security import AUDIENCE, ISSUER, Issuer

SOME_BYTES = st.binary(max_size=300)
TEXTS = st.text(max_size=20)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def journaled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with a namespace of ten revisions, of which the last four are retained."""
    engine = open_engine(tmp_path_factory.mktemp("journaled"))
    commit(engine, *(submission(f"Fact {n}.", id=f"s-{n}") for n in range(10)))
    policy = ns_pb.Policy(retained_revisions=4)
    mask = field_mask_pb2.FieldMask(paths=["retained_revisions"])
    engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy, update_mask=mask))
    yield engine
    engine.close()


REASONS = {"EPOCH_MISMATCH", "FUTURE_REVISION", "COMPACTED", "UNKNOWN_NAMESPACE"}


@given(st.one_of(st.just(NAMESPACE), TEXTS), st.one_of(st.integers(0, 12), st.integers(0, 2**64 - 1)), st.data())
def test_any_position_is_gone_on_from_without_a_gap_or_refused(
    journaled: Engine, namespace: str, after: int, data: st.DataObject
) -> None:
    """A position is what a subscriber resumes with: a namespace, a revision and the epoch that it is of."""
    epoch = data.draw(st.one_of(st.sampled_from(["", journaled.epoch]), TEXTS))
    try:
        journaled.feed.check_start(namespace, after, epoch)
    except (Resync, NotFound) as error:
        assert error.reason in REASONS  # noqa: PT017 - either will do
        return
    assert (namespace, epoch in ("", journaled.epoch)) == (NAMESPACE, True)
    changes = sync_pb.Changes.FromString(journaled.feed.replay(namespace, after, Wish()).body).changes
    assert [change.revision for change in changes] == [*range(after + 1, journaled.feed.head(namespace) + 1)]


@given(SOME_BYTES, st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_any_filter_lets_a_version_through_or_not(raw: bytes, attributes: dict[str, str]) -> None:
    try:
        wanted = pb.Filter.FromString(raw)
    except DecodeError:
        wanted = pb.Filter(attributes=attributes)
    knowledge = pb.Knowledge(origin=pb.ORIGIN_EXPERT, attributes=attributes)
    assert matches(wanted, knowledge) in (True, False)
    wish = Wish.of(wanted, include_embeddings=False)
    assert (wish.filter == b"") == is_empty(wanted)
    if wish.filter:
        assert pb.Filter.FromString(wish.filter) == wanted


@given(
    st.one_of(
        TEXTS, st.integers(-5, 2**70).map(str), st.from_regex("[0-9\u0660-\u0669\u00b2+_ -]{1,22}", fullmatch=True)
    )
)
def test_any_page_token_is_a_revision_or_refused(token: str) -> None:
    try:
        assert 0 <= page_token(token) <= REVISION_MAX
    except InvalidInput as error:
        assert error.violations[0].field == "page_token"  # noqa: PT017 - either will do


@given(st.one_of(SOME_BYTES.map(lambda raw: pb.Embedding(float32=raw)), SOME_BYTES))
def test_any_embedding_is_a_unit_vector_or_refused(given_one: pb.Embedding | bytes) -> None:
    try:
        embedding = pb.Embedding.FromString(given_one) if isinstance(given_one, bytes) else given_one
        vector = vector_of(embedding)
    except (DecodeError, InvalidInput):
        return
    assert np.isfinite(vector).all()
    assert abs(np.linalg.norm(vector.astype(np.float64)) - 1) < 1e-3


@given(
    st.one_of(SOME_BYTES, TEXTS.map(str.encode), st.dictionaries(st.sampled_from(sorted(Settings.model_fields)), JSON))
)
def test_any_settings_file_is_taken_or_refused(content: "bytes | dict[str, object]") -> None:
    assert_settings_are_taken_or_refused(content)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"kafka_ca_file": ""}, id="Kafka's authorities in a file without a name"),
        pytest.param(b"\xff", id="not UTF-8"),
    ],
)
def test_a_settings_file_found_by_fuzzing_is_taken_or_refused(content: "bytes | dict[str, object]") -> None:
    assert_settings_are_taken_or_refused(content)


def assert_settings_are_taken_or_refused(content: "bytes | dict[str, object]") -> None:
    raw = content if isinstance(content, bytes) else _toml(content)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "settings.toml"
        path.write_bytes(raw)
        try:
            Settings.load(config=str(path))
        except InvalidInput as error:
            assert "settings" in error.message  # noqa: PT017 - either will do


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Access, str]:
    """An access file that knows an issuer of JWTs, and one of its tokens."""
    folder, issuer = tmp_path_factory.mktemp("access"), Issuer()
    (folder / "keys.json").write_text(json.dumps({"keys": [issuer.public_key()]}))
    named = f'issuer = "{ISSUER}"\naudience = "{AUDIENCE}"\nkeys_file = "keys.json"'
    (folder / "access.toml").write_text(f'[roles.all]\nverbs = ["admin"]\nnamespaces = ["*"]\n[jwt]\n{named}\n')
    return Access.read(folder / "access.toml", Watched()), issuer.token(["all"], seconds=10**6)


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


PARTS = st.one_of(JSON, st.dictionaries(st.sampled_from(["alg", "kid", "typ", "sub", "exp"]), JSON)).map(_part)
TOKENS = st.one_of(st.text(max_size=300), st.lists(PARTS).map(".".join))


@given(TOKENS)
def test_any_token_is_nobodys(known: tuple[Access, str], token: str) -> None:
    access, _ = known
    assert access.of_token(token) is None


@given(st.integers(0, 10**4), st.integers(0, 3), st.text(max_size=3))
def test_a_token_with_other_characters_is_nobodys(
    known: tuple[Access, str], place: int, removed: int, instead: str
) -> None:
    access, good = known
    place %= len(good) + 1
    token = good[:place] + instead + good[place + removed :]
    whose = access.of_token(token)
    if token.rpartition(".")[0] == good.rpartition(".")[0]:  # the last bits of a signature's last character say nothing
        assert whose in (None, access.of_token(good))
    else:
        assert whose is None


def _toml(values: dict[str, object]) -> bytes:
    """Some TOML; where a value has no form there, it is what a person might write."""
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items()).encode()


@given(st.lists(st.one_of(SOME_BYTES, JSON.map(lambda value: json.dumps(value).encode())), max_size=5))
def test_any_lines_are_submissions_or_say_what_is_wrong(lines: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "facts.jsonl"
        path.write_bytes(b"\n".join(lines))
        for line in read_lines(str(path), Defaults(namespace="n", producer="p", origin="EXPERT")):
            assert (line.submission is None) == bool(line.error)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An index snapshot of three versions."""
    searchable = Searchable(ExactIndex(4))
    return save_snapshot(searchable, tmp_path_factory.mktemp("saved"), epoch="e", namespace=1).read_bytes()


@given(st.one_of(JSON, st.dictionaries(st.sampled_from(["count", "label_count", "revision", "producer_names"]), JSON)))
def test_any_header_of_an_index_snapshot_is_used_or_not_even_with_the_right_digest(
    saved: bytes, header: object
) -> None:
    assert isinstance(loaded_with(saved, header), Searchable | Unusable)


@pytest.mark.parametrize("header", [{"count": 5}, []], ids=["does not add up", "no table"])
def test_a_header_of_an_index_snapshot_found_by_fuzzing_is_not_used(saved: bytes, header: object) -> None:
    assert isinstance(loaded_with(saved, header), Unusable)


def loaded_with(saved: bytes, header: object) -> Searchable | Unusable | None:
    """What is made of a snapshot with another header and the digest for it."""
    start = len(MAGIC) + LENGTH_BYTES
    length = int.from_bytes(saved[len(MAGIC) : start], "little")
    right = json.loads(saved[start : start + length])
    changed = json.dumps(right | header if isinstance(header, dict) else header).encode()
    body = MAGIC + len(changed).to_bytes(LENGTH_BYTES, "little") + changed + saved[start + length : -32]
    with TemporaryDirectory() as folder:
        (Path(folder) / "1.index").write_bytes(body + hashlib.sha256(body).digest())
        return load_snapshot(Path(folder), ExactIndex(4), epoch="e", namespace=1, head_revision=9)
