"""Bytes of TFRecord and of protobuf, written by hand from what is published: no code of the readers is in them.

CRC32C bit by bit, as RFC 3720 has the polynomial. The wire form of protobuf by its encoding guide, with the numbers of
fields of `tensorflow/core/example/feature.proto` and of `contest_problem.proto` of CodeContests.
"""

import struct
from collections.abc import Mapping
from typing import Any, Final

_POLYNOMIAL: Final = 0x82F63B78
"""0x1EDC6F41, the bits in reverse order."""
_TEST: Final = {"input": 1, "output": 2}
_SOLUTION: Final = {"language": 1, "solution": 2}
_PROBLEM: Final[Mapping[str, tuple[int, Mapping[str, int]]]] = {
    "name": (1, {}),
    "description": (2, {}),
    "public_tests": (4, _TEST),
    "private_tests": (5, _TEST),
    "source": (6, {}),
    "difficulty": (7, {}),
    "solutions": (8, _SOLUTION),
    "cf_contest_id": (10, {}),
    "cf_index": (12, {}),
    "cf_rating": (14, {}),
    "cf_tags": (15, {}),
    "generated_tests": (18, _TEST),
    "incorrect_solutions": (19, _SOLUTION),
    "time_limit": (29, {"seconds": 1}),
    "memory_limit_bytes": (30, {}),
}


def crc32c(content: bytes) -> int:
    """The checksum of RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def framed(payload: bytes) -> bytes:
    """A record of a TFRecord file."""
    length = struct.pack("<Q", len(payload))
    return length + _masked(length) + payload + _masked(payload)


def example(features: Mapping[str, list[Any]]) -> bytes:
    """A `tf.train.Example`."""
    entries = (_field(1, key.encode()) + _field(2, _feature(values)) for key, values in features.items())
    return _field(1, b"".join(_field(1, entry) for entry in entries))


def contest_problem(record: Mapping[str, Any]) -> bytes:
    """A `ContestProblem`, of a record as it is read. Numbers of 64 bits are texts there."""
    made = b""
    for name, value in record.items():
        number, inside = _PROBLEM[name]
        for each in value if isinstance(value, list) else [value]:
            if inside:
                message = b"".join(_field(inside[key], _of_64_bits(key, one)) for key, one in each.items())
                made += _field(number, message)
            else:
                made += _field(number, _of_64_bits(name, each))
    return made


def _of_64_bits(name: str, value: "str | int") -> "str | int":
    return int(value) if name in {"seconds", "memory_limit_bytes"} else value


def _masked(content: bytes) -> bytes:
    crc = crc32c(content)
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)


def _feature(values: list[Any]) -> bytes:
    if isinstance(values[0], bytes):
        return _field(1, b"".join(_field(1, value) for value in values))
    if isinstance(values[0], float):
        return _field(2, _field(1, struct.pack(f"<{len(values)}f", *values)))
    return _field(3, _field(1, b"".join(map(_varint, values))))


def _field(number: int, value: "bytes | str | int") -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])
