"""A service that is killed with SIGKILL, again and again, at random moments and named points; and all that is seen.

    producers over gRPC ─┐                                   ┌─► a subscriber that writes everything down
    producer over Kafka ─┴─► service, killed and restarted ──┴─► a replica in its file, killed and restarted too

Nothing of the service is in this process. `tests.support.kill_check` says what must hold of what was seen.
"""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import cycle, zip_longest
from pathlib import Path
from typing import Any, Final, Self

import apsw
import grpc
import numpy as np
from numpy.typing import NDArray

from epistream.clients import (
    SnapshotEnd,
    SnapshotItems,
    SyncKnowledgeClient,
    SyncProducer,
    SyncReplica,
    SyncSubscriber,
)
from epistream.indexer.store import FILE, Store
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from tests.support.failing_service import (
    RUNNING,
    STARTING,
    STOPPING,
    acknowledged,
    acknowledging,
    offset_shown,
    rebuilding,
)
from tests.support.kill_check import PATIENCE_SECONDS, History, Stored, Stream, taken
from tests.support.kill_producers import OVER_KAFKA, KafkaSide, producing
from tests.support.kill_replica import CONSUMER
from tests.support.kill_traffic import DIMENSION, NAMESPACE
from tests.support.service import Fail, RunningService

KILL_AFTER_SECONDS: Final = (0.05, 0.8)
"""So long after a service has taken something it is killed."""
PASSES_MAX: Final = {"applied": 20, "committed": 20, "shown": 20, "checkpoint": 40, "offset_shown": 2}
"""At which pass of a point it strikes at the latest; those that are not named, at the first."""
QUERIES: Final = 10
"""So many searches are asked of the service and of the replica in the end."""
HITS: Final = 20
_AGAIN_BATCH: Final = 500
_QUICK_TO_COME_BACK: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
)


def kill_rounds(service: RunningService, rounds: int, *, seed: int, kafka: KafkaSide | None = None) -> History:
    """Kill a service as often as that during ingest; then let it finish, ask it everything again, and stop it.

    Args:
        service: it runs, with an empty store.
        rounds: how many times.
        seed: of the traffic and of the moments.
        kafka: what the service reads from, too.
    """
    history = History()
    with SyncKnowledgeClient(service.address) as client:
        client.create_namespace(NAMESPACE, encoder=ns_pb.Encoder(model="none", dimension=DIMENSION))
    with ExitStack() as running:
        subscriber = running.enter_context(recording(service.address, history))
        replica = running.enter_context(ReplicaProcess(service, history))
        with producing(service.address, history, seed, kafka):
            points = _points(with_kafka=kafka is not None)
            for number in range(rounds):
                chance = random.Random(f"round {number} of {seed}")
                one_round(service, subscriber, replica, history, chance, with_kafka=kafka is not None)
                if number % 2:
                    strike(service, next(points), chance, history)
                come_back(service, replica, history)
        finish(service, subscriber, replica, history, kafka)
    service.stop()
    history.faults += fsck(service.folder)
    read_store(service.folder, history)
    return history


def one_round(
    service: RunningService,
    subscriber: "Recorder",
    replica: "ReplicaProcess",
    history: History,
    chance: random.Random,
    *,
    with_kafka: bool,
) -> None:
    """Let the service work for a moment, then kill it; in one of three rounds the replica too.

    With Kafka the moment begins in two of three rounds when something has come in over Kafka, which is later than the
    first answer over gRPC: the service must find its way to Kafka first.
    """
    if with_kafka and chance.random() < 2 / 3:
        pushed = subscriber.revisions_over_kafka
        history.wait_until(lambda: subscriber.revisions_over_kafka > pushed, "a change over Kafka")
    else:
        answered = len(history.answered)
        history.wait_until(lambda: len(history.answered) > answered, "an answer")
    time.sleep(chance.uniform(*KILL_AFTER_SECONDS))
    if chance.random() < 1 / 3:
        replica.kill()
    service.kill()


def strike(service: RunningService, point: Callable[..., None], chance: random.Random, history: History) -> None:
    """Have a service that does not run work until it kills itself at a named point."""
    name = point.__name__
    if point is rebuilding:
        _make_older(service.folder)
    fail = Fail(name, chance.randint(1, PASSES_MAX.get(name, 1)))
    if point in STOPPING:
        service.start(fail)
        service.signal(signal.SIGTERM)
    else:
        service.launch(fail)  # it may be at the point before it has said that it serves
    code = service.wait(PATIENCE_SECONDS)
    if code != -signal.SIGKILL:
        history.faults.append(f"the service was to be killed at {fail}, but ended with {code}")
    history.struck.append(name)


def come_back(service: RunningService, replica: "ReplicaProcess", history: History) -> None:
    """Start the service again, and the replica where it does not run."""
    begun = time.monotonic()
    service.start()
    with SyncKnowledgeClient(service.address) as client:
        client.namespace(NAMESPACE)
    history.restart_seconds.append(time.monotonic() - begun)
    replica.start()


def _points(*, with_kafka: bool) -> Iterator[Callable[..., None]]:
    """Every named point in turn: first one of each kind, then the others."""
    over_kafka = (acknowledging, acknowledged, offset_shown)
    kinds = zip_longest(RUNNING, STOPPING, STARTING)
    return cycle([p for kind in kinds for p in kind if p is not None and (with_kafka or p not in over_kafka)])


def _make_older(folder: Path) -> None:
    """Have the store be one of an earlier version, whose views are made anew when it is opened."""
    with closing(apsw.Connection(str(folder / FILE))) as connection:
        connection.set_busy_timeout(10_000)
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'format'")


def finish(
    service: RunningService,
    subscriber: "Recorder",
    replica: "ReplicaProcess",
    history: History,
    kafka: KafkaSide | None,
) -> None:
    """Wait until everything has arrived everywhere, submit everything again, and write down what is there."""
    with SyncKnowledgeClient(service.address) as client:
        if kafka is not None:
            kafka.read_to_the_end(service, client, history)
        history.head = client.namespace(NAMESPACE).head_revision
        subscriber.wait_for(history.head)
        client.wait_applied(NAMESPACE, history.head, [CONSUMER], timeout_seconds=PATIENCE_SECONDS)
        replica.kill()
        with SyncProducer(service.address) as producer:
            sent = taken(history)
            for start in range(0, len(sent), _AGAIN_BATCH):
                batch = sent[start : start + _AGAIN_BATCH]
                history.again += zip(batch, producer.submit(*batch), strict=True)
        history.head_after = client.namespace(NAMESPACE).head_revision
        queries = np.random.default_rng(0).standard_normal((QUERIES, DIMENSION)).astype(np.float32)
        history.found = [_ids(client.search(NAMESPACE, query, limit=HITS).hits) for query in queries]
    history.snapshot = snapshot(service.address)
    replica.write_down(queries)


class Recorder(threading.Thread):
    """A subscriber that has nothing of ours in it: streams over bare gRPC, one after the other."""

    def __init__(self, address: str, history: History) -> None:
        super().__init__(name="recorder")
        self.revision = 0
        """Up to here it was sent."""
        self.revisions_over_kafka = 0
        """So many of them came in over Kafka."""
        self._address, self._history = address, history
        self._call: Any = None
        self._stopped = False

    def run(self) -> None:
        while not self._stopped:
            with grpc.insecure_channel(self._address, options=_QUICK_TO_COME_BACK) as channel:
                try:
                    self._record(channel)
                except grpc.RpcError as error:
                    code = error.code()
                    if code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                        self._history.faults.append(f"the subscription ended: {code} {error.details()}")
                        return

    def wait_for(self, revision: int) -> None:
        """Wait until it was sent everything up to there."""
        self._history.wait_until(lambda: self.revision >= revision, f"the push of revision {revision}")

    def stop(self) -> None:
        """End, and wait for it."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
        self.join(PATIENCE_SECONDS)

    def _record(self, channel: grpc.Channel) -> None:
        subscribe = channel.stream_stream(
            "/epistream.v1.SyncService/Subscribe",
            request_serializer=sync_pb.SubscribeRequest.SerializeToString,
            response_deserializer=sync_pb.SubscribeResponse.FromString,
        )
        wanted = sync_pb.Subscription(namespace=NAMESPACE, consumer="recorder", after_revision=self.revision)
        self._call = messages = subscribe(iter([sync_pb.SubscribeRequest(subscribe=wanted)]), wait_for_ready=True)
        if self._stopped:
            messages.cancel()
        stream = Stream(self.revision)
        self._history.streams.append(stream)
        for message in messages:
            changes = message.changes.changes
            stream.changes += changes
            self.revision = changes[-1].revision if changes else self.revision
            self.revisions_over_kafka += sum(c.knowledge.provenance.producer == OVER_KAFKA for c in changes)


@contextmanager
def recording(address: str, history: History) -> Iterator[Recorder]:
    """A subscriber that runs as long as the block."""
    recorder = Recorder(address, history)
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.stop()


class ReplicaProcess:
    """A replica in a process of its own, over one file."""

    def __init__(self, service: RunningService, history: History) -> None:
        self._path = service.folder.with_name("replica")
        self._address, self._history = service.address, history
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._process is None:
            arguments = [sys.executable, "-m", "tests.support.kill_replica", str(self._path), self._address]
            self._process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """Kill it, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is not None:
                self._history.faults.append("the replica could not go on")
            process.kill()
            process.wait()

    def write_down(self, queries: NDArray[np.float32]) -> None:
        """Open its file again here, and note what it holds and what it finds."""
        with SyncReplica(self._path, self._address, NAMESPACE, CONSUMER) as replica:
            replica.wait_current()
            if replica.counts.resyncs or replica.counts.faults:
                self._history.faults.append(f"the replica did not go on from its file: {replica.counts}")
            changes = (replica.get(item_id) for item_id in replica.item_ids())
            self._history.replica = {change.item_id: change for change in changes if change is not None}
            self._history.found_by_replica = [_ids(replica.search_vector(query, HITS)) for query in queries]


def snapshot(address: str) -> dict[str, pb.Change]:
    """What the service says is known now."""
    items: dict[str, pb.Change] = {}
    with SyncSubscriber(address, NAMESPACE, "snapshot") as subscriber:
        for event in subscriber:
            if isinstance(event, SnapshotItems):
                items |= {change.item_id: change for change in event.changes}
            if isinstance(event, SnapshotEnd):
                return items
    raise AssertionError("the snapshot did not end")


def fsck(folder: Path) -> list[str]:
    """What is wrong with a store, as the command says."""
    command = [sys.executable, "-m", "epistream.services", "fsck", f"--folder={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    return [f"fsck: {done.stdout}{done.stderr}"] if done.returncode else []


def read_store(folder: Path, history: History) -> None:
    """Write down the journal's decisions and the dead letters of a store that nobody has open."""
    store = Store(folder)
    try:
        for entry in store.journal.follow(0):
            if entry.record.HasField("decision"):
                history.stored.append(Stored(entry.record.decision, entry.change))
        number = 0
        while page := store.dead_letters(number, _AGAIN_BATCH):
            number = page[-1].number
            places = (letter.record.position for letter in page)
            history.dead_letters += [(place.partition, place.offset) for place in places if place is not None]
    finally:
        store.close()


def _ids(hits: Iterable[knowledge_pb.Hit]) -> list[str]:
    return [hit.change.item_id for hit in hits]
