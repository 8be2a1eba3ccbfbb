"""`make image-check`: the Dockerfile without a container engine. Says what was checked, and what cannot be here.

Each stage is a folder that begins with Debian's packages instead of the base image; its instructions are carried out
there, RUN by chroot. Then the service runs from the last one as the pod would run it: as UID 10001, on a root that is
read-only, with the settings of k8s/overlays/local.

    TORCH_SOURCE=none make image-check     without PyTorch, and so without the encoder: minutes less, gigabytes less
    SOURCES=yes make image-check           with what reads published data sets, one of which is then read
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from epistream.clients.sources.examples import EXAMPLES
from tests.support.image.dockerfile import Instruction, Stage, expanded, stages
from tests.support.image.root import NEEDED, PACKAGES, RELEASE, Root, make_base
from tests.support.manifests.cluster import K8S, ROOT, Cluster, objects_of, rendered

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOT_CHECKED: Final = f"""not checked here:
  - the base image: its place was taken by Debian {RELEASE} with {PACKAGES}, whose Python may be of another patch
  - TORCH=cpu, the default of the Dockerfile: PyTorch's own index is not among the registries that this machine reaches
  - the layers, the size and the digest of a real image, and how an engine reads .dockerignore"""


def arguments(environment: Mapping[str, str]) -> dict[str, str]:
    """The build arguments, as the environment of `make` says them. TORCH means something else there."""
    return {"TORCH": environment.get("TORCH_SOURCE", "pypi"), "SOURCES": environment.get("SOURCES", "no")}


class Builder:
    """Carries out the stages of a Dockerfile."""

    def __init__(self, work: Path, arguments: dict[str, str]) -> None:
        self._work, self._arguments = work, arguments
        self._archive = work / "base.tar"
        self._done: dict[str, Root] = {}

    def build(self, parts: list[Stage]) -> Root:
        """Every stage, in order; the last one's root."""
        _say(f"the base, from Debian's packages in the place of {parts[0].image}")
        make_base(self._archive)
        for number, stage in enumerate(parts):
            root = Root(self._work / f"stage-{number}", self._archive)
            self._done[stage.name or str(number)] = root
            self._carry_out(stage, root)
        return root

    def _carry_out(self, stage: Stage, root: Root) -> None:
        variables, folder = {"PATH": _PATH, "HOME": "/root"}, "/"
        for instruction in stage.instructions:
            match instruction.word:
                case "ARG":
                    name, _, value = instruction.rest.partition("=")
                    variables[name] = self._arguments.get(name, value)
                case "ENV":
                    pairs = [value.partition("=") for value in instruction.values()]
                    variables |= {name: expanded(value, variables) for name, _, value in pairs}
                case "WORKDIR":
                    folder = instruction.rest
                    (root.folder / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(instruction, root, folder)
                case "RUN":
                    self._run(instruction, root, variables, folder)

    def _copy(self, instruction: Instruction, root: Root, folder: str) -> None:
        words = instruction.values()
        origin = ROOT
        if words[0].startswith("--from="):
            origin = self._done[words.pop(0).removeprefix("--from=")].folder
        *sources, target = words
        into = target if target.startswith("/") else os.path.normpath(f"{folder}/{target}")
        for source in sources:
            several = len(sources) > 1 or target.endswith("/")
            # A stage that is done is not changed any more, and may have six gigabytes.
            root.copy_in(origin / source.lstrip("/"), f"{into}/" if several else into, link=origin != ROOT)

    def _run(self, instruction: Instruction, root: Root, variables: dict[str, str], folder: str) -> None:
        targets, script = instruction.caches()
        began = time.monotonic()
        _say(f"RUN {script[:90]}…")
        root.build(script, variables, folder, {target: _cache() for target in targets})
        _say(f"    {time.monotonic() - began:.0f} s")


def _cache() -> Path:
    folder = Path(os.environ.get("UV_CACHE_DIR", Path.home() / ".cache/uv"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def serve(stage: Stage, root: Root, work: Path, encoder: str, sources: str) -> int:
    """Runs the service from a built stage as the pod of the local overlay would, with what inside.py checks."""
    cluster = Cluster(objects_of(rendered(K8S / "overlays/local")))
    (pod,) = cluster.service_pods()
    (container,) = pod.spec["containers"]
    ((config_map, _),) = cluster.settings()
    said = config_map["data"]["settings.toml"].splitlines()
    settings, lent, data = work / "settings", work / "lent", work / "data"
    for path in (settings, lent, data):
        path.mkdir()
    (settings / "settings.toml").write_text("\n".join([*said, f'encoder = "{encoder}"' if encoder else ""]))
    shutil.copy2(Path(__file__).with_name("inside.py"), lent)
    pq.write_table(pa.Table.from_pylist([EXAMPLES["humaneval"]]), lent / "humaneval.parquet")
    entry = stage.last("ENTRYPOINT")
    assert entry is not None
    user = f"{pod.spec['securityContext']['runAsUser']}:{pod.spec['securityContext']['runAsGroup']}"
    wanted = stage.last("USER")
    assert wanted is not None
    assert wanted.rest == user, f"USER {wanted.rest}, but the pod runs as {user}"
    program = [*entry.values(), *container["args"]]
    command = ["/opt/epistream/bin/python", "/mnt/check/inside.py", "7444", encoder, sources, *program]
    mounted = {"/etc/epistream/settings": settings, "/mnt/check": lent}
    _say(f"the service as the pod runs it: {' '.join(program)}")
    return root.serve(command, stage.environment(), user, mounted, data)


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Builds, serves, tells; the exit code is 0 only if all that could be checked was so."""
    missing = [tool for tool in NEEDED if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        _say(f"needs root and {', '.join(NEEDED)}: missing {', '.join(missing) or 'root'} (apt-get install mmdebstrap)")
        return 2
    given = arguments(os.environ)
    without_torch = given["TORCH"] == "none"
    parts = stages((ROOT / "Dockerfile").read_text(), {})
    # Beside the repository's other caches: it needs more room than a temporary folder may have.
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build", prefix="image-") as name:
        work = Path(name)
        try:
            root = Builder(work, given).build(parts)
        except subprocess.CalledProcessError as error:
            _say(f"WRONG: a step of the Dockerfile ends with exit code {error.returncode}")
            return 1
        used = subprocess.run(["du", "-sm", root.folder / "opt/epistream"], check=True, capture_output=True, text=True)
        said = ", ".join(f"{name}={value}" for name, value in given.items())
        _say(f"/opt/epistream with {said}: {used.stdout.split()[0]} MB")
        code = serve(parts[-1], root, work, "none" if without_torch else "", given["SOURCES"])
    _say(_NOT_CHECKED)
    if without_torch:
        _say("  - PyTorch, the encoder and the packaged model: TORCH_SOURCE=none leaves them out")
    if given["SOURCES"] == "no":
        _say("  - what reads published data sets: SOURCES=yes brings it")
    _say("all that could be checked was so" if code == 0 else "WRONG: the service did not do what the pod needs")
    return code


if __name__ == "__main__":
    sys.exit(main())
