"""embed: a submission to its vector, by the namespace's encoder, the cache, or the producer. Blocks for the encoder.

Every vector that leaves here has length one and the namespace's dimension.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.model import Decoded, Embedded, Malformed, NamespaceConfig, Vector
from epistream.indexer.vectors import unit_vectors
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.canonical import canonical_code, canonical_text
from epistream.wire.errors import FieldViolation, Unavailable
from epistream.wire.origins import PEOPLE

NO_ENCODER: Final = "none"
"""The model of a namespace whose producers and readers bring their own vectors."""
CACHE_BYTES_MAX: Final = 64 * 1024 * 1024
"""About 36,000 vectors of 384 dimensions."""
ENTRY_BYTES: Final = 310
"""What an entry of the cache takes beside its numbers: keys, links, array header. Measured with tracemalloc."""
LOADING_RETRY_SECONDS: Final = 2.0

_Key: TypeAlias = tuple[str, bytes]
"""Model and fingerprint."""


class Embedder(Protocol):
    """What turns text into vectors. Thread-safe."""

    @property
    def model(self) -> str:
        """The name that namespaces are bound to."""

    @property
    def dimension(self) -> int:
        """The length of its vectors.

        Raises:
            Unavailable: it is known only when the model is loaded, and it is not yet.
        """

    @property
    def ready(self) -> bool:
        """Whether `encode` starts at once."""

    def encode(self, texts: Sequence[str], *, ahead: bool = False) -> NDArray[np.float32]:
        """One row of length one for each text: (len(texts), dimension), float32. Blocks until the model is loaded.

        Args:
            texts: what to encode.
            ahead: people wait for it: it does not queue behind what waits without.

        Raises:
            Broken: the model cannot be loaded.
        """


class EmbeddingCache:
    """The vectors of the contents seen last, by model and fingerprint: equal content is encoded once. Thread-safe."""

    def __init__(self, bytes_max: int = CACHE_BYTES_MAX) -> None:
        """What it keeps takes at most `bytes_max`; what was used longest ago goes first."""
        self._bytes_max = bytes_max
        self._bytes = 0
        self._vectors: OrderedDict[_Key, Vector] = OrderedDict()
        self._encoding: dict[_Key, _Encoding] = {}
        self._lock = threading.Lock()

    def knows(self, model: str, fingerprints: Iterable[bytes]) -> bool:
        """Whether the vectors of all these contents are here."""
        with self._lock:
            return all((model, fingerprint) in self._vectors for fingerprint in fingerprints)

    def vectors(
        self,
        model: str,
        fingerprints: Iterable[bytes],
        encode: Callable[[Sequence[bytes]], NDArray[np.float32]],
        *,
        ahead: bool = False,
    ) -> dict[bytes, Vector]:
        """The vectors of contents, not to be written to: those that are here, then one call of `encode` for the rest.

        What another thread is encoding now is waited for; but who is `ahead` waits for nobody who is not. Raises what
        `encode` raises, here or there.
        """
        found, own, others = self._claim(model, fingerprints, ahead=ahead)
        if own:
            try:
                found |= self._keep(model, own, encode([*own]))
            except BaseException as error:
                self._give_up(model, own, error)
                raise
        return found | {fingerprint: encoding.vector.result() for fingerprint, encoding in others.items()}

    def _claim(
        self, model: str, fingerprints: Iterable[bytes], *, ahead: bool
    ) -> tuple[dict[bytes, Vector], dict[bytes, "_Encoding"], dict[bytes, "_Encoding"]]:
        found, own, others = {}, {}, {}
        with self._lock:
            for fingerprint in dict.fromkeys(fingerprints):
                key = (model, fingerprint)
                encoding = self._encoding.get(key)
                if key in self._vectors:
                    self._vectors.move_to_end(key)
                    found[fingerprint] = self._vectors[key]
                elif encoding is not None and (encoding.ahead or not ahead):
                    others[fingerprint] = encoding
                else:
                    own[fingerprint] = self._encoding[key] = _Encoding(ahead)
        return found, own, others

    def _keep(self, model: str, own: Mapping[bytes, "_Encoding"], rows: NDArray[np.float32]) -> dict[bytes, Vector]:
        kept = {}
        with self._lock:
            for (fingerprint, encoding), row in zip(own.items(), rows, strict=True):
                key = (model, fingerprint)
                if key not in self._vectors:  # it is there where somebody went ahead
                    vector = row.copy()  # a view would keep all rows in memory
                    vector.setflags(write=False)
                    self._vectors[key] = vector
                    self._bytes += vector.nbytes + ENTRY_BYTES
                kept[fingerprint] = self._vectors[key]
                self._end(key, encoding)
                encoding.vector.set_result(kept[fingerprint])
            while self._bytes > self._bytes_max:
                _, oldest = self._vectors.popitem(last=False)
                self._bytes -= oldest.nbytes + ENTRY_BYTES
        return kept

    def _give_up(self, model: str, own: Mapping[bytes, "_Encoding"], error: BaseException) -> None:
        with self._lock:
            for fingerprint, encoding in own.items():
                self._end((model, fingerprint), encoding)
                if not encoding.vector.done():
                    encoding.vector.set_exception(error)

    def _end(self, key: _Key, encoding: "_Encoding") -> None:
        if self._encoding.get(key) is encoding:
            del self._encoding[key]


@dataclass(frozen=True, slots=True, eq=False)
class _Encoding:
    """What a thread is encoding now."""

    ahead: bool
    vector: "Future[Vector]" = field(default_factory=Future)


def embed(
    batch: Sequence[Decoded | Malformed],
    namespaces: Mapping[str, NamespaceConfig],
    embedder: Embedder | None,
    cache: EmbeddingCache,
    *,
    wait: bool = True,
) -> list[Embedded | Malformed]:
    """Give each submission of a batch its vector, in their order; refuse those that do not fit their namespace.

    A producer's own vector is taken where the namespace takes it. All other contents that the cache does not know go
    through the encoder in one call, each once, ahead of what waits there where all of them are what people say
    (docs/decisions/0022). A retraction has no vector, and feedback has none.

    Raises:
        Unavailable: the encoder is loading, a submission needs it, and `wait` is false.
        Broken: the encoder cannot be loaded.
    """
    own = _own_vectors(batch)
    settled = [_settle(candidate, own, namespaces, embedder) for candidate in batch]
    waiting = [candidate for candidate in settled if isinstance(candidate, Decoded)]
    if not waiting or embedder is None:
        return [candidate for candidate in settled if not isinstance(candidate, Decoded)]
    vectors = _vectors(waiting, embedder, cache, wait=wait)
    return [
        _fitting(candidate, vectors[candidate.fingerprint], namespaces, embedder)
        if isinstance(candidate, Decoded)
        else candidate
        for candidate in settled
    ]


def text_to_embed(submission: pb.Submission) -> str:
    """What an encoder is given of a submission: prompt, and text, code or caption, in canonical form."""
    code = submission.modality == pb.MODALITY_CODE
    content = canonical_code(submission.content) if code else canonical_text(submission.content)
    return f"{canonical_text(submission.prompt)}\n{content}" if submission.prompt else content


def _own_vectors(batch: Sequence[Decoded | Malformed]) -> Mapping[int, Vector | FieldViolation]:
    """What `unit_vectors` makes of the producers' own embeddings, by the identity of the candidate."""
    candidates = [c for c in batch if isinstance(c, Decoded) and c.submission.HasField("embedding")]
    units = unit_vectors([candidate.submission.embedding for candidate in candidates], "embedding")
    return {id(candidate): unit for candidate, unit in zip(candidates, units, strict=True)}


def _settle(
    candidate: Decoded | Malformed,
    own: Mapping[int, Vector | FieldViolation],
    namespaces: Mapping[str, NamespaceConfig],
    embedder: Embedder | None,
) -> Embedded | Malformed | Decoded:
    """What can be said of a submission without the encoder; itself, if that is nothing."""
    if isinstance(candidate, Malformed):
        return candidate
    submission = candidate.submission
    config = namespaces.get(submission.namespace)
    if config is None:
        text = f"there is no namespace {submission.namespace!r}: make it first"
        return _refused(candidate, "namespace", text, pb.REASON_UNKNOWN_NAMESPACE)
    if submission.retraction or submission.HasField("feedback"):
        return Embedded(candidate, None)
    unit = own.get(id(candidate))
    if unit is not None:
        return _with_own_vector(candidate, unit, config)
    wanted = config.encoder.model
    if wanted == NO_ENCODER:
        text = f"required: the namespace has no encoder, send {config.encoder.dimension} dimensions"
        return _refused(candidate, "embedding", text)
    if embedder is None or embedder.model != wanted:
        has = embedder.model if embedder is not None else "none"
        text = f"required: the encoder of the namespace is {wanted}, the service runs {has}"
        return _refused(candidate, "embedding", text)
    return candidate


def _with_own_vector(
    candidate: Decoded, unit: Vector | FieldViolation, config: NamespaceConfig
) -> Embedded | Malformed:
    if not config.policy.accept_producer_embeddings and config.encoder.model != NO_ENCODER:
        return _refused(candidate, "embedding", "the namespace takes no embeddings of producers: leave it out")
    if isinstance(unit, FieldViolation):
        return _refused(candidate, unit.field, unit.description)
    if len(unit) != config.encoder.dimension:
        text = f"the namespace takes {config.encoder.dimension} dimensions, this has {len(unit)}"
        return _refused(candidate, "embedding", text)
    return Embedded(candidate, unit)


def _fitting(
    candidate: Decoded, vector: Vector, namespaces: Mapping[str, NamespaceConfig], embedder: Embedder
) -> Embedded | Malformed:
    """A submission with the encoder's vector; refused if the namespace was made for another dimension."""
    dimension = namespaces[candidate.submission.namespace].encoder.dimension
    if len(vector) == dimension:
        return Embedded(candidate, vector)
    text = f"the namespace takes {dimension} dimensions, the service's encoder {embedder.model} makes {len(vector)}"
    return _refused(candidate, "embedding", text)


def _vectors(
    waiting: Sequence[Decoded], embedder: Embedder, cache: EmbeddingCache, *, wait: bool
) -> Mapping[bytes, Vector]:
    """The vectors of contents, by fingerprint."""
    submissions = {candidate.fingerprint: candidate.submission for candidate in waiting}
    if not wait and not embedder.ready and not cache.knows(embedder.model, submissions):
        raise Unavailable(
            f"the encoder {embedder.model} is loading",
            reason="ENCODER_LOADING",
            retry_delay_seconds=LOADING_RETRY_SECONDS,
        )
    ahead = all(submission.origin in PEOPLE for submission in submissions.values())
    return cache.vectors(
        embedder.model,
        submissions,
        lambda missing: embedder.encode([text_to_embed(submissions[one]) for one in missing], ahead=ahead),
        ahead=ahead,
    )


def _refused(
    candidate: Decoded, field: str, description: str, reason: pb.Reason.ValueType = pb.REASON_INVALID
) -> Malformed:
    submission = candidate.submission
    return Malformed(
        candidate.record,
        reason,
        (FieldViolation(field, description),),
        submission.namespace,
        submission.provenance.producer,
        submission.submission_id,
    )
