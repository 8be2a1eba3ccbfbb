"""What it costs that each program of a CodeContests problem carries all the tests of the problem.

The executor reads tests from the program's own item, so that each can be verified by itself. An invented problem of the
size that the paper of AlphaCode gives as the mean (2 public, 15 hidden and 79 generated tests) and some of its programs
are committed: with the tests in each, and with the tests in the first alone. No time is measured.
"""

import random
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.engine import new_engine
from bench.records import DIMENSION, NAMESPACE
from bench.report import Figure, report
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME
from epistream.indexer.model import Record
from epistream.v1 import knowledge_pb2 as pb

PROGRAMS: Final = 200
PROGRAM_CHARACTERS: Final = 800
TESTS: Final = {"public_tests": 2, "private_tests": 15, "generated_tests": 79}
SHORT, LONG = 60, 2000
"""Characters of a test's input and output together."""


def main() -> int:
    figures = []
    for name, characters in (("short", SHORT), ("long", LONG)):
        each = list(programs(characters))
        once = [each[0], *(without_tests(one) for one in each[1:])]
        figures += [
            Figure(f"{name} tests, {characters} characters each: a submission with them", mean(each), "bytes"),
            Figure(f"{name} tests: a submission without them", mean(once[1:]), "bytes"),
            Figure(f"{name} tests: the store, a program, with them in each", stored(each), "bytes"),
            Figure(f"{name} tests: the store, a program, with them in the first alone", stored(once), "bytes"),
        ]
    return report("contest_tests", figures)


def programs(characters: int) -> list[pb.Submission]:
    """The items of one problem."""
    drawn = random.Random(7)

    def digits(count: int) -> str:
        return "".join(drawn.choices("0123456789 \n", k=count))

    problem: dict[str, Any] = {
        kind: [{"input": digits(characters * 2 // 3), "output": digits(characters // 3)} for _ in range(count)]
        for kind, count in TESTS.items()
    }
    problem |= {"name": "1_A", "description": "Double a number.", "source": 2}
    problem["solutions"] = [{"language": 3, "solution": f"x = '{digits(PROGRAM_CHARACTERS)}'"} for _ in range(PROGRAMS)]
    return [one for one in submissions(BY_NAME["codecontests"], problem) if not one.HasField("feedback")]


def without_tests(submission: pb.Submission) -> pb.Submission:
    made = pb.Submission()
    made.CopyFrom(submission)
    made.ClearField("tests")
    return made


def mean(made: list[pb.Submission]) -> float:
    return sum(one.ByteSize() for one in made) / len(made)


def stored(made: list[pb.Submission]) -> float:
    """Bytes on disk a program, when all are committed and the store is closed."""
    vectors = np.random.default_rng(7).standard_normal((len(made), DIMENSION)).astype("<f4")
    for one, vector in zip(made, vectors, strict=True):
        one.namespace = NAMESPACE
        one.embedding.float32 = vector.tobytes()
    with tempfile.TemporaryDirectory() as name:
        with new_engine(Path(name)) as engine:
            records = [Record(one.SerializeToString(), 1) for one in made]
            receipts = engine.pipeline.commit(engine.pipeline.prepare(records))
        assert len(receipts) == len(made)
        return sum(file.stat().st_size for file in Path(name).rglob("*") if file.is_file()) / len(made)


if __name__ == "__main__":
    sys.exit(main())
