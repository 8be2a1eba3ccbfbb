"""embed: every submission gets the vector that its namespace asks for, and equal content is encoded once."""

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from epistream.indexer.decode import decode
from epistream.indexer.embed import (
    ENTRY_BYTES,
    NO_ENCODER,
    Embedder,
    EmbeddingCache,
    embed,
    text_to_embed,
)
from epistream.indexer.engine import Engine
from epistream.indexer.model import Decoded, Embedded, Malformed, NamespaceConfig, Record, record_of
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import Broken, Unavailable
from tests.support.bad_input import BAD_NUMBERS, NAMESPACE, UNFIT_INPUT, BadInput

DIMENSION = 8


class HashEmbedder:
    """A real encoder, of no use for meaning: the direction that a text's SHA-256 gives. It remembers what it was given.

    Attributes:
        calls: the texts of each call.
        gate: encoding waits for it.
        failure: what the next call raises instead.
    """

    def __init__(self, model: str = "hash", dimension: int = DIMENSION, *, ready: bool = True) -> None:
        self.model = model
        self.dimension = dimension
        self.calls: list[list[str]] = []
        self.ahead: list[bool] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.failure: Exception | None = None
        if ready:
            self.gate.set()

    @property
    def ready(self) -> bool:
        return self.gate.is_set()

    def encode(self, texts: Sequence[str], *, ahead: bool = False) -> NDArray[np.float32]:
        self.calls.append(list(texts))
        self.ahead.append(ahead)
        self.entered.set()
        assert self.gate.wait(30)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]
        rows = np.array([np.random.default_rng(seed).standard_normal(self.dimension) for seed in seeds])
        units: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return units


def config(model: str = "hash", dimension: int = DIMENSION, *, accept: bool = True) -> NamespaceConfig:
    return NamespaceConfig(
        number=1,
        name=NAMESPACE,
        encoder=ns_pb.Encoder(model=model, dimension=dimension),
        policy=ns_pb.Policy(near_duplicate_threshold=0.95, accept_producer_embeddings=accept),
        policy_version=1,
    )


def submission(content: str, **fields: object) -> Decoded:
    """A decoded submission with this content."""
    made = pb.Submission(
        namespace=NAMESPACE,
        submission_id="s-1",
        item_id="item-1",
        modality=pb.MODALITY_TEXT,
        content=content,
        provenance=pb.Provenance(producer="ada"),
        **{"origin": pb.ORIGIN_EXPERT, **fields},  # type: ignore[arg-type]
    )
    return decoded(made)


def decoded(made: pb.Submission) -> Decoded:
    outcome = decode(Record(made.SerializeToString(), 0))
    assert isinstance(outcome, Decoded), outcome.violations
    return outcome


def retraction() -> Decoded:
    return decoded(
        pb.Submission(
            namespace=NAMESPACE,
            submission_id="s-1",
            item_id="item-1",
            origin=pb.ORIGIN_EXPERT,
            provenance=pb.Provenance(producer="ada"),
            retraction=True,
        )
    )


def run(
    *batch: Decoded | Malformed,
    embedder: Embedder | None = None,
    namespace: NamespaceConfig | None = None,
    cache: EmbeddingCache | None = None,
    wait: bool = True,
) -> list[Embedded | Malformed]:
    namespaces = {NAMESPACE: namespace if namespace is not None else config()}
    return embed(batch, namespaces, embedder, cache if cache is not None else EmbeddingCache(), wait=wait)


def vector(outcome: Embedded | Malformed) -> NDArray[np.float32]:
    assert isinstance(outcome, Embedded), outcome.violations
    assert outcome.vector is not None
    assert outcome.vector.dtype == np.float32
    assert np.linalg.norm(outcome.vector.astype(np.float64)) == pytest.approx(1, abs=1e-6)
    return outcome.vector


def refusal(outcome: Embedded | Malformed) -> str:
    """Why the embedding was refused."""
    assert isinstance(outcome, Malformed)
    assert (outcome.reason, outcome.namespace, outcome.producer) == (pb.REASON_INVALID, NAMESPACE, "ada")
    assert [violation.field for violation in outcome.violations] == ["embedding"]
    return outcome.violations[0].description


# What fits the namespace.


@pytest.mark.parametrize("bad", [*UNFIT_INPUT, *BAD_NUMBERS], ids=lambda bad: bad.name)
def test_input_that_does_not_fit_the_namespace_is_refused_with_its_path(bad: BadInput) -> None:
    candidate = decode(Record(bad.value, 0))
    [outcome] = run(candidate, embedder=HashEmbedder())
    assert isinstance(outcome, Malformed)
    assert (outcome.reason, tuple(v.field for v in outcome.violations)) == (bad.reason, bad.fields)
    assert (outcome.record, outcome.producer, outcome.submission_id) == (candidate.record, "ada", "s-1")


def test_what_is_malformed_passes_through() -> None:
    malformed = decode(Record(b"\xff", 0))
    assert run(malformed, embedder=HashEmbedder()) == [malformed]


def test_a_producers_vector_is_used_and_scaled() -> None:
    embedder = HashEmbedder()
    [outcome] = run(submission("x", embedding=pb.Embedding(values=[3, 4] + [0] * 6)), embedder=embedder)
    assert vector(outcome)[:2] == pytest.approx([0.6, 0.8])
    assert not embedder.calls


def test_a_vector_of_another_dimension_is_refused_with_both_dimensions() -> None:
    [outcome] = run(submission("x", embedding=pb.Embedding(values=[1, 2, 2])), embedder=HashEmbedder())
    assert refusal(outcome) == "the namespace takes 8 dimensions, this has 3"


def test_a_vector_is_refused_where_producers_may_not_send_one() -> None:
    sent = submission("x", embedding=pb.Embedding(values=[1] * 8))
    [outcome] = run(sent, embedder=HashEmbedder(), namespace=config(accept=False))
    assert "leave it out" in refusal(outcome)


def test_a_namespace_without_encoder_needs_the_producers_vector_whatever_its_policy_says() -> None:
    without, given = submission("x"), submission("x", embedding=pb.Embedding(values=[1] * 8))
    missing, taken = run(without, given, namespace=config(NO_ENCODER, accept=False))
    assert "send 8 dimensions" in refusal(missing)
    vector(taken)


def test_a_namespace_of_another_encoder_is_refused_with_both_names() -> None:
    [outcome] = run(submission("x"), embedder=HashEmbedder("hash"), namespace=config("other"))
    assert "other" in refusal(outcome)
    assert "hash" in refusal(outcome)
    [outcome] = run(submission("x"), embedder=None)
    assert "the service runs none" in refusal(outcome)


def test_a_namespace_made_for_another_dimension_of_the_model_is_refused_alone() -> None:
    embedder = HashEmbedder(dimension=4)
    namespaces = {"old": config(dimension=8), "new": config(dimension=4)}
    batch = [decoded_for(name) for name in namespaces]
    old, new = embed(batch, namespaces, embedder, EmbeddingCache())
    assert isinstance(old, Malformed)
    assert "takes 8 dimensions, the service's encoder hash makes 4" in old.violations[0].description
    assert len(vector(new)) == 4


def decoded_for(namespace: str) -> Decoded:
    made = pb.Submission()
    made.CopyFrom(submission("x").submission)
    made.namespace = namespace
    return decoded(made)


def test_a_retraction_has_no_vector() -> None:
    [outcome] = run(retraction())
    assert isinstance(outcome, Embedded)
    assert outcome.vector is None


def test_answers_come_in_the_order_of_the_batch() -> None:
    malformed = decode(Record(b"\xff", 0))
    batch = [submission("a"), malformed, retraction(), submission("b", embedding=pb.Embedding(values=[1] * 8))]
    batch += [submission("c"), submission("d", embedding=pb.Embedding(values=[1])), submission("a")]
    outcomes = run(*batch, embedder=HashEmbedder())
    assert [record_of(outcome) for outcome in outcomes] == [b.record for b in batch]
    assert [type(outcome) for outcome in outcomes] == [Embedded, Malformed, *[Embedded] * 3, Malformed, Embedded]
    assert vector(outcomes[0]) == pytest.approx(vector(outcomes[6]))


# What is encoded, and how often.


def test_a_batch_goes_through_the_encoder_in_one_call() -> None:
    embedder = HashEmbedder()
    run(*[submission(f"fact {number}") for number in range(50)], embedder=embedder)
    assert [len(texts) for texts in embedder.calls] == [50]


def test_equal_content_is_encoded_once_in_a_batch_and_never_again() -> None:
    embedder, cache = HashEmbedder(), EmbeddingCache()
    first = run(submission("one  fact"), submission(" one\nfact"), submission("two"), embedder=embedder, cache=cache)
    again = run(submission("two"), submission("one fact"), embedder=embedder, cache=cache)
    assert embedder.calls == [["one fact", "two"]]
    assert vector(first[0]) is vector(first[1])
    assert vector(again[0]) is vector(first[2])


def test_equal_content_is_encoded_once_by_threads_that_come_together() -> None:
    embedder, cache = HashEmbedder(ready=False), EmbeddingCache()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(run, submission("a"), submission("b"), embedder=embedder, cache=cache)
        assert embedder.entered.wait(30)
        others = [pool.submit(run, submission("b"), submission("a"), embedder=embedder, cache=cache) for _ in range(7)]
        embedder.gate.set()
        results = [future.result(30) for future in (first, *others)]
    assert embedder.calls == [["a", "b"]]
    assert all(vector(b) is vector(results[0][1]) for b, _ in results[1:])


def test_what_people_say_goes_ahead_where_it_is_all_that_is_encoded() -> None:
    embedder, cache = HashEmbedder(), EmbeddingCache()
    of_a_model = submission("made", origin=pb.ORIGIN_SYNTHETIC)
    run(submission("said"), submission("agreed", origin=pb.ORIGIN_COLLABORATIVE), embedder=embedder, cache=cache)
    run(submission("said, too"), of_a_model, embedder=embedder, cache=cache)
    run(submission("said at last"), of_a_model, embedder=embedder, cache=cache)
    assert embedder.ahead == [True, False, False]


def test_a_question_goes_ahead(tmp_path: Path) -> None:
    embedder = HashEmbedder()
    engine = Engine(tmp_path, embedder)
    engine.namespaces.create(ns_pb.CreateNamespaceRequest(name=NAMESPACE))
    engine.knowledge.search(knowledge_pb.SearchRequest(namespace=NAMESPACE, text="How much?"))
    engine.close()
    assert embedder.ahead == [True]


def test_people_do_not_wait_for_who_is_encoding_the_same_for_a_model() -> None:
    embedder, cache = HashEmbedder(ready=False), EmbeddingCache()
    with ThreadPoolExecutor(3) as pool:
        model = pool.submit(run, submission("a", origin=pb.ORIGIN_SYNTHETIC), embedder=embedder, cache=cache)
        assert embedder.entered.wait(30)
        embedder.entered.clear()
        person = pool.submit(run, submission("a"), embedder=embedder, cache=cache)
        assert embedder.entered.wait(30)
        crawler = pool.submit(run, submission("a", origin=pb.ORIGIN_CRAWLED), embedder=embedder, cache=cache)
        embedder.gate.set()
        [of_model], [of_person], [of_crawler] = (future.result(30) for future in (model, person, crawler))
    assert embedder.calls == [["a"], ["a"]]
    assert vector(of_model) is vector(of_person) is vector(of_crawler)
    assert not cache._encoding


def test_a_failure_of_the_encoder_reaches_every_thread_that_waits_and_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embedder, cache = HashEmbedder(ready=False), EmbeddingCache()
    embedder.failure = Broken("out of memory")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, submission("a"), embedder=embedder, cache=cache)
        assert embedder.entered.wait(30)
        claimed, claim = threading.Event(), cache._claim

        def claiming(*of: Any, ahead: bool) -> Any:
            found = claim(*of, ahead=ahead)
            claimed.set()
            return found

        monkeypatch.setattr(cache, "_claim", claiming)
        [encoding] = cache._encoding.values()
        second = pool.submit(run, submission("a"), embedder=embedder, cache=cache)
        assert claimed.wait(30)
        embedder.gate.set()
        try:
            for each in (first, second):
                with pytest.raises(Broken, match="out of memory"):
                    each.result(30)
        finally:
            encoding.vector.cancel()  # else who is told nothing waits for ever
    [outcome] = run(submission("a"), embedder=embedder, cache=cache)
    vector(outcome)
    assert embedder.calls == [["a"], ["a"]]


def test_the_cache_tells_models_apart() -> None:
    cache = EmbeddingCache()
    [one] = run(submission("a"), embedder=HashEmbedder("hash"), cache=cache)
    [other] = run(submission("a"), embedder=HashEmbedder("rehash", 4), namespace=config("rehash", 4), cache=cache)
    assert (len(vector(one)), len(vector(other))) == (8, 4)


def test_the_cache_keeps_what_was_used_last_within_its_bytes() -> None:
    embedder, cache = HashEmbedder(), EmbeddingCache(bytes_max=2 * (DIMENSION * 4 + ENTRY_BYTES))
    for content in ("a", "b", "a", "c", "a", "b"):
        run(submission(content), embedder=embedder, cache=cache)
    assert embedder.calls == [["a"], ["b"], ["c"], ["b"]]


def test_a_batch_greater_than_the_cache_is_served() -> None:
    embedder, cache = HashEmbedder(), EmbeddingCache(bytes_max=1)
    outcomes = run(submission("a"), submission("b"), submission("a"), embedder=embedder, cache=cache)
    assert vector(outcomes[0]) is vector(outcomes[2])
    assert embedder.calls == [["a", "b"]]


def test_a_vector_that_others_may_hold_cannot_be_written_to() -> None:
    [outcome] = run(submission("a"), embedder=HashEmbedder())
    with pytest.raises(ValueError, match="read-only"):
        vector(outcome)[0] = 5


@pytest.mark.parametrize(
    ("modality", "content", "text"),
    [
        (pb.MODALITY_TEXT, "  Water\n boils. ", "Water boils."),
        (pb.MODALITY_CODE, "if x:\r\n    y()  \n", "if x:\n    y()"),
        (pb.MODALITY_IMAGE, " A\tkettle ", "A kettle"),
    ],
)
def test_the_encoder_is_given_the_canonical_content(modality: pb.Modality.ValueType, content: str, text: str) -> None:
    assert text_to_embed(pb.Submission(modality=modality, content=content)) == text


# While the encoder is loading.


def test_who_does_not_want_to_wait_for_the_encoder_is_told_when_to_come_back() -> None:
    embedder = HashEmbedder(ready=False)
    with pytest.raises(Unavailable) as caught:
        run(submission("a"), embedder=embedder, wait=False)
    assert (caught.value.reason, caught.value.retry_delay_seconds) == ("ENCODER_LOADING", 2)
    assert not embedder.calls


def test_what_needs_no_encoder_does_not_wait_for_it() -> None:
    ready, loading, cache = HashEmbedder(), HashEmbedder(ready=False), EmbeddingCache()
    run(submission("known"), embedder=ready, cache=cache)
    own = submission("own", embedding=pb.Embedding(values=[1] * 8))
    malformed = decode(Record(b"", 0))
    outcomes = run(submission("known"), own, retraction(), malformed, embedder=loading, cache=cache, wait=False)
    assert [type(outcome) for outcome in outcomes] == [Embedded, Embedded, Embedded, Malformed]
    assert not loading.calls


# The encoder, before it is loaded.
