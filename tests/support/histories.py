"""Histories of a namespace for the clients' tests, and the obviously right state after each revision."""

import random
from collections.abc import Iterable, Sequence

import numpy as np

from epistream.v1 import knowledge_pb2 as pb

DIMENSION = 8
ORIGINS = (pb.ORIGIN_EXPERT, pb.ORIGIN_CRAWLED, pb.ORIGIN_SYNTHETIC)
PRODUCERS = ("ada", "grace")


def random_history(count: int, seed: int, *, dimension: int = DIMENSION, items: int = 40) -> list[pb.Change]:
    """`count` changes of some `items`: new ones, new versions, retractions, returns. One in ten has no vector."""
    rng = random.Random(seed)
    versions: dict[str, int] = {}
    living: set[str] = set()
    history = []
    for revision in range(1, count + 1):
        item_id = f"item-{rng.randrange(items)}"
        versions[item_id] = versions.get(item_id, 0) + 1
        if item_id in living and rng.random() < 0.25:
            kind = pb.CHANGE_KIND_RETRACTED
            living.discard(item_id)
        else:
            kind = pb.CHANGE_KIND_ADMITTED if versions[item_id] == 1 else pb.CHANGE_KIND_REVISED
            living.add(item_id)
        history.append(a_change(revision, item_id, versions[item_id], kind, rng, dimension))
    return history


def a_change(
    revision: int, item_id: str, version: int, kind: pb.ChangeKind.ValueType, rng: random.Random, dimension: int
) -> pb.Change:
    """One change with random content."""
    change = pb.Change(namespace="tests", revision=revision, item_id=item_id, version=version, kind=kind)
    change.commit_time.FromSeconds(1_700_000_000 + revision)
    if kind != pb.CHANGE_KIND_RETRACTED:
        known = change.knowledge
        known.origin, known.modality = rng.choice(ORIGINS), pb.MODALITY_TEXT
        known.content = f"{item_id} says {rng.random():.6f} at {revision}"
        known.provenance.producer = rng.choice(PRODUCERS)
        known.attributes["colour"] = rng.choice(("red", "blue"))
        if rng.random() < 0.9 and dimension:
            change.embedding = unit_vector(rng, dimension)
    return change


def unit_vector(rng: random.Random, dimension: int) -> bytes:
    """A vector of length one in a random direction, as the contract has it."""
    vector = np.array([rng.gauss(0, 1) for _ in range(dimension)])
    return np.asarray(vector / np.linalg.norm(vector), "<f4").tobytes()


def state_after(history: Sequence[pb.Change], revision: int, only: pb.Filter | None = None) -> dict[str, pb.Change]:
    """What is known after `revision`, without the vectors, by applying one change after the other."""
    state: dict[str, pb.Change] = {}
    for change in history[:revision]:
        state.pop(change.item_id, None)
        if change.kind != pb.CHANGE_KIND_RETRACTED and lets_through(only, change):
            plain = pb.Change()
            plain.CopyFrom(change)
            plain.ClearField("embedding")
            state[change.item_id] = plain
    return state


def filtered(history: Iterable[pb.Change], only: pb.Filter | None) -> list[pb.Change]:
    """What a subscription with the filter is sent, from the beginning."""
    inside: set[str] = set()
    sent = []
    for change in history:
        was_inside = change.item_id in inside
        inside.discard(change.item_id)
        if change.kind != pb.CHANGE_KIND_RETRACTED and lets_through(only, change):
            inside.add(change.item_id)
            sent.append(change)
        elif was_inside or (change.kind == pb.CHANGE_KIND_RETRACTED and only is None):
            gone = pb.Change()
            gone.CopyFrom(change)
            gone.ClearField("knowledge")
            gone.ClearField("embedding")
            if change.kind != pb.CHANGE_KIND_RETRACTED:
                gone.kind = pb.CHANGE_KIND_LEFT
            sent.append(gone)
    return sent


def lets_through(only: pb.Filter | None, change: pb.Change) -> bool:
    """What knowledge.proto says of Filter."""
    known = change.knowledge
    return only is None or (
        (not only.origins or known.origin in only.origins)
        and (not only.modalities or known.modality in only.modalities)
        and (not only.producers or known.provenance.producer in only.producers)
        and all(known.attributes.get(key) == value for key, value in only.attributes.items())
    )
