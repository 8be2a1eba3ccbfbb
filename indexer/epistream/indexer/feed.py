"""The feed: the journal as it is pushed. No sockets here, and no queues: a subscription is a cursor.

Every change is encoded once, when it is committed; a batch is those bytes, joined. Subscriptions at the same cursor
with the same wishes share one batch. What is recent is served from memory, what is older from the journal, and both
give the same bytes.
"""

import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from epistream.indexer.catalog import Catalog, Committed
from epistream.indexer.filters import is_empty, matches
from epistream.indexer.journal import Entry
from epistream.indexer.namespaces import Namespaces, NamespaceState
from epistream.indexer.store import Store
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Resync, State

RECENT_BYTES_MAX: Final = 16 * 1024 * 1024
"""How much of a namespace's newest changes is kept in memory."""

BATCH_BYTES_MAX: Final = 1_000_000
"""A batch stops after this many bytes, so that no message passes gRPC's default limit of 4 MiB.

A change is at most about 1.1 MB.
"""

_PAGE: Final = 500
"""How many changes are looked at for one batch at most, where few of them match."""

_SHARED_MAX: Final = 32
"""How many batches are kept for subscriptions at the same cursor."""

_CHANGES_TAG: Final = b"\x0a"
"""Field 1 of `epistream.v1.Changes`, length-delimited."""

_EMBEDDING_TAG: Final = b"\x7a"
"""Field 15 of `epistream.v1.Change`, length-delimited. Fields may stand in any order: it is appended to the change."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some changes, as they go on the wire."""

    body: bytes
    """The encoded `epistream.v1.Changes`; empty when nothing matched."""
    count: int
    """How many changes are in it."""
    last_revision: int
    """Where the cursor stands after it: everything that matches up to here is in it or was before it."""
    commit_times_us: tuple[int, ...]
    """When its changes were committed, microseconds."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a subscription wants of every batch."""

    filter: bytes = b""
    """The encoded filter; empty for everything."""
    include_embeddings: bool = False
    include_late: bool = False

    @classmethod
    def of(
        cls,
        filter: pb.Filter | None,  # noqa: A002 - the word of the contract
        *,
        include_embeddings: bool,
        include_late: bool = False,
    ) -> "Wish":
        """The wish of a subscription."""
        wanted = b"" if filter is None or is_empty(filter) else filter.SerializeToString(deterministic=True)
        return cls(wanted, include_embeddings, include_late)


@dataclass(frozen=True, slots=True)
class _Frame:
    """One change, framed as an element of `Changes`."""

    revision: int
    plain: bytes
    full: bytes
    """With the embedding."""
    change: pb.Change
    before: pb.Knowledge | None
    """What the item said until then, for filters."""


class _Recent:
    """The newest frames of a namespace, in order, without holes."""

    def __init__(self) -> None:
        self.frames: deque[_Frame] = deque()
        self.bytes = 0

    def append(self, frame: _Frame) -> None:
        self.frames.append(frame)
        self.bytes += len(frame.plain) + len(frame.full)
        while self.bytes > RECENT_BYTES_MAX and len(self.frames) > 1:
            oldest = self.frames.popleft()
            self.bytes -= len(oldest.plain) + len(oldest.full)

    def after(self, revision: int) -> list[_Frame] | None:
        """The frames above `revision`, at the cost of these; None when some of them are no longer here."""
        if not self.frames or self.frames[0].revision > revision + 1:
            return None
        newest_first = islice(reversed(self.frames), self.frames[-1].revision - revision)
        return list(newest_first)[::-1]


class Feed:
    """What subscriptions read."""

    def __init__(self, store: Store, namespaces: Namespaces) -> None:
        self._store, self._namespaces = store, namespaces
        self._lock = threading.Lock()
        self._recent: defaultdict[str, _Recent] = defaultdict(_Recent)
        self._shared: OrderedDict[tuple[str, int, Wish], Batch] = OrderedDict()
        self._wakes: list[Callable[[], None]] = []

    def publish(self, entries: Sequence[Entry]) -> None:
        """Take in entries that are durable and searchable, move the heads, and wake the subscriptions once.

        Also where nothing changed: what was merged is news to the collapse watch. Only the writer thread.
        """
        changed = [entry for entry in entries if entry.change is not None]
        if changed:
            self._take_in(changed)
        self.wake()

    def _take_in(self, changed: Sequence[Entry]) -> None:
        with self._store.newest() as catalog:  # by the writer's own connection: it opens no file
            frames = [_frame(entry, self._before(catalog, entry)) for entry in changed]
        with self._lock:
            self._shared.clear()
            newest: dict[str, _Frame] = {}
            for frame in frames:
                name = frame.change.namespace
                self._recent[name].append(frame)
                newest[name] = frame
            for name, frame in newest.items():
                state = self._namespaces.state(name)
                state.head, state.commit_us = frame.revision, frame.change.commit_time.ToMicroseconds()

    def wake(self) -> None:
        """Wake the subscriptions once. Only the writer thread."""
        with self._lock:
            wakes = list(self._wakes)
        for wake in wakes:
            wake()

    def subscribe_to_commits(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have `wake` called on the writer thread after each commit; it must return at once. Returns what ends it."""
        with self._lock:
            self._wakes.append(wake)

        def end() -> None:
            with self._lock:
                self._wakes.remove(wake)

        return end

    def head(self, namespace: str) -> int:
        """The newest revision that is durable and searchable. Raises NotFound."""
        return self._namespaces.state(namespace).head

    def alarms(self, namespace: str) -> Mapping[tuple[str, int], pb.CollapseAlarm]:
        """The collapse alarms that are on, by producer and modality. Raises NotFound."""
        return self._namespaces.state(namespace).alarms

    def floor(self, namespace: str) -> int:
        """The oldest revision that can be resumed from. Raises NotFound."""
        return self._namespaces.state(namespace).floor

    def check_start(self, namespace: str, after: int, epoch: str = "") -> None:
        """Whether a subscription can go on after a revision.

        Raises:
            NotFound: there is no such namespace.
            Resync: it cannot, with the reason EPOCH_MISMATCH, FUTURE_REVISION or COMPACTED.
        """
        state = self._namespaces.state(namespace)
        if epoch and epoch != self._store.epoch:
            text = f"revision {after} is of the store {epoch}, this is {self._store.epoch}: take a snapshot"
            raise self._resync(state, "EPOCH_MISMATCH", text)
        if after > state.head:
            text = f"revision {after} is beyond the head, which is {state.head}"
            raise self._resync(state, "FUTURE_REVISION", text)
        if after < state.floor:
            text = f"revision {after} is no longer retained, the oldest is {state.floor}: take a snapshot"
            raise self._resync(state, "COMPACTED", text)

    def recent(self, namespace: str, after: int, wish: Wish, max_bytes: int = BATCH_BYTES_MAX) -> Batch | None:
        """The changes above `after`, from memory; None when memory no longer holds them. Never blocks for long.

        Subscriptions that ask for the same get the same object.
        """
        state = self._namespaces.state(namespace)
        key = (namespace, after, wish)
        with self._lock:
            if after >= state.head:
                return Batch(b"", 0, after, ())
            batch = self._shared.get(key)
            if batch is not None:
                return batch
            recent = self._recent.get(namespace)
            frames = recent.after(after) if recent is not None else None
        if frames is None:
            return None
        batch = _batch(frames, wish, after, max_bytes)
        with self._lock:
            self._shared[key] = batch
            if len(self._shared) > _SHARED_MAX:
                self._shared.popitem(last=False)
        return batch

    def replay(self, namespace: str, after: int, wish: Wish, max_bytes: int = BATCH_BYTES_MAX) -> Batch:
        """The changes above `after`, from the journal. Blocks: run it in a thread. Memory is bounded by the batch.

        Raises:
            Resync: COMPACTED, when `after` is no longer retained.
        """
        self.check_start(namespace, after)
        state = self._namespaces.state(namespace)
        number, for_filter = state.config.number, bool(wish.filter)
        with self._store.reader() as catalog, closing(catalog.changes(number, after, state.head, _PAGE)) as rows:
            frames = (self._read_frame(catalog, state, row, for_filter=for_filter) for row in rows)
            return _batch(frames, wish, after, max_bytes)

    def snapshot(self, namespace: str, at: int, after: int, wish: Wish, max_bytes: int = BATCH_BYTES_MAX) -> Batch:
        """Versions that are in answers at the revision `at` and were made above `after`, in order.

        `last_revision` is `at` when there are no more.
        Blocks: run it in a thread. Memory is bounded by the batch, whatever the size of the namespace.
        """
        number = self._namespaces.state(namespace).config.number
        with self._store.reader() as catalog:
            with closing(catalog.live(number, at, after, _PAGE)) as rows:
                frames = (_framed(row, pb.Change.FromString(row.change), None) for row in rows)
                batch = _batch(frames, wish, after, max_bytes)
            is_whole = not list(catalog.live(number, at, batch.last_revision, 1))
        return replace(batch, last_revision=at) if is_whole else batch

    def _read_frame(self, catalog: Catalog, state: NamespaceState, row: Committed, *, for_filter: bool) -> _Frame:
        change = pb.Change.FromString(row.change)
        before = None
        if for_filter and change.replaced_revision:
            replaced = catalog.committed(state.config.number, change.replaced_revision)
            before = _visible(pb.Change.FromString(replaced.change))
        return _framed(row, change, before)

    def _before(self, catalog: Catalog, entry: Entry) -> pb.Knowledge | None:
        change = entry.change
        if change is None or not change.replaced_revision:
            return None
        return _visible(pb.Change.FromString(catalog.committed(entry.namespace, change.replaced_revision).change))

    def _resync(self, state: NamespaceState, reason: str, text: str) -> Resync:
        return Resync(text, reason=reason, state=State(self._store.epoch, state.head, state.floor))


def _batch(frames: Iterable[_Frame], wish: Wish, after: int, max_bytes: int) -> Batch:
    """As many of `frames` as fit, at least one."""
    wanted = pb.Filter.FromString(wish.filter) if wish.filter else None
    parts: list[bytes] = []
    times: list[int] = []
    size, last = 0, after
    for frame in frames:
        part = _part(frame, wish, wanted)
        if part and parts and size + len(part) > max_bytes:
            break
        last = frame.revision
        if part:
            parts.append(part)
            times.append(frame.change.commit_time.ToMicroseconds())
            size += len(part)
    return Batch(b"".join(parts), len(parts), last, tuple(times))


def _part(frame: _Frame, wish: Wish, wanted: pb.Filter | None) -> bytes:
    """What a subscription gets of a change: all of it, that the item left its filter, or nothing.

    Of a late one that was not asked for, that it was passed over: without a filter every revision is waited for.
    """
    if frame.change.kind == pb.CHANGE_KIND_LATE and not wish.include_late:
        return _left(frame.change, "") if wanted is None else b""
    whole = frame.full if wish.include_embeddings else frame.plain
    if wanted is None:
        return whole
    now = _visible(frame.change)
    if now is not None and matches(wanted, now):
        return whole
    if frame.before is None or not matches(wanted, frame.before):
        return b""
    return whole if now is None else _left(frame.change, frame.change.item_id)


def _visible(change: pb.Change) -> pb.Knowledge | None:
    """What the item says after a change; None when it is retracted."""
    return None if change.kind == pb.CHANGE_KIND_RETRACTED else change.knowledge


def _left(change: pb.Change, item_id: str) -> bytes:
    left = pb.Change(
        namespace=change.namespace,
        revision=change.revision,
        item_id=item_id,
        version=change.version if item_id else 0,
        kind=pb.CHANGE_KIND_LEFT,
        commit_time=change.commit_time,
        replaced_revision=change.replaced_revision,
    ).SerializeToString(deterministic=True)
    return _CHANGES_TAG + _varint(len(left)) + left


def _frame(entry: Entry, before: pb.Knowledge | None) -> _Frame:
    if entry.change is None or entry.change_bytes is None:
        raise ValueError(f"journal entry {entry.sequence} has no change")
    return _framed(Committed(entry.change.revision, entry.change_bytes, entry.embedding), entry.change, before)


def _framed(row: Committed, change: pb.Change, before: pb.Knowledge | None) -> _Frame:
    plain = _CHANGES_TAG + _varint(len(row.change)) + row.change
    if row.embedding is None:
        return _Frame(row.revision, plain, plain, change, before)
    tail = _EMBEDDING_TAG + _varint(len(row.embedding))
    size = len(row.change) + len(tail) + len(row.embedding)
    full = b"".join((_CHANGES_TAG, _varint(size), row.change, tail, row.embedding))
    return _Frame(row.revision, plain, full, change, before)


def _varint(value: int) -> bytes:
    """A length as protobuf writes it (protobuf.dev/programming-guides/encoding)."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
