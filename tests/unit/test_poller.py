"""What the poller could not tell is told later, and nothing twice. A consumer of the test's own stands for Kafka."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from kafka.errors import CorruptRecordError

from epistream.indexer.model import Place
from epistream.services.kafka import clients, poller
from epistream.services.kafka.backlog import BATCH_BYTES_MAX
from epistream.services.kafka.poller import Poller


class Partition(NamedTuple):
    topic: str
    partition: int


class Read(NamedTuple):
    topic: str
    partition: int
    offset: int
    value: bytes
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = 0
    leader_epoch: int = -1


class _Done(BaseException):
    """Ends a poller that would read for ever."""


class _Kafka:
    """Partitions of records, read by one consumer after the other."""

    def __init__(self, *values: Sequence[bytes]) -> None:
        self.partitions = [
            [Read("facts", number, offset, value) for offset, value in enumerate(of_one)]
            for number, of_one in enumerate(values)
        ]
        self.at: dict[int, int] = {}
        self.clients: list[str] = []
        self.corrupt = b"?"

    @contextmanager
    def consumer(self, _bootstrap: str, client_id: str, _security: object) -> Iterator["_Kafka"]:
        self.at = {}
        self.clients.append(client_id)
        yield self

    def assign(self, partitions: object) -> None:
        pass

    def end_offsets(self, partitions: Sequence[Any]) -> Mapping[Any, int]:
        return {one: len(self.partitions[one.partition]) for one in partitions}

    def assignment(self) -> Sequence[object]:
        return ()

    @property
    def _subscription(self) -> "_Kafka":
        return self

    def seek(self, partition: Any, at: Any) -> None:
        self.at[partition.partition] = at.offset

    def poll(self, _timeout_ms: int, max_records: int) -> Mapping[Partition, Sequence[Read]]:
        polled = {}
        for number, offset in self.at.items():
            if records := self.partitions[number][offset : offset + max_records]:
                if records[0].value == self.corrupt:
                    raise CorruptRecordError
                polled[Partition("facts", number)] = records
                self.at[number] = offset + len(records)
        if not polled:
            raise _Done
        return polled


class _Service:
    """Keeps what it is told, but fails at some messages."""

    def __init__(self, fail_at: int) -> None:
        self.fail_at, self.calls = fail_at, 0
        self.polled: list[tuple[int, int, list[int]]] = []
        self.times_us: list[int | None] = []
        self.stopped: list[Any] = []

    def tell(self, **message: Any) -> None:
        if "stopped" in message:
            self.stopped.append(message["stopped"][:3])
        if message.get("polled"):
            self.calls += 1
            if self.calls == self.fail_at:
                raise MemoryError("for the test")
            _, number, following, parcels = message["polled"]
            self.polled.append((number, following.offset, [parcel[0][5][2] for parcel in parcels]))
            self.times_us += [parcel[0][4] for parcel in parcels]


def read(kafka: _Kafka, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "consumer", kafka.consumer)
    monkeypatch.setattr(poller, "_RETRY_SECONDS", (0.0,))
    one = Poller("nowhere", service)
    one.begin({("facts", number): Place(0) for number in range(len(kafka.partitions))})
    with pytest.raises(_Done):
        one.run()


@pytest.mark.parametrize("fail_at", [1, 2, 3, 99])
def test_what_could_not_be_told_is_read_again(fail_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    service = _Service(fail_at)
    read(_Kafka([b"a"] * 700, [b"b"] * 600), service, monkeypatch)
    for number, count in ((0, 700), (1, 600)):
        told = [(following, offsets) for at, following, offsets in service.polled if at == number]
        assert [offset for _, offsets in told for offset in offsets] == list(range(count))
        assert all(following == offsets[-1] + 1 for following, offsets in told)


BOTH: Mapping[tuple[str, int], Place | None] = {("facts", number): Place(0) for number in range(2)}
LEFT: Mapping[tuple[str, int], Place | None] = {("facts", 0): None}


@pytest.mark.parametrize("told", [(BOTH, LEFT, BOTH), (LEFT, BOTH)])
def test_a_partition_that_is_left_is_not_read_whatever_is_told_afterwards(
    told: Sequence[Mapping[tuple[str, int], Place | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Any = _Service(99)
    monkeypatch.setattr(clients, "consumer", _Kafka([b"a"] * 3, [b"b"] * 3).consumer)
    one = Poller("nowhere", service)
    for starts in told:
        one.begin(starts)
    with pytest.raises(_Done):
        one.run()
    assert service.polled == [(1, 3, [0, 1, 2])]


def test_large_records_are_told_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    service = _Service(99)
    half = b"x" * (BATCH_BYTES_MAX // 2)
    read(_Kafka([half, half, half, half + half + b"x", b"y"]), service, monkeypatch)
    assert [offsets for _, _, offsets in service.polled] == [[0, 1], [2], [3], [4]]


def test_headers_weigh_what_they_take_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    service, kafka = _Service(99), _Kafka([b"x"] * 4)
    many = [("", b"")] * 50_000
    kafka.partitions = [[one._replace(headers=many) for one in kafka.partitions[0]]]
    read(kafka, service, monkeypatch)
    assert [offsets for _, _, offsets in service.polled] == [[0], [1], [2], [3]]


def test_a_time_that_a_submission_could_not_say_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers take any 64 bits; a store and a message do not."""
    service, kafka = _Service(99), _Kafka([b"x"] * 6)
    end = 7_258_118_400_000  # 2200-01-01
    times = [-1, 0, end - 1, end, 1_700_000_000_000_000_000, 2**63 - 1]
    kafka.partitions = [[one._replace(timestamp=time) for one, time in zip(kafka.partitions[0], times, strict=True)]]
    read(kafka, service, monkeypatch)
    assert service.times_us == [None, 0, (end - 1) * 1000, None, None, None]


def test_what_cannot_be_read_is_looked_for_only_where_there_is_something_to_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service, kafka = _Service(99), _Kafka(*[[]] * 25, [b"?"], *[[]] * 25, [b"a"])
    read(kafka, service, monkeypatch)
    assert service.stopped == [["facts", 25, "UNREADABLE"]]
    assert service.polled == [(51, 1, [0])]
    assert kafka.clients.count("epistream-intake-probe") == 3, "to ask where each ends, and for two that have more"
