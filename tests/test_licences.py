"""docs/licences.md is of what is locked."""

import re

from packaging.utils import canonicalize_name

from tests.support.locked import locked
from tests.test_layout import ROOT


def test_the_licences_are_those_of_the_locked_packages() -> None:
    listed = re.findall(r"^\| ([A-Za-z0-9_.-]+) \| (\S+) \|", (ROOT / "docs/licences.md").read_text(), re.MULTILINE)
    here = {(str(canonicalize_name(name)), version) for name, version in listed if name != "Name"}
    packages = locked()
    assert here
    assert here - {(one.name, one.version) for one in packages} == set(), "run `make supply`"
    everywhere = {(one.name, one.version) for one in packages if not one.marker}
    assert everywhere - here == set(), "run `make supply`"
