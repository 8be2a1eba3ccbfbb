"""match: what is this submission, given what is known? Facts only; gate decides what becomes of it.

The questions are asked in this order, and the first that answers wins:

1. the same producer and submission id again: with the same content, `Repeated`; with other content, `IdReused`;
2. feedback: `Judgement`; a retraction: `Retraction` of the item's head, if there is one;
3. the same canonical content: as the head of the item it names, or, where it names none that exists, as the head of
any: `SameContent`; 4. an `expected_version` that is not the head's: `Stale`;
5. an item id that exists, with other content: `KnownItem`;
6. near neighbours at or above the threshold: the nearest with the same claim, `SameClaim`; with none, `Conflicting`;
7. otherwise `Novel`.

Of what is retracted and comes again (3) it is asked, too, what is near by, as of what is new (6): much may have been
said since. And of what an item is set to (5), or comes again, whether an item with that content was taken back.

What is about an item by 3, 5 or 6, but holds from an earlier time on than its head does, may have been said before
without ever having been the head: `SameLate`.

An item id that exists is asked about before the content of other items: a producer that sets its item to what another
item says means its own item (docs/decisions/0003-own-item-first.md). What contradicts it near by is found all the same:
a conflict that it was in goes on.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from epistream.indexer.catalog import Head
from epistream.indexer.claim import Claim, claim_of, compare
from epistream.indexer.model import Decoded, Embedded, NamespaceConfig, valid_us
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.canonical import canonical_text, media_identity, media_of

NOMINEES: Final = 8
"""How many of the nearest items about the same thing are compared as claims, and how many of experts' beyond them. What
else lies beyond is kept apart: a missed merge costs a row, but no crowd is to stand between a claim and an expert's."""
NEAR_MAX: Final = 256
"""Among so many of the nearest these are looked for."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """The submission was decided before."""

    decision: journal_pb2.Decision


@dataclass(frozen=True, slots=True)
class IdReused:
    """The submission's id was used before, for other content."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A rater judges items; whether they are known does not matter."""


@dataclass(frozen=True, slots=True)
class Retraction:
    """An item is to be taken back."""

    head: Head | None
    put_off: bool = False
    """Whether submissions of it are held that are taken back with it."""


@dataclass(frozen=True, slots=True)
class SameClaim:
    """An item near by claims the same in other words."""

    head: Head
    similarity: float


@dataclass(frozen=True, slots=True)
class Conflict:
    """An item near by that claims something else."""

    head: Head
    similarity: float
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SameContent:
    """An item, retracted or not, has this very content."""

    head: Head
    taken_back: Head | None = None
    """Where `head` is retracted: as `KnownItem`."""
    near: tuple[SameClaim | Conflict, ...] = ()
    """Where `head` is retracted: what items near by claim beside it, the nearest first."""


@dataclass(frozen=True, slots=True)
class Stale:
    """The producer expected another version of the item."""

    expected: int
    head: Head | None


@dataclass(frozen=True, slots=True)
class KnownItem:
    """The item exists with other content, or is retracted."""

    head: Head
    conflicts: tuple[Conflict, ...] = ()
    """Other items near by that claim something else than its new content."""
    taken_back: Head | None = None
    """A retracted item that has the new content; None where one in answers has it too."""


@dataclass(frozen=True, slots=True)
class SameLate:
    """An item has a version with this very content that holds from the same time on, earlier than its head does.

    And no later one is of that time.
    """

    version: Head
    beside: SameContent | KnownItem | SameClaim
    """What it is beside the head."""


@dataclass(frozen=True, slots=True)
class Conflicting:
    """Items near by claim something else, and none the same."""

    conflicts: tuple[Conflict, ...]
    """At least one, the nearest first."""


@dataclass(frozen=True, slots=True)
class Novel:
    """Nothing known is near."""


Beside: TypeAlias = SameContent | KnownItem | SameClaim | SameLate | Conflicting | Novel
"""What knowledge is beside what is known."""

Match: TypeAlias = Repeated | IdReused | Judgement | Retraction | Stale | Beside


@dataclass(frozen=True, slots=True)
class Nominee:
    """An item near enough to be compared."""

    head: Head
    similarity: float
    """The cosine, computed exactly."""
    claim: Claim
    modality: pb.Modality.ValueType
    about: bytes
    """`about` what the claim is."""
    tests: bytes
    """`tests_of` it."""


class Known(Protocol):
    """What is known: the committed state, and the batch's own earlier decisions."""

    def decision(self, producer: str, submission_id: str) -> tuple[bytes, journal_pb2.Decision] | None:
        """The digest of an earlier submission and what became of it."""

    def head(self, item_id: str) -> Head | None:
        """The newest version of an item."""

    def head_with(self, fingerprint: bytes) -> Head | None:
        """The item whose head has this content: as `catalog.comes_first` has it."""

    def newest_from(self, item_id: str, valid_us: int) -> Head | None:
        """The newest version of an item, in answers or not, that holds from a time on; microseconds since 1970."""

    def nominees(self, candidate: Embedded, threshold: float) -> Iterator[Nominee]:
        """The heads in answers at or above a cosine to `candidate`, the nearest first, then the older first.

        At most NEAR_MAX. Those after the first NOMINEES are looked for only when they are asked for.
        """


def match(candidate: Embedded, known: Known, config: NamespaceConfig) -> Match:
    """What `candidate` is, given what is known."""
    decoded, submission = candidate.decoded, candidate.decoded.submission
    earlier = known.decision(submission.provenance.producer, submission.submission_id)
    if earlier is not None:
        digest, decision = earlier
        return Repeated(decision) if digest == decoded.digest else IdReused()
    return match_again(candidate, known, config)


def match_again(candidate: Embedded, known: Known, config: NamespaceConfig) -> Match:
    """As `match`, of a submission that was held: that it was decided before is not asked."""
    found = _beside_heads(candidate, known, config)
    if not isinstance(found, SameContent | KnownItem | SameClaim):
        return found
    valid, head = valid_us(candidate.decoded.submission), found.head
    if valid is None or head.valid_us is None or valid >= head.valid_us:
        return found
    version = known.newest_from(head.item_id, valid)
    if version is None or version.fingerprint != candidate.decoded.fingerprint:
        return found
    return SameLate(version, found)


def _beside_heads(candidate: Embedded, known: Known, config: NamespaceConfig) -> Match:
    """What a submission is beside the heads that there are."""
    decoded, submission = candidate.decoded, candidate.decoded.submission
    if submission.HasField("feedback"):
        return Judgement()
    head = known.head(decoded.item_id)
    if submission.retraction:
        return _stale(submission, head) or Retraction(head)
    same = head if head is not None else known.head_with(decoded.fingerprint)
    if same is not None and same.fingerprint == decoded.fingerprint:
        if not same.retracted:
            return SameContent(same)
        near = tuple(_compared(submission, _nominees(candidate, known, config)))
        return SameContent(same, _taken_back(decoded, known), near)
    stale = _stale(submission, head)
    if stale is not None:
        return stale
    nominees = _nominees(candidate, known, config)
    if head is None:
        return nearest(_compared(submission, nominees))
    others = (nominee for nominee in nominees if nominee.head.item_id != head.item_id)
    return KnownItem(head, _conflicts(_compared(submission, others)), _taken_back(decoded, known))


def nearest(near: Iterable[SameClaim | Conflict]) -> SameClaim | Conflicting | Novel:
    """What is new is beside what items near by claim, the nearest first."""
    conflicts: list[Conflict] = []
    for one in near:
        if isinstance(one, SameClaim):
            return one
        conflicts.append(one)
    return Conflicting(tuple(conflicts)) if conflicts else Novel()


def contradicted(found: Beside) -> tuple[Conflict, ...]:
    """The items near by that claim something else, the nearest first."""
    match found:
        case KnownItem() | Conflicting():
            return found.conflicts
        case SameContent():
            return _conflicts(found.near)
        case _:
            return ()


def about(said: pb.Submission | pb.Knowledge) -> bytes:
    """Names what a claim is about: the images or videos, and the prompt that it answers."""
    return hashlib.sha256(
        "\n".join([*map(media_identity, media_of(said)), canonical_text(said.prompt)]).encode()
    ).digest()


def tests_of(said: pb.Submission | pb.Knowledge) -> bytes:
    """Names the tests that come with code; empty where none do."""
    return hashlib.sha256(said.tests.SerializeToString(deterministic=True)).digest() if said.HasField("tests") else b""


def _stale(submission: pb.Submission, head: Head | None) -> Stale | None:
    if not submission.HasField("expected_version"):
        return None
    actual = head.version if head is not None else 0
    return Stale(submission.expected_version, head) if submission.expected_version != actual else None


def _nominees(candidate: Embedded, known: Known, config: NamespaceConfig) -> Iterable[Nominee]:
    if candidate.vector is None:
        return ()
    return known.nominees(candidate, config.policy.near_duplicate_threshold)


def _taken_back(decoded: Decoded, known: Known) -> Head | None:
    """The retracted item that has this content; None where there is none, or one in answers has it too."""
    first = known.head_with(decoded.fingerprint)
    return first if first is not None and first.retracted else None


def _conflicts(near: Iterable[SameClaim | Conflict]) -> tuple[Conflict, ...]:
    return tuple(one for one in near if isinstance(one, Conflict))


def _compared(submission: pb.Submission, nominees: Iterable[Nominee]) -> Iterator[SameClaim | Conflict]:
    """What items near by claim beside a submission, the nearest first; of those that are about the same thing.

    Two captions may say the same of two images, two answers the same to two questions: only claims about the same
    thing can agree or disagree. Of code with tests the item near by must have these: what is merged is not kept, and
    its tests would be lost.
    """
    claim, tests = None, b""
    for nominee in _comparable(submission, nominees):
        if claim is None:
            claim, tests = claim_of(submission.modality, submission.content), tests_of(submission)
        comparison = compare(claim, nominee.claim)
        if comparison.same and tests in (b"", nominee.tests):
            yield SameClaim(nominee.head, nominee.similarity)
        elif not comparison.same:
            yield Conflict(nominee.head, nominee.similarity, comparison.differences)


def _comparable(submission: pb.Submission, nominees: Iterable[Nominee]) -> Iterator[Nominee]:
    """Those about the same thing: the first NOMINEES, then the first NOMINEES of experts' beyond."""
    subject, left = None, {False: NOMINEES, True: NOMINEES}
    for nominee in nominees:
        subject = subject or about(submission)
        if nominee.modality == submission.modality and nominee.about == subject:
            beyond = not left[False]
            if beyond and nominee.head.origin != pb.ORIGIN_EXPERT:
                continue
            yield nominee
            left[beyond] -= 1
            if not left[True]:
                return
