"""State as bytes: it comes back as it was, or is refused, whatever happened to the bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from epistream.indexer.sealed import keep, kept, seal, unseal
from epistream.wire.errors import Broken

FIGURES = {"epoch": "e", "revision": 7, "share": 0.1}
ARRAYS: dict[str, NDArray[Any]] = {
    "sums": np.arange(6, dtype="<f8").reshape(2, 3) / 3,
    "raw": np.frombuffer(b"any", np.uint8),
}
WHOLE = seal("kind", 2, FIGURES, ARRAYS)


def test_a_state_comes_back_as_it_was() -> None:
    figures, arrays = unseal("kind", 2, WHOLE)
    assert figures == FIGURES
    assert {name: array.tolist() for name, array in arrays.items()} == {n: a.tolist() for n, a in ARRAYS.items()}
    assert seal("kind", 2, figures, arrays) == WHOLE


def refusal(sealed: bytes) -> str:
    with pytest.raises(Broken) as refused:
        unseal("kind", 2, sealed)
    return refused.value.reason


def test_a_change_of_any_byte_is_detected() -> None:
    for position in range(len(WHOLE)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(WHOLE)
            damaged[position] ^= change
            assert refusal(bytes(damaged)) == "CORRUPT", position


def test_any_other_length_is_detected() -> None:
    for length in range(len(WHOLE)):
        assert refusal(WHOLE[:length]) == "CORRUPT", length
    for tail in (b"\0", WHOLE[-32:], WHOLE):
        assert refusal(WHOLE + tail) == "CORRUPT"


def test_a_state_of_another_kind_or_version_is_refused() -> None:
    assert refusal(seal("other", 2, FIGURES, ARRAYS)) == "UNKNOWN_STATE"
    assert refusal(seal("kind", 1, FIGURES, ARRAYS)) == "UNKNOWN_STATE"


def test_what_was_damaged_on_the_disk_is_as_if_it_was_not_there(tmp_path: Path) -> None:
    file = tmp_path / "states" / "1.sealed"
    assert kept("kind", 2, file) is None
    keep(file, WHOLE)
    assert kept("kind", 2, file) is not None
    file.write_bytes(WHOLE[:-1] + b"\0")
    assert kept("kind", 2, file) is None
