"""Every overlay keeps every policy, and every policy catches what it is there for."""

import copy
from pathlib import Path

import pytest

from tests.support.manifests import checks
from tests.support.manifests.breaks import (
    BREAKS,
    CONTAINER,
    CRON,
    JOB,
    MENDING,
    OWN_CLUSTER,
    PRODUCTION_OVERLAY,
    REDRIVE,
    SCALER,
    SET,
    SNAPSHOT,
    sound,
)
from tests.support.manifests.cluster import K8S, namespace_of, objects_of, overlays, rendered
from tests.support.manifests.edits import Edit, put
from tests.support.manifests.policy import ALWAYS, BEFORE_APPLYING, EVERYWHERE, PRODUCTION, broken

GROUPS = (ALWAYS, EVERYWHERE, PRODUCTION, BEFORE_APPLYING)


@pytest.mark.parametrize("folder", overlays(), ids=lambda folder: folder.name)
def test_an_overlay_keeps_every_policy(folder: Path) -> None:
    assert not checks.findings(sound(folder), production=folder.name != "local")


@pytest.mark.parametrize(("policy", "edit"), BREAKS, ids=[f"{n}-{policy}" for n, (policy, _) in enumerate(BREAKS)])
def test_a_policy_catches_what_it_is_there_for(policy: str, edit: Edit) -> None:
    objects = copy.deepcopy(sound(PRODUCTION_OVERLAY))
    edit(objects)
    assert policy in {finding.policy for finding in broken(objects, *GROUPS)}


def test_there_is_a_break_for_every_policy() -> None:
    assert {policy for policy, _ in BREAKS} == {policy for group in GROUPS for policy in group}


def test_two_replicas_on_one_store_are_refused_however_they_come_about(tmp_path: Path) -> None:
    above = Path(*[".."] * len(tmp_path.parts[1:])) / PRODUCTION_OVERLAY.relative_to("/")
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{above}]\nreplicas: [{{name: epistream, count: 2}}]\n"
        "patches:\n- target: {kind: ScaledObject}\n  patch: |-\n"
        "    - {op: replace, path: /spec/maxReplicaCount, value: 2}\n"
    )
    found = checks.findings(objects_of(rendered(tmp_path)), production=True)
    assert [(finding.policy, finding.where, finding.what) for finding in found] == [
        ("one_instance_owns_the_store", SCALER, "expected minReplicaCount and maxReplicaCount of 1, found 1 and 2"),
        ("one_instance_owns_the_store", SET, "expected replicas: 1, found 2"),
    ]


def test_the_namespace_is_applied_by_itself_and_refuses_pods_that_ask_for_more() -> None:
    (namespace,) = sound(K8S / "namespace")
    assert namespace["kind"] == "Namespace"
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    inside = {namespace_of(item) for item in sound(PRODUCTION_OVERLAY)} - {""}
    assert inside == {namespace["metadata"]["name"]}


@pytest.mark.parametrize(("overlay", "beside"), [(PRODUCTION_OVERLAY, SNAPSHOT), (OWN_CLUSTER, REDRIVE)])
def test_what_is_applied_beside_an_overlay_keeps_every_policy(overlay: Path, beside: Path) -> None:
    assert not checks.findings([*sound(overlay), *sound(beside)], production=True)


def test_what_is_left_to_fill_in_is_told_before_applying() -> None:
    objects = copy.deepcopy(sound(PRODUCTION_OVERLAY))
    found = checks.findings(objects, production=True, applying=True)
    assert [(finding.policy, finding.where) for finding in found] == [
        ("alerts_lead_to_runbooks", "PrometheusRule epistream"),
        *[("image_is_your_own", where) for where in (CRON, MENDING, SET)],
        *[("image_names_its_registry", where) for where in (CRON, MENDING, SET)],
    ]


@pytest.mark.parametrize(
    "image", ["registry.example.org/epistream", "localhost/epistream", "host:5000/epistream", "docker.io/us/epistream"]
)
def test_an_image_whose_registry_is_named_is_taken(image: str) -> None:
    objects = copy.deepcopy(sound(OWN_CLUSTER))
    for where, pointer in ((SET, f"{CONTAINER}/image"), ("CronJob", f"{JOB}/containers/0/image")):
        put(where, pointer, f"{image}@sha256:{'5' * 64}")(objects)
    assert not checks.findings(objects, production=True, applying=True)


@pytest.mark.parametrize("name", ["own-cluster", "own-kafka"])
def test_in_an_example_only_the_image_is_left_to_fill_in(name: str) -> None:
    objects = copy.deepcopy(sound(K8S / "examples" / name))
    assert {finding.policy for finding in checks.findings(objects, production=True, applying=True)} == {
        "image_is_your_own"
    }
    for where, pointer in ((SET, f"{CONTAINER}/image"), ("CronJob", f"{JOB}/containers/0/image")):
        put(where, pointer, f"registry.example.org/epistream@sha256:{'5' * 64}")(objects)
    assert not checks.findings(objects, production=True, applying=True)
