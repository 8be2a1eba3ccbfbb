"""Programs with their tests from published benchmarks, and whether they passed them when they were collected."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from epistream.v1 import knowledge_pb2 as pb

SAMPLE: Final = Path(__file__).parents[3] / "shared" / "data" / "code_sample.jsonl"


@dataclass(frozen=True, slots=True)
class Sampled:
    """One program."""

    name: str
    content: str
    tests: pb.Tests
    verified: bool


def sampled() -> Iterator[Sampled]:
    """All of the sample. Raises OSError where it is absent."""
    with SAMPLE.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            yield Sampled(row["id"], row["solution"], tests_of(row), row["verified"])


def tests_of(row: dict[str, Any]) -> pb.Tests:
    """HumanEval has a function `check`, which the last line calls; MBPP has an assert a line."""
    if row["entry_point"]:
        check = row["tests"].rstrip().rpartition("\n")[0]
        return pb.Tests(language="python", check=check, entry_point=row["entry_point"])
    return pb.Tests(language="python", asserts=row["tests"].splitlines())
