"""All that is checked of an overlay, as one question; and the command that asks it: `make k8s-check OVERLAY=FOLDER`."""

import sys
from collections.abc import Iterable
from pathlib import Path

# Imported for the policies that they enter.
from tests.support.manifests import executor, graph, kafka, network, pods, tracing, workload  # noqa: F401
from tests.support.manifests.cluster import Cluster, Object, name_of, objects_of, overlays, rendered
from tests.support.manifests.policy import ALWAYS, BEFORE_APPLYING, EVERYWHERE, PRODUCTION, Broken, broken
from tests.support.manifests.schemas import VERSIONS, is_foreign, violation


def findings(
    objects: Iterable[Object], *, production: bool, applying: bool = False, stumbling: bool = False
) -> list[Broken]:
    """Every policy that these objects break; few are asked where the service is not among them, as in a snapshot.

    `stumbling` as in `broken`.
    """
    known = list(objects)
    if not Cluster(known).service_pods():
        return broken(known, ALWAYS, stumbling=stumbling)
    groups = [ALWAYS, EVERYWHERE, *([PRODUCTION] if production else []), *([BEFORE_APPLYING] if applying else [])]
    return broken(known, *groups, stumbling=stumbling)


def violations(objects: Iterable[Object]) -> list[str]:
    """What the schemas refuse, in any of the versions of Kubernetes."""
    return [wrong for item in objects for version in VERSIONS if (wrong := violation(item, version))]


def unchecked(objects: Iterable[Object]) -> list[str]:
    """What nothing is known about, for people: custom resources of others."""
    return [f"{name_of(item)}: not checked, {item['apiVersion']} is not ours" for item in objects if is_foreign(item)]


def check(objects: Iterable[Object]) -> list[str]:
    """What is wrong with an overlay that is about to be applied, for people. Production is what asks for TLS.

    Nothing is said of what is `unchecked`. The policies are asked about what the schemas take: they need its fields.
    """
    objects = [item for item in objects if not is_foreign(item)]
    if wrong := violations(objects):
        return wrong
    insecure = any(settings.get("insecure") for _, settings in Cluster(objects).settings())
    found = findings(objects, production=not insecure, applying=True, stumbling=True)
    return [str(finding) for finding in found]


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
        objects = objects_of(rendered(Path(folder)))
        wrong = check(objects)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    said = [*unchecked(objects), *(wrong or [f"{folder}: all is well"])]
    sys.stdout.write("".join(f"{line}\n" for line in said))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
