"""Every overlay renders, and a Kubernetes of three versions would take what comes out."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from tests.support.manifests.checks import check, main, render_all, unchecked, violations
from tests.support.manifests.cluster import K8S, name_of, namespace_of, objects_of, overlays, rendered
from tests.support.manifests.edits import Edit, drop, put
from tests.support.manifests.schemas import VERSIONS, violation

PRODUCTION_OVERLAY = K8S / "overlays/production"
POD = "/spec/template/spec"
WRONG: list[Edit] = [
    put("StatefulSet *", f"{POD}/containers/0/livenessProb", {}),
    put("StatefulSet *", f"{POD}/terminationGracePeriodSeconds", "sixty"),
    put("CronJob *", "/spec/schedulle", "17 2 * * *"),
    put("NetworkPolicy default-deny", "/spec/policyType", ["Ingress"]),
    put("PodDisruptionBudget *", "/spec/selector/matchLables", {}),
    put("KafkaTopic *", "/spec/partition", 6),
    put("KafkaTopic *", "/spec/config/retention.ms", -1),
    put("KafkaUser *", "/spec/authorization/acls/0/operation", "Read"),
    put("KafkaUser *", "/spec/authorization/acls/0/operations/0", "read"),
    put("ScaledObject *", "/spec/triggers/0/metadata/lagThreshold", 5000),
    drop("ScaledObject *", "/spec/maxReplicaCount"),
    put("TriggerAuthentication *", "/spec/secretTargetRef/0/parameter", "caCert"),
    put("ServiceMonitor *", "/spec/endpoints/0/interval", "often"),
    put("ServiceMonitor *", "/spec/endpoints/0/relabelings/0/sourceLabel", "a"),
    put("ServiceMonitor *", "/apiVersion", "monitoring.coreos.com/v2"),
    put("PrometheusRule *", "/spec/groups/0/rules/0/labels/severity", 1),
    put("PrometheusRule *", "/spec/groups/0/rules/0/form", "10m"),
]


@pytest.mark.parametrize("folder", overlays(), ids=lambda folder: folder.name)
def test_an_overlay_renders_to_objects_that_kubernetes_takes(folder: Path) -> None:
    objects = objects_of(rendered(folder))
    assert violations(objects) == []
    names = [(item["kind"], namespace_of(item), item["metadata"]["name"]) for item in objects]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("edit", WRONG, ids=range(len(WRONG)))
def test_a_wrong_field_is_refused_in_every_version(edit: Edit) -> None:
    before = objects_of(rendered(PRODUCTION_OVERLAY))
    after = copy.deepcopy(before)
    edit(after)
    changed = [item for item in after if item not in before]
    assert changed
    for item in changed:
        assert all(violation(item, version) for version in VERSIONS), name_of(item)


FOREIGN = [
    ("cert-manager.io/v1", "Certificate"),
    ("gateway.networking.k8s.io/v1", "GRPCRoute"),
    ("serving.knative.dev/v1", "Service"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
]
UNKNOWN = [
    ("v1", "Podd"),
    ("apps/v1beta1", "Deployment"),
    ("networking.k8s.io/v1beta1", "Ingress"),
    ("rbac.authorization.k8s.io/v1", "Rolle"),
    ("monitoring.coreos.com/v2", "ServiceMonitor"),
]


@pytest.mark.parametrize(("api_version", "kind"), FOREIGN)
def test_a_custom_resource_of_others_is_told_as_not_checked(api_version: str, kind: str) -> None:
    item = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, "spec": {"secretName": "epistream-tls"}}
    assert unchecked([item]) == [f"{kind} a: not checked, {api_version} is not ours"]
    assert check([*objects_of(rendered(K8S / "overlays/local")), item]) == []


@pytest.mark.parametrize(("api_version", "kind"), UNKNOWN)
def test_what_kubernetes_or_we_should_know_and_do_not_is_refused(api_version: str, kind: str) -> None:
    item = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "namespace": "epistream"}}
    assert unchecked([item]) == []
    assert any("no schema" in wrong for wrong in check([*objects_of(rendered(K8S / "overlays/local")), item]))


def test_every_schema_of_ours_is_of_something_that_is_rendered() -> None:
    kinds = {item["kind"].lower() for folder in overlays() for item in objects_of(rendered(folder))}
    written = {path.stem for path in (Path(__file__).parents[1] / "support/manifests/schemas").glob("*.yaml")}
    assert written <= kinds


@pytest.mark.parametrize("path", sorted(K8S.glob("*/**/*.yaml")), ids=lambda path: str(path.relative_to(K8S)))
def test_a_file_has_one_object_and_is_used(path: Path) -> None:
    (document,) = yaml.safe_load_all(path.read_text())
    if isinstance(document, dict) and "kind" not in document:
        return  # data of a tool, such as alert rules as Prometheus itself reads them
    if path.name == "kustomization.yaml":
        return
    kustomization = yaml.safe_load((path.parent / "kustomization.yaml").read_text())
    used = [*kustomization.get("resources", []), *(patch.get("path") for patch in kustomization.get("patches", []))]
    assert path.name in used
    if path.name in kustomization.get("resources", []):
        assert path.stem.startswith(document["kind"].lower()) or path.stem.startswith("service-")


def test_the_commands_render_everything_and_check_one_overlay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    render_all(tmp_path / "rendered")
    assert len(list((tmp_path / "rendered").iterdir())) == len(overlays())
    assert main("check", str(K8S / "overlays/local")) == 0
    assert "all is well" in capsys.readouterr().out
    below = tmp_path / "own"
    below.mkdir()
    base = Path(*[".."] * len(below.parts[1:])) / (K8S / "overlays/local").relative_to("/")
    (below / "kustomization.yaml").write_text(f"resources: [{base}, certificate.yaml]\n")
    (below / "certificate.yaml").write_text("{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: a}}")
    assert main("check", str(below)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Certificate a: not checked, cert-manager.io/v1 is not ours",
        f"{below}: all is well",
    ]
    assert main("check", str(PRODUCTION_OVERLAY)) == 1
    assert re.search(r"^StatefulSet epistream: .*placeholder", capsys.readouterr().out, re.MULTILINE)
    assert main("check", str(tmp_path)) == 1
    assert str(tmp_path) in capsys.readouterr().err
