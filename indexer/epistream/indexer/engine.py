"""The engine: everything over one data folder, built once, top to bottom."""

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from epistream.indexer import standing
from epistream.indexer.anchors import Anchors
from epistream.indexer.clock import Clock, SystemClock
from epistream.indexer.collapse_watch import CollapseWatch
from epistream.indexer.embed import Embedder
from epistream.indexer.feed import Feed
from epistream.indexer.index import (
    FaissIndex,
    IndexFactory,
    Row,
    Searchable,
    Unusable,
    load_snapshot,
    save_snapshot,
)
from epistream.indexer.journal import Entry
from epistream.indexer.knowledge import Knowledge
from epistream.indexer.namespaces import Namespaces, NamespaceState
from epistream.indexer.opening import INDEX, Opening
from epistream.indexer.outbox import Outbox
from epistream.indexer.paging import ANSWER_BYTES_MAX
from epistream.indexer.pipeline import Pipeline
from epistream.indexer.resolutions import Resolutions
from epistream.indexer.reviews import Reviews
from epistream.indexer.signals.kept import KeptSignals
from epistream.indexer.store import Store
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Broken
from epistream.wire.topics import CARRIED

_log = logging.getLogger(__name__)

_ROWS: Final = 10_000
"""How many versions are read into the index at a time."""


class Engine:
    """The store, the stages over it, and what is derived from it.

    Attributes:
        epoch: names the store.
        store: the journal, the views and the positions in Kafka.
        namespaces: made and described here; making and changing runs on the writer thread.
        anchors: what synthetic knowledge is measured against.
        collapse_watch: finds who says less and less.
        pipeline: takes knowledge in.
        reviews: what waits for people.
        resolutions: conflicts, and how they end.
        signals: what was last measured of each namespace.
        knowledge: answers questions.
        feed: what is pushed.
        outbox: what Kafka must be told.
        index_seconds: how long it took to load the indexes, and to make what their files lacked.
    """

    def __init__(
        self,
        folder: Path,
        embedder: Embedder | None = None,
        *,
        clock: Clock | None = None,
        new_index: IndexFactory = FaissIndex,
        carried: Mapping[str, Collection[pb.Origin.ValueType]] = CARRIED,
        opening: Opening | None = None,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> None:
        """Open the store in `folder`, making it if there is none, and load or rebuild the index. Blocks.

        `carried` has the origins that each Kafka topic carries; a topic that is not in it carries all. `opening` is
        told how far it is. `answer_bytes_max` bounds an answer.

        Raises:
            Unavailable: another process has the folder open.
            Broken: the store cannot be read.
        """
        clock = clock or SystemClock()
        self._index_folder, self._new_index = folder / "index", new_index
        opening = opening or Opening()
        self.store = Store(folder, opening)
        self.epoch = self.store.epoch
        self.namespaces = Namespaces(self.store, embedder, clock, lambda dimension: Searchable(new_index(dimension)))
        begun = time.monotonic()
        for state in self.namespaces.states():
            self._load(state, opening)
        self.index_seconds = time.monotonic() - begun
        self.anchors = Anchors()
        self.signals = KeptSignals(folder, self.epoch)
        self.knowledge = Knowledge(self.store, self.namespaces, embedder, self.signals, answer_bytes_max)
        self.feed = Feed(self.store, self.namespaces)
        self.collapse_watch = CollapseWatch(self.store, self.namespaces, self.anchors, clock, self.feed.wake)
        self.outbox = Outbox(self.store.readers)
        self.pipeline = Pipeline(self.store, self.namespaces, embedder, clock, self._publish, carried)
        self.reviews = Reviews(self.store, self.namespaces, self.pipeline, clock, answer_bytes_max)
        self.resolutions = Resolutions(self.store, self.namespaces, self.pipeline, clock, answer_bytes_max)

    def close(self) -> None:
        """Write the index files and let go of the store. Nothing may be in use any more."""
        for state in self.namespaces.states():
            number = state.config.number
            try:
                save_snapshot(state.searchable, self._index_folder, epoch=self.epoch, namespace=number)
                standing.save(state.standing, self._index_folder, number, epoch=self.epoch)
            except Broken as error:
                _log.warning("%s The index will be made from the journal at the next start.", error.message)
        self.store.close()

    def _publish(self, entries: Sequence[Entry]) -> None:
        """Make durable entries searchable, then tell the feed: what is pushed can be found."""
        by_namespace: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            if entry.change is not None:
                by_namespace[entry.change.namespace].append(entry)
        for name, changed in by_namespace.items():
            _index(self.namespaces.state(name).searchable, changed)
        self.feed.publish(entries)

    def _load(self, state: NamespaceState, opening: Opening) -> None:
        """Load a namespace's index from its file, or make it from the store where there is none that fits."""
        number, head = state.config.number, state.head
        index = self._new_index(state.config.encoder.dimension)
        loaded = load_snapshot(self._index_folder, index, epoch=self.epoch, namespace=number, head_revision=head)
        if isinstance(loaded, Searchable):
            state.searchable = loaded
        elif isinstance(loaded, Unusable):
            _log.warning("%s The index is made from the journal.", loaded.reason)
        _catch_up(self.store, state, opening)
        with self.store.reader() as catalog:
            dimension = state.config.encoder.dimension
            state.standing = standing.load(self._index_folder, catalog, number, dimension, epoch=self.epoch)


def _catch_up(store: Store, state: NamespaceState, opening: Opening) -> None:
    """Give a namespace's index what the store has and it does not."""
    number, searchable = state.config.number, state.searchable
    at = after = searchable.last_revision
    opening.expect(INDEX, state.head - after)
    with store.reader() as catalog:
        labels = catalog.attributes(number, after)
        rows = catalog.index_rows(number, after)
        while page := list(islice(rows, _ROWS)):
            searchable.append(
                [Row(r.revision, r.origin, r.modality, r.producer, labels.get(r.revision, {})) for r in page],
                np.stack([np.frombuffer(r.embedding, "<f4") for r in page]),
            )
            opening.did(INDEX, page[-1].revision - at)
            at = page[-1].revision
        no_vectors = np.empty((0, searchable.index.dimension), np.float32)
        searchable.append((), no_vectors, catalog.ends(number, after))
    opening.did(INDEX, state.head - at)


def _index(searchable: Searchable, entries: Sequence[Entry]) -> None:
    """Put committed versions into the index and end those that they replaced, in one step for readers."""
    new = [entry for entry in entries if entry.embedding is not None and not _is_late(entry)]
    joined = b"".join(entry.embedding for entry in new if entry.embedding is not None)
    vectors = np.frombuffer(joined, "<f4").astype(np.float32, copy=False).reshape(-1, searchable.index.dimension)
    changes = [entry.change for entry in entries if entry.change is not None]
    ends = [(change.replaced_revision, change.revision) for change in changes if change.replaced_revision]
    searchable.append([_row(entry.change) for entry in new if entry.change is not None], vectors, ends)


def _is_late(entry: Entry) -> bool:
    return entry.change is not None and entry.change.kind == pb.CHANGE_KIND_LATE


def _row(change: pb.Change) -> Row:
    knowledge = change.knowledge
    return Row(
        change.revision,
        knowledge.origin,
        knowledge.modality,
        knowledge.provenance.producer,
        dict(knowledge.attributes),
    )
