"""The Dockerfile says what the manifests rely on. `make image-check` carries it out."""

import re
import subprocess
import tomllib

import pytest

from tests.support.image.check import arguments
from tests.support.image.dockerfile import Instruction, Stage, expanded, stages
from tests.support.manifests.cluster import K8S, ROOT, Cluster, objects_of, rendered

TMP = "/tmp"  # noqa: S108 - the pod's, an emptyDir
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture
def final() -> Stage:
    return stages(DOCKERFILE, {})[-1]


def test_the_image_runs_as_the_user_of_the_pod(final: Stage) -> None:
    for overlay in ("local", "production"):
        for pod in Cluster(objects_of(rendered(K8S / f"overlays/{overlay}"))).pods():
            security = pod.spec["securityContext"]
            assert final.last("USER") == Instruction("USER", f"{security['runAsUser']}:{security['runAsGroup']}")


def test_the_image_exposes_the_ports_of_the_pod(final: Stage) -> None:
    (pod,) = Cluster(objects_of(rendered(K8S / "overlays/local"))).service_pods()
    exposed = final.last("EXPOSE")
    assert exposed is not None
    assert exposed.values() == [str(port["containerPort"]) for port in pod.containers[0]["ports"]]


def test_the_image_writes_nowhere_but_to_volumes(final: Stage) -> None:
    environment = final.environment()
    assert environment["HOME"] == TMP
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    (pod,) = Cluster(objects_of(rendered(K8S / "overlays/local"))).service_pods()
    mounted = {mount["mountPath"] for mount in pod.containers[0]["volumeMounts"]}
    assert {TMP, "/data"} <= mounted


def test_every_file_that_is_copied_is_there_and_sent_to_the_engine() -> None:
    sent = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    for stage in stages(DOCKERFILE, {}):
        for instruction in stage.instructions:
            if instruction.word == "COPY" and not instruction.rest.startswith("--from"):
                for source in instruction.values()[:-1]:
                    assert (ROOT / source).exists()
                    assert source in sent


def test_what_is_installed_is_locked() -> None:
    installs = re.findall(r"pip install .*", DOCKERFILE + (ROOT / "Makefile").read_text())
    assert len(installs) > 10
    # The distribution itself has no hash, and what builds it those of requirements/build.txt.
    ours = re.compile(r"--no-deps (\$\(BUILD\)|--build-constraints requirements/build.txt) (-e )?\.( |$)")
    loose = [line for line in installs if "--require-hashes" not in line and not ours.search(line)]
    assert len(loose) == 1
    assert "--torch-backend=cpu" in loose[0]


def test_what_builds_the_distribution_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["dependency-groups"]["build"] == project["build-system"]["requires"]
    locked = (ROOT / "requirements/build.txt").read_text()
    assert {re.split(r"\W", one)[0] for one in project["build-system"]["requires"]} <= set(
        re.findall(r"^([\w-]+)==", locked, re.MULTILINE)
    )
    assert "BUILD := --build-constraints requirements/build.txt\n" in (ROOT / "Makefile").read_text()


def test_what_reads_sources_is_of_the_versions_that_the_service_runs() -> None:
    locked = {}
    for name in ("run", "sources"):
        text = (ROOT / f"requirements/{name}.txt").read_text()
        locked[name] = set(re.findall(r"^(\S+)==(.+?) \\$", text, re.MULTILINE))
    names = {package for package, _ in locked["run"]}
    assert {(package, version) for package, version in locked["sources"] if package in names} <= locked["run"]
    assert {"pyarrow", "h5py"} <= {package for package, _ in locked["sources"]}
    assert not {"pyarrow", "h5py"} & names


def test_every_argument_of_its_stages_can_be_chosen_when_it_is_checked() -> None:
    args = [i.rest.partition("=") for stage in stages(DOCKERFILE, {}) for i in stage.instructions if i.word == "ARG"]
    assert arguments({}).keys() == {name for name, _, _ in args}
    assert arguments({"TORCH": "cpu", "TORCH_SOURCE": "none", "SOURCES": "yes"}) == {"TORCH": "none", "SOURCES": "yes"}
    # As `docker build` has it when nothing is said.
    assert arguments({})["SOURCES"] == {name: value for name, _, value in args}["SOURCES"]


def test_its_steps_are_sound_shell() -> None:
    scripts = [i.caches()[1] for stage in stages(DOCKERFILE, {}) for i in stage.instructions if i.word == "RUN"]
    for script in scripts:
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_stages_arguments_and_continuations_are_read() -> None:
    base, last = stages(
        "ARG BASE=a:1\n# a comment\nFROM ${BASE} AS base\nENV A=1 B=${A}\nRUN --mount=type=cache,target=/c \\\n"
        '  # inside\n  one && two\nFROM base\nENTRYPOINT ["x", "y z"]\nUSER 1\nUSER 2\n',
        {"BASE": "b:2"},
    )
    assert (base.image, base.name, last.image) == ("b:2", "base", "base")
    assert base.environment() == {"A": "1", "B": "${A}"}
    run = base.last("RUN")
    assert run is not None
    assert [words.split() if isinstance(words, str) else words for words in run.caches()] == [
        ["/c"],
        ["one", "&&", "two"],
    ]
    entry, user = last.last("ENTRYPOINT"), last.last("USER")
    assert entry is not None
    assert entry.values() == ["x", "y z"]
    assert user == Instruction("USER", "2")
    assert expanded("${A}-$B-$C", {"A": "1", "B": "2"}) == "1-2-"


@pytest.mark.parametrize("text", ["RUN early", "FROM a\nHEALTHCHECK CMD x"])
def test_what_the_reader_does_not_know_it_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        stages(text, {})
