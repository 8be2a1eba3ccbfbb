"""The samples as they come into a service: people first, then models, through the pipeline and the collapse watch.

The vectors are those of the packaged encoder, computed once, and go in as a producer's own.
"""

from collections.abc import Sequence
from pathlib import Path

from epistream.indexer.engine import Engine
from epistream.indexer.spectrum import drawn
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.knowing import NAMESPACE, HandClock, commit, watch
from tests.support.samples import STREAMS, TRAJECTORIES, encoder, places, rows, vectors

GENERATIONS = [1, 3, 6, 9]
ITEMS, EVERY = 110, 58
"""Of the loops: 120 texts a generation, a few of which are held, so two windows."""


def open_watched(
    folder: Path,
    *,
    anchor_items: int,
    watch_items: int,
    watch_every: int,
    guard: ns_pb.Guard.ValueType = ns_pb.GUARD_HOLD_NOISE,
) -> Engine:
    """An engine with a namespace of the packaged encoder, windows of these sizes, and by itself the default guard."""
    engine = Engine(folder, encoder(), clock=HandClock())
    policy = ns_pb.Policy(
        anchor_items=anchor_items,
        watch_items=watch_items,
        watch_every=watch_every,
        guard=guard,
        real_share_floor=0.0,
    )
    engine.namespaces.create(ns_pb.CreateNamespaceRequest(name=NAMESPACE, policy=policy))
    return engine


def feed(
    engine: Engine, path: Path, places: Sequence[int], generator: str = "", *, producer: str = ""
) -> list[pb.CollapseAlarm]:
    """Commit rows of a file of samples, by people where no generator is named; what the watch found then, in order.

    What models say is held where it looks like noise, as by default, and is in no window then.
    """
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
    held = [receipt for receipt in commit(engine, *sent) if receipt.outcome == pb.OUTCOME_HELD]
    assert {receipt.reason for receipt in held} <= {pb.REASON_IMPLAUSIBLE}
    return watch(engine)


def watched_loop(folder: Path, regime: str) -> dict[str, list[pb.CollapseAlarm]]:
    """All windows of a loop, under `loop`, and the newest of the store after each generation, under no name."""
    engine = open_watched(folder, anchor_items=ITEMS, watch_items=ITEMS, watch_every=EVERY)
    feed(engine, TRAJECTORIES, places(TRAJECTORIES, regime=regime, generation=0))
    found: dict[str, list[pb.CollapseAlarm]] = {"loop": [], "": []}
    for generation in GENERATIONS:
        windows = feed(engine, TRAJECTORIES, places(TRAJECTORIES, regime=regime, generation=generation), "loop")
        found["loop"] += [one for one in windows if one.producer == "loop"]
        found[""] += [one for one in windows if not one.producer][-1:]
    engine.close()
    return found


def taken_for_a_model(
    folder: Path, source: str, split: int, *, anchor_items: int = 0, watch_items: int = 0
) -> list[pb.CollapseAlarm]:
    """As many of a source's people as there are anchors are taken for a model: their windows, against the other ones.

    By itself the halves of them, in one window.
    """
    everything = places(STREAMS, producer=source)
    order = [everything[place] for place in drawn(len(everything), split)]
    anchors = anchor_items or len(order) // 2
    window = watch_items or anchors
    engine = open_watched(
        folder, anchor_items=anchors, watch_items=window, watch_every=window, guard=ns_pb.GUARD_MEASURE
    )
    feed(engine, STREAMS, order[:anchors])
    found = [one for one in feed(engine, STREAMS, order[anchors : 2 * anchors], "taken for one") if one.producer]
    assert len(found) == anchors // window
    engine.close()
    return found
