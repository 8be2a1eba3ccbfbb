"""Compares what ships with a copy of the Python Packaging Advisory Database, where nothing else can be reached.

    make audit-offline ADVISORIES=FOLDER

FOLDER is a clone of the repository pypa/advisory-database. Its files are in the form of OSV
(ossf.github.io/osv-schema); of each only what is said of PyPI's versions is taken, not of commits.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.locked import locked


def affects(advisory: Mapping[str, Any], name: str, version: str) -> bool:
    """Whether an advisory that stands says so of this version of the package of this canonical name."""
    return "withdrawn" not in advisory and any(
        version in part.get("versions", ())
        or any(_within(Version(version), span) for span in part.get("ranges", ()) if span["type"] == "ECOSYSTEM")
        for part in advisory["affected"]
        if canonicalize_name(part["package"]["name"]) == name
    )


def _within(version: Version, span: Mapping[str, Any]) -> bool:
    """What the last event of a range says that is not after the version. An event at `0` is before every version."""
    inside = False
    events = [(Version("0.dev0" if at == "0" else at), kind) for event in span["events"] for kind, at in event.items()]
    for at, kind in sorted(events):
        if kind == "introduced":
            inside = inside or version >= at
        elif kind == "fixed":
            inside = inside and version < at
        elif kind == "last_affected":
            inside = inside and version <= at
    return inside


def main(folder: Path) -> int:
    """Tells what is affected; 1 where something is, 2 where the folder has no advisories."""
    packages = locked()
    known = {path.name: path for path in (folder / "vulns").glob("*")}
    read: set[Path] = set()
    found = []
    for one in packages:
        for path in sorted(known[one.name].glob("*.yaml")) if one.name in known else ():
            read.add(path)
            advisory = yaml.safe_load(path.read_text())
            if affects(advisory, one.name, one.version):
                found.append(f"{one.name}=={one.version}: {advisory['id']} {' '.join(advisory.get('aliases', ()))}")
    if not known:
        print(f"{folder} has no folder vulns: expected a clone of pypa/advisory-database", file=sys.stderr)
        return 2
    for line in found:
        print(line)
    print(f"{len(packages)} versions locked, {len(read)} advisories on their packages, {len(found)} hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
