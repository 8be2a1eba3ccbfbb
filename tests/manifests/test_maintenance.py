"""k8s/README.md on a store without its service, and on reaching a service: its commands, where they can be run here.

And the backup of each night, as it is rendered.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import trustme

from epistream.clients import Credentials, SyncKnowledgeClient, SyncProducer
from epistream.v1 import namespace_service_pb2 as ns
from epistream.wire.topics import EXPERT
from tests.support.cli import clean_environment, epistream, epistream_process
from tests.support.manifests.cluster import K8S, Cluster, objects_of, rendered
from tests.support.manifests.kubectl import Kubectl
from tests.support.rpc import DIMENSION, submission
from tests.support.security import hash_of
from tests.support.service import RunningService, running_service

README: Final = (K8S / "README.md").read_text()
RUN: Final = [
    Kubectl.of(line).run_in_the_pod for line in re.findall(r"^kubectl .* job/maintenance -- .*$", README, re.MULTILINE)
]
"""What the page has the pod of maintenance do, in its order."""
ENCODER: Final = ns.Encoder(model="none", dimension=DIMENSION)
SERVICE: Final = "epistream.epistream.svc"


class Pod:
    """What the pod of maintenance sees, as folders here."""

    def __init__(self, folder: Path) -> None:
        self.data, self.backups = folder / "data", folder / "backups"
        self.backups.mkdir()

    def run(self, command: tuple[str, ...], **filled_in: str) -> str:
        """What a command prints; it must end with 0."""
        (maintenance,) = (
            pod
            for pod in Cluster(objects_of(rendered(K8S / "overlays/production"))).pods()
            if pod.owner["metadata"]["name"] == "epistream-maintenance"
        )
        assert {"/data", "/backups"} <= {mount["mountPath"] for mount in maintenance.containers[0]["volumeMounts"]}
        places = {"/data": str(self.data), "/backups": str(self.backups), **filled_in}
        words = [re.sub("|".join(map(re.escape, places)), lambda found: places[found[0]], word) for word in command]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, env=clean_environment({}) | {"PATH": path}
        )
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    """With a store of ten items, of whose first five there is a backup."""
    pod = Pod(tmp_path)
    with running_service(pod.data) as service:
        with SyncKnowledgeClient(service.address) as client, SyncProducer(service.address) as producer:
            client.create_namespace("facts", encoder=ENCODER)
            producer.submit(*(submission("facts", n) for n in range(5)))
            made = epistream("backup", "--output", f"{pod.backups}/", "--address", service.address)
            assert made.code == 0, made.err
            producer.submit(*(submission("facts", n) for n in range(5, 10)))
        assert service.stop() == 0
    return pod


def test_what_the_pod_is_told_does_what_the_page_says(pod: Pod) -> None:
    (backup,) = pod.backups.iterdir()
    fsck, rebuild, reread, look, aside, restore = RUN
    assert pod.run(fsck).endswith(": all is well\n")
    assert pod.run(rebuild).startswith("rebuilt from ")
    assert pod.run(reread, TOPIC=EXPERT, PARTITION="0").startswith(f"{EXPERT}/0 had no position")
    assert backup.name in pod.run(look)
    before = {path.name for path in pod.data.glob("store.sqlite*")}
    pod.run(aside)
    (kept,) = pod.data.glob("before-*")
    assert {path.name for path in kept.iterdir()} == before
    assert "facts at revision 5" in pod.run(restore, BACKUP=backup.name)
    with running_service(pod.data) as service, SyncKnowledgeClient(service.address) as client:
        (namespace,) = client.namespaces()
        assert (namespace.name, namespace.head_revision) == ("facts", 5)


def test_a_store_that_was_moved_aside_is_never_replaced_by_another(pod: Pod) -> None:
    *_, aside, _ = RUN
    assert "date -u +%F-%H%M%S" in aside[-1]
    at_once = (*aside[:-1], aside[-1].replace("$(date -u +%F-%H%M%S)", "now"))
    pod.run(at_once)
    kept = {path.name: path.read_bytes() for path in (pod.data / "before-now").iterdir()}
    (pod.data / "store.sqlite").write_bytes(b"another")
    with pytest.raises(AssertionError, match="File exists"):
        pod.run(at_once)
    assert {path.name: path.read_bytes() for path in (pod.data / "before-now").iterdir()} == kept


def test_while_a_service_has_the_store_the_pod_is_refused(pod: Pod) -> None:
    with running_service(pod.data):
        done = subprocess.run(
            [sys.executable, "-m", "epistream.services", "fsck", f"--folder={pod.data}"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 3
    assert "is in use by another process" in done.stderr


def test_a_lost_volume_is_made_from_what_the_statefulset_would_make_it_from(tmp_path: Path) -> None:
    cluster = Cluster(objects_of(rendered(K8S / "overlays/production")))
    (item,) = cluster.of("StatefulSet")
    (tmp_path / "set.json").write_text(json.dumps(item))
    get, named = re.findall(r"^(?:kubectl .*(-o jsonpath=\S+) > claim.json|(sed .* claim.json))$", README, re.MULTILINE)
    kubectl = Path(sys.executable).with_name("kubectl")
    # What `get` asks of a cluster, `label --local` asks of a file.
    script = f"{kubectl} label --local -f set.json a=b {get[0]} > claim.json\n{named[1]}\n"
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True)
    (claim,) = objects_of((tmp_path / "claim.json").read_text())
    template = item["spec"]["volumeClaimTemplates"][0]
    assert (claim["kind"], claim["spec"]) == ("PersistentVolumeClaim", template["spec"])
    assert {claim["metadata"]["name"]} == cluster.store_claims().keys()


def test_the_claim_asks_for_more_and_for_nothing_else(tmp_path: Path) -> None:
    cluster = Cluster(objects_of(rendered(K8S / "overlays/production")))
    (item,) = cluster.of("StatefulSet")
    (name,) = cluster.store_claims()
    spec = item["spec"]["volumeClaimTemplates"][0]["spec"]
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
    (tmp_path / "claim.json").write_text(json.dumps(claim))
    (line,) = re.findall(r"^kubectl (.* patch persistentvolumeclaim .*)$", README, re.MULTILINE)
    kubectl = Path(sys.executable).with_name("kubectl")
    # What `patch` asks of a cluster, `patch --local` asks of a file.
    script = f"{kubectl} {line.replace(f'persistentvolumeclaim {name}', '--local -f claim.json')} -o yaml"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True)
    (enlarged,) = objects_of(done.stdout)
    assert enlarged["spec"] == {**spec, "resources": {"requests": {"storage": "200Gi"}}}
    assert spec["resources"]["requests"]["storage"] == "100Gi"


@pytest.fixture
def reached(tmp_path: Path) -> Iterator[tuple[RunningService, Path]]:
    """A service with the certificate of the Service's name, and a folder with what an operator has."""
    folder = tmp_path / "operator"
    folder.mkdir()
    authority = trustme.CA()
    leaf = authority.issue_cert(SERVICE)
    authority.cert_pem.write_to_path(folder / "ca.crt")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "pair.pem")
    (folder / "operator.token").write_text("secret\n")
    (tmp_path / "access.toml").write_text(
        '[roles.all]\nverbs = ["admin", "monitor"]\nnamespaces = ["*"]\n'
        f'[principals.me]\nroles = ["all"]\ntoken_hashes = ["{hash_of("secret")}"]\n'
    )
    settings = {"tls_cert_file": "pair.pem", "tls_key_file": "pair.pem", "access_file": "access.toml"}
    given = {name: str(tmp_path / file) for name, file in settings.items()}
    with running_service(tmp_path / "data", given) as service:
        shown = Credentials(tls_ca_file=folder / "ca.crt", tls_server_name=SERVICE, token="secret")
        with SyncKnowledgeClient(service.address, credentials=shown) as client:
            client.create_namespace("facts", encoder=ENCODER)
        yield service, folder


def test_through_a_forwarded_port_the_service_and_its_metrics_answer(reached: tuple[RunningService, Path]) -> None:
    service, folder = reached
    (block,) = re.findall(r"<!-- against a service.*?```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    ask, read = (
        line.replace("127.0.0.1:7443", service.address).replace(":9464", f":{service.metrics_address.split(':')[1]}")
        for line in block.splitlines()
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = clean_environment({}) | {"PATH": path}
    said = [
        subprocess.run(
            ["sh", "-c", line], cwd=folder, env=environment, check=True, capture_output=True, text=True
        ).stdout
        for line in (ask, read)
    ]
    assert "facts" in said[0]
    assert 'epistream_store_revision{namespace="facts"} 0.0' in said[1]


def test_the_nightly_backup_does_as_it_is_rendered(reached: tuple[RunningService, Path], tmp_path: Path) -> None:
    service, operator = reached
    (pod,) = Cluster(objects_of(rendered(K8S / "overlays/production"))).backup_pods()
    (container,) = pod.containers
    secrets = {"epistream-tls": {"ca.crt": "ca.crt"}, "epistream-backup-token": {"token": "operator.token"}}
    places = {}
    for mount in container["volumeMounts"]:
        place = places[mount["mountPath"]] = tmp_path / "pod" / mount["name"]
        place.mkdir(parents=True)
        secret = pod.volumes[mount["name"]].get("secret", {"items": ()})
        for item in secret["items"]:
            file = secrets[secret["secretName"]][item["key"]]
            (place / item["path"]).write_bytes((operator / file).read_bytes())
    backups = places["/backups"]
    nights = [f"epistream-202501{day:02}T021700Z.backup" for day in range(1, 15)]
    for name in nights:
        (backups / name).touch()

    def here(text: str) -> str:
        return re.sub("|".join(map(re.escape, places)), lambda found: str(places[found[0]]), text)

    # No name leads here: the address is another, and the certificate must be for the one that is rendered all the same.
    (address,) = (word.removeprefix("--address=") for word in container["args"] if word.startswith("--address="))
    name, _, _ = address.partition(":")
    said = {variable["name"]: here(variable["value"]) for variable in container["env"]}
    arguments = [here(word).replace(address, service.address) for word in container["args"]]
    done = epistream_process(*arguments, EPISTREAM_TLS_SERVER_NAME=name, **said)
    assert done.code == 0, done.err
    *kept, made = sorted(backups.iterdir())
    assert [path.name for path in kept] == nights[1:]
    restored = epistream_process("restore", str(made), "--folder", str(tmp_path / "restored"))
    assert "facts at revision 0" in restored.out, restored.err
