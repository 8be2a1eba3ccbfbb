"""Random lives of a gate: whatever happens to it, its journal decided anew says the same, and nothing gets lost.

People and models say the same few things again and again under few names, of each other, in both modalities, take them
back, and rule on what is held, while the policy changes and the store is closed and opened. Batches may be of two
namespaces, all or nothing, or be decided long after they were prepared, and the clock may go back. What a life does is
drawn by its number, so a life that fails can be lived again: `-k "again[7]"`.
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import accumulate
from pathlib import Path
from random import Random

import pytest

from epistream.indexer import rehearsal
from epistream.indexer import store as stores
from epistream.indexer.collapse import FLOOR_WINDOW
from epistream.indexer.engine import Engine
from epistream.indexer.model import Embedded, Malformed
from epistream.indexer.rehearsal import LeftOut
from epistream.indexer.store import Store
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import review_service_pb2 as api
from epistream.wire.errors import EpistreamError
from tests.support.collapsing import ALL_KINDS, EVERY, FEW_KINDS, ITEMS, kinds, texts, wanted
from tests.support.comparing import compared_again, entries, kept_alarms
from tests.support.knowing import NAMESPACE, HandClock, pending, record, retraction, ruling, submission, watch
from tests.support.rehearsing import decided, rehearsed

ACTS = 120
SAID = [f"{the} limit of {n} is {dose} mg." for n in range(8) for dose in (5, 50) for the in ("The", "the")]
"""The same claims in two forms, which have one vector."""
PEOPLE = [pb.ORIGIN_EXPERT, pb.ORIGIN_COLLABORATIVE, pb.ORIGIN_CRAWLED]
REVIEWERS = [("dr-ada", pb.ORIGIN_EXPERT), ("ben", pb.ORIGIN_COLLABORATIVE), ("runner", pb.ORIGIN_SYNTHETIC)]
GUARDS = [ns_pb.GUARD_MEASURE, ns_pb.GUARD_HOLD, ns_pb.GUARD_HOLD_NOISE]
ON_COLLAPSE = [ns_pb.COLLAPSE_ACTION_HOLD, ns_pb.COLLAPSE_ACTION_WATCH]
WORTHS = [0.0, 0.3]
FLOORS = [0.0, 0.3, 0.9, 0.97, 0.99]
BESIDE = "beside"
"""A second namespace."""
STEPS = [0, 1, 1000, 10**6]
"""Of the clock, in microseconds."""


class GateLife:
    """A namespace to which happens what its number draws."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.chance, self.clock = folder, Random(number), HandClock()
        chance = self.chance
        self.engine = Engine(folder, clock=self.clock)
        self.names = [f"i{n}" for n in range(chance.choice([8, 40, 200]))]
        self.derived = chance.choice([0, 0.2, 0.5])
        self.floor, self.floor_changes = chance.choice(FLOORS), chance.random() < 0.5
        request = wanted(generation_max=chance.choice([1, 2, 5]), verify_code=chance.random() < 0.3)
        request.policy.real_share_floor = self.floor
        request.policy.guard, request.policy.on_collapse = chance.choice(GUARDS), chance.choice(ON_COLLAPSE)
        request.policy.worth_min = chance.choice(WORTHS)
        request.policy.near_duplicate_threshold = chance.choice([0.9, 0.95, 0.99])
        self.engine.namespaces.create(request)
        self.engine.namespaces.create(wanted(BESIDE))
        self.steps = chance.choice([STEPS, [*STEPS, -500, -(10**7)]])
        self.beside, self.kept_waiting, self.atomic = (chance.choice([0, 0.2]) for _ in range(3))
        self.flood_max = 900 if number % 10 == 7 else 0  # decided three times, such a life takes a minute
        self.vectors = kinds(12, 400, number)
        self.sent = 0
        self.prepared: list[Sequence[Embedded | Malformed]] = []
        self.receipts: list[pb.Receipt] = []
        if chance.random() < 0.6:
            self.commit(*texts(kinds(ALL_KINDS, ITEMS + 16, number + 1), "People", "ada"))

    def live(self) -> None:
        """Do so many acts; then close the store."""
        acts = {self.say: 60, self.flood: 2, self.vote: 8, self.rule: 8, self.settle: 4, self.watch: 8, self.let_go: 4}
        acts |= {self.change: 8, self.resolve: 4, self.reopen: 4}
        for act in self.chance.choices([*acts], [*acts.values()], k=ACTS):
            self.clock.us += self.chance.choice(self.steps)
            with suppress(EpistreamError):  # who may not, or comes too late
                act()
        assert stores.check(self.engine.store) == []
        self.engine.close()

    def commit(self, *sent: pb.Submission) -> None:
        """Prepare a batch, and have it decided now, or after what comes next."""
        records = []
        for one in sent:
            records.append(record(one))
            if self.chance.random() < self.beside:
                one.namespace = BESIDE
                records.append(record(one))
        self.prepared.append(self.engine.pipeline.prepare(records))
        if self.chance.random() >= self.kept_waiting:
            while self.prepared:
                atomic = self.chance.random() < self.atomic
                receipts = self.engine.pipeline.commit(self.prepared.pop(), atomic=atomic)
                self.receipts += (receipt for receipt in receipts if receipt.namespace == NAMESPACE)

    def say(self) -> None:
        self.commit(*(self.something() for _ in range(self.chance.randint(1, 12))))

    def something(self) -> pb.Submission:
        """Somebody's word: new or known, named or not, derived from others, or a retraction."""
        chance = self.chance
        self.sent += 1
        synthetic = chance.random() < 0.7
        origin = pb.ORIGIN_SYNTHETIC if synthetic else chance.choice(PEOPLE)
        producer = chance.choice(["gpt", "llama"] if synthetic else ["ada", "bob"])
        if chance.random() < 0.12:
            taken_back = retraction(chance.choice(self.names), id=f"s{self.sent}", producer=producer)
            taken_back.origin = origin
            return taken_back
        content = chance.choice(SAID) if chance.random() < 0.7 else f"Unique {self.sent}."
        one = submission(
            content,
            id=f"s{self.sent if chance.random() < 0.95 else chance.randint(1, self.sent)}",
            item=chance.choice(self.names) if chance.random() < 0.6 else "",
            origin=origin,
            producer=producer,
            vector=self.vectors[7 * sum(map(ord, content.lower())) % len(self.vectors)],
            derived_from=chance.sample(self.names, 2) if chance.random() < self.derived else (),
            generator="" if chance.random() < 0.1 else None,
            expected_version=chance.randint(0, 3) if chance.random() < 0.1 else None,
        )
        one.modality = chance.choice([pb.MODALITY_TEXT, pb.MODALITY_TEXT, pb.MODALITY_CODE])
        if chance.random() < 0.15:
            one.valid_from.FromSeconds(chance.randint(1, 5) * 10**6)
        return one

    def flood(self) -> None:
        """A model says few kinds of things, and is looked at."""
        self.sent += 1
        for part in range(2):
            count = EVERY + self.chance.randint(0, self.flood_max)
            self.commit(*texts(kinds(FEW_KINDS, count, self.sent + part), f"Few kinds {self.sent} {part}"))
        self.watch()

    def vote(self) -> None:
        self.sent += 1
        said = pb.Submission(namespace=NAMESPACE, submission_id=f"f{self.sent}", origin=pb.ORIGIN_EXPERT)
        said.provenance.producer = "panel"
        said.feedback.kind, said.feedback.rater = pb.FEEDBACK_KIND_BINARY, self.chance.choice("abc")
        said.feedback.rater_type = pb.RATER_TYPE_HUMAN
        said.feedback.judged.add(item_id=self.chance.choice(self.names), score=self.chance.choice([0, 1]))
        self.commit(said)

    def rule(self) -> None:
        held = pending(self.engine)
        for one in self.chance.sample(held, min(len(held), 2)):
            by, origin = self.chance.choice(REVIEWERS)
            admits = self.chance.random() < 0.6
            self.engine.pipeline.release([ruling(self.engine, one, admits=admits, by=by, origin=origin)])

    def settle(self) -> None:
        """A person says of what raters dispute that it stands, or falls."""
        reviews = self.engine.reviews
        asked = api.ListReviewsRequest(namespace=NAMESPACE, reasons=[pb.REASON_DISPUTED])
        for review in reviews.list_reviews(asked).reviews[:1]:
            request = api.DecideReviewRequest(
                namespace=NAMESPACE,
                review_id=review.review_id,
                verdict=self.chance.choice([api.REVIEW_VERDICT_ADMIT, api.REVIEW_VERDICT_REJECT]),
                reviewer=api.Reviewer(name="dr-ada", origin=self.chance.choice(PEOPLE)),
            )
            reviews.decide(reviews.prepare(request))

    def watch(self) -> None:
        watch(self.engine)

    def let_go(self) -> None:
        self.engine.pipeline.let_go(NAMESPACE)

    def change(self) -> None:
        chance = self.chance
        changes = [
            ns_pb.Policy(generation_max=chance.choice([1, 3])),
            ns_pb.Policy(guard=chance.choice(GUARDS)),
            ns_pb.Policy(on_collapse=chance.choice(ON_COLLAPSE)),
            ns_pb.Policy(verify_code=chance.random() < 0.5),
            ns_pb.Policy(worth_min=chance.choice(WORTHS)),
            ns_pb.Policy(real_share_floor=chance.choice(FLOORS) if self.floor_changes else self.floor),
        ]
        request = ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=chance.choice(changes))
        self.engine.namespaces.update_policy(request)
        while self.engine.pipeline.let_go(NAMESPACE):
            self.clock.us += 1000

    def resolve(self) -> None:
        resolutions = self.engine.resolutions
        found = resolutions.list_conflicts(api.ListConflictsRequest(namespace=NAMESPACE)).conflicts
        conflict = self.chance.choice([*found, api.Conflict()])
        request = api.ResolveConflictRequest(
            namespace=NAMESPACE,
            conflict_id=conflict.conflict_id,
            standing_item_ids=[party.item_id for party in conflict.parties if not party.gone][:1],
            reviewer=api.Reviewer(name="dr-ada", origin=pb.ORIGIN_EXPERT),
        )
        resolutions.resolve(resolutions.prepare(request))

    def reopen(self) -> None:
        self.engine.close()
        self.prepared.clear()  # nobody was told that it was taken
        self.engine = Engine(self.folder, clock=self.clock)


def assert_it_is_decided_again(folder: Path, again: Path, *, alarms: bool) -> None:
    """The journal's rehearsal is bit for bit what it says itself; with `alarms` its windows, too."""
    result = rehearsed(folder, again)
    assert (result.differences, result.other_figures, result.before) == ([], 0, result.after)
    assert set(result.left_out) <= {LeftOut.NOT_WHOLE}
    assert decided(again) == decided(folder)
    if alarms:
        assert compared_again(again) == kept_alarms(folder)


def assert_nothing_is_lost(life: GateLife) -> None:
    """What was taken is in the journal, and what is held waits, or a version since says the same."""
    last: dict[tuple[str, str], tuple[int, pb.Outcome.ValueType, bytes]] = {}
    said = dict[bytes, int]()
    engine = Engine(life.folder, clock=life.clock)
    for entry in entries(engine.store):
        if entry.record.WhichOneof("record") == "decision":
            decision, receipt = entry.record.decision, entry.record.decision.receipt
            last[receipt.producer, receipt.submission_id] = entry.sequence, receipt.outcome, decision.fingerprint
            if entry.change is not None:
                said[decision.fingerprint] = entry.sequence
    waits = {held.sequence for held in pending(engine)}
    engine.close()
    taken = {(one.producer, one.submission_id) for one in life.receipts if one.outcome != pb.OUTCOME_REFUSED}
    assert taken <= last.keys()
    for sequence, outcome, fingerprint in last.values():
        assert outcome != pb.OUTCOME_HELD or sequence in waits or said.get(fingerprint, 0) > sequence


def versions(folder: Path) -> Sequence[pb.Change]:
    """What became a head, in order."""
    with closing(Store(folder)) as store:
        changes = [entry.change for entry in entries(store) if entry.change is not None]
    return [one for one in changes if one.kind not in (pb.CHANGE_KIND_RETRACTED, pb.CHANGE_KIND_LATE)]


def assert_people_stand(folder: Path) -> None:
    """No synthetic version replaces a person's."""
    origins = dict[str, int]()
    for change in versions(folder):
        origin = change.knowledge.origin
        if origin == pb.ORIGIN_SYNTHETIC:
            assert origins.get(change.item_id, origin) == origin, change
        origins[change.item_id] = origin


def assert_the_floor_holds(folder: Path, floor: float) -> None:
    """In each 1,000 in a row, of all and of each modality."""
    of = defaultdict[int, list[bool]](list)
    for change in versions(folder):
        for one in (0, change.knowledge.modality):
            of[one].append(change.knowledge.origin == pb.ORIGIN_SYNTHETIC)
    for synthetic in of.values():
        sums = [0, *accumulate(synthetic)]
        most = max(sums[end] - sums[max(0, end - FLOOR_WINDOW)] for end in range(len(sums)))
        assert most <= (1 - floor) * FLOOR_WINDOW + 1e-9


@pytest.mark.parametrize("number", [*range(6), *(pytest.param(n, marks=pytest.mark.robustness) for n in range(6, 400))])
def test_a_journal_says_the_same_again(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    life = GateLife(tmp_path / "store", number)
    life.live()

    assert_it_is_decided_again(life.folder, tmp_path / "again", alarms=True)
    monkeypatch.setattr(rehearsal, "BATCH_MAX", 1)
    assert_it_is_decided_again(life.folder, tmp_path / "one by one", alarms=False)
    assert_nothing_is_lost(life)
    assert_people_stand(life.folder)
    if not life.floor_changes:
        assert_the_floor_holds(life.folder, life.floor)


def test_lives_meet_what_a_gate_decides_by(tmp_path: Path) -> None:
    reasons = set[int]()
    for number in (0, 1, 2, 3, 4, 5, 9, 11):
        life = GateLife(tmp_path / str(number), number)
        life.live()
        reasons |= {receipt.reason for receipt in life.receipts}
    asked = {pb.REASON_NO_GENERATOR, pb.REASON_UNKNOWN_PARENT, pb.REASON_CYCLE, pb.REASON_COLLAPSE}
    asked |= {pb.REASON_UNVERIFIED, pb.REASON_IMPLAUSIBLE, pb.REASON_LOW_GAIN, pb.REASON_DEFERRED}
    found = {pb.REASON_SAME_CONTENT, pb.REASON_SAME_CLAIM, pb.REASON_REVISION, pb.REASON_PROMOTION, pb.REASON_LATE}
    assert asked | found | {pb.REASON_REINSTATEMENT, pb.REASON_RETRACTED_CONTENT} <= reasons
