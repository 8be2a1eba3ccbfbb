"""The good submission in all four formats, as it must be readable for ever: tests/golden/submissions.json.

The file was written once, by `python -m tests.support.golden_submissions > tests/golden/submissions.json`, and is not
written again: a later Epistream, protobuf or Unicode that reads or hashes it otherwise breaks what is stored.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from epistream.indexer.decode import decode
from epistream.indexer.model import Decoded, Position, Record
from tests.support.bad_input import EVENT, FRAME, JSON, Headers, good_json, good_submission

FILE: Final = Path(__file__).parent.parent / "golden" / "submissions.json"


@dataclass(frozen=True, slots=True)
class Golden:
    """One submission as its producer sent it."""

    name: str
    value: bytes
    headers: Headers
    fingerprint: bytes
    digest: bytes

    def record(self) -> Record:
        """As it is read from Kafka."""
        return Record(self.value, 0, self.headers, position=Position("submissions", 0, 0))


def golden_submissions() -> list[Golden]:
    """Those in the file."""
    return [
        Golden(
            row["name"],
            bytes.fromhex(row["value"]),
            tuple((name, text.encode()) for name, text in row["headers"]),
            bytes.fromhex(row["fingerprint"]),
            bytes.fromhex(row["digest"]),
        )
        for row in json.loads(FILE.read_text())
    ]


def _row(name: str, value: bytes, headers: Headers) -> dict[str, object]:
    decoded = decode(Record(value, 0, headers, position=Position("submissions", 0, 0)))
    assert isinstance(decoded, Decoded)
    return {
        "name": name,
        "headers": [(key, text.decode()) for key, text in headers],
        "value": value.hex(),
        "fingerprint": decoded.fingerprint.hex(),
        "digest": decoded.digest.hex(),
    }


def _rows() -> list[dict[str, object]]:
    plain = good_submission().SerializeToString(deterministic=True)
    of_event = good_submission()
    of_event.submission_id = ""
    of_event.provenance.producer = ""
    of_event.ClearField("submitted_time")
    event = (*EVENT, ("ce_time", b"2023-11-14T22:13:21.000000005Z"), ("content-type", b"application/protobuf"))
    return [
        _row("plain protobuf", plain, ()),
        _row("JSON", good_json(), JSON),
        _row("Confluent-framed protobuf, short form", FRAME + plain, ()),
        _row("Confluent-framed protobuf, place in knowledge.proto", b"\0\0\0\0\x07\x02\x06" + plain, ()),
        _row("CloudEvent in binary mode", of_event.SerializeToString(deterministic=True), event),
    ]


if __name__ == "__main__":
    json.dump(_rows(), sys.stdout, indent=1)
    sys.stdout.write("\n")
