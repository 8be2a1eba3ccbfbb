"""Submissions and engines for tests of the pipeline and the store: small vectors, a clock that tests turn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from epistream.indexer import holding
from epistream.indexer.decode import again
from epistream.indexer.engine import Engine
from epistream.indexer.index import FaissIndex, IndexFactory
from epistream.indexer.model import Embedded, Held, Position, Record, Ruling
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb

NAMESPACE = "facts"
DIMENSION = 8
START_US = 1_700_000_000_000_000


@dataclass(slots=True)
class HandClock:
    """A clock that stands still until it is turned."""

    us: int = START_US

    def now_us(self) -> int:
        return self.us


def direction(*weights: float) -> NDArray[np.float32]:
    """A unit vector of DIMENSION with these first components."""
    vector = np.zeros(DIMENSION)
    vector[: len(weights)] = weights
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def submission(
    content: str,
    *,
    id: str,  # noqa: A002 - as in the contract
    item: str = "",
    origin: pb.Origin.ValueType = pb.ORIGIN_EXPERT,
    vector: NDArray[np.float32] | None = None,
    producer: str = "alice",
    attributes: Mapping[str, str] | None = None,
    expected_version: int | None = None,
    namespace: str = NAMESPACE,
    generator: str | None = None,
    derived_from: Sequence[str] = (),
) -> pb.Submission:
    """A submission of text with a vector of its own; of the same content the same vector, where none is given.

    What is SYNTHETIC names a generator, where nothing else is said.
    """
    if generator is None:
        generator = "gpt" if origin == pb.ORIGIN_SYNTHETIC else ""
    if vector is None:
        seed = int.from_bytes(content.encode(), "little") % (2**63)
        vector = direction(*np.random.default_rng(seed).standard_normal(DIMENSION))
    made = pb.Submission(
        namespace=namespace,
        submission_id=id,
        item_id=item,
        origin=origin,
        modality=pb.MODALITY_TEXT,
        content=content,
        attributes=attributes,
        provenance=pb.Provenance(producer=producer, generator=generator, derived_from=derived_from),
        embedding=pb.Embedding(float32=vector.astype("<f4").tobytes()),
    )
    if expected_version is not None:
        made.expected_version = expected_version
    return made


def retraction(
    item: str,
    *,
    id: str,  # noqa: A002 - as in the contract
    origin: pb.Origin.ValueType = pb.ORIGIN_EXPERT,
    producer: str = "alice",
) -> pb.Submission:
    """A submission that takes an item back."""
    return pb.Submission(
        namespace=NAMESPACE,
        submission_id=id,
        item_id=item,
        origin=origin,
        retraction=True,
        provenance=pb.Provenance(producer=producer),
    )


def record(sent: pb.Submission, position: Position | None = None) -> Record:
    """A submission as it arrives."""
    return Record(sent.SerializeToString(), START_US, position=position)


def open_engine(folder: Path, clock: HandClock | None = None, new_index: IndexFactory = FaissIndex) -> Engine:
    """An engine with the namespace of these tests, which takes producers' vectors."""
    engine = Engine(folder, clock=clock or HandClock(), new_index=new_index)
    engine.namespaces.create(
        ns_pb.CreateNamespaceRequest(name=NAMESPACE, encoder=ns_pb.Encoder(model="none", dimension=DIMENSION))
    )
    return engine


def commit_from_kafka(engine: Engine, sent: Sequence[pb.Submission], size: int) -> list[pb.Receipt]:
    """Commit a topic that holds these submissions, from its beginning, in batches of a size."""
    records = [record(one, Position("facts", 0, offset)) for offset, one in enumerate(sent)]
    batches = [records[start : start + size] for start in range(0, len(records), size)]
    return [r for batch in batches for r in engine.pipeline.commit(engine.pipeline.prepare(batch))]


def commit(engine: Engine, *sent: pb.Submission, atomic: bool = False) -> list[pb.Receipt]:
    """Submit as one batch."""
    return engine.pipeline.commit(engine.pipeline.prepare([record(one) for one in sent]), atomic=atomic)


def watch(engine: Engine) -> list[pb.CollapseAlarm]:
    """Have the collapse watch look at all that is due; what it found, in order."""
    found = []
    while (window := engine.collapse_watch.next()) is not None:
        found.append(engine.collapse_watch.compare(window))
        assert engine.collapse_watch.record(window, found[-1])
    return found


def pending(engine: Engine, reason: pb.Reason.ValueType = pb.REASON_UNSPECIFIED) -> list[Held]:
    """What is held now."""
    with engine.store.reader() as catalog:
        number = engine.namespaces.configs[NAMESPACE].number
        found = (
            holding.find(catalog, number, one)
            for one in holding.pending(catalog, number, reasons=[reason] if reason else ())
        )
        return [held for held in found if held is not None]


def ruling(
    engine: Engine,
    held: Held,
    *,
    admits: bool = True,
    origin: pb.Origin.ValueType = pb.ORIGIN_EXPERT,
    by: str = "dr-ada",
    comment: str = "",
) -> Ruling:
    """What an expert decides of what is held, unless somebody else does."""
    (embedded,) = engine.pipeline.prepare([again(held)])
    assert isinstance(embedded, Embedded)
    return Ruling(held, embedded, admits, origin, by, comment)


def let_go(engine: Engine, held: Held) -> Ruling:
    """That the gate itself lets go of what it held."""
    return ruling(engine, held, origin=pb.ORIGIN_UNSPECIFIED, by="")


def commit_in_batches(engine: Engine, sent: Sequence[pb.Submission], size: int) -> list[pb.Receipt]:
    """Submit in batches of a size."""
    return [r for start in range(0, len(sent), size) for r in commit(engine, *sent[start : start + size])]
