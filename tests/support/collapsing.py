"""People who speak of many kinds of things, and models that speak of fewer: vectors, texts, and a namespace that looks.

The windows are as small as a policy lets them be.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.engine import Engine
from epistream.indexer.spectrum import Diversity
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.knowing import NAMESPACE, HandClock, commit, submission
from tests.support.rpc import Client

ITEMS, EVERY, DIMENSION = 64, 32, 48
ALL_KINDS, FEW_KINDS = 48, 4
_Vectors: TypeAlias = NDArray[np.float32]


def wanted(name: str = NAMESPACE, **policy: object) -> ns_pb.CreateNamespaceRequest:
    """What makes a namespace with small windows."""
    made = ns_pb.Policy(
        guard=ns_pb.GUARD_MEASURE,  # what is held is in no window
        near_duplicate_threshold=0.99,
        anchor_items=ITEMS,
        watch_items=ITEMS,
        watch_every=EVERY,
        real_share_floor=0.0,
        **policy,  # type: ignore[arg-type] # as the caller says
    )
    encoder = ns_pb.Encoder(model="none", dimension=DIMENSION)
    return ns_pb.CreateNamespaceRequest(name=name, encoder=encoder, policy=made)


def kinds(number: int, count: int, seed: int = 0) -> _Vectors:
    """Unit vectors around a number of directions, the same directions for a larger number."""
    centres = np.random.default_rng(9).standard_normal((DIMENSION, DIMENSION))
    rows = centres[np.arange(count) % number] + 0.35 * np.random.default_rng(seed).standard_normal((count, DIMENSION))
    units: _Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return units


def by_definition(rows: _Vectors, people: _Vectors) -> Diversity:
    """The figures of rows, less the mean of people's, by their definitions: from the n by n similarities."""
    centred = rows.astype(np.float64) - people.astype(np.float64).mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    shares = np.linalg.eigvalsh(centred @ centred.T / len(rows)).clip(0)
    positive = shares[shares > 1e-14]
    singular = np.sqrt(positive) / np.sqrt(positive).sum()
    return Diversity(
        len(rows),
        float(np.sqrt(positive).sum() ** 2),
        math.exp(-float((positive * np.log(positive)).sum())),
        1 / float(np.square(shares).sum()),
        1 / float(shares.max()),
        math.exp(-float((singular * np.log(singular)).sum())),
    )


def texts(
    vectors: _Vectors, name: str, producer: str = "gpt", *, namespace: str = NAMESPACE, prompts: bool = False
) -> Sequence[pb.Submission]:
    """One item for each vector; by a person where the producer is `ada`, else by a model."""
    origin = pb.ORIGIN_EXPERT if producer == "ada" else pb.ORIGIN_SYNTHETIC
    made = []
    for number, vector in enumerate(vectors):
        content = f"{name}, the text numbered {number} of {producer}."
        one = submission(
            content, id=f"{name} {number}", origin=origin, vector=vector, producer=producer, namespace=namespace
        )
        one.prompt = f"Question {number}?" if prompts else ""
        made.append(one)
    return made


def opened(folder: Path, clock: HandClock | None = None, name: str = NAMESPACE) -> Engine:
    """An engine with such a namespace."""
    engine = Engine(folder, clock=clock or HandClock())
    engine.namespaces.create(wanted(name))
    return engine


def said(engine: Engine, vectors: _Vectors, name: str, producer: str = "gpt", *, prompts: bool = False) -> None:
    """One item for each vector is committed; by people where the producer is `ada`."""
    receipts = commit(engine, *texts(vectors, name, producer, prompts=prompts))
    assert {pb.Outcome.Name(receipt.outcome) for receipt in receipts} == {"OUTCOME_ADMITTED"}, receipts[-1]


def raised(engine: Engine) -> set[str]:
    """Whose alarms are on."""
    alarms = engine.namespaces.state(NAMESPACE).alarms
    assert all(one.on and key == (one.producer, one.modality) for key, one in alarms.items())
    return {producer for producer, _ in alarms}


def collapsed(engine: Engine) -> None:
    """People speak of all kinds of things, a producer of few of them, for two windows."""
    said(engine, kinds(ALL_KINDS, ITEMS), "People", "ada")
    said(engine, kinds(FEW_KINDS, 2 * EVERY, 1), "Few kinds")


async def collapse(client: Client, namespace: str, **policy: object) -> None:
    """Make a namespace in which a model says less than people, by two windows."""
    await client.namespaces.CreateNamespace(wanted(namespace, **policy))
    await client.submit(*texts(kinds(ALL_KINDS, ITEMS), "People", "ada", namespace=namespace))
    await client.submit(*texts(kinds(FEW_KINDS, 2 * EVERY, 1), "Few kinds", namespace=namespace))
