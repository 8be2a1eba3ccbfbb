"""The collapse watch: windows of what models made, compared with what people said, kept in the journal.

After each `watch_every` SYNTHETIC submissions of a producer that were accepted, its newest `watch_items` are a window.
What was merged is in it by the version that it was merged into: who says the same again and again says less. The window
is compared with the anchor window of its modality (spectrum.py), texts with texts of such lengths where it has enough
of them, and from that its alarm goes on (collapse.py). Where models speak, the namespace's store as a whole is watched
in the same way, under the empty name: at each multiple of `watch_every` revisions, by a draw of `watch_items` of all
that is in answers.

A comparison takes too long for a commit, so it is made beside it: `next` finds what is due, `compare` compares, on any
thread; `record` keeps the result, on the writer thread. What is due is a question to the views, so that a process that
dies in between loses nothing: the next one finds the same window. The windows, the alarms and what follows from them
are functions of the journal: whoever compares a window again finds the same figures, bit for bit.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from epistream.indexer import generated, spectrum
from epistream.indexer.anchors import Anchor, Anchors, prompt_key, text_length
from epistream.indexer.catalog import Catalog
from epistream.indexer.clock import Clock
from epistream.indexer.collapse import Alarm
from epistream.indexer.commit import Draft, write
from epistream.indexer.model import NamespaceConfig
from epistream.indexer.namespaces import Namespaces
from epistream.indexer.spectrum import ORDERS, Comparison, Missing, drawn, near_self
from epistream.indexer.store import Store
from epistream.v1 import knowledge_pb2 as pb

WHOLE: Final = ""
"""The name under which the store as a whole is watched; no producer has it."""
_DRAW: Final = 1
"""The seed of the draw from the store; the anchor window's own is 0."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window that is due."""

    config: NamespaceConfig
    producer: str
    """WHOLE for the store as a whole."""
    modality: pb.Modality.ValueType
    accepted: int
    """How many SYNTHETIC submissions of the producer had been accepted at its end; 0 for the store as a whole."""
    revision: int
    """The head at its end."""
    known: pb.CollapseAlarm
    """What is known from the window before; empty at the first."""


class CollapseWatch:
    """Watches the namespaces of one store."""

    def __init__(
        self, store: Store, namespaces: Namespaces, anchors: Anchors, clock: Clock, alarmed: Callable[[], None]
    ) -> None:
        """`alarmed` is called on the writer thread after an alarm that was raised or cleared is durable."""
        self._store, self._namespaces, self._anchors = store, namespaces, anchors
        self._clock, self._alarmed = clock, alarmed

    def next(self) -> Window | None:
        """A window that is due; None where none is. Of several namespaces the one that waits longest. Any thread.

        Raises:
            Broken: the store cannot be read.
        """
        with self._store.reader() as catalog:
            found = [_due(catalog, config) for config in self._namespaces.configs.values()]
        due = [window for window in found if window is not None]
        return min(due, key=_waiting_since, default=None)

    def compare(self, window: Window) -> pb.CollapseAlarm:
        """What is known after a window, without the times. Any thread; blocks for up to a second.

        Raises:
            Broken: a version of it is not what was written.
        """
        config, modality = window.config, window.modality
        near: float | None = None
        with self._store.reader() as catalog:
            anchor = self._anchors.of(catalog, config, modality, window.revision)
            if isinstance(anchor, Missing):
                return _after(window, anchor, None, None)
            rows = _rows(catalog, window)
        if window.producer != WHOLE:
            near = near_self(rows.vectors, config.policy.near_duplicate_threshold)
        found = spectrum.compare(anchor.human, rows.vectors, rows.prompts, rows.lengths)
        return _after(window, found, anchor, near)

    def record(self, window: Window, alarm: pb.CollapseAlarm) -> bool:
        """Keep what `compare` found. Only the writer thread.

        Returns:
            False where it no longer holds: the policy has changed meanwhile. Then the window is due as before.

        Raises:
            Unavailable: DISK_FULL; nothing was written.
            Broken: the store can no longer be written.
        """
        state = self._namespaces.state(window.config.name)
        number, key = state.config.number, (window.producer, window.modality)
        with self._store.newest() as catalog:
            known = generated.alarm(catalog, number, *key)
            if state.config.policy_version != window.config.policy_version or known != window.known:
                return False
            sequence, digest = self._store.journal.last()
        draft = Draft(self._clock.now_us(), sequence, digest, {})
        changed = alarm.on != known.on
        alarm.time.FromMicroseconds(draft.now_us)
        if changed:
            alarm.since_time.CopyFrom(alarm.time)
        draft.add_watched(number, alarm)
        write(self._store, draft, ())
        if alarm.on:
            state.alarms = {**state.alarms, key: alarm}
        elif changed:
            state.alarms = {other: one for other, one in state.alarms.items() if other != key}
        if changed:
            self._alarmed()
        return True


def _due(catalog: Catalog, config: NamespaceConfig) -> Window | None:
    """The window of a namespace that is due, and waits longest."""
    due = [*_due_of_producers(catalog, config), *_due_of_whole(catalog, config)]
    return min(due, key=_waiting_since, default=None)


def _due_of_producers(catalog: Catalog, config: NamespaceConfig) -> Iterator[Window]:
    number, every = config.number, config.policy.watch_every
    found = generated.unwatched(catalog, number, every)
    if found is not None:
        accepted = (found.known.accepted // every + 1) * every
        head = generated.head_at(catalog, number, found.producer, found.modality, accepted)
        yield Window(config, found.producer, found.modality, accepted, head, found.known)


def _due_of_whole(catalog: Catalog, config: NamespaceConfig) -> Iterator[Window]:
    number, every = config.number, config.policy.watch_every
    head = catalog.counts(number).head
    for modality in generated.modalities(catalog, number):
        known = generated.alarm(catalog, number, WHOLE, modality)
        revision = (known.revision // every + 1) * every
        if revision <= head:
            yield Window(config, WHOLE, modality, 0, revision, known)


def _waiting_since(window: Window) -> int:
    return window.known.time.ToMicroseconds()


@dataclass(frozen=True, slots=True)
class _Rows:
    """What a window is compared by, oldest first."""

    vectors: NDArray[np.float32]
    prompts: list[str]
    """Their keys. None of the store as a whole, which has the anchors' own answers in it: on their prompts it would be
    as diverse as they are."""
    lengths: list[int]
    """`text_length` of texts; none of what is no text."""


def _rows(catalog: Catalog, window: Window) -> _Rows:
    number, items = window.config.number, window.config.policy.watch_items
    if window.producer == WHOLE:
        everything = catalog.in_answers(number, window.modality, window.revision)
        revisions = [everything[place] for place in sorted(drawn(len(everything), _DRAW)[:items])]
    else:
        revisions = generated.newest(catalog, number, window.producer, window.modality, window.accepted, items)
    rows = list(catalog.chosen(number, revisions))
    joined = b"".join(row.embedding or b"" for row in rows)
    vectors = np.frombuffer(joined, "<f4").astype(np.float32, copy=False).reshape(len(rows), -1)
    prompts: list[str] = []
    lengths: list[int] = []
    for row in rows:
        said = pb.Change.FromString(row.change).knowledge
        if window.producer != WHOLE:
            prompts.append(prompt_key(said.prompt))
        if window.modality == pb.MODALITY_TEXT:
            lengths.append(text_length(said.content))
    return _Rows(vectors, prompts, lengths)


def _after(window: Window, found: Comparison | Missing, anchor: Anchor | None, near: float | None) -> pb.CollapseAlarm:
    """What is known after a window, without the times."""
    known = window.known
    before = _alarm(known)
    measured = known.matched, known.same_lengths
    measure = (found.matched, found.same_lengths) if isinstance(found, Comparison) else measured
    if anchor is not None and (known.anchor not in ("", anchor.digest) or measured != measure):
        # Its ratios to other items of people, or in another way, say nothing beside these.
        before = replace(before, recovered=0, first_low=None, ratios=())
    after = before.after(found)
    told = pb.CollapseAlarm(
        producer=window.producer,
        modality=window.modality,
        on=after.on,
        since_revision=window.revision if after.on != before.on else known.since_revision,
        revision=window.revision,
        accepted=window.accepted,
        anchor=anchor.digest if anchor is not None else known.anchor,
        near_self=near,
        windows=after.windows,
        recovered=after.recovered,
        drifted=after.drifted,
        first_low=after.first_low,
        recent=after.ratios,
        slope=after.slope,
        matched=measure[0],
        same_lengths=measure[1],
    )
    if known.HasField("since_time"):
        told.since_time.CopyFrom(known.since_time)
    told.items = found.items
    if isinstance(found, Missing):
        told.missing = found.reason
        return told
    told.support = found.support
    figures = zip(ORDERS, found.produced.scores, found.ratio, found.low, found.high, strict=True)
    for order, score, ratio, low, high in figures:
        told.ratios.add(order=order, score=score, ratio=ratio, low=low, high=high)
    return told


def _alarm(known: pb.CollapseAlarm) -> Alarm:
    return Alarm(
        on=known.on,
        windows=known.windows,
        recovered=known.recovered,
        drifted=known.drifted,
        first_low=known.first_low if known.HasField("first_low") else None,
        ratios=tuple(known.recent),
    )
