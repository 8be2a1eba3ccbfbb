"""Completes the bill of materials that `make supply` makes, and fails where it is not of what is locked.

    python -m tests.support.bill build/sbom.cdx.json

CycloneDX's own program tells what is in an environment, with licences and what needs what, but not by which bytes. The
lock knows: each component gets the hashes of the files that it may have been installed from.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from tests.support.locked import Locked, locked


def complete(bill: dict[str, Any], packages: Sequence[Locked]) -> list[str]:
    """Puts the hashes of `packages` into a bill in CycloneDX's JSON; returns what is wrong with it, a line each."""
    known = {(one.name, one.version): one for one in packages}
    listed = set()
    wrong = []
    for component in bill["components"]:
        named = (canonicalize_name(component["name"]), component["version"])
        listed.add(named)
        if named not in known:
            wrong.append(f"{'=='.join(named)} is in the bill, but not locked")
            continue
        hashes = [{"alg": "SHA-256", "content": one} for one in known[named].hashes]
        files = {"type": "distribution", "url": component["purl"], "hashes": hashes}
        component["externalReferences"] = [*component.get("externalReferences", ()), files]
    wrong += [f"{'=='.join(named)} is locked, but not in the bill" for named in sorted(known.keys() - listed)]
    wrong += [f"{one.name}=={one.version} is locked without a hash" for one in packages if not one.hashes]
    return wrong


def main(path: Path) -> int:
    """Completes the bill at `path`; 1 where something is wrong with it, which is told."""
    bill = json.loads(path.read_text())
    packages = [one for one in locked() if one.here]
    wrong = complete(bill, packages)
    path.write_text(json.dumps(bill, indent=2) + "\n")
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"{path}: {len(bill['components'])} packages, {len(packages)} locked for this machine")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
