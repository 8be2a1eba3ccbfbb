"""What the tests say of one version, beside the code that it is derived from, and what it does to its dependants.

A program stands alone where it can. Where its tests do not pass so, the code of the items that it is derived from is
put before it, in one file: a name that both define is the program's own.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Final

from epistream.services.execution.dependants import Dependants
from epistream.services.execution.isolation import NoIsolation
from epistream.services.execution.verdict import Limits, Result, Verdict
from epistream.services.execution.verifying import DEFAULT_LIMITS, Verifier
from epistream.v1 import knowledge_pb2 as pb

DEPENDANTS_MOST: Final = 50
"""So many dependants of one version are run, the nearest: each may take half a minute."""
BEFORE_MOST: Final = 100
"""What goes back to more than this is run alone: all of it would have to be read, and is too long to be run."""
_WITHOUT_MUTANTS: Final = replace(DEFAULT_LIMITS, mutants=0)
"""Whether a dependant still passes is asked, not how good its tests are."""
_log = logging.getLogger(__name__)

Read = Callable[[str], Awaitable[pb.Knowledge | None]]
"""The live knowledge of an item, in the state that is judged; None where there is none."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the tests of a version say."""

    result: Result
    before: tuple[str, ...] = ()
    """The items whose code stood before the program; empty where it stood alone."""


@dataclass(frozen=True, slots=True)
class Survival:
    """What a new version does to those that depend on it. One that passes without it does not depend on it."""

    passed_before: tuple[str, ...] = ()
    """The dependants that passed with the version before."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """Those of them that do not pass with the new one, each with the reason."""
    mended: tuple[str, ...] = ()
    """Dependants that pass with the new one, and did not before."""
    left_out: int = 0
    """How many were not run, because there are too many."""

    @property
    def share(self) -> float | None:
        """The dependants that still pass, of those that passed before: 0 to 1. None where none did."""
        passing = len(self.passed_before)
        return (passing - len(self.broken)) / passing if passing else None


@dataclass(frozen=True, slots=True)
class Beside:
    """What belongs to one version: which items are around it at its revision. Blocks for nothing."""

    before: tuple[str, ...]
    """The items that it goes back to, as `Dependants.before`."""
    dependants: Mapping[str, tuple[str, ...]]
    """The items that go back to it, the nearest first, each with all that comes before it, this one included."""
    left_out: int = 0
    """How many more there are."""

    @classmethod
    def of(cls, item_id: str, parents: Sequence[str], known: Dependants) -> "Beside":
        """What is around an item with these parents."""
        names = known.of(item_id)
        before = {name: known.before(name, known.parents(name)) for name in names[:DEPENDANTS_MOST]}
        dependants = {name: others for name, others in before.items() if len(others) <= BEFORE_MOST}
        own = known.before(item_id, parents)
        return cls(own if len(own) <= BEFORE_MOST else (), dependants, len(names) - len(dependants))


class Judging:
    """Runs the tests of versions, several at a time.

    Args:
        verifier: what runs them.
        threads: where: so many are run at a time.
    """

    def __init__(self, verifier: Verifier, threads: Executor) -> None:
        self._verifier = verifier
        self._threads = threads

    async def judge(self, knowledge: pb.Knowledge, before: Sequence[str], read: Read) -> Judged:
        """What the tests say of a program. Raises NoIsolation, and what `read` raises."""
        alone = await self._run(knowledge.content, knowledge.tests, DEFAULT_LIMITS)
        if alone.passed or alone.verdict == Verdict.NO_TESTS or not before:
            return Judged(alone)
        content = _composed([await _content(name, read) for name in before], knowledge.content)
        together = await self._run(content, knowledge.tests, DEFAULT_LIMITS)
        # An error may be of the code before it, which it does not need; a test that fails says more.
        decided = together.passed or together.verdict == Verdict.FAIL
        return Judged(together, tuple(before)) if decided else Judged(alone)

    async def survival(self, item_id: str, old: str | None, new: str, beside: Beside, read: Read) -> Survival:
        """Run the dependants of an item with its old content, and with the new. Raises as `judge`.

        `old` is None where there was none.
        """
        passed_before: list[str] = []
        broken: dict[str, str] = {}
        mended: list[str] = []
        for name, others in beside.dependants.items():
            dependant = await read(name)
            if dependant is None or (await self._tried(dependant, "")).passed:
                continue
            codes = {other: await _content(other, read) for other in others if other != item_id}
            first = await self._tried(dependant, *(codes.get(other, old or "") for other in others))
            second = await self._tried(dependant, *(codes.get(other, new) for other in others))
            if first.passed:
                passed_before.append(name)
                if not second.passed:
                    broken[name] = f"{second.verdict}: {second.reason}"
            elif second.passed:
                mended.append(name)
        return Survival(tuple(passed_before), broken, tuple(mended), beside.left_out)

    async def _tried(self, dependant: pb.Knowledge, *before: str) -> Result:
        return await self._run(_composed(before, dependant.content), dependant.tests, _WITHOUT_MUTANTS)

    async def _run(self, content: str, tests: pb.Tests, limits: Limits) -> Result:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._verifier.verify, content, tests, limits)
        except NoIsolation:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a program has found here, the others are still to be run
            _log.exception("A verification failed. This is a defect: report it")
            return Result(verdict=Verdict.ERROR, reason=f"it cannot be run here: {type(error).__name__}")


async def _content(item_id: str, read: Read) -> str:
    knowledge = await read(item_id)
    return knowledge.content if knowledge is not None and knowledge.modality == pb.MODALITY_CODE else ""


def _composed(before: Sequence[str], content: str) -> str:
    return "\n\n".join([*(each for each in before if each), content])
