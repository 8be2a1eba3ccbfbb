"""That BLAS makes each number by itself, wherever it stands: on this machine's kernels, and on those of older ones.

A posterior looks at many vectors at once, and which these are depends on how a stream is cut. So its figures are the
same bits only if no number of a product depends on the others.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import hashlib, sys
import numpy as np
from epistream.indexer.ahead import Expectation
from epistream.indexer.posterior import Posterior
from tests.support.vectors import unit
digests = []
for cut in (1, 3, 500):
    told = hashlib.sha256()
    for dimension in (3, 8, 100, 193, 257, 300, 384, 500):
        posterior, rows = Posterior(dimension), unit(dimension, 90, dimension)
        for start in range(0, len(rows), cut):
            posterior = posterior.branch()
            posterior.expect(Expectation.of(rows[start : start + cut]))
            for place in range(start, min(start + cut, len(rows))):
                told.update(np.float64(posterior.relative(rows[place])).tobytes())
                if place % 5:
                    posterior.observe(rows[place], 0.25 if place % 2 else 1.0)
            posterior.rest()
        told.update(posterior.to_bytes())
    digests.append(told.hexdigest())
print(len(set(digests)))
"""
CPU = Path("/proc/cpuinfo")
OLDER = ["Prescott", "Nehalem"] if platform.machine() == "x86_64" else []
"""Kernels of OpenBLAS for processors of before this machine's."""
if CPU.exists() and " avx2 " in CPU.read_text():
    OLDER.append("Haswell")


@pytest.mark.parametrize("kernel", ["", *OLDER])
def test_figures_are_the_same_bits_however_a_stream_is_cut_on_any_kernel(kernel: str) -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **({"OPENBLAS_CORETYPE": kernel} if kernel else {})}
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "1"
