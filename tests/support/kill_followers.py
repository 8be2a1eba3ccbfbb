"""Who follows a namespace of a service that is killed: a subscriber that writes all down, and a replica in its file."""

import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from epistream.clients import SnapshotEnd, SnapshotItems, SyncReplica, SyncSubscriber
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from epistream.v1 import sync_service_pb2 as sync_pb
from tests.support.kill_check import PATIENCE_SECONDS, History, Stream
from tests.support.kill_producers import OVER_KAFKA
from tests.support.kill_replica import CONSUMER
from tests.support.service import RunningService

HITS: Final = 20
_QUICK_TO_COME_BACK: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
)


class Recorder(threading.Thread):
    """A subscriber to one namespace that has nothing of ours in it: streams over bare gRPC, one after the other."""

    def __init__(self, address: str, namespace: str, history: History) -> None:
        super().__init__(name=f"recorder of {namespace}")
        self.revision = 0
        """Up to here it was sent."""
        self.revisions_over_kafka = 0
        """So many of them came in over Kafka."""
        self._address, self._namespace, self._history = address, namespace, history
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
                        self._history.faults.append(
                            f"the subscription to {self._namespace} ended: {code} {error.details()}"
                        )
                        return

    def wait_for(self, revision: int) -> None:
        """Wait until it was sent everything up to there."""
        what = f"the push of revision {revision} of {self._namespace}"
        self._history.wait_until(lambda: self.revision >= revision, what)

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
        wanted = sync_pb.Subscription(namespace=self._namespace, consumer="recorder", after_revision=self.revision)
        self._call = messages = subscribe(iter([sync_pb.SubscribeRequest(subscribe=wanted)]), wait_for_ready=True)
        if self._stopped:
            messages.cancel()
        stream = Stream(self.revision)
        self._history.namespaces[self._namespace].streams.append(stream)
        for message in messages:
            changes = message.changes.changes
            stream.changes += changes
            self.revision = changes[-1].revision if changes else self.revision
            self.revisions_over_kafka += sum(c.knowledge.provenance.producer == OVER_KAFKA for c in changes)


@contextmanager
def recording(address: str, namespace: str, history: History) -> Iterator[Recorder]:
    """A subscriber that runs as long as the block."""
    recorder = Recorder(address, namespace, history)
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.stop()


class ReplicaProcess:
    """A replica of one namespace in a process of its own, over one file."""

    def __init__(self, service: RunningService, namespace: str, history: History) -> None:
        self._path = service.folder.with_name(f"replica-{namespace}")
        self._address, self._namespace, self._history = service.address, namespace, history
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._process is None:
            command = [sys.executable, "-m", "tests.support.kill_replica"]
            arguments = [str(self._path), self._address, self._namespace]
            self._process = subprocess.Popen([*command, *arguments], stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """Kill it, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is not None:
                self._history.faults.append(f"the replica of {self._namespace} could not go on")
            process.kill()
            process.wait()

    def write_down(self, queries: NDArray[np.float32]) -> None:
        """Open its file again here, and note what it holds and what it finds."""
        seen = self._history.namespaces[self._namespace]
        with SyncReplica(self._path, self._address, self._namespace, CONSUMER) as replica:
            replica.wait_current()
            if replica.counts.resyncs or replica.counts.faults:
                self._history.faults.append(
                    f"the replica of {self._namespace} did not go on from its file: {replica.counts}"
                )
            changes = (replica.get(item_id) for item_id in replica.item_ids())
            seen.replica = {change.item_id: change for change in changes if change is not None}
            seen.found_by_replica = [ids(replica.search_vector(query, HITS)) for query in queries]


def snapshot(address: str, namespace: str) -> dict[str, pb.Change]:
    """What the service says is known now in a namespace."""
    items: dict[str, pb.Change] = {}
    with SyncSubscriber(address, namespace, "snapshot") as subscriber:
        for event in subscriber:
            if isinstance(event, SnapshotItems):
                items |= {change.item_id: change for change in event.changes}
            if isinstance(event, SnapshotEnd):
                return items
    raise AssertionError("the snapshot did not end")


def ids(hits: Iterable[knowledge_pb.Hit]) -> list[str]:
    """The items of some hits, the nearest first."""
    return [hit.change.item_id for hit in hits]
