"""`epistream execute`, for people and for programs."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

from epistream.services.execution.assessing import Assessed, Place
from epistream.services.execution.executor import execute
from epistream.services.execution.opinions import survival_told
from epistream.services.execution.verifying import Verifier
from epistream.wire.printable import printable

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def execute_command(
    place: Place, bubblewrap: Path | None, *, at_a_time: int | None, allow_none: bool, once: bool, as_json: bool
) -> None:
    """Run an executor until a signal to stop, and print a line for each version that it has run.

    Args:
        place: where it works.
        bubblewrap: the program; the one on the search path when it is None.
        at_a_time: how many tests are run at one time; one for each core when it is None.
        allow_none: go on where there is no sandbox.
        once: end when all that is there is judged.
        as_json: one JSON object a line.

    Raises:
        NoIsolation: there is no sandbox here, and none is not allowed.
        EpistreamError: as `execute`.
    """
    verifier = Verifier.find(bubblewrap, allow_none=allow_none)
    cores = len(os.sched_getaffinity(0))
    print_one = _print_json if as_json else _print
    if not as_json:
        print(f"following the code of {place.namespace} as {place.name}: {verifier.version}", flush=True)
    asyncio.run(_run(place, verifier, print_one, at_a_time or cores, once=once))


async def _run(
    place: Place, verifier: Verifier, print_one: Callable[[Assessed], None], at_a_time: int, *, once: bool
) -> None:
    stopped = asyncio.Event()
    for each in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(each, stopped.set)
    await execute(place, verifier, print_one, at_a_time=at_a_time, once=once, stopped=stopped)


def _print(found: Assessed) -> None:
    result = found.judged.result
    noticed = f", {result.killed} of {result.mutants} mutants noticed" if result.mutants else ""
    where = f"{found.subject.item_id} {found.subject.which}"
    print(printable(f"{result.verdict:<9} {where} ({result.seconds:.2f} s{noticed}): {result.reason}"), flush=True)
    if found.survival.share is not None:
        for line in survival_told(found.subject, found.survival):
            print(printable(f"          {line}"), flush=True)


def _print_json(found: Assessed) -> None:
    result, survival = found.judged.result, found.survival
    said = {
        "item_id": found.subject.item_id,
        "which": found.subject.which,
        "verdict": result.verdict,
        "reason": result.reason,
        "seconds": result.seconds,
        "mutants": result.mutants,
        "killed": result.killed,
        "before": found.judged.before,
        "regression_survival": survival.share,
        "broken": [*survival.broken],
    }
    print(json.dumps(said), flush=True)
