"""The samples as they come into a service: people first, then models, through the pipeline and the collapse watch.

The vectors are those of the packaged encoder, computed once, and go in as a producer's own.
"""

from pathlib import Path

from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.knowing import NAMESPACE, HandClock, commit, watch
from tests.support.samples import encoder, rows, vectors


def open_watched(folder: Path, *, anchor_items: int, watch_items: int, watch_every: int) -> Engine:
    """An engine with a namespace of the packaged encoder, and windows of these sizes."""
    engine = Engine(folder, encoder(), clock=HandClock())
    policy = ns_pb.Policy(
        anchor_items=anchor_items, watch_items=watch_items, watch_every=watch_every, real_share_floor=0.0
    )
    engine.namespaces.create(ns_pb.CreateNamespaceRequest(name=NAMESPACE, policy=policy))
    return engine


def feed(
    engine: Engine, path: Path, places: list[int], generator: str = "", *, producer: str = ""
) -> list[pb.CollapseAlarm]:
    """Commit rows of a file of samples, by people where no generator is named; what the watch found then, in order."""
    sent = []
    for place in places:
        row = rows(path)[place]
        made = pb.Submission(
            namespace=NAMESPACE,
            submission_id=str(row["id"]),
            origin=pb.ORIGIN_SYNTHETIC if generator else pb.ORIGIN_CRAWLED,
            modality=pb.MODALITY_TEXT,
            content=row["text"],
            prompt=row.get("prompt") or "",
            provenance=pb.Provenance(producer=producer or generator or "people", generator=generator),
        )
        made.embedding.float32 = vectors(path)[place].astype("<f4").tobytes()
        sent.append(made)
    receipts = commit(engine, *sent)
    assert {receipt.outcome for receipt in receipts} <= {pb.OUTCOME_ADMITTED, pb.OUTCOME_MERGED}
    return watch(engine)


def places(path: Path, **wanted: object) -> list[int]:
    """The rows of a file of samples that have these values."""
    return [place for place, row in enumerate(rows(path)) if all(row.get(k) == v for k, v in wanted.items())]
