"""The story that the demonstration tells, step by step, once Kafka, the service and a replica are there.

Every step prints what it does and what came of it, and checks it against what should have come of it.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from epistream.clients.cli.show import changes_table, diff_table, receipt_text
from epistream.clients.demo import corpus, variants
from epistream.clients.demo.corpus import Fact
from epistream.clients.demo.publish import Published, Way, decided_count
from epistream.clients.demo.report import Report, examples, those
from epistream.clients.demo.variants import Kind, Variant
from epistream.clients.knowledge import KnowledgeClient
from epistream.clients.producer import Producer, submission
from epistream.clients.replica import Replica
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge
from epistream.wire.errors import NotFound

NAMESPACE: Final = "python-docs"
CONSUMER: Final = "demo-model"
EXPERT: Final = "demo-expert"
VARIANTS_SHARE: Final = 5
"""One variant for so many facts."""
EXAMPLES_MAX: Final = 7
_APPLY_SECONDS: Final = 60.0
_UNLIKE_IN: Final = 20
"""Of so many new statements one may look like noise, as of people's own."""

ASKED: Final = "textwrap.shorten"
QUESTION: Final = "How do I shorten a text to a given width?"
_CORRECTED: Final = tuple(
    "textwrap.shorten(text, width, **kwargs): Collapse the white space in the text and drop whole words from its end "
    f"until it fits in width characters, {end}"
    for end in (
        "the mark ' [...]' included, which stands for what was dropped. Give placeholder= for another mark.",
        "the mark ' [...]' included. Raises ValueError when the mark alone is wider than that.",
    )
)
"""Both are true, and each says what the docstring leaves out. They take turns, so that each run changes the answer."""

WRONG: Final = "tomllib.dump"
WRONG_TEXT: Final = "tomllib.dump(obj, fp): Write a dictionary to a TOML file. The file must be open in binary mode."
WRONG_QUESTION: Final = "Which function writes a dictionary to a TOML file?"


@dataclass(slots=True)
class Story:
    """The parts of the story, and its steps in their order."""

    report: Report
    client: KnowledgeClient
    producer: Producer
    way: Way
    replica: Replica

    async def tell(self, facts: Sequence[Fact], items: int) -> None:
        """Tells all of it. Raises EpistreamError when a part fails; what is not as it should be is in the report."""
        chosen = corpus.choose(facts, items, always=(ASKED,))
        await self.publish_facts(chosen, len(facts))
        await self.publish_variants(chosen, facts)
        before = await self.correct()
        await self.retract()
        await self.look_back(before)

    async def publish_facts(self, chosen: Sequence[Fact], known: int) -> None:
        """Expert knowledge goes in and reaches the replica."""
        report = self.report
        report.step(f"Publish the documentation of Python's standard library as EXPERT knowledge, over {self.way.name}")
        report.say(
            f"{len(chosen)} of its {known} documented modules, classes, functions, methods and properties, such as"
        )
        report.say(f"  {next(fact.text for fact in chosen if fact.name == ASKED)}", style="dim")
        published = await self._publish("facts", [corpus.as_submission(fact, NAMESPACE) for fact in chosen])
        lost = not_their_own(chosen, published.receipts)
        report.check(
            "Every fact is an item of its own",
            not lost,
            f"{len(lost)} are not, such as {receipt_text(lost[0])}" if lost else "",
        )
        await self._check_replica()

    async def publish_variants(self, chosen: Sequence[Fact], facts: Sequence[Fact]) -> None:
        """Synthetic knowledge goes in, and the gate is compared with what is expected of it."""
        report = self.report
        report.step(f"Publish variants of it as SYNTHETIC knowledge, over {self.way.name}")
        originals = [fact for fact in chosen if fact.name != ASKED]
        made = variants.make_variants(originals, facts, len(chosen) // VARIANTS_SHARE)
        report.say(
            f"{len(made)} statements: copies, other forms, other words, contradictions, new ones. The gate is not told "
            "which is which."
        )
        published = await self._publish("variants", [variants.as_submission(variant, NAMESPACE) for variant in made])
        texts = {fact.item_id: fact.text for fact in facts}
        for variant, receipt in examples(made, published.receipts)[:EXAMPLES_MAX]:
            report.example(variant, texts.get(variant.original, "(nothing)"), receipt)
        report.confusion(made, published.receipts)
        judge(report, made, published.receipts)
        await self._check_replica()

    async def correct(self) -> int:
        """An expert corrects an item, and the replica's answer changes; the head revision before that."""
        report, item_id = self.report, f"python:{ASKED}"
        report.step("Correct an item, and see a consuming model's answer change")
        old = await self._ask(QUESTION)
        report.check(f"The replica answers with {item_id}", old.item_id == item_id, f"it answers with {old.item_id}")
        head = (await self.client.namespace(NAMESPACE)).head_revision
        version = (await self.client.history(NAMESPACE, item_id))[-1].version + 1
        correction = corrected(NAMESPACE, version)
        text = correction.content
        report.say(f"An expert corrects the item, over {self.way.name}. Version {version}:")
        report.say(f"  {text}", style="cyan")
        searchable_ms, applied_ms = await self._race(self.way.send(correction), QUESTION, head + 1)
        report.say(f"Submitted → searchable in the service: {searchable_ms:.0f} ms", style="bold")
        report.say(f"Submitted → applied in the replica:    {applied_ms:.0f} ms", style="bold")
        new = await self._ask(QUESTION)
        report.check(
            "The replica's answer is the corrected one",
            new.knowledge.content == text != old.knowledge.content,
            f"it is {new.knowledge.content!r}",
        )
        return head

    async def retract(self) -> None:
        """An expert takes an item back; it is gone from every answer, and a model cannot bring it back."""
        report, item_id = self.report, f"python:{WRONG}"
        report.step("Take something back, and see it gone from every answer")
        once = str(time.time_ns())
        (published,) = await self.producer.submit(_expert(NAMESPACE, WRONG_TEXT, item_id, f"wrong-{once}"))
        report.say(f"An expert says what is not so ({receipt_text(published)}):")
        await self.replica.wait_for(published.revision, _APPLY_SECONDS)
        answer = await self._ask(WRONG_QUESTION)
        report.check("The replica answers with it", answer.item_id == item_id, f"it answers with {answer.item_id}")
        began = time.perf_counter()
        receipt = await self.producer.retract(NAMESPACE, item_id, producer=EXPERT, origin="EXPERT")
        retracted_ms = 1000 * (time.perf_counter() - began)
        await self.replica.wait_for(receipt.revision, _APPLY_SECONDS)
        applied_ms = 1000 * (time.perf_counter() - began)
        report.say(
            f"Taken back in {retracted_ms:.0f} ms, gone from the replica after {applied_ms:.0f} ms.", style="bold"
        )
        answer = await self._ask(WRONG_QUESTION)
        report.check("It is gone from the replica", self.replica.get(item_id) is None and answer.item_id != item_id)
        hits = (await self.client.search(NAMESPACE, WRONG_QUESTION, limit=100)).hits
        gone = all(hit.change.item_id != item_id for hit in hits) and not await self._is_there(item_id)
        report.check("It is gone from the service", gone)
        again = submission(
            WRONG_TEXT,
            namespace=NAMESPACE,
            producer=variants.PRODUCER,
            origin="SYNTHETIC",
            generator=variants.GENERATOR,
            submission_id=f"again-{once}",
        )
        (held,) = await self.producer.submit(again)
        report.check("A model that says it again is held", held.outcome == pb.OUTCOME_HELD, receipt_text(held))

    async def look_back(self, before: int) -> None:
        """History, difference and the state before the correction."""
        report, item_id = self.report, f"python:{ASKED}"
        report.step("Look back")
        history = await self.client.history(NAMESPACE, item_id)
        report.console.print(changes_table(history[-4:]))
        report.check("The history has every version", [c.version for c in history] == list(range(1, len(history) + 1)))
        difference = await self.client.diff(NAMESPACE, before)
        changed = [entry for entry in difference.entries if entry.item_id == item_id]
        report.console.print(diff_table(_of(difference, changed)))
        report.check(f"The difference since revision {before} has the corrected item", len(changed) == 1)
        then = await self.client.get(NAMESPACE, item_id, as_of=before)
        report.check(
            f"As of revision {before} the item says what it said then",
            then.change.version == history[-2].version and then.change.knowledge == history[-2].knowledge,
            f"it says {then.change.knowledge.content!r}",
        )
        head = (await self.client.namespace(NAMESPACE)).head_revision
        applied = await self.client.wait_applied(NAMESPACE, head, [CONSUMER], timeout_seconds=_APPLY_SECONDS)
        report.check(f"The service knows that {CONSUMER} has applied revision {head}", applied == [CONSUMER])

    async def _publish(self, what: str, submissions: Sequence[pb.Submission]) -> Published:
        before = await self.client.namespace(NAMESPACE)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.report.console) as bar:
            task = bar.add_task(f"Encoding and deciding {len(submissions)} {what}", total=len(submissions))
            published = await self.way.publish(submissions, lambda done: bar.update(task, completed=done))
        after = await self.client.namespace(NAMESPACE)
        rate = len(submissions) / published.seconds
        self.report.say(
            f"{len(submissions)} {what} in {published.seconds:.1f} s: {rate:.0f} a second, "
            f"head revision {before.head_revision} → {after.head_revision}."
        )
        if decided_count(before) == decided_count(after):
            self.report.say("All of it was decided by an earlier run, and nothing changed.")
        if self.way.name == "Kafka":
            self.report.check(
                "Sent once more, over gRPC, each was answered with its earlier receipt",
                published.repeated == len(submissions),
                f"{len(submissions) - published.repeated} were not",
            )
        self.report.outcomes(f"the {what}", published.receipts)
        return published

    async def _check_replica(self) -> None:
        namespace = await self.client.namespace(NAMESPACE)
        await self.replica.wait_for(namespace.head_revision, _APPLY_SECONDS)
        self.report.check(
            f"The replica holds all {namespace.item_count} items",
            len(self.replica) == namespace.item_count,
            f"it holds {len(self.replica)}",
        )

    async def _ask(self, question: str) -> pb.Change:
        """The replica's best answer, printed."""
        hits = await self.replica.search(question, limit=1)
        answer = hits[0].change
        self.report.say(f"The replica is asked: {question}", style="bold")
        self.report.say(f"  {answer.knowledge.content}  [{answer.item_id} version {answer.version}]", style="magenta")
        return answer

    async def _race(
        self, sending: Coroutine[object, object, None], question: str, revision: int
    ) -> tuple[float, float]:
        """How long after sending the service finds `revision`, and how long until the replica has it: milliseconds.

        Nothing of it goes on where a part of it fails.
        """
        asked = await self.client.search(NAMESPACE, question, limit=1, include_query_embedding=True)
        vector = _vector(asked)
        began = time.perf_counter()

        async def searchable() -> float:
            while True:
                hits = (await self.client.search(NAMESPACE, vector, limit=3)).hits
                if any(hit.change.revision >= revision for hit in hits):
                    return time.perf_counter() - began
                await asyncio.sleep(0)

        async def applied() -> float:
            await self.replica.wait_for(revision, _APPLY_SECONDS)
            return time.perf_counter() - began

        try:
            async with asyncio.timeout(_APPLY_SECONDS), asyncio.TaskGroup() as together:
                together.create_task(sending)
                first, second = together.create_task(searchable()), together.create_task(applied())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return 1000 * first.result(), 1000 * second.result()

    async def _is_there(self, item_id: str) -> bool:
        try:
            await self.client.get(NAMESPACE, item_id)
        except NotFound:
            return False
        return True


def not_their_own(chosen: Sequence[Fact], receipts: Sequence[pb.Receipt]) -> list[pb.Receipt]:
    """The receipts of facts that did not become items of their own.

    What another version of Python says, too, is merged into the item that an earlier run has made of it.
    """
    new = (pb.OUTCOME_ADMITTED, pb.OUTCOME_REVISED)
    return [
        receipt
        for fact, receipt in zip(chosen, receipts, strict=True)
        if receipt.outcome not in new and not (receipt.outcome == pb.OUTCOME_MERGED and receipt.item_id == fact.item_id)
    ]


def judge(report: Report, made: Sequence[Variant], receipts: Sequence[pb.Receipt]) -> None:
    """What the gate must do, and what it may do."""
    of = {kind: those(made, receipts, lambda v, _, kind=kind: v.kind is kind) for kind in Kind}  # type: ignore[misc]

    def count(kind: Kind, outcome: int, how: str = "") -> int:
        return len(those(made, receipts, lambda v, r: v.kind is kind and r.outcome == outcome and how in v.how))

    white_space = those(made, receipts, lambda v, _: v.how == "white space")
    same = count(Kind.COPY, pb.OUTCOME_MERGED) + count(Kind.FORM, pb.OUTCOME_MERGED, "white space")
    report.check(
        "Every copy, and every change of white space alone, was merged",
        same == len(of[Kind.COPY]) + len(white_space),
        f"{same} of {len(of[Kind.COPY]) + len(white_space)} were",
    )
    merged = count(Kind.CONTRADICTION, pb.OUTCOME_MERGED)
    report.check("No contradiction was merged", merged == 0, f"{merged} were")
    held = count(Kind.CONTRADICTION, pb.OUTCOME_HELD)
    report.check("Contradictions of expert knowledge were held", held > 0, "not one was")
    unlike = those(made, receipts, lambda v, r: v.kind is Kind.NEW and r.reason == pb.REASON_IMPLAUSIBLE)
    new = count(Kind.NEW, pb.OUTCOME_ADMITTED) + count(Kind.NEW, pb.OUTCOME_REVISED) + len(unlike)
    report.check(
        "Every new statement was admitted, but for a few that were held for how they look",
        new == len(of[Kind.NEW]) and len(unlike) <= max(1, len(of[Kind.NEW]) // _UNLIKE_IN),
        f"of {len(of[Kind.NEW])} {new - len(unlike)} were admitted, and {len(unlike)} held for that",
    )
    if unlike:
        report.say(f"New statements that look like noise, on which a person decides: {len(unlike)}.")
    far = count(Kind.CONTRADICTION, pb.OUTCOME_ADMITTED)
    if far:
        report.say(f"{far} contradictions are too far from their originals to be compared: they are new knowledge.")
    kinds = (Kind.FORM, Kind.REWORDING)
    admitted = sum(count(kind, pb.OUTCOME_ADMITTED) for kind in kinds)
    apart = sum(count(kind, pb.OUTCOME_HELD) for kind in kinds)
    if admitted or apart:
        report.say(
            f"Of what says the same in another form or other words, {admitted} were admitted as new, being too far "
            f"from their originals, and {apart} were held, as nothing proved them equal: what is not sure is kept "
            "apart."
        )


def corrected(namespace: str, version: int) -> pb.Submission:
    """An expert's correction of ASKED, which becomes this version of it."""
    text = _CORRECTED[version % len(_CORRECTED)]
    return _expert(namespace, text, f"python:{ASKED}", f"correction-{version}")


def _expert(namespace: str, text: str, item_id: str, submission_id: str) -> pb.Submission:
    return submission(
        text,
        namespace=namespace,
        producer=EXPERT,
        origin="EXPERT",
        item_id=item_id,
        submission_id=submission_id,
        attributes={"module": item_id.removeprefix("python:").partition(".")[0], "kind": "function"},
    )


def _of(difference: knowledge.DiffResponse, entries: Sequence[knowledge.DiffEntry]) -> knowledge.DiffResponse:
    """The same answer with these entries only."""
    return knowledge.DiffResponse(
        entries=entries, from_revision=difference.from_revision, to_revision=difference.to_revision
    )


def _vector(answer: knowledge.SearchResponse) -> "list[float]":
    import numpy as np

    vector: list[float] = np.frombuffer(answer.query_embedding, "<f4").tolist()
    return vector
