"""What becomes of a record of each shape of each work, in full: tests/golden/sources/*.json.

`python -m tests.support.source_outcomes` writes them anew. Read the difference before it is committed: it is what an
import of every user does from then on.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME
from tests.support.source_records import said
from tests.support.source_shapes import OTHER_SHAPES

FOLDER: Final = Path(__file__).parents[1] / "golden" / "sources"


def outcomes(work: str) -> list[list[dict[str, Any]]]:
    """Of the work's example, and of each of its other shapes, all the submissions, whose ids are digests of them."""
    return [[said(one) for one in submissions(BY_NAME[work], record)] for record in _records(work)]


def kept(work: str) -> list[list[dict[str, Any]]]:
    """The same as it was kept."""
    found: list[list[dict[str, Any]]] = json.loads((FOLDER / f"{work}.json").read_text())
    return found


def _records(work: str) -> Iterator[Any]:
    yield EXAMPLES[work]
    yield from (each.record for each in OTHER_SHAPES if each.work == work)


if __name__ == "__main__":
    for name in BY_NAME:
        text = json.dumps(outcomes(name), indent=1, ensure_ascii=False, sort_keys=True)
        (FOLDER / f"{name}.json").write_text(f"{text}\n")
