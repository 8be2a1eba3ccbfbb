"""What the signals cost: a window of 10,000 records of 384 dimensions is read out of a store, measured, and kept.

One window of all sixteen cells with feedback, and one each of the cells that are the dearest: crawled text is compared
with its neighbours claim by claim, synthetic text with people's, code is parsed. A refresh is what the service's
measurer does, by the clock and by the processor, which other work on the machine does not lengthen; the whole of its
process is told too, with the start of its interpreter, and what a commit costs beside it.
"""

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from bench.engine import new_engine
from bench.records import NAMESPACE, make_records
from bench.report import Figure, at_least, below, report
from epistream.indexer.clock import SystemClock
from epistream.indexer.engine import Engine
from epistream.indexer.model import Record
from epistream.indexer.signals.collect import collect
from epistream.indexer.signals.kept import measured
from epistream.indexer.store import Readers
from epistream.services import measurer
from epistream.v1 import knowledge_pb2 as pb

WINDOW: Final = 10_000
MADE: Final = WINDOW + WINDOW // 5
"""So many records are sent: some of what is made says the same again, and is merged."""
JUDGEMENTS: Final = 2_000
JUDGED_MIN: Final = 1_800
"""So many of the judgements are on records that the window has: not on those alone that were merged."""
PRODUCERS: Final = 12
REFRESH_SECONDS: Final = 2.0
_MEASURER_SECONDS_MAX: Final = 120
_AT_ONCE: Final = 500
_GROUP: Final = 50
_GROUPS: Final = 100
_Cell: TypeAlias = tuple[pb.Origin.ValueType, pb.Modality.ValueType]
_CRAWLED, _EXPERT, _SYNTHETIC = pb.ORIGIN_CRAWLED, pb.ORIGIN_EXPERT, pb.ORIGIN_SYNTHETIC
_TEXT, _CODE = pb.MODALITY_TEXT, pb.MODALITY_CODE
_ORIGINS: Final = (_CRAWLED, _EXPERT, _SYNTHETIC, pb.ORIGIN_COLLABORATIVE)
_CELLS: Final = tuple(itertools.product(_ORIGINS, (_TEXT, _CODE, pb.MODALITY_IMAGE, pb.MODALITY_VIDEO)))
_STREAMS: Final[dict[str, tuple[_Cell, ...]]] = {
    "all sixteen cells": _CELLS,
    "crawled text": ((_CRAWLED, _TEXT),),
    "synthetic text, one in four from people": (*[(_SYNTHETIC, _TEXT)] * 3, (_EXPERT, _TEXT)),
    "crawled code": ((_CRAWLED, _CODE),),
}
_PROGRAM: Final = '''from base.{module} import load

def read_{number}(path, limit={number}):
    """{text}"""
    found = []
    for line in load(path):
        if len(line) > limit and not line.startswith("#"):
            found.append(line.strip())
        elif line == "":
            break
    return [len(each) + {number} for each in found]
'''


def main() -> int:
    figures: list[Figure] = []
    for name, cells in _STREAMS.items():
        with tempfile.TemporaryDirectory() as folder:
            figures.extend(figures_of(Path(folder), name, cells))
    with tempfile.TemporaryDirectory() as folder:
        figures.extend(commits_beside(Path(folder)))
    return report("signals", figures)


def commits_beside(folder: Path) -> Iterator[Figure]:
    """How long groups take that are committed alone, and while measurers run one after the other."""
    fill(folder, _CELLS)
    engine = Engine(folder)
    groups = [list(group) for group in _groups(records(_CELLS, first=2 * WINDOW), _GROUP)]
    alone = [commit(engine, group) for group in groups[:_GROUPS]]
    beside = []
    process = measuring(folder)
    for group in groups[_GROUPS : 2 * _GROUPS]:
        if process.poll() is not None:
            until_measured(process)
            process = measuring(folder)
        beside.append(commit(engine, group))
    until_measured(process)
    engine.close()
    yield Figure(f"a commit of {_GROUP}, median: alone", statistics.median(alone) * 1000, "ms")
    yield Figure("beside the measurer", statistics.median(beside) * 1000, "ms")


def measuring(folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", measurer.__name__, str(folder)])


def until_measured(process: "subprocess.Popen[bytes]") -> None:
    """Wait until the measurer has ended. SystemExit is raised where it failed."""
    if process.wait(_MEASURER_SECONDS_MAX):
        raise SystemExit("the measurer failed")


def figures_of(folder: Path, name: str, cells: Sequence[_Cell]) -> Iterator[Figure]:
    fill(folder, cells)
    readers = Readers(folder)
    with readers.reader() as catalog:
        [(number, recorded)] = catalog.namespaces()
        began, cpu_began = time.perf_counter(), time.process_time()
        window = collect(catalog, number, recorded)
        collected = time.perf_counter() - began
    measured(window, recorded, WINDOW, SystemClock().now_us())
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    yield below(f"refresh of {len(window.changes):,} records: {name}", seconds, "s", REFRESH_SECONDS)
    yield Figure("the same on one processor, alone", cpu_seconds, "s")
    yield Figure("of which reading the store", collected, "s")
    yield at_least(f"of {JUDGEMENTS:,} judgements, on what it has", len(window.said), "judgements", JUDGED_MIN)
    readers.close()
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", measurer.__name__, str(folder)], check=True)
    yield Figure("the measurer's process, from its start to its end", time.perf_counter() - began, "s")


def fill(folder: Path, cells: Sequence[_Cell]) -> None:
    """A store with more than WINDOW records, of one cell after the other, and what people and executors say of them."""
    with new_engine(folder) as engine:
        for batch in _groups(itertools.chain(records(cells), judgements(cells)), _AT_ONCE):
            commit(engine, batch)


def commit(engine: Engine, sent: Sequence[pb.Submission]) -> float:
    """Commit them together; how many seconds the commit took."""
    prepared = engine.pipeline.prepare([Record(one.SerializeToString(), SystemClock().now_us()) for one in sent])
    began = time.perf_counter()
    engine.pipeline.commit(prepared)
    return time.perf_counter() - began


def _groups(sent: Iterator[pb.Submission], size: int) -> Iterator[list[pb.Submission]]:
    while group := list(itertools.islice(sent, size)):
        yield group


def records(cells: Sequence[_Cell], first: int = 0) -> Iterator[pb.Submission]:
    for number, made in enumerate(make_records(MADE, seed=7 + first), first):
        origin, modality = cells[number % len(cells)]
        one = made.submission
        one.submission_id, one.item_id = f"record-{number}", f"item-{number}"
        one.origin, one.modality = origin, modality
        one.embedding.float32 = made.vector.tobytes()
        one.provenance.producer = f"source-{number % PRODUCERS}"
        one.provenance.generator = "model-1" if origin == _SYNTHETIC else ""
        if modality == _CODE:
            one.content = _PROGRAM.format(module=f"m{number % 50}", number=number, text=one.content)
            one.attributes.update({"language": "python", "repository": f"r{number % 20}"})
        elif modality != _TEXT:
            one.media.uri = f"https://media.example/{number // 4}"
        yield one


def judgements(cells: Sequence[_Cell]) -> Iterator[pb.Submission]:
    """Of the newest WINDOW records, one cell after the other: people compare neighbours, executors judge, in turn."""
    for number in range(JUDGEMENTS):
        item = MADE - WINDOW + number * (len(cells) + 1) % (WINDOW - len(cells))
        feedback = pb.Feedback(rater=f"rater-{number % 5}", rater_type=pb.RATER_TYPE_HUMAN)
        if number // len(cells) % 2:
            feedback.kind, feedback.rater_type = pb.FEEDBACK_KIND_BINARY, pb.RATER_TYPE_EXECUTOR
            feedback.judged.add(item_id=f"item-{item}", score=float(number % 3 > 0))
        else:
            feedback.kind = pb.FEEDBACK_KIND_PAIRWISE
            feedback.judged.add(item_id=f"item-{item}", place=1)
            feedback.judged.add(item_id=f"item-{item + len(cells)}", place=2)
        provenance = pb.Provenance(producer="raters")
        yield pb.Submission(
            namespace=NAMESPACE,
            submission_id=f"f-{number}",
            origin=_EXPERT,
            provenance=provenance,
            feedback=feedback,
        )


if __name__ == "__main__":
    sys.exit(main())
