"""The way from an empty folder to a rendered overlay, as k8s/README.md describes it, leads there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from tests.support.manifests import checks
from tests.support.manifests.cluster import K8S, Cluster, Object, objects_of, rendered

_HASH = f"sha256:{'5' * 64}"


def _marked_commands() -> str:
    return "\n".join(commands for marked, commands in _blocks() if marked)


def _blocks() -> list[tuple[str, str]]:
    """Each block of commands, with the mark before it if it has one."""
    block = re.compile(r"(^<!-- [^\n]* -->\n)?^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return block.findall((K8S / "README.md").read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the marked commands were run."""
    place = tmp_path_factory.mktemp("operator")
    (place / "epistream").mkdir()
    subprocess.run(["cp", "-r", K8S, place / "epistream/k8s"], check=True)
    for name in ("backup", "monitor"):
        (place / f"{name}.token").write_text(f"token of {name}\n")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BACKUP_HASH": _HASH,
        "MONITOR_HASH": _HASH,
        "HOME": str(place),  # kubectl finds no cluster there, and needs none
    }
    script = f"set -eu\n{_marked_commands()}"
    done = subprocess.run(["sh", "-c", script], cwd=place, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


def test_the_rendered_overlay_is_ready_to_be_applied(place: Path) -> None:
    text = (place / "rendered.yaml").read_text()
    assert text == rendered(place / "overlay")
    objects = objects_of(text)
    assert checks.violations(objects) == []
    assert checks.findings(objects, production=True, applying=True) == []


def test_nothing_of_the_example_is_left_in_it(place: Path) -> None:
    text = (place / "rendered.yaml").read_text()
    for example in ("epistream.example.org", "events-kafka", "streaming", "fast-ssd", "203.0.113", "0" * 64):
        assert not re.search(rf"(?<![a-z]){re.escape(example)}(?![a-z])", text), example
    for own in ("knowledge.example.org", "logs-kafka-bootstrap.kafka-logs.svc:9093", "standard-rwo", "198.51.100.0/24"):
        assert own in text


def test_the_secrets_have_the_keys_that_are_mounted(place: Path) -> None:
    made: list[Object] = [yaml.safe_load(path.read_text()) for path in place.glob("secret-*.yaml")]
    keys = {item["metadata"]["name"]: set(item["data"]) for item in made}
    assert keys == {
        "epistream-tls": {"tls.crt", "tls.key", "ca.crt"},
        "epistream-access": {"access.toml"},
        "epistream-backup-token": {"token"},
        "epistream-monitor-token": {"token"},
    }


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
    needing = ("docker", "kubectl apply", "kubectl get", "scale statefulset", "make -C", "epistream access")
    assert _blocks()
    for marked, commands in _blocks():
        assert bool(marked) != any(word in commands for word in needing), commands
