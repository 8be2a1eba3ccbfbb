"""docs/licences.md is of what is locked."""

import re

from tests.test_layout import ROOT


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_licences_are_those_of_the_locked_packages() -> None:
    text = "".join((ROOT / "requirements" / name).read_text() for name in ("run.txt", "sources.txt"))
    locked = re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)(?: ; (.*?))? \\$", text, re.MULTILINE)
    listed = re.findall(r"^\| ([A-Za-z0-9_.-]+) \| (\S+) \|", (ROOT / "docs/licences.md").read_text(), re.MULTILINE)
    # One package may be locked in several versions, each for some versions of Python.
    pairs = {(canonical(name), version) for name, version, _ in locked}
    here = {(canonical(name), version) for name, version in listed if name != "Name"}
    assert here
    assert here - pairs == set(), "run `make supply`"
    everywhere = {(canonical(name), version) for name, version, marker in locked if not marker}
    assert everywhere - here == set(), "run `make supply`"
