"""Rounds of lost power during ingest, in this process: over gRPC and from Kafka, as far as the pipeline sees them.

Each round opens what the loss before has left, commits batch after batch, and loses the power at a random write or
flush. A second engine, which never fails, takes the same batches: in the end of each round both must say the same.
"""

import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.indexer.feed import Wish
from epistream.indexer.model import Position, Record
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from epistream.wire.errors import EpistreamError
from tests.support.faulty_disk import faulty_disk
from tests.support.kill_traffic import DIMENSION, NAMESPACES, Traffic
from tests.support.knowing import START_US, HandClock

ROUNDS_OF_A_STORE: Final = 20
"""After so many a new store begins, so that a round takes the same time from the first to the last."""
OPERATIONS_MAX: Final = 1500
BATCH_MAX: Final = 12
BATCHES_MAX: Final = 40
CHECKPOINT_PAGES: Final = 60
"""So that the power is lost in checkpoints, too: with the service's own bound a round would never come to one."""
TOPIC: Final = "lost"


@dataclass(slots=True)
class Seen:
    """What the rounds came to."""

    rounds: int = 0
    acknowledged: int = 0
    """Submissions, in batches that were acknowledged."""
    unacknowledged_kept: int = 0
    """Batches that were on the disk, though the power was lost before they were acknowledged."""
    faults: list[str] = field(default_factory=list)
    """What is not as it must be."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is committed together."""

    records: Sequence[Record]


class Follower:
    """A replica of a namespace: what it was told, by item.

    It hears of a change once that is durable, and goes on where it was.
    """

    def __init__(self, namespace: str, epoch: str) -> None:
        self._namespace, self._epoch, self._revision = namespace, epoch, 0
        self._items: dict[str, bytes] = {}

    def follow(self, engine: Engine) -> None:
        """Take in all that came since, as a subscription sends it.

        Raises:
            Resync: what it was told before is not there any more.
        """
        engine.feed.check_start(self._namespace, self._revision, self._epoch)
        while self._revision < engine.feed.head(self._namespace):
            batch = engine.feed.replay(self._namespace, self._revision, Wish())
            for change in sync_pb.Changes.FromString(batch.body).changes:
                assert change.namespace == self._namespace, "nothing of another is pushed"
                assert change.revision == self._revision + 1, "revisions are dense"
                self._revision = change.revision
                self._items.pop(change.item_id, None)
                if change.kind != pb.CHANGE_KIND_RETRACTED:
                    self._items[change.item_id] = change.fingerprint

    def has_what(self, engine: Engine) -> bool:
        """Whether it has just what is in answers."""
        number = engine.namespaces.state(self._namespace).config.number
        with engine.store.reader() as catalog:
            changes = [pb.Change.FromString(row.change) for row in catalog.live(number, self._revision, 0, 10**6)]
        return self._items == {change.item_id: change.fingerprint for change in changes}


class Batches:
    """An endless mix of batches, from Kafka and over gRPC, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._calls, self._records = Traffic("calls", seed), Traffic("records", seed)
        self._chance = random.Random(seed)
        self._offset = 0

    def next(self) -> Batch:
        size = self._chance.randint(1, BATCH_MAX)
        if self._chance.random() < 0.5:
            return Batch([self._from_kafka() for _ in range(size)])
        # A call that is refused and sent again leaves two dead letters, so only what cannot be refused comes by one.
        return Batch([Record(self._calls.new().SerializeToString(), START_US) for _ in range(size)])

    def _from_kafka(self) -> Record:
        position = Position(TOPIC, 0, self._offset)
        self._offset += 1
        return Record(self._records.next().SerializeToString(), START_US, position=position)


def power_losses(folder: Path, rounds: int, *, seed: int, lying: bool = False) -> Seen:
    """Lose the power so often; of a disk that flushes nothing where it is `lying`, so that something must be found."""
    seen = Seen()
    with _frequent_checkpoints():
        for first in range(0, rounds, ROUNDS_OF_A_STORE):
            where = folder / f"store-{first}"
            where.mkdir()
            _rounds_of_a_store(where, min(ROUNDS_OF_A_STORE, rounds - first), seed + first, seen, lying=lying)
            shutil.rmtree(where)
    return seen


def _rounds_of_a_store(folder: Path, rounds: int, seed: int, seen: Seen, *, lying: bool) -> None:
    chance, batches = random.Random(seed), Batches(seed)
    model = _opened(folder / "model")
    here = folder / "round-0"
    first = _opened(here)
    followers = [Follower(name, first.epoch) for name in NAMESPACES]
    first.close()
    for number in range(rounds):
        survived = folder / f"round-{number + 1}"
        open_batch = _one_round(here, survived, model, followers, batches, chance, seen, lying=lying)
        name = f"seed {seed}, round {number}"
        try:
            _compare(survived, model, followers, open_batch, seen, name)
        except EpistreamError as error:
            seen.faults.append(f"{name}: {error}")
            break
        shutil.rmtree(here)
        here = survived
        seen.rounds += 1
    model.close()


def _one_round(
    here: Path,
    survived: Path,
    model: Engine,
    followers: Sequence[Follower],
    batches: Batches,
    chance: random.Random,
    seen: Seen,
    *,
    lying: bool,
) -> Batch | None:
    """Commit until the power is lost. Returns the batch that was not acknowledged then, if there was one."""
    batch: Batch | None = None
    with faulty_disk() as disk:
        engine = Engine(here, clock=HandClock())
        disk.lying = lying
        disk.lose_power(after=chance.randint(1, OPERATIONS_MAX))
        with suppress(EpistreamError):
            for _ in range(BATCHES_MAX):
                batch = batches.next()
                prepared = engine.pipeline.prepare(batch.records)
                engine.pipeline.commit(prepared)
                model.pipeline.commit(model.pipeline.prepare(batch.records))
                seen.acknowledged += len(batch.records)
                batch = None
                for follower in followers:
                    follower.follow(engine)
        disk.leave(here, survived, chance)
        disk.hush()
        engine.store.close()
    # A snapshot of the index was being written, too: the one before is there, and a part of the next.
    (survived / "index" / "1.tmp").write_bytes(chance.randbytes(chance.randrange(2000)))
    return batch


def _compare(
    survived: Path,
    model: Engine,
    followers: Sequence[Follower],
    unacknowledged: Batch | None,
    seen: Seen,
    name: str,
) -> None:
    """Open what survived. What was acknowledged must be there; then the batch that was not is sent again.

    Whoever followed goes on where it was, and has all in the end.
    """
    before = model.store.journal.last()
    engine = Engine(survived, clock=HandClock())
    try:
        seen.faults += [f"{name}: {found}" for found in stores.check(engine.store)]
        sequence, digest = engine.store.journal.last()
        if sequence < before[0] or (digest != before[1] and unacknowledged is None):
            seen.faults.append(f"{name}: the journal ends at {sequence}, acknowledged was {before[0]}")
        seen.unacknowledged_kept += sequence > before[0]
        if unacknowledged is not None:
            for each in (engine, model):
                each.pipeline.commit(each.pipeline.prepare(unacknowledged.records))
        for namespace, follower in zip(NAMESPACES, followers, strict=True):
            follower.follow(engine)
            if not follower.has_what(engine):
                seen.faults.append(f"{name}: who followed {namespace} has not what is known")
            here, there = (each.namespaces.state(namespace).searchable for each in (engine, model))
            if len(here) != len(there):
                seen.faults.append(f"{name}: the index of {namespace} is not what was acknowledged")
        if list(engine.store.logical_dump()) != list(model.store.logical_dump()):
            seen.faults.append(f"{name}: the store is not what was acknowledged")
    finally:
        engine.close()


def _opened(folder: Path) -> Engine:
    engine = Engine(folder, clock=HandClock())
    encoder = ns_pb.Encoder(model="none", dimension=DIMENSION)
    for name in NAMESPACES:
        engine.namespaces.create(ns_pb.CreateNamespaceRequest(name=name, encoder=encoder))
    return engine


@contextmanager
def _frequent_checkpoints() -> Iterator[None]:
    usual = stores.CHECKPOINT_PAGES
    stores.CHECKPOINT_PAGES = CHECKPOINT_PAGES  # type: ignore[misc] # for the rounds only
    try:
        yield
    finally:
        stores.CHECKPOINT_PAGES = usual  # type: ignore[misc]
