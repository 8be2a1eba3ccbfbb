"""TFRecord files, and the protobuf in them, against bytes that none of our code wrote."""

import struct
from pathlib import Path
from typing import Any, Final

import pytest

from epistream.clients.sources.formats import files
from epistream.clients.sources.formats.files import Format, files_of, read
from epistream.clients.sources.formats.piece import CannotRead
from epistream.clients.sources.formats.tfrecord import masked_crc32c
from tests.support.wire_form import crc32c, framed

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "sources"
"""Each a record that protoc encoded by the published `contest_problem.proto` and `feature.proto`."""
PROBLEM: Final = {
    "name": "1575_A. Doubling",
    "description": "Double a number. Ünïcode.",
    "public_tests": [{"input": "3\n", "output": "6\n"}],
    "private_tests": [{"input": "0\n", "output": "0\n"}, {"output": "none\n"}],
    "source": 2,
    "difficulty": 7,
    "solutions": [
        {"language": 3, "solution": "print(2 * int(input()))"},
        {"language": 4, "solution": "class A {}"},
    ],
    "cf_contest_id": 1575,
    "cf_index": "A",
    "cf_points": 500.5,
    "cf_rating": 800,
    "cf_tags": ["math", "implementation"],
    "generated_tests": [{"input": "-1\n", "output": "-2\n"}],
    "incorrect_solutions": [{"language": 2, "solution": "int main() {}"}],
    "is_description_translated": True,
    "untranslated_description": "Verdopple.",
    "time_limit": {"seconds": "2", "nanos": 500000000},
    "memory_limit_bytes": "256000000",
    "input_file": "in.txt",
    "output_file": "out.txt",
}
EPISODE: Final = {
    "file": "fractal20220817_data-train.tfrecord-00000-of-00001",
    "offset": 0,
    "features": {
        "aspects": [],
        "steps/action/terminate_episode": [-1, 300],
        "steps/action/world_vector": [0.5, 0.0, 0.25, 0.0, 1.0, 0.75],
        "steps/is_first": [1, 0],
        "steps/is_last": [0, 1],
        "steps/observation/image": [b"\x89PNG 1", b"\x89PNG 2"],
        "steps/observation/natural_language_instruction": [b"pick apple", b"pick apple"],
        "steps/reward": [0.0, 1.0],
    },
}


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("code_contests_valid.tfrecord-00000-of-00001", files.CONTEST_PROBLEMS, PROBLEM),
        ("fractal20220817_data-train.tfrecord-00000-of-00001", files.RLDS, EPISODE),
    ],
)
def test_what_protoc_encoded_is_read_field_by_field(name: str, kind: Format, expected: Any) -> None:
    (one,) = read(files_of(GOLDEN / name, [kind]))
    assert one.piece.error == ""
    assert one.piece.value == expected
    assert one.position.offset == (GOLDEN / name).stat().st_size


@pytest.mark.parametrize(
    ("content", "crc"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_the_checksum_is_that_of_the_rfc_masked_as_tensorflow_does(content: bytes, crc: int) -> None:
    """The vectors of RFC 3720, B.4, and the check value of CRC-32C; rotated by 15 bits, plus the constant."""
    assert crc32c(content) == crc
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    assert masked_crc32c(content) == (rotated + 0xA282EAD8) & 0xFFFFFFFF
    assert framed(content)[-4:] == struct.pack("<I", masked_crc32c(content))


def test_a_payload_with_a_wrong_checksum_is_told_and_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    good = framed(b"\n\x01n")
    path.write_bytes(good[:-5] + b"X" + good[-4:] + framed(b"\xff") + good)
    found = [one.piece for one in read(files_of(path, [files.CONTEST_PROBLEMS]))]
    assert [one.value for one in found] == [None, None, {"name": "n"}]
    assert found[0].error.startswith("expected the checksum of the payload at byte 0")
    assert found[1].error.startswith("expected a protobuf message at byte 19")


@pytest.mark.parametrize("content", [b"\x01\x02", b"\x01" * 12, framed(b"abc")[:-6]])
def test_a_wrong_length_ends_the_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    path.write_bytes(content)
    with pytest.raises(CannotRead, match="at byte 0"):
        list(read(files_of(path, [files.RLDS])))
