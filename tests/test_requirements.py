"""docs/requirements.md says where each requirement is tested, and it is."""

import re
from collections import defaultdict

import pytest

from tests.test_layout import ROOT

TESTS = ROOT / "tests"
ROW = re.compile(r"^\| R(\d+) \| (.*) \|$", re.MULTILINE)
TEST = re.compile(r"`((?:\w+/)+test_\w+\.py)(?:::(test_\w+))?`")
NUMBERED = re.compile(r"^ *(?:async )?def test_r0?(\d+)_", re.MULTILINE)


def table() -> dict[int, str]:
    """By its number, what is said of a requirement: four columns."""
    return {int(number): said for number, said in ROW.findall((ROOT / "docs/requirements.md").read_text())}


def numbered() -> dict[int, set[str]]:
    """The files with tests that bear the number of a requirement."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    for path in TESTS.rglob("test_*.py"):
        for number in NUMBERED.findall(path.read_text()):
            found[int(number)].add(path.relative_to(TESTS).as_posix())
    return found


def test_every_requirement_has_a_row() -> None:
    assert list(table()) == list(range(1, 35))


@pytest.mark.parametrize("number", range(1, 35))
def test_a_row_names_the_tests_that_there_are(number: int) -> None:
    _, tests, _, _ = table()[number].split(" | ")
    named = TEST.findall(tests)
    assert named
    for file, name in named:
        content = (TESTS / file).read_text()
        if name:
            assert f"def {name}(" in content, f"R{number}: {file} has no {name}"
        else:
            assert file in numbered()[number], f"R{number}: {file} has no test with this number"
    missing = numbered()[number] - {file for file, _ in named}
    assert not missing, f"the row of R{number} lacks {missing}"
