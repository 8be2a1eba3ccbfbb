"""The end of the demonstration: a flood of synthetic knowledge, and an expert's correction in the midst of it.

What is flooded is a namespace of its own, whose policy has the smallest windows that there are and a high floor under
what is real, so that a hundred submissions show what else takes thousands.
"""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from epistream.clients.cli.show import alarms_table, receipt_text
from epistream.clients.demo import corpus
from epistream.clients.demo.corpus import Fact
from epistream.clients.demo.publish import stream
from epistream.clients.demo.report import Report
from epistream.clients.demo.story import ASKED, CONSUMER, corrected
from epistream.clients.knowledge import KnowledgeClient
from epistream.clients.producer import Producer, submission
from epistream.clients.replica import Replica
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns

NAMESPACE: Final = "python-docs-flooded"
PRODUCER: Final = "repeating-writer"
GENERATOR: Final = "epistream.clients.demo.flood"
POLICY: Final = ns.Policy(anchor_items=64, watch_items=64, watch_every=32, real_share_floor=0.95)
PER_SECOND: Final = 50
"""Half of what the encoder takes on two cores: a flood of more would have to wait for it."""
SYNTHETIC_MAX: Final = 50
"""What the floor leaves to synthetic knowledge, of any 1,000 changes."""

_MODULE: Final = "os"
"""What the generator has read of. It is half of what people say, so that it speaks of the same as they do."""
_READ: Final = 12
_REPEATS_EACH: Final = 3
_SEED: Final = 1
_WAIT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05


def choose(facts: Sequence[Fact]) -> tuple[list[Fact], list[Fact]]:
    """What people say, as many as an anchor window takes, and what the generator has read beside it."""
    of_module = [fact for fact in facts if fact.module == _MODULE]
    others = [fact for fact in facts if fact.module != _MODULE]
    half = POLICY.anchor_items // 2
    picked = corpus.choose(of_module, half + _READ)
    said = corpus.choose(picked, half)
    read = [fact for fact in picked if fact not in said]
    return said + corpus.choose(others, POLICY.anchor_items - half, always=(ASKED,)), read


def repeat_and_mutate(read: Sequence[str]) -> Iterator[str]:
    """Without end, and always the same: the texts in turn, of three rounds one as they are.

    In the other rounds one word of the text, drawn evenly, gives way to one that is drawn from all of them.
    """
    draw = random.Random(_SEED)  # noqa: S311 -- nothing secret
    words = [word for text in read for word in text.split()]
    for turn in itertools.count():
        text = read[turn % len(read)]
        if turn // len(read) % _REPEATS_EACH:
            mutated = text.split()
            mutated[draw.randrange(len(mutated))] = draw.choice(words)
            text = " ".join(mutated)
        yield text


@dataclass(slots=True)
class Flood:
    """The flood, which goes on until it is stopped."""

    report: Report
    client: KnowledgeClient
    producer: Producer
    replica: Replica
    """Of NAMESPACE."""
    receipts: list[pb.Receipt] = field(default_factory=list)
    """What became of it so far."""
    stopped: bool = False

    async def tell(self, facts: Sequence[Fact]) -> None:
        """Tells all of it. Raises EpistreamError or TimeoutError; what is not as it should be is in the report."""
        report = self.report
        report.step("Flood a namespace with what a model repeats, and correct something in the midst of it")
        people, read = choose(facts)
        await stream(self.producer, [corpus.as_submission(fact, NAMESPACE) for fact in people], lambda _: None)
        report.say(f"Namespace {NAMESPACE}: {len(people)} statements of people, half of them on `{_MODULE}`.")
        report.say(
            f"{PRODUCER} has read {len(read)} more on `{_MODULE}`. {PER_SECOND} times a second it says one of them "
            "again, of three times once as it is and twice with one word changed, and does not stop by itself."
        )
        flooding = asyncio.create_task(self._flood([fact.text for fact in read]))
        try:
            await self._noticed()
            await self._put_off()
            await self._correct()
        finally:
            self.stopped = True
            await flooding
        self._sum_up()

    async def _flood(self, read: Sequence[str]) -> None:
        once = time.time_ns()

        async def source() -> AsyncIterator[pb.Submission]:
            for turn, text in enumerate(repeat_and_mutate(read)):
                if self.stopped:
                    return
                await asyncio.sleep(1 / PER_SECOND)
                yield submission(
                    text,
                    namespace=NAMESPACE,
                    producer=PRODUCER,
                    origin="SYNTHETIC",
                    generator=GENERATOR,
                    submission_id=f"flood-{once}-{turn}",
                )

        async for receipt in self.producer.stream(source()):
            self.receipts.append(receipt)

    async def _noticed(self) -> None:
        """The collapse watch notices the generator, and the consuming model hears of it."""
        report, found = self.report, await self._alarms_on()
        if found:
            report.say(
                f"The alarm of {PRODUCER} is on since an earlier run: that it is noticed is not shown once more."
            )
            report.console.print(alarms_table(found))
            return

        async def noticed() -> bool:
            found[:] = await self._alarms_on()
            return bool(found)

        async def heard() -> bool:
            return any(alarm.producer == PRODUCER for alarm in self.replica.alarms)

        holds = await _comes(noticed)
        report.check(f"The collapse watch has noticed {PRODUCER}: its alarm is on", holds, "no window raised it")
        report.console.print(alarms_table(found))
        report.check(f"The model {CONSUMER!r} was told of the alarm", await _comes(heard), "its replica knows of none")

    async def _put_off(self) -> None:
        """What is more than the floor allows is put off."""
        report = self.report

        async def put_off() -> bool:
            return any(receipt.reason == pb.REASON_DEFERRED for receipt in self.receipts)

        holds = await _comes(put_off)
        report.check("The surplus of the flood is put off, HELD with the reason DEFERRED", holds, "nothing was put off")

    async def _correct(self) -> None:
        """An expert's correction goes through while the flood goes on, which it does afterwards, too."""
        report, item_id = self.report, f"python:{ASKED}"
        history = await self.client.history(NAMESPACE, item_id)
        correction = corrected(NAMESPACE, history[-1].version + 1)
        decided, began = len(self.receipts), time.perf_counter()
        (receipt,) = await self.producer.submit(correction)
        decided_ms = 1000 * (time.perf_counter() - began)
        await self.replica.wait_for(receipt.revision, _WAIT_SECONDS)
        applied_ms = 1000 * (time.perf_counter() - began)
        during = len(self.receipts) - decided
        report.say(f"An expert corrects {item_id} ({receipt_text(receipt)}), while {during} more of the flood come.")
        report.say(f"Submitted → decided:                 {decided_ms:.0f} ms", style="bold")
        report.say(f"Submitted → applied in the replica:  {applied_ms:.0f} ms", style="bold")
        known = self.replica.get(item_id)
        report.check(
            "Nothing put the correction off: it is REVISED, and the replica has it",
            receipt.outcome == pb.OUTCOME_REVISED
            and known is not None
            and known.knowledge.content == correction.content,
            receipt_text(receipt),
        )

        async def goes_on() -> bool:
            return len(self.receipts) > decided + during

        report.check("The flood went on after it", await _comes(goes_on), "no more of it was decided")

    def _sum_up(self) -> None:
        """What became of the flood in all."""
        self.report.outcomes("the flood", self.receipts)
        changes = [self.replica.get(item_id) for item_id in self.replica.item_ids()]
        synthetic = sum(change is not None and change.knowledge.origin == pb.ORIGIN_SYNTHETIC for change in changes)
        self.report.check(
            f"Of all that it has ever said here, the replica holds {SYNTHETIC_MAX} statements at most",
            synthetic <= SYNTHETIC_MAX,
            f"it holds {synthetic}",
        )

    async def _alarms_on(self) -> list[pb.CollapseAlarm]:
        return await self.client.list_alarms(NAMESPACE, on=True, producer=PRODUCER)


async def _comes(holds: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it holds within some time."""
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            while not await holds():  # noqa: ASYNC110 - the service is asked
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        return False
    return True
