"""The way from an empty folder to a rendered overlay, as k8s/README.md describes it, leads there."""

import base64
import os
import re
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
import yaml
from cryptography import x509

from epistream.services.security.access import Access
from epistream.services.security.files import Watched
from tests.support.cli import clean_environment
from tests.support.manifests import checks
from tests.support.manifests.cluster import K8S, Cluster, Object, name_of, objects_of, rendered, selects

README: Final = (K8S / "README.md").read_text()
OF_ANOTHER_KAFKA: Final = {"kafka-ca.crt": "a certificate\n", "kafka-password": "secret"}
"""What its people have given to the operator."""
NEW_DIGEST: Final = re.findall(r"DIGEST=sha256:(\w{64}) ", README)[-1]
"""That of the page's upgrade."""


def _marked_commands() -> str:
    return "\n".join(commands for marked, commands in _blocks() if marked)


def _commands_of_the_overlays() -> str:
    """What says what is one's own, and what makes folders of the examples by it."""
    blocks = [commands for marked, commands in _blocks() if marked]
    return "\n".join(each for each in blocks if re.search("k8s/examples/|DIGEST|BENEATH", each))


def _blocks() -> list[tuple[str, str]]:
    """Each block of commands, with the mark before it if it has one."""
    block = re.compile(
        r"(^<!-- (?:run|tests/manifests/test_readme[^\n]*) -->\n)?^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL
    )
    return block.findall(README)


def _environment(place: Path) -> dict[str, str]:
    return clean_environment({}) | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(place),  # kubectl finds no cluster there, and needs none
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the marked commands were run."""
    place = tmp_path_factory.mktemp("operator")
    (place / "epistream").mkdir()
    subprocess.run(["cp", "-r", K8S, place / "epistream/k8s"], check=True)
    for name, given in OF_ANOTHER_KAFKA.items():
        (place / name).write_text(given)
    done = subprocess.run(
        ["sh", "-euc", _marked_commands()],
        cwd=place,
        env=_environment(place),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.parametrize(
    ("overlay", "written"),
    [
        ("overlay", "rendered"),
        ("own-kafka", "rendered-own-kafka"),
        ("overlay-shared", "rendered-shared"),
        ("overlay-executor", "rendered-executor"),
    ],
)
def test_the_rendered_overlay_is_ready_to_be_applied(place: Path, overlay: str, written: str) -> None:
    text = (place / f"{written}.yaml").read_text()
    digest = re.compile(r"sha256:\w{64}")  # an upgrade changes it in some
    assert digest.sub("", text) == digest.sub("", rendered(place / overlay))
    objects = objects_of(text)
    assert checks.violations(objects) == []
    assert checks.findings(objects, production=True, applying=True) == []


def test_of_a_kafka_that_others_use_nothing_is_in_the_namespace_of_the_service(place: Path) -> None:
    apart = [item for file in (place / "kafka-objects").iterdir() for item in objects_of(file.read_text())]
    assert {item["metadata"]["labels"]["strimzi.io/cluster"] for item in apart} == {"logs"}
    assert not any("namespace" in item["metadata"] for item in apart), "it is said when they are applied"
    for item in apart:
        item["metadata"]["namespace"] = "events-logs"
    assert checks.violations(apart) == []
    shared = Cluster(objects_of((place / "rendered-shared.yaml").read_text()))
    assert not shared.of("KafkaTopic", "KafkaUser")
    alone = Cluster(objects_of((place / "rendered.yaml").read_text()))
    assert {name_of(item) for item in alone.objects} - {name_of(item) for item in shared.objects} == {
        name_of(item) for item in apart
    }


@pytest.mark.parametrize("beneath", ["overlay", "overlay-shared", "own-kafka"])
def test_each_namespace_has_an_executor_of_its_own(place: Path, tmp_path: Path, beneath: str) -> None:
    """On top of each overlay: by the page's blocks once more, with another list of namespaces."""
    again = shutil.copytree(place, tmp_path / "again")
    blocks = [commands for marked, commands in _blocks() if marked]
    said = [each for each in blocks if "$EXECUTED" in each]
    script = "\n".join(said).replace("BENEATH=overlay ", f"BENEATH={beneath} ")
    script = script.replace('EXECUTED="programs"', 'EXECUTED="programs some.scripts"')
    subprocess.run(["sh", "-euc", script], cwd=again, env=_environment(again), check=True, capture_output=True)
    objects = objects_of((again / "rendered-executor.yaml").read_text())
    assert checks.violations(objects) == []
    assert checks.findings(objects, production=True, applying=True) == []
    cluster = Cluster(objects)
    assert {name_of(item) for item in objects_of(rendered(again / beneath))} < {name_of(item) for item in objects}
    assert {pod.owner["metadata"]["name"]: pod.containers[0]["args"][2] for pod in cluster.executor_pods()} == {
        "epistream-executor-programs": "--namespace=programs",
        "epistream-executor-some-scripts": "--namespace=some.scripts",
    }
    for pod in cluster.executor_pods():
        selector = pod.owner["spec"]["selector"]
        assert [each.owner for each in cluster.pods() if selects(selector, each.labels)] == [pod.owner]
    roles = tomllib.loads((again / "access.toml").read_text())["roles"]
    assert roles["executor"]["namespaces"] == ["programs", "some.scripts"]
    executor = Access.read(again / "access.toml", Watched()).of_token((again / "executor.token").read_text())
    assert executor is not None
    assert executor.name == "executor"


def test_a_new_digest_takes_the_place_of_the_one_before(place: Path) -> None:
    for overlay in ("overlay", "redrive"):
        text = (place / overlay / "kustomization.yaml").read_text()
        assert re.findall(r"sha256:(\w+)", text) == [NEW_DIGEST]


@pytest.mark.parametrize("folders", ["overlay", "overlay-shared", "own-kafka", "overlay overlay-executor"])
def test_whatever_is_applied_is_upgraded_as_a_whole(place: Path, tmp_path: Path, folders: str) -> None:
    again = shutil.copytree(place, tmp_path / "again")
    shutil.rmtree(again / "redrive")  # not everybody has it
    (block,) = (commands for marked, commands in _blocks() if marked and "export FOLDERS=" in commands)
    *_, overlay = folders.split()
    block = block.replace('FOLDERS="overlay"', f'FOLDERS="{folders}"')
    block = block.replace("OVERLAY=overlay ", f"OVERLAY={overlay} ")
    subprocess.run(["sh", "-euc", block], cwd=again, env=_environment(again), check=True)
    text = (again / "rendered.yaml").read_text()
    assert set(re.findall(r"image: \S+@sha256:(\w+)", text)) == {NEW_DIGEST}
    assert checks.findings(objects_of(text), production=True, applying=True) == []


def test_who_repeats_the_commands_has_the_same_and_nothing_within_it(place: Path, tmp_path: Path) -> None:
    again = shutil.copytree(place, tmp_path / "again")
    subprocess.run(
        ["sh", "-euc", _commands_of_the_overlays()], cwd=again, env=_environment(again), check=True, capture_output=True
    )
    for folder in ("overlay", "own-kafka", "redrive", "snapshot", "overlay-executor"):
        for path in (place / folder).glob("*.*"):
            assert (again / folder / path.name).read_text() == path.read_text()
        assert len(list((again / folder).iterdir())) == len(list((place / folder).iterdir()))


OF_THE_EXAMPLE_AND_MORE: Final = {
    "DOMAIN": "my-epistream.example.org",
    "IMAGE": "registry.example.org/epistream-own",
    "KAFKA": "my-events",
    "KAFKA_NAMESPACE": "streaming",
    "STORAGE_CLASS": "fast-ssd-retain",
    "CLIENTS": "203.0.113.0/24",
    "RUNBOOKS": "https://wiki.example.org/epistream/runbooks.md.html",
    "BROKERS": "my-kafka-1.example.org:9093",
    "BROKERS_NETWORK": "192.0.2.0/24",
    "SNAPSHOT_CLASS": "csi-snapshots-retain",
}
"""Names that those of the examples are within."""


def test_names_that_have_those_of_the_examples_in_them_are_said_once(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "epistream", tmp_path / "epistream")
    script = _commands_of_the_overlays()
    for name, own in OF_THE_EXAMPLE_AND_MORE.items():
        script, times = re.subn(rf"(?m)^(export .*)?\b{name}=[^ \n]*", rf"\g<1>{name}={own}", script)
        assert times == 1, name
    texts = []
    for _ in range(2):
        subprocess.run(["sh", "-euc", script], cwd=tmp_path, env=_environment(tmp_path), check=True)
        own_folders = [path for path in tmp_path.iterdir() if path.name != "epistream" and path.is_dir()]
        files = [path for folder in own_folders for path in folder.rglob("*.*") if path.is_file()]
        texts.append({path: re.sub(r"name: epistream-20\S+", "", path.read_text()) for path in files})
    assert texts[0] == texts[1]
    said = "".join(texts[0].values())
    for name, own in OF_THE_EXAMPLE_AND_MORE.items():
        assert own in said, name
    assert not re.search(r"my-my-|-own-own|-retain-retain|html.html", said)


def test_the_job_that_redrives_fits_beside_the_overlay(place: Path) -> None:
    objects = objects_of((place / "rendered.yaml").read_text())
    objects += objects_of((place / "rendered-redrive.yaml").read_text())
    assert checks.violations(objects) == []
    assert checks.findings(objects, production=True, applying=True) == []


def test_a_snapshot_has_the_class_and_the_time_that_are_said(place: Path) -> None:
    objects = objects_of((place / "rendered-snapshot.yaml").read_text())
    assert checks.violations(objects) == []
    assert checks.findings([*objects_of((place / "rendered.yaml").read_text()), *objects], production=True) == []
    (item,) = objects
    assert item["spec"]["volumeSnapshotClassName"] == "csi-standard"
    made = datetime.strptime(f"{item['metadata']['name']}Z", "epistream-%Y-%m-%d-%H%M%z")
    assert timedelta(0) <= datetime.now(UTC) - made < timedelta(hours=1)


OWN: Final = (
    "knowledge.example.org",
    "standard-rwo",
    "cidr: 198.51.100.0/24",
    "registry.example.org/epistream@sha256:",
)
OF_THE_EXAMPLES: Final = ("wiki.example.org", "epistream.example.org", "fast-ssd", "203.0.113", "0" * 64)


@pytest.mark.parametrize(
    ("written", "own", "of_the_example"),
    [
        ("rendered", ("logs-kafka-bootstrap.events-logs.svc:9093",), ("events-kafka", "streaming")),
        (
            "rendered-own-kafka",
            ('kafka = "kafka-1.example.net:9093,kafka-2.example.net:9093"', "cidr: 10.20.0.0/24"),
            ("kafka-1.example.org", "192.0.2"),
        ),
    ],
)
def test_what_is_said_to_be_ones_own_takes_the_place_of_the_example(
    place: Path, written: str, own: tuple[str, ...], of_the_example: tuple[str, ...]
) -> None:
    text = (place / f"{written}.yaml").read_text()
    for said in (*OWN, *own):
        assert said in text, said
    for example in (*OF_THE_EXAMPLES, *of_the_example):
        assert not re.search(rf"(?<![a-z]){re.escape(example)}(?![a-z])", text), example
    links = {rule["annotations"]["runbook_url"].partition("#")[0] for rule in _alerts(text)}
    assert links == {"https://wiki.example.net/runbooks.md"}


@pytest.mark.parametrize(("overlay", "example"), [("overlay", "own-cluster"), ("own-kafka", "own-kafka")])
def test_every_place_that_was_changed_is_marked(place: Path, overlay: str, example: str) -> None:
    changed = 0
    for path in sorted((place / overlay).iterdir()):
        before = (K8S / "examples" / example / path.name).read_text().splitlines()
        after = path.read_text().splitlines()
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            if old != new:
                changed += 1
                assert "YOURS" in new or "YOURS" in after[number - 1], f"{path.name}: {new}"
    assert changed


@pytest.mark.parametrize("file", ["networkpolicy-public.yaml", "runbooks.yaml", "service-public.yaml", "volume.yaml"])
def test_what_has_nothing_to_do_with_kafka_is_the_same_in_both_examples(file: str) -> None:
    assert (K8S / "examples/own-kafka" / file).read_text() == (K8S / "examples/own-cluster" / file).read_text()


def _alerts(text: str) -> list[Object]:
    groups = [group for item in Cluster(objects_of(text)).of("PrometheusRule") for group in item["spec"]["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_the_secrets_have_the_keys_that_are_mounted(place: Path) -> None:
    made: list[Object] = [yaml.safe_load(path.read_text()) for path in place.glob("secret-*.yaml")]
    keys = {item["metadata"]["name"]: set(item["data"]) for item in made}
    assert keys == {
        "epistream-tls": {"tls.crt", "tls.key", "ca.crt"},
        "epistream-access": {"access.toml"},
        "epistream-backup-token": {"token"},
        "epistream-monitor-token": {"token"},
        "epistream-executor-token": {"token"},
        "epistream-kafka-ca": {"ca.crt"},
        "epistream-kafka-password": {"password"},
    }


@pytest.mark.parametrize(
    ("name", "key", "file"), [("ca", "ca.crt", "kafka-ca.crt"), ("password", "password", "kafka-password")]
)
def test_the_secrets_about_another_kafka_are_what_its_people_gave(place: Path, name: str, key: str, file: str) -> None:
    secret = yaml.safe_load((place / f"secret-kafka-{name}.yaml").read_text())
    assert base64.b64decode(secret["data"][key]).decode() == OF_ANOTHER_KAFKA[file]


def test_the_tokens_are_sent_as_they_are_and_are_those_of_the_access_file(place: Path) -> None:
    access = Access.read(place / "access.toml", Watched())
    for name, principal in (("backup", "backup"), ("monitor", "prometheus"), ("executor", "executor")):
        secret = yaml.safe_load((place / f"secret-{name}-token.yaml").read_text())
        token = base64.b64decode(secret["data"]["token"]).decode()
        # The Prometheus operator hands it on as it is, and Prometheus sends none with a line break.
        assert token == token.strip()
        known = access.of_token(token)
        assert known is not None
        assert known.name == principal


def test_the_operator_may_what_the_runbooks_ask_for(place: Path) -> None:
    access = Access.read(place / "access.toml", Watched())
    operator = access.of_token((place / "operator.token").read_text())
    assert operator is not None
    assert operator.name == "operator"
    told = subprocess.run(
        [sys.executable, "-m", "epistream.services", "access", "check", "access.toml"],
        cwd=place,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert re.search(r"(?m)^operator\n(  .*\n)*  admin monitor read review watch in \*", told), told


def test_what_is_secret_only_its_owner_can_read(place: Path) -> None:
    secret = [path for kind in ("*.token", "*.key", "secret-*.yaml") for path in place.glob(kind)]
    assert {"ca.key", "tls.key", "operator.token", "executor.token", "secret-tls.yaml"} <= {
        path.name for path in secret
    }
    assert [path.name for path in secret if path.stat().st_mode & 0o077] == []


def test_the_certificate_is_for_every_name_it_is_called_by(place: Path) -> None:
    certificate = x509.load_pem_x509_certificate((place / "tls.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {
        "knowledge.example.org",
        "epistream.epistream.svc",
        "epistream-headless.epistream.svc",
        "*.epistream-headless.epistream.svc",
    }
    cluster = Cluster(objects_of((place / "rendered.yaml").read_text()))
    (monitor,) = cluster.of("ServiceMonitor")
    asked = monitor["spec"]["endpoints"][0]["tlsConfig"].get("serverName", "epistream.epistream.svc")
    assert asked in names.get_values_for_type(x509.DNSName)


def test_every_block_that_needs_no_cluster_is_run() -> None:
    needing = ("docker", "kubectl apply", "kubectl get", "kubectl -n", "make -C", "--address 127.0.0.1")
    assert _blocks()
    for marked, commands in _blocks():
        assert bool(marked) != any(word in commands for word in needing), commands
