"""What the checks of R1 to R14 share: an engine with the packaged encoder, what is said to it, and shares."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from epistream.indexer.clock import Clock
from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.knowing import commit_in_batches
from tests.support.samples import encoder

BATCH = 128


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    count: int
    of: int

    @property
    def value(self) -> float:
        """Between 0 and 1."""
        return self.count / self.of


def share(found: Iterable[bool]) -> Share:
    """How many of them are true."""
    answers = list(found)
    return Share(sum(answers), len(answers))


@contextmanager
def engine_with_encoder(folder: Path, *namespaces: str, clock: Clock | None = None) -> Iterator[Engine]:
    """An engine with the packaged encoder and these namespaces, with the policy that they have by default."""
    engine = Engine(folder, encoder(), clock=clock)
    try:
        for name in namespaces:
            engine.namespaces.create(ns_pb.CreateNamespaceRequest(name=name))
        yield engine
    finally:
        engine.close()


def said(
    content: str,
    *,
    id: str,  # noqa: A002 - as in the contract
    namespace: str,
    producer: str,
    item: str = "",
) -> pb.Submission:
    """What an expert says, without a vector."""
    return pb.Submission(
        namespace=namespace,
        submission_id=id,
        item_id=item,
        origin=pb.ORIGIN_EXPERT,
        modality=pb.MODALITY_TEXT,
        content=content,
        provenance=pb.Provenance(producer=producer),
    )


def take_in(engine: Engine, sent: Sequence[pb.Submission]) -> list[pb.Receipt]:
    """Submit them in their order."""
    return commit_in_batches(engine, sent, BATCH)


def state_of(engine: Engine) -> str:
    """A digest of every row of the store, and of what stands beside it: gains, real shares, what was put off."""
    digest = hashlib.sha256()
    for line in engine.store.logical_dump():
        digest.update(line.encode())
        digest.update(b"\n")
    for state in engine.namespaces.states():
        standing = state.standing
        standing.observe()
        assert standing.gains is not None
        digest.update(standing.gains.to_bytes())
        shares = [standing.shares.after_one_more(modality) for modality in pb.Modality.values()]
        digest.update(f"{shares} {sorted((+standing.put_off).items())} {standing.revision}".encode())
    return digest.hexdigest()
