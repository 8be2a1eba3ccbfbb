"""A service that is killed in the midst of a flood: what the gate knows is that of the journal, to the last bit.

People and two models submit beside each other; windows are small, so that anchors, alarms, gains and what is put off
change between any two kills. In the end the whole journal is decided anew in one life, and each window of the collapse
watch compared once more; both must say the same.
"""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from epistream.clients import SyncKnowledgeClient, SyncProducer
from epistream.indexer.engine import Engine
from epistream.indexer.rehearsal import LeftOut
from epistream.indexer.store import Store
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import Unavailable
from tests.support.collapsing import ALL_KINDS, EVERY, FEW_KINDS, kinds, texts, wanted
from tests.support.comparing import compared_again, kept_alarms
from tests.support.knowing import NAMESPACE, watch
from tests.support.rehearsing import decided, rehearsed
from tests.support.service import RunningService, running_service
from tests.support.waits import wait_until

BATCH = 8
BATCHES_MAX = 3_000
"""For each producer, of which one may be answered far sooner after a kill than the others."""
KINDS = {"ada": ALL_KINDS, "gpt": FEW_KINDS, "llama": ALL_KINDS}


@dataclass(slots=True)
class Producing:
    """Somebody who submits batch after batch, each until it is answered."""

    address: str
    producer: str
    receipts: list[pb.Receipt] = field(default_factory=list)
    stopped: bool = False

    def reasons(self) -> set[int]:
        """Why what was submitted became what it is."""
        return {receipt.reason for receipt in self.receipts}

    def run(self) -> None:
        made = texts(kinds(KINDS[self.producer], BATCHES_MAX * BATCH, len(self.producer)), "Said", self.producer)
        with SyncProducer(self.address) as producer:
            for start in range(0, len(made), BATCH):
                if self.stopped:
                    return
                self.receipts += self._answered(producer, made[start : start + BATCH])

    def _answered(self, producer: SyncProducer, batch: Sequence[pb.Submission]) -> list[pb.Receipt]:
        while True:
            try:
                return producer.submit(*batch)
            except Unavailable:
                time.sleep(0.02)


@contextmanager
def producing(address: str, producer: str) -> Iterator[Producing]:
    """Somebody submits while the block runs."""
    made = Producing(address, producer)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        made.stopped = True
        thread.join()


def lives(service: RunningService, rounds: int) -> list[Producing]:
    """Kill the service that often; then stop it."""
    request = wanted(on_collapse=ns_pb.COLLAPSE_ACTION_HOLD)
    request.policy.real_share_floor = 0.75
    with SyncKnowledgeClient(service.address) as client:
        client.create_namespace(NAMESPACE, encoder=request.encoder, policy=request.policy)
    chance = random.Random(rounds)
    with ExitStack() as running:
        who = [running.enter_context(producing(service.address, name)) for name in KINDS]
        for _ in range(rounds):
            answered = sum(len(one.receipts) for one in who)
            wait_until(lambda: sum(len(one.receipts) for one in who) > answered + 30 * BATCH, "answers")  # noqa: B023
            time.sleep(chance.uniform(0.0, 0.3))
            service.kill()
            service.start()
        with SyncKnowledgeClient(service.address) as client:
            wait_until(lambda: went_on(client, who[-1].receipts), "what was put off to go on")
    service.stop()
    return who


def went_on(client: SyncKnowledgeClient, receipts: Sequence[pb.Receipt]) -> bool:
    """Whether one of the first that were put off is in answers by now."""
    put_off = [one for one in receipts if one.reason == pb.REASON_DEFERRED][:BATCH]
    told = [client.explain(NAMESPACE, one.producer, one.submission_id)[-1] for one in put_off]
    return any(one.receipt.reason == pb.REASON_RELEASED for one in told)


@pytest.mark.parametrize("rounds", [5, pytest.param(60, marks=[pytest.mark.robustness, pytest.mark.timeout(1800)])])
def test_what_the_gate_knows_is_that_of_the_journal_whenever_it_is_killed(tmp_path: Path, rounds: int) -> None:
    folder = tmp_path / "store"
    with running_service(folder) as service:
        who = lives(service, rounds)

    first = {(one.producer, one.submission_id): one for one in receipts_of(folder)}
    for receipt in (one for each in who for one in each.receipts):
        assert first[receipt.producer, receipt.submission_id].outcome == receipt.outcome
    result = rehearsed(folder, tmp_path / "again")
    assert result.differences == []
    assert result.other_figures == 0
    assert result.before == result.after
    assert set(result.left_out) <= {LeftOut.NOT_WHOLE}
    assert decided(tmp_path / "again") == decided(folder)
    kept = kept_alarms(folder)
    assert any(alarm.on for alarm in kept)
    assert compared_again(folder) == compared_again(tmp_path / "again") == kept
    reasons = {reason for (_, reason), _ in result.outcomes}
    assert {pb.REASON_COLLAPSE, pb.REASON_DEFERRED, pb.REASON_RELEASED} <= reasons, "it had something to decide"
    assert_each_window_once(folder)


def receipts_of(folder: Path) -> list[pb.Receipt]:
    """What the journal says first of each submission."""
    with closing(Store(folder)) as store:
        found = [one.record.decision.receipt for one in store.journal.follow(0) if one.record.HasField("decision")]
    return list({(one.producer, one.submission_id): one for one in reversed(found)}.values())


def assert_each_window_once(folder: Path) -> None:
    """Of each producer every window that was due was looked at, once; none is left when all are."""
    engine = Engine(folder)
    watch(engine)
    seen = defaultdict[str, list[int]](list)
    for entry in engine.store.journal.follow(0):
        if entry.record.watched.producer:
            seen[entry.record.watched.producer].append(entry.record.watched.accepted)
    engine.close()
    assert set(seen) >= {"gpt", "llama"}
    for producer, accepted in seen.items():
        first = accepted[0]
        assert accepted == list(range(first, first + EVERY * len(accepted), EVERY)), producer
