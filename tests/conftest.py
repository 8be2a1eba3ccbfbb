"""What all tests share."""

import os

# As the service does, before NumPy is loaded: with more threads BLAS adds in another order, and replays differ in bits.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tests.support.fuzzing import register_profiles
from tests.support.kafka import which_kafka

register_profiles()


def pytest_report_header() -> str:
    return which_kafka()
