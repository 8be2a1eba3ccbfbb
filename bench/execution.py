"""How many programs a second are verified by their tests, in the real sandbox, mutants and all.

Two threads, as a service with two cores has them. The programs are short, as those of HumanEval and MBPP are: those of
the sample in ../shared/data where there is one, else three of our own, again and again; the figures say which.
"""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from bench.report import Figure, at_least, equal, report
from epistream.services.execution.verdict import Result, Verdict
from epistream.v1 import knowledge_pb2 as pb
from tests.support.code_sample import SAMPLE, Sampled, sampled
from tests.support.sandbox import real_verifier

_THREADS: Final = 2
_VERIFICATIONS: Final = 240
_TARGET_A_SECOND: Final = 15


def main() -> int:
    verifier = real_verifier()
    programs = [each for each in sampled() if each.verified] if SAMPLE.exists() else _OWN
    rounds = [programs[number % len(programs)] for number in range(_VERIFICATIONS)]
    verifier.verify(programs[0].content, programs[0].tests)
    with ThreadPoolExecutor(_THREADS) as pool:
        began = time.monotonic()
        results = [*pool.map(lambda each: verifier.verify(each.content, each.tests), rounds)]
        seconds = time.monotonic() - began
    which = "of the sample" if SAMPLE.exists() else "of our own, since the sample is not there"
    return report("execution", [Figure(f"programs, {which}", len(programs), "programs"), *_figures(results, seconds)])


def _figures(results: Sequence[Result], seconds: float) -> list[Figure]:
    each = np.array([result.seconds for result in results])
    mutants = sum(result.mutants for result in results)
    verified = sum(result.verdict == Verdict.VERIFIED for result in results)
    return [
        at_least("verifications", len(results) / seconds, "1/s", _TARGET_A_SECOND),
        Figure("one of them, median", 1000 * float(np.median(each)), "ms"),
        Figure("the slowest", 1000 * float(each.max()), "ms"),
        Figure("mutants for each", mutants / len(results), ""),
        Figure("of them noticed", sum(result.killed for result in results) / max(mutants, 1), ""),
        equal("of them verified", verified, "verifications", len(results)),
    ]


_OWN: Final = [
    Sampled("own", content, pb.Tests(language="python", asserts=asserts), verified=True)
    for content, asserts in (
        ("def add(a, b):\n    return a + b\n", ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]),
        ("def even(x):\n    return x % 2 == 0\n", ["assert even(2) == True", "assert even(3) == False"]),
        ("def last(xs):\n    return sorted(xs)[-1]\n", ["assert last([1, 5, 2]) == 5", "assert last([3, 9]) == 9"]),
    )
]


if __name__ == "__main__":
    sys.exit(main())
