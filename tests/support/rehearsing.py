"""A namespace to which everything happens that a journal can tell, and its rehearsal.

`python -m tests.support.rehearsing FOLDER` rehearses the store in FOLDER, and prints what was decided and which alarms
there were in its journal, the same of the rehearsal's, where each window is compared once more: of each one line of
hexadecimal digits.
"""

import hashlib
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from epistream.indexer.embed import Embedder
from epistream.indexer.engine import Engine
from epistream.indexer.rehearsal import Rehearsal, rehearse
from epistream.indexer.store import Store
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.v1 import review_service_pb2 as api
from tests.support.collapsing import ALL_KINDS, EVERY, FEW_KINDS, ITEMS, kinds, texts, wanted
from tests.support.comparing import compared_again, entries, kept_alarms
from tests.support.knowing import NAMESPACE, HandClock, commit, pending, retraction, ruling, submission, watch

SYNTHETIC = pb.ORIGIN_SYNTHETIC


class Life:
    """An engine whose clock goes on with each act."""

    def __init__(self, folder: Path, **policy: Any) -> None:
        self.clock = HandClock()
        self.engine = Engine(folder, clock=self.clock)
        self.engine.namespaces.create(wanted(**policy))

    def say(self, *sent: pb.Submission) -> list[pb.Receipt]:
        """One batch."""
        self.clock.us += 1000
        return commit(self.engine, *sent)

    def change(self, **policy: Any) -> None:
        """Change the policy, and let go of what may go on, as the service does."""
        self.clock.us += 1000
        request = ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=ns_pb.Policy(**policy))
        self.engine.namespaces.update_policy(request)
        while self.engine.pipeline.let_go(NAMESPACE):
            self.clock.us += 1000

    def decide(
        self,
        reason: pb.Reason.ValueType,
        *,
        admits: bool,
        by: str = "dr-ada",
        origin: pb.Origin.ValueType = pb.ORIGIN_EXPERT,
    ) -> pb.Receipt:
        """Somebody decides the oldest one that is held for a reason."""
        self.clock.us += 1000
        one = ruling(self.engine, pending(self.engine, reason)[0], admits=admits, by=by, origin=origin)
        return self.engine.pipeline.release([one])[0]

    def watch(self) -> list[pb.CollapseAlarm]:
        """Have the collapse watch look."""
        self.clock.us += 1000
        return watch(self.engine)


def lived(folder: Path) -> None:
    """Write a store with everything."""
    life = Life(folder)
    _learn(life)
    _quarrel(life)
    _merge_and_derive(life)
    _collapse(life)
    _flood(life)
    life.engine.close()


def _learn(life: Life) -> None:
    """The anchor window gets whole in the middle of a batch that synthetic knowledge is in."""
    people, models = texts(kinds(ALL_KINDS, 2 * ITEMS), "People", "ada"), texts(kinds(ALL_KINDS, 40, 7), "Early")
    life.say(*people[: ITEMS - 5], *models[:5])
    mixed = [one for pair in zip(people[ITEMS - 5 : ITEMS + 5], models[5:15], strict=True) for one in pair]
    life.say(*mixed)
    life.say(*models[15:30], *people[ITEMS + 5 :])


def _quarrel(life: Life) -> None:
    """Revisions, retractions, conflicts, what comes too late, and feedback."""
    at = kinds(ALL_KINDS, 200, 11)
    life.say(
        submission("The limit is 5 mg.", id="l-1", item="limit", vector=at[0]),
        submission("The limit is 50 mg.", id="l-2", origin=SYNTHETIC, vector=at[0], producer="gpt"),
        submission("The limit is 6 mg.", id="l-3", item="limit", vector=at[1]),
        submission("The limit is 7 mg.", id="l-4", item="limit", origin=SYNTHETIC, vector=at[1], producer="gpt"),
        submission("The limit is 60 mg.", id="l-5", vector=at[1], origin=pb.ORIGIN_CRAWLED, producer="crawl"),
    )
    life.decide(pb.REASON_CONFLICT_WITH_EXPERT, admits=True)
    life.decide(pb.REASON_LOWER_AUTHORITY, admits=False)
    life.say(
        retraction("limit", id="r-1"),
        retraction("limit", id="r-2", producer="bob"),
        retraction("nothing", id="r-3"),
        submission("The limit is 6 mg.", id="l-6", item="limit", vector=at[1]),
        submission("A stale one.", id="l-7", item="limit", expected_version=1, vector=at[2]),
        submission("It expects nothing.", id="l-8", item="fresh", expected_version=0, vector=at[3]),
    )
    life.say(
        submission("The dose is 5 mg.", id="d-1", item="dose", vector=at[4]),
        submission("The dose is 50 mg.", id="d-2", vector=at[4], origin=pb.ORIGIN_CRAWLED, producer="crawl"),
    )
    life.clock.us += 1000
    resolve_first(life)
    judged = pb.Submission(
        namespace=NAMESPACE,
        submission_id="f-1",
        origin=pb.ORIGIN_EXPERT,
        provenance=pb.Provenance(producer="rater"),
        feedback=pb.Feedback(
            kind=pb.FEEDBACK_KIND_BINARY,
            rater="rater",
            rater_type=pb.RATER_TYPE_HUMAN,
            judged=[pb.Judged(item_id="fresh", score=1)],
        ),
    )
    life.say(judged)


def resolve_first(life: Life) -> None:
    """The first party of the oldest open conflict stands."""
    resolutions = life.engine.resolutions
    conflict = resolutions.list_conflicts(api.ListConflictsRequest(namespace=NAMESPACE)).conflicts[0]
    request = api.ResolveConflictRequest(
        namespace=NAMESPACE,
        conflict_id=conflict.conflict_id,
        standing_item_ids=[next(party.item_id for party in conflict.parties if not party.gone)],
        reviewer=api.Reviewer(name="dr-ada", origin=pb.ORIGIN_EXPERT),
    )
    resolutions.resolve(resolutions.prepare(request))


def _merge_and_derive(life: Life) -> None:
    """Merges under other names, promotions, and copies of copies of them."""
    at = kinds(ALL_KINDS, 60, 12)

    def made(content: str, number: int, *parents: str, **fields: Any) -> pb.Submission:
        given: dict[str, Any] = {"origin": SYNTHETIC, "producer": "llama"} | fields
        return submission(content, vector=at[number], derived_from=parents, **given)

    life.say(
        made("Iron rusts in water.", 0, id="m-1", item="rust"),
        made("Iron rusts in water.", 0, id="m-2", item="rust-2"),
        made("iron  rusts in water", 0, id="m-3", item="rust-3"),
        made("It was derived.", 1, "rust-2", "fresh", id="m-4", item="second"),
        made("It was derived twice.", 2, "second", "rust-3", id="m-5", item="third"),
        made("It was derived three times.", 3, "third", id="m-6", item="fourth"),
        made("It was derived twice.", 2, "second", id="m-7"),
        made("It was derived.", 1, "rust-2", id="m-13"),
        made("Whose is it?", 4, id="m-8", generator=""),
        made("Of what?", 5, "unheard-of", id="m-9"),
    )
    life.say(
        made("Iron rusts in water.", 0, id="e-1", origin=pb.ORIGIN_EXPERT, producer="ada"),
        made("it was derived.", 1, id="e-2", origin=pb.ORIGIN_COLLABORATIVE, producer="ada"),
        made("It comes after the derived ones.", 6, "rust-3", id="m-10", item="after"),
    )
    orphans = [made(f"Orphan {n}.", 20 + n, "late", id=f"o-{n}", item=f"orphan-{n}") for n in range(3)]
    life.say(*orphans[:2])
    life.say(
        orphans[2],
        made("Of an orphan.", 23, "orphan-1", id="o-3"),
        made("It comes late.", 24, id="o-4", item="late", origin=pb.ORIGIN_EXPERT, producer="ada"),
    )
    life.decide(pb.REASON_GENERATION, admits=True)
    life.decide(pb.REASON_NO_GENERATOR, admits=False)
    life.change(generation_max=3, require_generator=False)
    life.say(
        made("It was derived thrice.", 7, "third", id="m-11", item="fifth"),
        made("Nobody made it.", 8, id="m-12", generator=""),
    )


def _collapse(life: Life) -> None:
    """A model says less and less: first that is watched, then it is held; the guard holds too."""
    for number in range(3):
        life.say(*texts(kinds(FEW_KINDS, EVERY, 20 + number), f"Few kinds {number}"))
        life.watch()
    life.change(on_collapse=ns_pb.COLLAPSE_ACTION_HOLD)
    life.say(*texts(kinds(FEW_KINDS, 5, 30), "Held"))
    life.decide(pb.REASON_COLLAPSE, admits=True)
    life.change(guard=ns_pb.GUARD_HOLD, worth_min=0.2, on_collapse=ns_pb.COLLAPSE_ACTION_WATCH)
    life.say(*texts(kinds(ALL_KINDS, 10, 31), "Too little", "llama"))
    short = kinds(ALL_KINDS, 1, 32)[0]
    life.say(submission("Too short.", id="short", origin=SYNTHETIC, vector=short, producer="llama"))
    life.decide(pb.REASON_IMPLAUSIBLE, admits=True)
    life.change(guard=ns_pb.GUARD_MEASURE)


def _flood(life: Life) -> None:
    """More comes than the share allows: what was put off goes on by people's knowledge, and by another policy."""
    life.change(real_share_floor=0.9)
    life.say(*texts(kinds(ALL_KINDS, 30, 40), "Flood", "mistral"))
    at = kinds(ALL_KINDS, 2, 43)
    life.say(*(submission(f"Taken back {n}.", id=f"t-{n}", item="t", origin=SYNTHETIC, vector=at[n]) for n in (0, 1)))
    life.say(retraction("t", id="t-2"))
    life.change(real_share_floor=0.8)
    life.say(*texts(kinds(ALL_KINDS, 60, 41), "Second flood", "mistral"))
    life.say(submission("Flood said by people.", id="p-1", vector=kinds(ALL_KINDS, 1, 42)[0]))
    life.change(real_share_floor=0.78)


def rehearsed(folder: Path, again: Path, embedder: Embedder | None = None, **changed: Any) -> Rehearsal:
    """Rehearse the store in a folder, in another one."""
    with closing(Store(folder)) as store:
        return rehearse(store.readers, NAMESPACE, ns_pb.Policy(**changed), again, embedder=embedder)


def decided(folder: Path) -> list[bytes]:
    """All that was decided in a store's journal, and what came of it; of what was merged in other words only that.

    What the collapse watch found is not in it: a rehearsal takes that over (tests/support/comparing.py finds it anew).
    """
    found = []
    with closing(Store(folder)) as store:
        for entry in entries(store):
            decision = entry.record.decision
            if entry.record.WhichOneof("record") == "decision":
                receipt = decision.receipt
                if receipt.outcome == pb.OUTCOME_MERGED:
                    receipt.ClearField("reason")
                    receipt.ClearField("figures")
                said = receipt.SerializeToString(deterministic=True)
                found.append(said + (entry.change_bytes or b"") + (entry.embedding or b""))
    return found


def main() -> None:
    """Rehearse, and print both."""
    with tempfile.TemporaryDirectory() as again:
        result = rehearsed(Path(sys.argv[1]), Path(again))
        assert not result.differences, result.differences
        kept, made = Path(sys.argv[1]), Path(again)
        for folder, alarms in ((kept, kept_alarms(kept)), (made, compared_again(made))):
            told = [*decided(folder), *(alarm.SerializeToString(deterministic=True) for alarm in alarms)]
            print(hashlib.sha256(b"".join(told)).hexdigest())


if __name__ == "__main__":
    main()
