"""The moment in which a submission is decided: what is known in its namespace, as one batch moves it on.

What was put off for the sake of the real share goes on in the middle of a batch, as soon as something real has made
room: so the outcome does not depend on how a stream is cut into batches.
"""

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from epistream.indexer import holding
from epistream.indexer.anchors import Anchor, Growing
from epistream.indexer.catalog import Catalog
from epistream.indexer.collapse import has_room
from epistream.indexer.decode import again
from epistream.indexer.gate import NO_GROUNDS, Grounds, takes_back
from epistream.indexer.journal import Entry
from epistream.indexer.known import BatchView
from epistream.indexer.lineage import trace
from epistream.indexer.match import Conflicting, KnownItem, Match, Novel, SameClaim, SameContent
from epistream.indexer.measure import Measured, look
from epistream.indexer.model import Embedded, Held, NamespaceConfig, Ruling
from epistream.indexer.standing import Standing
from epistream.v1 import knowledge_pb2 as pb

AT_ONCE: Final = 500
"""How many of those that were put off go on in one commit that nothing came in with."""

AT_EACH: Final = 2
"""How many go on with each submission while those are let go of for which a new policy has room."""

_PAGE: Final = 32


class PutOff:
    """The submissions that were put off in a namespace, the oldest first, as one batch moves on.

    Most batches have no room for any, so they are read only when there is.
    """

    def __init__(self, catalog: Catalog, number: int, *, some: bool) -> None:
        """`some`: whether there are any."""
        self._catalog, self._number = catalog, number
        self._read: deque[Ruling] = deque()
        self._after, self._exhausted = 0, not some
        self._fresh: deque[Ruling] = deque()

    def add(self, ruling: Ruling) -> None:
        """The batch itself puts one off."""
        self._fresh.append(ruling)

    def of(self, item_id: str) -> list[Ruling]:
        """Those of an item, each to be rejected; some may be decided by now."""
        kept = holding.put_off_of(self._catalog, self._number, item_id)
        fresh = [ruling.held for ruling in self._fresh if ruling.embedded.decoded.item_id == item_id]
        return [Ruling(held, Embedded(again(held), None), admits=False) for held in (*kept, *fresh)]

    def next(self, view: BatchView) -> Ruling | None:
        """The oldest one, which is then taken; `view` gets to know it. None when there is none left."""
        if not self._read and not self._exhausted:
            page = holding.next_put_off(self._catalog, self._number, self._after, _PAGE)
            self._read.extend(Ruling(held, _embedded(held, vector), admits=True) for held, vector in page)
            self._exhausted = len(page) < _PAGE
            self._after = page[-1][0].sequence if page else self._after
            view.join([ruling.embedded for ruling in self._read], again=True)
        if self._read:
            return self._read.popleft()
        return self._fresh.popleft() if self._fresh else None


class Orphans:
    """The submissions of a namespace that are held since a parent of theirs is not known, as one batch moves on."""

    def __init__(self, catalog: Catalog, number: int) -> None:
        self._catalog, self._number = catalog, number
        self._fresh: defaultdict[str, list[Ruling]] = defaultdict(list)

    def add(self, ruling: Ruling) -> None:
        """The batch itself holds one."""
        for parent in set(ruling.embedded.decoded.submission.provenance.derived_from):
            self._fresh[parent].append(ruling)

    def of(self, parent: str, limit: int) -> list[Ruling]:
        """Those that name a parent, the oldest first; at most `limit` of before the batch.

        Of what an earlier version held the vector was not kept: it waits for a person.
        """
        kept = holding.orphans_of(self._catalog, self._number, parent, limit)
        known = [Ruling(held, _embedded(held, vector), admits=True) for held, vector in kept if vector is not None]
        return [*known, *self._fresh[parent]]


@dataclass(slots=True)
class Moment:
    """Of one namespace, in one batch."""

    config: NamespaceConfig
    view: BatchView
    standing: Standing
    """A branch."""
    anchors: Mapping[int, Growing]
    """By modality."""
    put_off: PutOff
    orphans: Orphans
    alarms: Mapping[tuple[str, int], pb.CollapseAlarm]
    """The collapse alarms that are on, by producer and modality."""
    said: dict[bytes, int] = field(default_factory=dict)
    """Fingerprints that changes of the batch have, with the sequence: what was put off with one of them is resolved."""
    ended: set[int] = field(default_factory=set)
    """The sequences of what the batch itself has decided of what was held."""

    def grounds(self, candidate: Embedded, found: Match) -> Grounds:
        """What a verdict on a candidate rests on beside what is known."""
        submission = candidate.decoded.submission
        new = isinstance(found, Novel | Conflicting | KnownItem)
        # What was decided before, refused or no knowledge rests on none; to trace its parents may take long.
        if submission.origin != pb.ORIGIN_SYNTHETIC or not (new or isinstance(found, SameContent | SameClaim)):
            return NO_GROUNDS
        brought_back = isinstance(found, SameContent) and found.head.retracted
        return Grounds(
            trace(submission, candidate.decoded.item_id, self.view),
            self._measured(candidate) if new else None,
            self.standing.share.after_one_more() if new or brought_back else None,
            waiting=self.standing.put_off > 0,
            alarm=self.alarms.get((submission.provenance.producer, submission.modality)),
        )

    def take(self, candidate: Embedded, entry: Entry, ruling: Ruling | None = None) -> None:
        """Take in what was decided of a candidate; `ruling`: it was held before."""
        self.view.add(candidate, entry)
        self.standing.take(entry)
        for window in self.anchors.values():
            window.take(entry)
        if ruling is not None:
            self.ended.add(ruling.held.sequence)
            if ruling.held.decision.receipt.reason == pb.REASON_DEFERRED:
                self.standing.put_off -= 1
            elif ruling.held.decision.receipt.reason == pb.REASON_UNKNOWN_PARENT:
                self.standing.orphans -= 1
        decision, change = entry.record.decision, entry.change
        if change is not None and change.kind != pb.CHANGE_KIND_RETRACTED:
            self.said[change.fingerprint] = entry.sequence
        if decision.receipt.reason == pb.REASON_DEFERRED:
            self.put_off.add(Ruling(Held(entry.sequence, decision), candidate, admits=True))
        elif decision.receipt.reason == pb.REASON_UNKNOWN_PARENT:
            self.orphans.add(Ruling(Held(entry.sequence, decision), candidate, admits=True))

    def children(self, entry: Entry) -> list[Ruling]:
        """What was held for want of the item that an entry makes known, and lacks no parent now; the oldest first.

        At most AT_ONCE are looked at.
        """
        change, decision = entry.change, entry.record.decision
        known = change.item_id if change is not None and change.kind != pb.CHANGE_KIND_RETRACTED else decision.alias
        if not known or self.standing.orphans <= 0:
            return []
        found = self.orphans.of(known, AT_ONCE + len(self.ended) + len(self.said))
        still = [one for one in found if self.waits(one)][:AT_ONCE]
        self.view.join([one.embedded for one in still if not self.view.has(one.embedded)], again=True)
        return [one for one in still if not trace(one.embedded.decoded.submission, "", self.view).unknown]

    def taken_back(self, retraction: Embedded) -> list[Ruling]:
        """What was put off of the item that is taken back, and ends with it; to be rejected."""
        if not self.standing.put_off:
            return []
        put_off = self.put_off.of(retraction.decoded.item_id)
        submission = retraction.decoded.submission
        return [ruling for ruling in put_off if self.waits(ruling) and takes_back(submission, ruling.held)]

    def behind(self) -> bool:
        """Whether some of what was put off could have gone on before: the policy is a new one."""
        floor = self.config.policy.real_share_floor
        return self.standing.put_off > 0 and has_room(self.standing.share.after_one_more(), floor)

    def goes_on(self) -> Ruling | None:
        """The next one that was put off, if there is room for it now."""
        while self.behind():
            ruling = self.put_off.next(self.view)
            if ruling is None:
                self.standing.put_off = 0  # the others were said by somebody else
                return None
            if ruling.held.sequence in self.ended:
                continue  # somebody has decided it, so it is counted no more
            if not self._was_said(ruling):
                return ruling
            self.standing.put_off -= 1
        return None

    def waits(self, ruling: Ruling) -> bool:
        """Whether the batch has neither decided what was held before, nor said it."""
        return ruling.held.sequence not in self.ended and not self._was_said(ruling)

    def _was_said(self, ruling: Ruling) -> bool:
        """Whether the batch has made a version with the content of what was held before."""
        held = ruling.held
        return self.said.get(held.decision.fingerprint, 0) > held.sequence

    def _measured(self, candidate: Embedded) -> Measured:
        anchor = self.anchors[candidate.decoded.submission.modality].anchor
        digest = anchor.digest if isinstance(anchor, Anchor) else ""
        looks = candidate.looks
        if looks is None or looks.anchors != digest:
            (looks,) = look([candidate], anchor)
        return self.standing.measured(candidate, looks)


def _embedded(held: Held, vector: bytes | None) -> Embedded:
    return Embedded(again(held), np.frombuffer(vector, "<f4") if vector is not None else None)
