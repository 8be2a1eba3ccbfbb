"""The real sandbox for tests. Where it cannot be had they fail, and say what is missing."""

from epistream.services.execution.verifying import Verifier
from epistream.wire.errors import EpistreamError
from tests.support.bubblewrap import find_bubblewrap


def real_verifier() -> Verifier:
    """A verifier that isolates. Raises AssertionError where none can be had."""
    try:
        return Verifier.find(find_bubblewrap())
    except EpistreamError as error:
        raise AssertionError(f"These tests need bubblewrap, and user namespaces. {error.message}") from error
