"""Runs code that stands in a namespace, beside what is around it there, and submits what came of it as feedback."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from epistream.clients.credentials import Credentials
from epistream.clients.knowledge import KnowledgeClient
from epistream.clients.producer import Producer
from epistream.services.execution import opinions
from epistream.services.execution.judging import Beside, Judged, Judging, Survival
from epistream.services.execution.opinions import Subject
from epistream.services.execution.reading import Reader, patiently
from epistream.v1 import knowledge_pb2 as pb

NAME: Final = "executor"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the executor works, and in whose name."""

    target: str
    """HOST:PORT of the service."""
    namespace: str
    credentials: Credentials | None = None
    name: str = NAME
    """As a consumer, as the producer of its feedback, as the rater and as a reviewer."""


@dataclass(frozen=True, slots=True)
class Assessed:
    """What was found of code that was run."""

    subject: Subject
    judged: Judged
    survival: Survival


class Assessor:
    """Says what the tests say.

    Args:
        place: the namespace, and in whose name.
        client: to read there.
        producer: to submit there.
        judging: runs the tests.
        sandbox: what they are run by, with its version.
    """

    def __init__(
        self, place: Place, client: KnowledgeClient, producer: Producer, judging: Judging, sandbox: str
    ) -> None:
        self._place, self._client, self._producer = place, client, producer
        self._judging, self._sandbox = judging, sandbox

    async def of_version(self, change: pb.Change, beside: Beside, revision: int) -> Assessed:
        """Run a version, with what is known at this revision, and say what came of it and of its dependants."""
        reader = Reader(self._client, change.namespace, revision)
        subject = Subject.of_change(change)
        found = await self._assess(subject, beside, reader.at(change.revision - 1), reader)
        because = f"{change.item_id} version {change.version}"
        changed = (*found.survival.broken, *found.survival.mended)
        again = [await self._again(name, because, beside, reader) for name in changed]
        # The version's verdict last: where it is there, all of it is.
        await self._submit([*again, *self._said(found)])
        return found

    async def of_held(self, subject: Subject, beside: Beside, revision: int, because: str) -> Assessed:
        """Run what would become a version, with what is known at this revision. What depends on it is as it was."""
        reader = Reader(self._client, subject.namespace, revision)
        found = await self._assess(subject, beside, reader, reader)
        await self._submit(self._said(found, because))
        return found

    async def has_said(self, change: pb.Change) -> bool:
        """Whether the service has the verdict on this version by this sandbox."""
        wanted = opinions.opinion_id(opinions.ASPECT, Subject.of_change(change), self._sandbox)
        feedback = await patiently(lambda: self._client.list_feedback(change.namespace, change.item_id))
        return any(
            (each.submission.submission_id, each.submission.provenance.producer) == (wanted, self._place.name)
            for each in feedback
        )

    async def _assess(self, subject: Subject, beside: Beside, before: Reader, now: Reader) -> Assessed:
        judged = await self._judging.judge(subject.knowledge, beside.before, now.knowledge)
        if not beside.dependants:
            return Assessed(subject, judged, Survival())
        old = await before.knowledge(subject.item_id)
        code = old.content if old is not None and old.modality == pb.MODALITY_CODE else None
        new = subject.knowledge.content
        survival = await self._judging.survival(subject.item_id, code, new, beside, now.knowledge)
        return Assessed(subject, judged, survival)

    def _said(self, found: Assessed, because: str = "") -> list[pb.Submission]:
        name, sandbox = self._place.name, self._sandbox
        survival = opinions.of_survival(found.subject, found.survival, name, sandbox, because)
        verdict = opinions.of_verdict(found.subject, found.judged, name, sandbox, because)
        return [verdict] if survival is None else [survival, verdict]

    async def _again(self, name: str, because: str, beside: Beside, reader: Reader) -> pb.Submission | None:
        """The verdict on a dependant, whose tests say something else since another item's new version."""
        dependant = await reader.change(name)
        if dependant is None:
            return None
        judged = await self._judging.judge(dependant.knowledge, beside.dependants[name], reader.knowledge)
        subject = Subject.of_change(dependant)
        return opinions.of_verdict(subject, judged, self._place.name, self._sandbox, because)

    async def _submit(self, said: Sequence[pb.Submission | None]) -> None:
        sent = [each for each in said if each is not None]
        for receipt in await patiently(lambda: self._producer.submit(*sent)):
            # Run twice, a program may say something else: then the first word stands.
            if receipt.outcome == pb.OUTCOME_REFUSED and receipt.reason != pb.REASON_SUBMISSION_ID_REUSED:
                why = "; ".join(each.description for each in receipt.violations)
                _log.warning("%s was refused: %s", receipt.submission_id, why)
