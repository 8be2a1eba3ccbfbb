"""What stands beside the service: a Kafka, a producer that keeps a pace, and a replica that notes when it had what.

The last two run in interpreters of their own, so that no figure is made better by sharing one: `python -m bench.parts
replica …`.
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray

from bench.records import NAMESPACE
from epistream.clients import Credentials, SyncReplica
from epistream.clients.kafka_producer import CappedProducer, ProducerLimits
from epistream.services.kafka.local import LocalKafka
from epistream.services.kafka.topics import ensure_topics
from epistream.wire import topics
from epistream.wire.errors import Unavailable
from epistream.wire.kafka_security import PLAINTEXT, KafkaSecurity
from tests.support.service import RunningService
from tests.support.waits import wait_until

WAIT_SECONDS: Final = 600
"""After so long without what is waited for, a benchmark fails: more than any of it takes on a slow machine."""
_UNTIL_LOOK_SECONDS: Final = 0.1
_END_SECONDS: Final = 60
_LOOK_SECONDS: Final = 0.5
"""How often a replica to which nothing comes looks whether it is to end."""
_PAGE: Final = 200
_PAGE_SECONDS: Final = 0.01
"""A paced producer sends what is due so often."""
_SUBMITTED_TIME: Final = b"\x6a"
"""Field 13 of a submission, length-delimited: appended to its encoding when it is sent."""


class Sent(NamedTuple):
    """A record for the producer."""

    key: bytes
    value: bytes
    topic: str = topics.EXPERT
    headers: Sequence[tuple[str, bytes]] = (("content-type", b"application/protobuf"),)


def records_asked_for(description: str | None, default: int) -> int:
    """How many records the command line asks for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--records", type=int, default=default)
    records: int = parser.parse_args().records
    return records


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds, looking so seldom that it takes nothing from what is measured."""
    wait_until(condition, what, WAIT_SECONDS, pause_seconds=_UNTIL_LOOK_SECONDS)


def summed(service: RunningService, metric: str, label: str = "") -> float:
    """The sum of a metric's samples that have this label, as `source="kafka"`, or of all."""
    lines = [line for line in service.metrics_page().splitlines() if line.startswith(f"{metric}{{") and label in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@contextmanager
def kafka_beside(messages: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[Path, str]]:
    """A new folder with the messages in the file `records`, and the address of a Kafka of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_encoded(folder / "records", messages)
        with LocalKafka(folder / "kafka") as kafka:
            ensure_topics(kafka.bootstrap)
            yield folder, kafka.bootstrap


def produce(
    bootstrap: str, encoded: Path, rate: float, first: int, count: int, security: KafkaSecurity = PLAINTEXT
) -> None:
    """Send records of a file of encoded submissions, at `rate` a second; 0 is as fast as it goes.

    The clock starts when the first one is acknowledged, which counts like the others: with it kafka-python learns the
    topic, which takes it 100 ms.
    """
    messages = list(read_encoded(encoded))[first : first + count]
    with CappedProducer(bootstrap, ProducerLimits(), security=security) as producer:
        key, message = messages[0]
        producer.send_page([Sent(key, message + _stamp(time.time_ns()))]).result(120)
        begin, begin_ns = time.perf_counter(), time.time_ns()
        print(json.dumps({"begin": begin_ns / 1e9}), flush=True)
        sent, pages = 1, []
        while sent < count:
            due = min(count, 1 + int(rate * (time.perf_counter() - begin))) if rate else count
            page = [
                # Stamped with the time when it was due: what a late producer costs is counted.
                Sent(key, message + _stamp(begin_ns + int(1e9 * number / rate) if rate else time.time_ns()))
                for number, (key, message) in enumerate(messages[sent : min(due, sent + _PAGE)], sent)
            ]
            if page:
                pages.append(producer.send_page(page))
                sent += len(page)
            if sent == due < count:
                time.sleep(_PAGE_SECONDS)
        for page_sent in pages:
            page_sent.result(120)
        print(json.dumps({"end": time.time()}), flush=True)


def replica(address: str, folder: Path, credentials: Credentials | None = None) -> None:
    """Follow the namespace until standard input is closed; then write down which revision was there when."""
    times: list[float] = []
    revisions: list[int] = []
    done = threading.Event()
    with SyncReplica(folder / "replica", address, NAMESPACE, consumer="bench", credentials=credentials) as copy:

        def note() -> None:
            if (revision := copy.revision) != revisions[-1]:
                times.append(time.time())
                revisions.append(revision)

        def follow() -> None:
            while not done.is_set():
                with suppress(Unavailable):  # nothing came in this time
                    copy.wait_for(revisions[-1] + 1, _LOOK_SECONDS)
                note()

        copy.wait_current()
        revisions.append(copy.revision)
        times.append(time.time())
        following = threading.Thread(target=follow, daemon=True)
        following.start()
        print(json.dumps({"revision": copy.revision}), flush=True)
        for line in sys.stdin:
            copy.wait_for(int(line), 600)
            print(json.dumps({"revision": copy.revision, "time": time.time()}), flush=True)
        done.set()
        following.join()
        note()
        submitted = {
            change.revision: change.submitted_time.ToNanoseconds() / 1e9
            for change in (copy.get(item) for item in copy.item_ids())
            if change is not None
        }
    np.savez(folder / "applied.npz", times=times, revisions=revisions)
    np.savez(folder / "submitted.npz", revisions=list(submitted), times=list(submitted.values()))


def write_encoded(path: Path, messages: Iterator[tuple[bytes, bytes]]) -> None:
    """Write keys and encoded submissions, each with its length; on the disk when it returns.

    Else Linux would write these 90 MB half a minute later, while the disk is being measured.
    """
    with path.open("wb") as file:
        for key, message in messages:
            file.write(struct.pack("<II", len(key), len(message)) + key + message)
        file.flush()
        os.fsync(file.fileno())


def read_encoded(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Read what `write_encoded` wrote."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        key, message = struct.unpack_from("<II", data, at)
        at += 8
        yield data[at : at + key], data[at + key : at + key + message]
        at += key + message


class Asked:
    """A Python process beside this one, which answers lines.

    Attributes:
        pid: its process.
    """

    def __init__(self, name: str, *arguments: str) -> None:
        """Start it, with these arguments of Python. SystemExit is raised by its name where it fails."""
        self._name = name
        self._process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self._said = SimpleQueue[str]()
        threading.Thread(target=self._listen, daemon=True).start()

    def ask(self, line: str) -> str:
        """Its answer to a line."""
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)
        return self.hear()

    def hear(self) -> str:
        """The next line that it says, in time."""
        try:
            line = self._said.get(timeout=WAIT_SECONDS)
        except Empty:
            self.kill()
            raise SystemExit(f"{self._name} said nothing for {WAIT_SECONDS} seconds") from None
        if not line:
            raise SystemExit(f"{self._name} failed")
        return line

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def finish(self, seconds: float = _END_SECONDS) -> None:
        """Ask nothing more, and wait until it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            failed = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise SystemExit(f"{self._name} did not end within {seconds:g} seconds") from None
        if failed:
            raise SystemExit(f"{self._name} failed")

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line)
        self._said.put("")  # that is all


class ReplicaProcess:
    """The replica in its process.

    Attributes:
        pid: its process.
    """

    def __init__(self, address: str, folder: Path, credentials: Credentials | None = None) -> None:
        self._folder = folder
        shown = [str(credentials.tls_ca_file), str(credentials.token_file)] if credentials is not None else []
        self._process = Asked("the replica", "-m", "bench.parts", "replica", address, str(folder), *shown)
        self.pid = self._process.pid
        self._process.hear()

    def wait_for(self, revision: int) -> float:
        """Wait until it has applied a revision; the time at which it had."""
        return float(json.loads(self._process.ask(str(revision)))["time"])

    def finish(self, after: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """End it. Returns when each change after a revision was submitted, and when applied, as `time.time` counts."""
        self._process.finish()
        applied, submitted = np.load(self._folder / "applied.npz"), np.load(self._folder / "submitted.npz")
        asked = submitted["revisions"] > after
        at = np.searchsorted(applied["revisions"], submitted["revisions"][asked])
        return submitted["times"][asked], applied["times"][at]


@contextmanager
def stopped(*processes: int, alone: bool = False) -> Iterator[None]:
    """These processes, and unless `alone` those that they have started, stand still while the block runs."""
    parents = [psutil.Process(process) for process in processes]
    children = [] if alone else [child for parent in parents for child in parent.children(recursive=True)]
    all_ = [*parents, *children]
    try:
        for one in all_:
            with suppress(psutil.NoSuchProcess):
                one.suspend()
        yield
    finally:
        for one in all_:
            with suppress(psutil.NoSuchProcess):
                one.resume()


@contextmanager
def producing(
    bootstrap: str, encoded: Path, rate: float, first: int, count: int, security: KafkaSecurity = PLAINTEXT
) -> Iterator[float]:
    """Produce in another process while the block runs; gives the time when the first record was acknowledged."""
    given = [bootstrap, str(encoded), str(rate), str(first), str(count), security.to_argument()]
    process = Asked("the producer", "-m", "bench.parts", "produce", *given)
    try:
        yield float(json.loads(process.hear())["begin"])
        process.finish(WAIT_SECONDS)
    finally:
        process.kill()


def _stamp(now_ns: int) -> bytes:
    """`submitted_time` as protobuf encodes it: seconds and nanoseconds."""
    body = b"\x08" + _varint(now_ns // 1_000_000_000) + b"\x10" + _varint(now_ns % 1_000_000_000)
    return _SUBMITTED_TIME + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)
    as_producer = roles.add_parser("produce")
    for name, kind in (("bootstrap", str), ("encoded", Path), ("rate", float), ("first", int), ("count", int)):
        as_producer.add_argument(name, type=kind)
    as_producer.add_argument("security", type=KafkaSecurity.from_argument)
    as_replica = roles.add_parser("replica")
    as_replica.add_argument("address")
    as_replica.add_argument("folder", type=Path)
    as_replica.add_argument("shown", nargs="*", metavar="CA TOKEN", help="files to show who it is")
    given = parser.parse_args()
    if given.role == "produce":
        produce(given.bootstrap, given.encoded, given.rate, given.first, given.count, given.security)
    else:
        shown = Credentials(tls_ca_file=given.shown[0], token_file=given.shown[1]) if given.shown else None
        replica(given.address, given.folder, shown)
