"""What all tests share."""

import os
import tempfile

import pytest

# As the service does, before NumPy is loaded: with more threads BLAS adds in another order, and replays differ in bits.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tests.support.fuzzing import register_profiles
from tests.support.kafka import which_kafka
from tests.support.samples import ENCODED_VARIABLE

register_profiles()


def pytest_configure(config: pytest.Config) -> None:
    """A folder for all processes of a run, which have its name from the first of them."""
    if ENCODED_VARIABLE not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="epistream-encoded-")
        os.environ[ENCODED_VARIABLE] = folder.name
        config.add_cleanup(folder.cleanup)


def pytest_report_header() -> str:
    return which_kafka()
