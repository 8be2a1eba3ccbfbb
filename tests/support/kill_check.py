"""The check of what a service did while it was killed again and again, against what must hold.

`History` is all that was seen: by the producers, by Kafka, and in the store in the end; and, of each namespace by
itself, by a subscriber and a replica.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final, TypeAlias

from google.protobuf.message import DecodeError

from epistream.indexer.decode import digest
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from tests.support.waits import wait_until

Id: TypeAlias = tuple[str, str, str]
"""Namespace, producer and submission id."""
Offset: TypeAlias = tuple[int, int]
"""Partition and offset in Kafka."""
Answer: TypeAlias = tuple[pb.Submission, pb.Receipt]

PATIENCE_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry of the journal."""

    decision: journal_pb2.Decision
    change: pb.Change | None


@dataclass(slots=True)
class Stream:
    """What a subscriber was sent on one stream."""

    after: int
    """The revision that it resumed from."""
    changes: list[pb.Change] = field(default_factory=list)


@dataclass(slots=True, repr=False)
class NamespaceHistory:
    """What was seen of one namespace."""

    streams: list[Stream] = field(default_factory=list)
    published: list[pb.Change] = field(default_factory=list)
    """What the topic of changes says under its name, a message that came twice once, by revision."""
    head: int = 0
    """The newest revision before all that was taken was submitted once more."""
    head_after: int = 0
    """The newest revision after that."""
    snapshot: dict[str, pb.Change] = field(default_factory=dict)
    """What the service says is known, by item."""
    replica: dict[str, pb.Change] = field(default_factory=dict)
    """What the replica holds, by item."""
    stored: list[Stored] = field(default_factory=list)
    """The decisions in its journal, in their order."""
    found: list[list[str]] = field(default_factory=list)
    """The items that the service found for some vectors, the nearest first."""
    found_by_replica: list[list[str]] = field(default_factory=list)
    """The items that the replica found for the same."""


@dataclass(slots=True, repr=False)
class History:
    """What was seen."""

    namespaces: dict[str, NamespaceHistory]
    """What was seen of each."""
    answered: list[Answer] = field(default_factory=list)
    """Every receipt that was given over gRPC, in no order between producers."""
    refused_batches: list[Sequence[pb.Submission]] = field(default_factory=list)
    """Atomic batches that were answered with an error."""
    atomic_batches: list[Sequence[pb.Submission]] = field(default_factory=list)
    """Atomic batches that were answered with receipts."""
    produced: dict[Offset, bytes] = field(default_factory=dict)
    """Every record that Kafka has acknowledged."""
    told: list[pb.Receipt] = field(default_factory=list)
    """What the topic of outcomes says, a message that came twice once."""
    again: list[Answer] = field(default_factory=list)
    """The answers when all that was taken was submitted once more, in the end."""
    dead_letters: list[Offset] = field(default_factory=list)
    """Where the refused records of Kafka stand."""
    faults: list[str] = field(default_factory=list)
    """What went wrong by itself: a subscription or a replica that could not go on, and what fsck found."""
    restart_seconds: list[float] = field(default_factory=list)
    """From each start of the process to its first answer."""
    struck: list[str] = field(default_factory=list)
    """The named points at which the service killed itself, round by round."""

    def revisions(self) -> int:
        """How many all namespaces have together, before all that was taken was submitted once more."""
        return sum(seen.head for seen in self.namespaces.values())

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition; fail when it does not come in time, or when something has gone wrong meanwhile."""

        def holds() -> bool:
            assert not self.faults, self.faults
            return condition()

        wait_until(holds, what, PATIENCE_SECONDS)


@dataclass(frozen=True, slots=True)
class Findings:
    """What should not be, as sentences."""

    lost: list[str]
    """Acknowledged, but not the answer any more."""
    doubled: list[str]
    """Took effect twice."""
    gaps: list[str]
    """A number that is missing where numbers are dense."""
    wrong: list[str]
    """Anything else."""

    def all(self) -> list[str]:
        """All of them."""
        return [*self.lost, *self.doubled, *self.gaps, *self.wrong]

    def add(self, namespace: str, others: "Findings") -> None:
        """Those of one namespace, too, each with its name."""
        for kind in fields(self):
            getattr(self, kind.name).extend(f"{namespace}: {sentence}" for sentence in getattr(others, kind.name))


def check(history: History) -> Findings:
    """Everything that is wrong with a history."""
    found = Findings([], [], [], [])
    stored = _by_id(history, found)
    _check_answers(history, stored, found)
    _check_atomic_batches(history, stored, found)
    _check_records(history, stored, found)
    for name, seen in history.namespaces.items():
        found.add(name, _of_namespace(name, seen, told_to_kafka=bool(history.produced)))
    found.wrong.extend(history.faults)
    return found


def taken(history: History) -> list[pb.Submission]:
    """All submissions that the service said it took, each once."""
    answered = [sent for sent, receipt in history.answered if receipt.outcome != pb.OUTCOME_REFUSED]
    told = {_id_of(receipt) for receipt in history.told if receipt.outcome != pb.OUTCOME_REFUSED}
    produced = [sent for sent in map(submission_in, history.produced.values()) if sent is not None]
    answered += [sent for sent in produced if _id_of_submission(sent) in told]
    return list({(_id_of_submission(sent), digest(sent)): sent for sent in answered}.values())


def submission_in(value: bytes) -> pb.Submission | None:
    """The submission that a record holds; None when it holds none."""
    try:
        return pb.Submission.FromString(value)
    except DecodeError:
        return None


def _of_namespace(name: str, seen: NamespaceHistory, *, told_to_kafka: bool) -> Findings:
    """What is wrong with one namespace by itself."""
    found = Findings([], [], [], [])
    _check_versions(name, seen, found)
    changes = [entry.change for entry in seen.stored if entry.change is not None]
    _check_streams(seen, changes, found)
    if told_to_kafka:
        _check_published(seen, changes, found)
    _check_copies(seen, changes, found)
    return found


def _by_id(history: History, found: Findings) -> dict[Id, Stored]:
    stored: dict[Id, Stored] = {}
    for entry in (entry for seen in history.namespaces.values() for entry in seen.stored):
        name = _id_of(entry.decision.receipt)
        if name in stored:
            found.doubled.append(f"{name} was decided twice")
        stored[name] = entry
    return stored


def _check_answers(history: History, stored: Mapping[Id, Stored], found: Findings) -> None:
    for sent, receipt in (*history.answered, *history.again):
        name, entry = _id_of_submission(sent), stored.get(_id_of_submission(sent))
        is_stored = entry is not None and entry.decision.submission_digest == digest(sent)
        if receipt.outcome == pb.OUTCOME_REFUSED:
            if is_stored and receipt.reason == pb.REASON_SUBMISSION_ID_REUSED:
                found.wrong.append(f"{name} was refused for what it is stored with")
        elif entry is None or not is_stored:
            found.lost.append(f"{name} was acknowledged and is not stored")
        elif _first(receipt) != entry.decision.receipt:
            found.lost.append(f"{name} was answered with another receipt than the one that is stored")
    for receipt in history.told:
        entry = stored.get(_id_of(receipt))
        if receipt.outcome != pb.OUTCOME_REFUSED and (entry is None or entry.decision.receipt != receipt):
            found.lost.append(f"{_id_of(receipt)} was told to Kafka otherwise than it is stored")
    found.lost.extend(
        f"{_id_of(receipt)} was decided anew when it was sent again"
        for _, receipt in history.again
        if receipt.outcome != pb.OUTCOME_REFUSED and not receipt.earlier
    )
    first = Counter(_id_of(r) for _, r in history.answered if not r.earlier and r.outcome != pb.OUTCOME_REFUSED)
    found.doubled.extend(f"{name} was decided {count} times" for name, count in first.items() if count > 1)
    known = {_id_of(r) for _, r in history.answered if r.outcome != pb.OUTCOME_REFUSED}
    known |= {_id_of_submission(sent) for sent in map(submission_in, history.produced.values()) if sent is not None}
    found.wrong.extend(f"{name} is stored, but nobody was told" for name in stored.keys() - known)


def _check_atomic_batches(history: History, stored: Mapping[Id, Stored], found: Findings) -> None:
    for batch in history.refused_batches:
        if any(_has(stored, one) for one in batch):
            found.wrong.append(f"of a refused atomic batch something is stored: {batch[0].submission_id}")
    for batch in history.atomic_batches:
        if not all(_has(stored, one) for one in batch):
            found.lost.append(f"of an atomic batch something is not stored: {batch[0].submission_id}")


def _check_records(history: History, stored: Mapping[Id, Stored], found: Findings) -> None:
    """Each record of Kafka is stored, or a dead letter, and not both."""
    letters = Counter(history.dead_letters)
    for offset, value in history.produced.items():
        sent = submission_in(value)
        effects = int(sent is not None and _has(stored, sent)) + letters.pop(offset, 0)
        if effects == 0:
            found.lost.append(f"the record at {offset} has had no effect")
        elif effects > 1:
            found.doubled.append(f"the record at {offset} has had {effects} effects")
    found.wrong.extend(f"nothing was produced at {offset}, where a dead letter is from" for offset in letters)


def _check_versions(name: str, seen: NamespaceHistory, found: Findings) -> None:
    """The journal has its own namespace's decisions only, and its revisions and versions are dense."""
    revision, versions = 0, defaultdict[str, int](int)
    for entry in seen.stored:
        change, receipt = entry.change, entry.decision.receipt
        if {receipt.namespace, change.namespace if change is not None else name} != {name}:
            found.wrong.append(f"{_id_of(receipt)} is in its journal")
        if change is None:
            continue
        revision = _dense(f"revision {change.revision}", change.revision, revision, found)
        version = f"version {change.version} of {change.item_id}"
        versions[change.item_id] = _dense(version, change.version, versions[change.item_id], found)
        if (receipt.revision, receipt.item_id, receipt.version) != (change.revision, change.item_id, change.version):
            found.wrong.append(f"the receipt of revision {change.revision} says something else")
    if revision != seen.head_after:
        found.gaps.append(f"the journal ends at revision {revision}, the head was {seen.head_after}")
    if seen.head_after != seen.head:
        found.doubled.append(f"sending all again moved the head from {seen.head} to {seen.head_after}")


def _check_streams(seen: NamespaceHistory, changes: Sequence[pb.Change], found: Findings) -> None:
    """The subscriber got what the journal has: once, in order, without a gap."""
    revision = 0
    for stream in seen.streams:
        if stream.after != revision:
            found.wrong.append(f"a stream resumed after {stream.after}, not after {revision}")
        for change in stream.changes:
            revision = _dense(f"the pushed revision {change.revision}", change.revision, revision, found)
    pushed = [change for stream in seen.streams for change in stream.changes]
    if revision != len(changes):
        found.gaps.append(f"the subscriber was pushed up to {revision}, the journal goes to {len(changes)}")
    found.wrong.extend(_differences("pushed", pushed, changes))


def _check_published(seen: NamespaceHistory, changes: Sequence[pb.Change], found: Findings) -> None:
    """Kafka's topic of changes got what the journal has."""
    if len(seen.published) != len(changes):
        found.gaps.append(f"Kafka was told {len(seen.published)} changes, the journal has {len(changes)}")
    found.wrong.extend(_differences("published", seen.published, changes))


def _check_copies(seen: NamespaceHistory, changes: Iterable[pb.Change], found: Findings) -> None:
    """The service's snapshot and the replica are what the changes make, one after the other."""
    state: dict[str, pb.Change] = {}
    for change in changes:
        state.pop(change.item_id, None)
        if change.kind != pb.CHANGE_KIND_RETRACTED:
            state[change.item_id] = change
    for name, copy in (("snapshot", seen.snapshot), ("replica", seen.replica)):
        wrong = sorted(item for item in state.keys() | copy.keys() if state.get(item) != copy.get(item))
        found.wrong.extend(f"{item} is not in the {name} as the journal has it" for item in wrong)
    if seen.found != seen.found_by_replica:
        found.wrong.append("the replica finds other items than the service")


def _dense(name: str, number: int, before: int, found: Findings) -> int:
    if number <= before:
        found.doubled.append(f"{name} came after {before}")
    elif number > before + 1:
        found.gaps.append(f"{name} came after {before}")
    return max(number, before)


def _differences(how: str, seen: Iterable[pb.Change], changes: Sequence[pb.Change]) -> Iterator[str]:
    by_revision = {change.revision: change for change in changes}
    for change in seen:
        if by_revision.get(change.revision) != change:
            yield f"revision {change.revision} was {how} otherwise than it is stored"


def _has(stored: Mapping[Id, Stored], sent: pb.Submission) -> bool:
    entry = stored.get(_id_of_submission(sent))
    return entry is not None and entry.decision.submission_digest == digest(sent)


def _first(receipt: pb.Receipt) -> pb.Receipt:
    """A receipt as it was given the first time."""
    first = pb.Receipt()
    first.CopyFrom(receipt)
    first.earlier = False
    return first


def _id_of(receipt: pb.Receipt) -> Id:
    return receipt.namespace, receipt.producer, receipt.submission_id


def _id_of_submission(sent: pb.Submission) -> Id:
    return sent.namespace, sent.provenance.producer, sent.submission_id
