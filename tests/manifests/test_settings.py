"""What the manifests tell the service and its commands is what these understand."""

import re
import tomllib
from pathlib import Path

import pytest

from epistream.services.settings import Settings
from tests.support.certificates import Authority
from tests.support.manifests.cluster import K8S, Cluster, objects_of, overlays, rendered
from tests.support.manifests.graph import referenced_secrets
from tests.support.manifests.kafka import REDRIVE_USER
from tests.support.manifests.network import Peer, reaches
from tests.support.manifests.secrets import SECRETS

FILES = sorted(K8S.rglob("settings.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_the_service_takes_the_settings(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"EPISTREAM_{name.upper()}", raising=False)
    said = tomllib.loads(path.read_text())
    # Kafka's files are looked at when the settings are read; the others when the service starts.
    authority = Authority(tmp_path)
    authority.renew()
    (tmp_path / "password").write_text("secret")
    files = {
        "kafka_ca_file": authority.ca_file,
        "kafka_cert_file": authority.cert_file,
        "kafka_key_file": authority.key_file,
        "kafka_password_file": tmp_path / "password",
    }
    there = {name: file for name, file in files.items() if name in said}
    loaded = Settings.load(config=path, **there)
    for name in said.keys() - there.keys():
        value = getattr(loaded, name)
        assert (str(value) if isinstance(value, Path) else value) == said[name]


@pytest.mark.parametrize("name", ["own-cluster"])
def test_an_example_says_what_production_says_but_for_what_is_one_s_own(name: str) -> None:
    own = tomllib.loads((K8S / f"examples/{name}/settings.toml").read_text())
    production = tomllib.loads((K8S / "overlays/production/settings.toml").read_text())
    assert own.keys() == production.keys()
    assert {key for key in own if own[key] != production[key]} == {"kafka"}


def test_the_service_knows_what_its_environment_sets() -> None:
    pods = [pod for folder in overlays() for pod in Cluster(objects_of(rendered(folder))).service_pods()]
    said = {entry["name"] for pod in pods for container in pod.containers for entry in container.get("env", [])}
    assert said
    assert said <= {f"EPISTREAM_{name.upper()}" for name in Settings.model_fields}


def test_the_readme_lists_the_secrets_that_are_wanted() -> None:
    listed = dict(re.findall(r"^\| `(epistream-[\w-]+)` \| ([^|]+) \|", (K8S / "README.md").read_text(), re.MULTILINE))
    assert {name: frozenset(re.findall(r"`([\w.]+)`", keys)) for name, keys in listed.items()} == SECRETS
    wanted: dict[str, set[str]] = {}
    for folder in overlays():
        for _, name, key in referenced_secrets(Cluster(objects_of(rendered(folder)))):
            wanted.setdefault(name, set()).add(key)
    made_by_strimzi = {name: {"user.crt", "user.key"} for name in ("epistream-kafka", REDRIVE_USER)}
    assert wanted == SECRETS | made_by_strimzi


@pytest.mark.parametrize(
    ("source", "port", "reached"),
    [
        (Peer("apps", {"app": "advisor"}, {"epistream-clients": "allowed"}), 7443, True),
        (Peer("apps", {"app": "advisor"}), 7443, False),
        (Peer("apps", {"app": "advisor"}, {"epistream-clients": "allowed"}), 9464, False),
        (Peer("monitoring", {"app.kubernetes.io/name": "prometheus"}), 9464, True),
        (Peer("monitoring", {"app.kubernetes.io/name": "grafana"}), 9464, False),
        (Peer("monitoring", {"app.kubernetes.io/name": "prometheus"}), 7443, False),
        (Peer("epistream", {"app.kubernetes.io/name": "epistream-backup"}), 7443, True),
        (Peer("epistream", {"app.kubernetes.io/name": "epistream-backup"}), 9464, False),
        (Peer("epistream", {"app": "intruder"}), 7443, False),
        (Peer(address="192.0.2.1"), 7444, True),  # a node, whose kubelet asks for health
        (Peer(address="192.0.2.1"), 7443, False),
    ],
)
def test_who_reaches_the_service(source: Peer, port: int, *, reached: bool) -> None:
    cluster = Cluster(objects_of(rendered(K8S / "overlays/production")))
    (pod,) = cluster.service_pods()
    assert reaches(cluster, source, Peer.of(pod), port) is reached


@pytest.mark.parametrize(
    ("target", "port", "protocol", "reached"),
    [
        (Peer("kafka", {"strimzi.io/cluster": "kafka", "strimzi.io/kind": "Kafka"}), 9093, "TCP", True),
        (Peer("kafka", {"strimzi.io/cluster": "kafka", "strimzi.io/kind": "Kafka"}), 9092, "TCP", False),
        (Peer("other", {"strimzi.io/cluster": "kafka", "strimzi.io/kind": "Kafka"}), 9093, "TCP", False),
        (Peer("kube-system", {"k8s-app": "kube-dns"}), 53, "UDP", True),
        (Peer("kube-system", {"k8s-app": "kube-dns"}), 443, "TCP", False),
        (Peer(address="192.0.2.1"), 443, "TCP", False),
    ],
)
def test_whom_the_service_reaches(target: Peer, port: int, protocol: str, *, reached: bool) -> None:
    cluster = Cluster(objects_of(rendered(K8S / "overlays/production")))
    (pod,) = cluster.service_pods()
    assert reaches(cluster, Peer.of(pod), target, port, protocol) is reached


def test_no_secret_is_in_the_repository() -> None:
    assert not [item for folder in overlays() for item in objects_of(rendered(folder)) if item["kind"] == "Secret"]
    tracked = [path for path in K8S.rglob("*") if path.is_file()]
    assert not [path for path in tracked if b"PRIVATE KEY" in path.read_bytes()]
