"""The moment in which a submission is decided: what is known in its namespace, as one batch moves it on.

What was put off for the sake of the real share goes on in the middle of a batch, as soon as something real has made
room: so the outcome does not depend on how a stream is cut into batches.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from epistream.indexer import holding
from epistream.indexer.anchors import Anchor, Growing
from epistream.indexer.catalog import Catalog
from epistream.indexer.decode import again, item_of
from epistream.indexer.gate import NO_GROUNDS, Grounds, for_all_known, takes_back
from epistream.indexer.journal import Entry
from epistream.indexer.known import BatchView
from epistream.indexer.lineage import is_known, trace
from epistream.indexer.match import Beside, Conflicting, KnownItem, Match, Novel
from epistream.indexer.measure import Measured, look
from epistream.indexer.model import (
    UNATTENDED,
    Embedded,
    Held,
    NamespaceConfig,
    Ruling,
    answered,
    not_above,
    says,
)
from epistream.indexer.standing import Standing
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb

AT_ONCE: Final = 500
"""How many of those that were put off go on in one commit that nothing came in with."""

AT_EACH: Final = 8
"""How many go on in the commit of a submission that makes room for them: what is merged then takes up none, so there
may be room for all that wait. The rest goes on in commits of its own."""

AT_EACH_BEHIND: Final = 2
"""How many go on with each submission while there is such a rest, or what a new policy has room for."""

_PAGE: Final = 32


@dataclass(slots=True)
class _Lane:
    """What was put off of one modality, as far as it is read."""

    read: deque[Ruling] = field(default_factory=deque)
    after: int = 0
    """The sequence up to which it is read."""
    exhausted: bool = False
    fresh: deque[Ruling] = field(default_factory=deque)
    """What the batch itself put off."""


class PutOff:
    """The submissions that were put off in a namespace, by modality the oldest first, as one batch moves on.

    Most batches have no room for any, so they are read only when there is.
    """

    def __init__(self, catalog: Catalog, number: int) -> None:
        self._catalog, self._number = catalog, number
        self._lanes: defaultdict[int, _Lane] = defaultdict(_Lane)

    def add(self, ruling: Ruling) -> None:
        """The batch itself puts one off."""
        self._lanes[ruling.embedded.decoded.submission.modality].fresh.append(ruling)

    def first(self, modality: int, join: Callable[[Sequence[Embedded]], None]) -> Ruling | None:
        """The oldest of a modality; what is read is told to `join` first. None when there is none left."""
        lane = self._lanes[modality]
        if not lane.read and not lane.exhausted:
            page = holding.next_put_off(self._catalog, self._number, modality, lane.after, _PAGE)
            lane.read.extend(Ruling(held, _embedded(held, vector), admits=True) for held, vector in page)
            lane.exhausted = len(page) < _PAGE
            lane.after = page[-1][0].sequence if page else lane.after
            join([ruling.embedded for ruling in lane.read])
        waiting = lane.read or lane.fresh
        return waiting[0] if waiting else None

    def drop_first(self, modality: int) -> None:
        """Take the one that `first` gave out of it."""
        lane = self._lanes[modality]
        (lane.read or lane.fresh).popleft()


class Asked:
    """Of which contents and items the catalog has something held, asked for a whole batch at once.

    Of nearly all it has nothing, and each question to it takes 30 µs.
    """

    def __init__(self, catalog: Catalog, number: int) -> None:
        self._catalog, self._number = catalog, number
        self._contents: dict[bytes, bool] = {}
        self._names: dict[str, bool] = {}

    def ask(self, candidates: Iterable[Embedded]) -> None:
        """What candidates may say, and the items that they may set."""
        decoded = [candidate.decoded for candidate in candidates]
        self._ask_contents({one.fingerprint for one in decoded})
        self._ask_names({name for one in decoded for name in (one.item_id, one.submission.item_id) if name})

    def content(self, fingerprint: bytes) -> bool:
        """Whether something is held with a content."""
        if fingerprint not in self._contents:
            self._ask_contents([fingerprint])
        return self._contents[fingerprint]

    def named(self, names: Collection[str]) -> list[str]:
        """Those of some items that something names which was held, as its own or as a parent."""
        if unknown := [name for name in names if name not in self._names]:
            self._ask_names(unknown)
        return [name for name in names if self._names[name]]

    def _ask_contents(self, fingerprints: Collection[bytes]) -> None:
        held = holding.contents(self._catalog.connection, self._number, fingerprints)
        self._contents.update((one, one in held) for one in fingerprints)

    def _ask_names(self, names: Collection[str]) -> None:
        held = holding.named(self._catalog, self._number, names)
        self._names.update((one, one in held) for one in names)


@dataclass(frozen=True, slots=True)
class Orphan:
    """A submission that is held since a parent of its is not known, as far as many of them are kept at hand."""

    sequence: int
    parents: frozenset[str]


class Orphans:
    """The submissions of a namespace that are held since a parent of theirs is not known, as one batch moves on.

    Of what an earlier version held the vector was not kept: it waits for a person.
    """

    def __init__(self, catalog: Catalog, number: int, asked: Asked) -> None:
        self._catalog, self._number, self._asked = catalog, number, asked
        self._came: set[str] = set()
        """What the batch has made known that some in the catalog were derived from."""
        self._fresh: dict[int, Ruling] = {}
        self._fresh_named: defaultdict[str, list[Orphan]] = defaultdict(list)

    def add(self, ruling: Ruling) -> None:
        """The batch itself holds one."""
        orphan = _orphan(ruling.held)
        self._fresh[orphan.sequence] = ruling
        for name in orphan.parents:
            self._fresh_named[name].append(orphan)

    def came(self, names: Collection[str]) -> None:
        """The batch makes these known."""
        if named := self._asked.named(names):
            self._came.update(holding.wanted(self._catalog, self._number, named))

    def of(self, parent: str, goes_on: Callable[[Sequence[Orphan]], list[Orphan]], limit: int) -> list[Orphan]:
        """Those that name a parent and go on, at most `limit`, the oldest first.

        Any number of others may be older: what the catalog says that a parent of is missing is not read.
        """
        found, after, page = list[Orphan](), 0, limit if parent in self._came else 0
        while len(found) < limit == page:
            kept = holding.whole_orphans(self._catalog, self._number, parent, self._came, after, limit)
            found += goes_on([_orphan(held) for held in kept])
            after, page = kept[-1].sequence if kept else after, len(kept)
        if len(found) < limit:
            found += goes_on(self._fresh_named[parent])
        return found[:limit]

    def rulings(self, orphans: Iterable[Orphan]) -> list[Ruling]:
        """What the gate decides of them, with their vectors; in their order."""
        wanted = [orphan.sequence for orphan in orphans]
        kept = holding.with_vectors(self._catalog, [one for one in wanted if one not in self._fresh])
        read = {held.sequence: Ruling(held, _embedded(held, vector), admits=True) for held, vector in kept}
        return [self._fresh.get(one) or read[one] for one in wanted]


@dataclass(slots=True)
class Moment:
    """Of one namespace, in one batch."""

    catalog: Catalog
    config: NamespaceConfig
    view: BatchView
    standing: Standing
    """A branch."""
    anchors: Mapping[int, Growing]
    """By modality."""
    asked: Asked
    put_off: PutOff
    orphans: Orphans
    alarms: Mapping[tuple[str, int], pb.CollapseAlarm]
    """The collapse alarms that are on, by producer and modality."""
    held: defaultdict[bytes, list[Held]] = field(default_factory=lambda: defaultdict(list))
    """What the batch itself has held that may come in with no person in between, by fingerprint."""
    held_of: defaultdict[str, list[Held]] = field(default_factory=lambda: defaultdict(list))
    """The same by the item that it is about."""
    over: set[int] = field(default_factory=set)
    """The sequences of what waits no more since the batch has decided it, or said it in a version."""
    ended: set[int] = field(default_factory=set)
    """The sequences of what the batch itself has decided of what was held."""
    _held: dict[int, int] = field(default_factory=dict)
    """The sequence of the entry that first held what the batch has held, by that of the one that holds it now."""
    _words: defaultdict[str, list[holding.Word]] = field(default_factory=lambda: defaultdict(list))
    """What the batch has said while something waited, by the items' names."""
    _known_by: dict[int, set[str]] = field(default_factory=dict)
    """The names that entries of the batch make known, as long as their children are not looked for."""

    def grounds(self, candidate: Embedded, found: Match) -> Grounds:
        """What a verdict on a candidate rests on beside what is known."""
        submission = candidate.decoded.submission
        # What was decided before, refused or no knowledge rests on none; to trace its parents may take long.
        if submission.origin != pb.ORIGIN_SYNTHETIC or not isinstance(found, Beside):
            return NO_GROUNDS
        new = isinstance(found, Novel | Conflicting | KnownItem)
        verdict = for_all_known(submission, found, self.config)
        revised = verdict.outcome == pb.OUTCOME_REVISED
        delivered = revised or verdict.outcome == pb.OUTCOME_ADMITTED
        # What is back without a name is a version of the item that it was, and not of its own.
        item = verdict.head if revised else self.view.head(candidate.decoded.item_id)
        return Grounds(
            trace(submission, candidate.decoded.item_id, item, self.view),
            self._measured(candidate) if new else None,
            self.standing.shares.after_one_more(submission.modality) if delivered else None,
            waiting=self.standing.put_off[submission.modality] > 0,
            alarm=self.alarms.get((submission.provenance.producer, submission.modality)),
        )

    def take(self, candidate: Embedded, entry: Entry, ruling: Ruling | None = None) -> None:
        """Take in what was decided of a candidate; `ruling`: it was held before."""
        if self.standing.orphans > 0:
            self._known_by[entry.sequence] = self.view.made_known(entry)
            self.orphans.came(self._known_by[entry.sequence])
        self.view.add(candidate, entry)
        self.standing.take(entry)
        for window in self.anchors.values():
            window.take(entry)
        if ruling is not None:
            self.ended.add(ruling.held.sequence)
            self._ends(_waiting(ruling.held))
        decision, change = entry.record.decision, entry.change
        came = self._came(entry.sequence, decision)
        if change is not None and answered(change):
            self._ends_what_says(change, entry.sequence, came)
        if self.standing.unattended and (word := holding.word_of(entry, came)) is not None:
            for name in word.names:
                self._words[name].append(word)
        if decision.receipt.reason not in UNATTENDED:
            return
        held = Held(entry.sequence, decision)
        self._held[entry.sequence] = came
        self.held[decision.fingerprint].append(held)
        self.held_of[item_of(decision.held)].append(held)
        if decision.receipt.reason == pb.REASON_DEFERRED:
            self.put_off.add(Ruling(held, candidate, admits=True))
        elif decision.receipt.reason == pb.REASON_UNKNOWN_PARENT:
            self.orphans.add(Ruling(held, candidate, admits=True))

    def children(self, entry: Entry, limit: int) -> list[Ruling]:
        """What was held for want of the item that an entry makes known, and lacks no parent now; the oldest first.

        At most `limit`.
        """
        names = self._known_by.pop(entry.sequence, ())
        by_sequence = {one.sequence: one for name in names for one in self.orphans.of(name, self._go_on, limit)}
        if not by_sequence:
            return []  # nearly always: what follows asks the catalog
        rulings = self.orphans.rulings(one for _, one in sorted(by_sequence.items())[:limit])
        self._join([one.embedded for one in rulings if not self.view.has(one.embedded)])
        return rulings

    def taken_back(self, retraction: Embedded, held: Held | None = None) -> list[Ruling]:
        """What may come in with no person in between, is of the item that is taken back, and ends with it.

        To be rejected, the oldest first. `held`: the retraction was held itself, and ends nothing that came after.
        """
        if not self.standing.unattended:
            return []
        item_id, submission = retraction.decoded.item_id, retraction.decoded.submission
        waiting = [one for one in self._unattended(item_id) if takes_back(submission, one)]
        if held is not None:
            came = self._came(held.sequence, held.decision)
            waiting = [one for one in waiting if self._came(one.sequence, one.decision) < came]
        return [Ruling(one, Embedded(again(one), None), admits=False) for one in waiting]

    def out_of_date(self, ruling: Ruling) -> bool:
        """Whether the item that something held names was set anew since, or its words were said again: `Word.ends`."""
        held = ruling.held
        came = self._came(held.sequence, held.decision)
        if any(word.ends(held.decision.held, came) for word in reversed(self._words[held.decision.held.item_id])):
            return True
        return held.sequence not in self._held and holding.out_of_date(self.catalog, self.config.number, held.sequence)

    def behind(self) -> bool:
        """Whether some of what was put off could have gone on before."""
        return bool(self._with_room())

    def goes_on(self) -> Ruling | None:
        """The next one that was put off, if there is room for it now: the oldest of all modalities that have some."""
        while first := self._first():
            modality = first.held.decision.held.modality
            self.put_off.drop_first(modality)
            if self.waits(first):
                return first
        return None

    def waits(self, ruling: Ruling) -> bool:
        """Whether the batch has neither decided what was held before, nor said it."""
        return ruling.held.sequence not in self.over

    def _unattended(self, item_id: str) -> list[Held]:
        """What waits and may come in with no person in between, of an item, the oldest first."""
        held = holding.unattended(self.catalog, self.config.number, item_id) if self.asked.named([item_id]) else []
        return [one for one in [*held, *self.held_of[item_id]] if one.sequence not in self.over]

    def _came(self, sequence: int, decision: journal_pb2.Decision) -> int:
        """The entry that first decided what an entry decides."""
        before = decision.releases
        if not before:
            return sequence
        return self._held.get(before) or holding.came(self.catalog.connection, self.config.number, before)

    def _first(self) -> Ruling | None:
        firsts = (self.put_off.first(modality, self._join) for modality in self._with_room())
        return min(filter(None, firsts), key=lambda ruling: ruling.held.sequence, default=None)

    def _join(self, candidates: Sequence[Embedded]) -> None:
        """Take what was decided before into the batch."""
        self.view.join(candidates)
        self.standing.expect(candidates)

    def _with_room(self) -> list[int]:
        return self.standing.with_room(self.config.policy.real_share_floor)

    def _go_on(self, orphans: Sequence[Orphan]) -> list[Orphan]:
        """Those that wait and lack no parent."""
        waiting = [one for one in orphans if one.sequence not in self.over]
        self.view.know({name for one in waiting for name in one.parents})
        return [one for one in waiting if all(is_known(self.view.parent(name)) for name in one.parents)]

    def _ends_what_says(self, change: pb.Change, sequence: int, came: int) -> None:
        """What waits with a version's content does so no more, where it ends with it: as `views.apply` has it.

        Counted at once, and not when there is room: a count that is too high would put off what may come in, until the
        store is opened anew and it is counted again.
        """
        if self.standing.unattended:
            if self.asked.content(change.fingerprint):
                for one in holding.said_by(self.catalog.connection, self.config.number, change, sequence, came):
                    self._ends(one)
            origins = not_above(change.knowledge.origin)
            for held in self.held[change.fingerprint]:
                waits = held.decision.held
                later = waits.item_id and self._held[held.sequence] >= came
                if not later and waits.origin in origins and says(change, waits):
                    self._ends(_waiting(held))

    def _ends(self, one: holding.Waiting) -> None:
        if one.sequence in self.over:
            return
        self.over.add(one.sequence)
        if one.reason == pb.REASON_DEFERRED:
            self.standing.put_off[one.modality] -= 1
        elif one.reason == pb.REASON_UNKNOWN_PARENT:
            self.standing.orphans -= 1
        elif one.reason == pb.REASON_UNVERIFIED:
            self.standing.unverified -= 1

    def _measured(self, candidate: Embedded) -> Measured:
        anchor = self.anchors[candidate.decoded.submission.modality].anchor
        digest = anchor.digest if isinstance(anchor, Anchor) else ""
        looks = candidate.looks
        if looks is None or looks.anchors != digest:
            (looks,) = look([candidate], anchor)
        return self.standing.measured(candidate, looks)


def _embedded(held: Held, vector: bytes | None) -> Embedded:
    return Embedded(again(held), np.frombuffer(vector, "<f4") if vector is not None else None)


def _orphan(held: Held) -> Orphan:
    parents = frozenset(held.decision.held.provenance.derived_from)
    return Orphan(held.sequence, parents)


def _waiting(held: Held) -> holding.Waiting:
    return holding.Waiting(held.sequence, held.decision.receipt.reason, held.decision.held.modality)
