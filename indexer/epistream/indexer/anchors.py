"""The anchor windows: what people said first, frozen, which synthetic knowledge is measured against.

One for each modality, text with text and code with code: the first `anchor_items` items of the namespace that are not
SYNTHETIC, above the revision `anchor_after`, each by the first version in which it is not. So it is a function of the
journal and these two fields of the policy. What is revised or retracted later stays in it: a window that changed
afterwards would change what it has said. An operator freezes a newer one by raising `anchor_after`.

Until there are so many there is no window, and whoever asks gets `Missing` with the reason NO_ANCHORS.
"""

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.catalog import Catalog, Committed
from epistream.indexer.journal import Entry
from epistream.indexer.model import NamespaceConfig
from epistream.indexer.plausibility import Directions, Neighbourhood
from epistream.indexer.spectrum import HumanWindow, Missing
from epistream.indexer.wording import Wording, beginning
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.canonical import canonical_text

_Key: TypeAlias = tuple[int, pb.Modality.ValueType]
_Extent: TypeAlias = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Anchor:
    """One window. Frozen; any thread."""

    revisions: tuple[int, ...]
    """Of the versions, in order. With the last of them the window was whole."""
    vectors: NDArray[np.float32]
    """Shape (n, d), float32, each of length one."""
    contents: tuple[str, ...]
    """What they say, of each what a Wording looks at."""
    prompts: tuple[str, ...]
    """`prompt_key` of what each answers."""
    lengths: tuple[int, ...]
    """`text_length` of each. Empty for what is no text: of that the words do not tell how much."""
    digest: str
    """Names the window by its vectors and contents: 16 hexadecimal digits."""

    @cached_property
    def human(self) -> HumanWindow:
        """Their diversity, to be compared with."""
        return HumanWindow(self.vectors, self.prompts, self.lengths)

    @property
    def neighbourhood(self) -> Neighbourhood:
        """Where they lie."""
        return self.human.neighbourhood

    @cached_property
    def directions(self) -> Directions:
        """In which directions they lie."""
        return Directions(self.vectors)

    @cached_property
    def wording(self) -> Wording:
        """How they are worded. It says something of texts only."""
        return Wording(self.contents)


@dataclass(slots=True)
class _Window:
    """What is known of a window, whole or not."""

    extent: _Extent
    """`anchor_items` and `anchor_after`."""
    seen: int
    """Up to which revision was looked."""
    revisions: list[int] = field(default_factory=list)
    items: set[str] = field(default_factory=set)
    anchor: Anchor | None = None


class Anchors:
    """The anchor windows of a store's namespaces. Any thread.

    Each is made when it is first asked for. As long as it is not whole, asking looks at the revisions that came since,
    once each; then it costs nothing.
    """

    def __init__(self) -> None:
        self._windows: dict[_Key, _Window] = {}
        self._lock = threading.Lock()

    def of(
        self, catalog: Catalog, config: NamespaceConfig, modality: pb.Modality.ValueType, at: int
    ) -> Anchor | Missing:
        """The window of a modality as it stood after the revision `at`, which the catalog must have.

        Raises:
            Broken: a version of it is not what was written.
        """
        return _as_it_stood(self._grown(catalog, config, modality), at)

    def growing(self, catalog: Catalog, config: NamespaceConfig, modality: pb.Modality.ValueType, at: int) -> "Growing":
        """As `of` at the head, to be moved on by a batch. Only the writer thread: nothing else may be committed."""
        window = self._grown(catalog, config, modality)  # once: of another policy it may be another one at once
        return Growing(_as_it_stood(window, at), window, catalog, config.number, modality)

    def _grown(self, catalog: Catalog, config: NamespaceConfig, modality: pb.Modality.ValueType) -> _Window:
        key, extent = (config.number, modality), (config.policy.anchor_items, config.policy.anchor_after)
        with self._lock:
            window = self._windows.get(key)
            if window is None or window.extent != extent:
                window = self._windows[key] = _Window(extent, config.policy.anchor_after)
            if window.anchor is None and (head := catalog.counts(config.number).head) > window.seen:
                _grow(window, catalog, config, modality, head)
        return window


def _as_it_stood(window: _Window, at: int) -> Anchor | Missing:
    """As `Anchors.of`."""
    if window.anchor is not None and window.revisions[-1] <= at:
        return window.anchor
    return Missing("NO_ANCHORS", bisect_right(window.revisions, at))


class Growing:
    """An anchor window as one batch moves it on, so that what is whole in the middle of it is looked at from there on.

    Attributes:
        anchor: the window at this moment.
    """

    def __init__(
        self,
        anchor: Anchor | Missing,
        window: _Window,
        catalog: Catalog,
        number: int,
        modality: pb.Modality.ValueType,
    ) -> None:
        self.anchor = anchor
        self._window, self._catalog, self._number, self._modality = window, catalog, number, modality
        self._items: set[str] = set()
        self._fresh: list[Committed] = []

    def take(self, entry: Entry) -> None:
        """Take in what the batch has decided, in its order."""
        change = entry.change
        if isinstance(self.anchor, Anchor) or change is None or not self._counts(change):
            return
        self._items.add(change.item_id)
        self._fresh.append(Committed(change.revision, entry.change_bytes or b"", entry.embedding))
        if len(self._window.revisions) + len(self._fresh) == self._window.extent[0]:
            self.anchor = _anchor([*self._catalog.chosen(self._number, self._window.revisions), *self._fresh])

    def _counts(self, change: pb.Change) -> bool:
        """As `Catalog.said_by_people`, each item once."""
        by_people = change.kind != pb.CHANGE_KIND_RETRACTED and change.knowledge.origin != pb.ORIGIN_SYNTHETIC
        new = change.item_id not in self._window.items and change.item_id not in self._items
        return by_people and new and change.knowledge.modality == self._modality and change.revision > self._after

    @property
    def _after(self) -> int:
        return self._window.extent[1]


def prompt_key(prompt: str) -> str:
    """Names a prompt: the same for prompts that differ in form only; empty for none."""
    canonical = canonical_text(prompt)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32] if canonical else ""


def text_length(text: str) -> int:
    """How many characters a text has, its form aside: white space that is added to it makes it no longer."""
    return len(canonical_text(text))


def _grow(
    window: _Window, catalog: Catalog, config: NamespaceConfig, modality: pb.Modality.ValueType, head: int
) -> None:
    for revision, item_id in catalog.said_by_people(config.number, modality, window.seen, head):
        if len(window.revisions) == config.policy.anchor_items:
            break
        if item_id not in window.items:
            window.items.add(item_id)
            window.revisions.append(revision)
    if len(window.revisions) == config.policy.anchor_items:
        window.anchor = _anchor(list(catalog.chosen(config.number, window.revisions)))
        window.items.clear()
    window.seen = head


def _anchor(rows: Sequence[Committed]) -> Anchor:
    changes = [pb.Change.FromString(row.change) for row in rows]
    said = [change.knowledge for change in changes]
    joined = b"".join(row.embedding or b"" for row in rows)
    digest = hashlib.sha256(joined + b"".join(change.fingerprint for change in changes))
    return Anchor(
        revisions=tuple(row.revision for row in rows),
        vectors=np.frombuffer(joined, "<f4").astype(np.float32, copy=False).reshape(len(rows), -1),
        contents=tuple(beginning(knowledge.content) for knowledge in said),
        prompts=tuple(prompt_key(knowledge.prompt) for knowledge in said),
        lengths=tuple(text_length(knowledge.content) for knowledge in said if knowledge.modality == pb.MODALITY_TEXT),
        digest=digest.hexdigest()[:16],
    )
