"""All that is checked of an overlay, as one question; and the command that asks it: `make k8s-check OVERLAY=FOLDER`."""

import sys
from collections.abc import Iterable
from pathlib import Path

# Imported for the policies that they enter.
from tests.support.manifests import executor, graph, kafka, network, pods, tracing, workload  # noqa: F401
from tests.support.manifests.cluster import Cluster, Object, objects_of, overlays, rendered
from tests.support.manifests.policy import ALWAYS, BEFORE_APPLYING, EVERYWHERE, PRODUCTION, Broken, broken
from tests.support.manifests.schemas import VERSIONS, violation


def findings(objects: Iterable[Object], *, production: bool, applying: bool = False) -> list[Broken]:
    """Every policy that these objects break; few are asked where the service is not among them, as in a snapshot."""
    known = list(objects)
    if not Cluster(known).service_pods():
        return broken(known, ALWAYS)
    groups = [ALWAYS, EVERYWHERE, *([PRODUCTION] if production else []), *([BEFORE_APPLYING] if applying else [])]
    return broken(known, *groups)


def violations(objects: Iterable[Object]) -> list[str]:
    """What the schemas refuse, in any of the versions of Kubernetes."""
    return [wrong for item in objects for version in VERSIONS if (wrong := violation(item, version))]


def check(folder: Path) -> list[str]:
    """What is wrong with an overlay that is about to be applied, for people. Production is what asks for TLS."""
    objects = objects_of(rendered(folder))
    insecure = any(settings.get("insecure") for _, settings in Cluster(objects).settings())
    found = findings(objects, production=not insecure, applying=True)
    return [*violations(objects), *map(str, found)]


def render_all(target: Path) -> None:
    """Write every overlay and example, rendered, into a folder: one file each."""
    target.mkdir(parents=True, exist_ok=True)
    for folder in overlays():
        (target / f"{folder.parent.name}-{folder.name}.yaml").write_text(rendered(folder))


def main(command: str, folder: str) -> int:
    """`render FOLDER` or `check OVERLAY`."""
    try:
        if command == "render":
            render_all(Path(folder))
            return 0
        wrong = check(Path(folder))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in wrong or [f"{folder}: all is well"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
