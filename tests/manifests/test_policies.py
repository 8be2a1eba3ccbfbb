"""Every overlay keeps every policy, and every policy catches what it is there for."""

import copy
from pathlib import Path

import pytest

from tests.support.manifests import checks
from tests.support.manifests.breaks import (
    BREAKS,
    CLIENTS,
    COLLECTOR_WAY,
    CONTAINER,
    CRON,
    DENY,
    JOB,
    MENDING,
    OWN_CLUSTER,
    POD,
    PRODUCTION_OVERLAY,
    REDRIVE,
    SCALER,
    SET,
    SNAPSHOT,
    TRACING_OVERLAY,
    sound,
)
from tests.support.manifests.cluster import (
    K8S,
    Object,
    namespace_of,
    objects_of,
    overlays,
    rendered,
    selects,
    without_nulls,
)
from tests.support.manifests.edits import Edit, all_of, drop, put, remove
from tests.support.manifests.policy import ALWAYS, BEFORE_APPLYING, EVERYWHERE, PRODUCTION, broken

GROUPS = (ALWAYS, EVERYWHERE, PRODUCTION, BEFORE_APPLYING)


@pytest.mark.parametrize("folder", overlays(), ids=lambda folder: folder.name)
def test_an_overlay_keeps_every_policy(folder: Path) -> None:
    assert not checks.findings(sound(folder), production=folder.name != "local")


@pytest.mark.parametrize(("policy", "edit"), BREAKS, ids=[f"{n}-{policy}" for n, (policy, _) in enumerate(BREAKS)])
def test_a_policy_catches_what_it_is_there_for(policy: str, edit: Edit) -> None:
    objects = copy.deepcopy(sound(PRODUCTION_OVERLAY))
    edit(objects)
    assert policy in {finding.policy for finding in broken(map(without_nulls, objects), *GROUPS)}


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


@pytest.mark.parametrize(
    "selector",
    [
        {"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]},
        {"matchExpressions": [{"key": "team", "operator": "Exists"}]},
        {
            "matchExpressions": [
                {"key": "team", "operator": "Exists"},
                {"key": "team", "operator": "NotIn", "values": ["c"]},
            ]
        },
    ],
)
def test_namespaces_may_be_named_by_expressions(selector: Object) -> None:
    objects = copy.deepcopy(sound(PRODUCTION_OVERLAY))
    put(CLIENTS, "/spec/ingress/0/from/-", {"namespaceSelector": selector})(objects)
    assert not checks.findings(objects, production=True)


def test_a_service_that_leads_out_of_the_cluster_is_taken() -> None:
    outside = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mail", "namespace": "epistream"}}
    outside["spec"] = {"type": "ExternalName", "externalName": "mail.example.org"}
    objects: list[Object] = [*sound(PRODUCTION_OVERLAY), outside]
    assert not checks.findings(objects, production=True)


def test_a_key_without_a_value_is_not_there() -> None:
    text = "a: {b: null, c: {d: ~}, e: [{f: null, g: 0}, '', false]}"
    assert objects_of(text) == [{"a": {"c": {}, "e": [{"g": 0}, "", False]}}]


def test_what_looks_like_a_day_is_a_text() -> None:
    assert objects_of("{a: 2026-11-30, b: 2026-11-30T12:00:00Z, c: 12}") == [
        {"a": "2026-11-30", "b": "2026-11-30T12:00:00Z", "c": 12}
    ]


@pytest.mark.parametrize(
    "peer",
    [
        {"ipBlock": {"cidr": "10.0.0.0/8"}},
        {"ipBlock": {"cidr": "fd00::/8"}},
        {"ipBlock": {"cidr": "2001:db8::/32"}},
        {"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": {}},
        {"podSelector": {"matchLabels": {"app": "a"}}},
        {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]}},
    ],
)
def test_who_may_come_in_can_be_named(peer: Object) -> None:
    objects = copy.deepcopy(sound(PRODUCTION_OVERLAY))
    put(CLIENTS, "/spec/ingress/0/from/-", peer)(objects)
    found = checks.findings(objects, production=True)
    assert "network_is_closed_but_for_what_is_named" not in {finding.policy for finding in found}


@pytest.mark.parametrize("script", ["epistream backup", "ls /srv/up /up", "pip install --upgrade up.py catch-up"])
def test_a_job_may_run_what_is_only_spelt_alike(script: str) -> None:
    objects = copy.deepcopy(sound(PRODUCTION_OVERLAY))
    put(MENDING, f"{JOB}/containers/0/command", ["sh", "-c", script])(objects)
    assert not checks.findings(objects, production=True)


def test_another_may_have_the_image_of_what_stands_beside_the_service() -> None:
    objects = copy.deepcopy(sound(PRODUCTION_OVERLAY))
    beside = f"registry.example.org/logs@sha256:{'5' * 64}"
    put(SET, f"{POD}/containers/-", {"name": "logs", "image": beside})(objects)
    put(MENDING, f"{JOB}/containers/0", {"name": "logs", "image": beside})(objects)
    found = checks.findings(objects, production=True)
    assert "one_instance_owns_the_store" not in {finding.policy for finding in found}


def test_rules_about_another_job_may_stand_beside() -> None:
    objects = copy.deepcopy(sound(PRODUCTION_OVERLAY))
    (rules,) = (copy.deepcopy(item) for item in objects if item["kind"] == "PrometheusRule")
    rules["metadata"]["name"] = "own"
    rules["spec"]["groups"] = [{"name": "own", "rules": [{"record": "a:b", "expr": 'up{job="postgres"}'}]}]
    assert not checks.findings([*objects, rules], production=True)


@pytest.mark.parametrize("places", [{"any": True}, {"matchNames": ["default", "epistream"]}])
def test_a_monitor_may_name_the_namespace_of_the_service(places: Object) -> None:
    objects = copy.deepcopy(sound(PRODUCTION_OVERLAY))
    put("ServiceMonitor", "/spec/namespaceSelector", places)(objects)
    assert not checks.findings(objects, production=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("appArmorProfile", {"type": "Localhost", "localhostProfile": "epistream"}),
        ("seLinuxOptions", {"type": "container_t", "level": "s0:c123,c456"}),
        ("procMount", "Default"),
    ],
)
def test_a_container_may_be_confined_in_so_many_words(field: str, value: object) -> None:
    objects = copy.deepcopy(sound(PRODUCTION_OVERLAY))
    put(SET, f"{CONTAINER}/securityContext/{field}", value)(objects)
    assert not checks.findings(objects, production=True)


def test_a_network_policy_without_a_selector_is_for_every_pod() -> None:
    objects = copy.deepcopy(sound(PRODUCTION_OVERLAY))
    drop(DENY, "/spec/podSelector")(objects)
    assert not checks.findings(objects, production=True)


@pytest.mark.parametrize(
    "expression",
    [
        {"operator": "In", "values": ["opentelemetry-collector"]},
        {"operator": "NotIn", "values": ["opentelemetry-collector"]},
        {"operator": "Exists"},
        {"operator": "DoesNotExist"},
    ],
    ids=lambda expression: expression["operator"],
)
def test_the_pods_of_a_collector_may_be_named_by_an_expression(expression: Object) -> None:
    objects = copy.deepcopy(sound(TRACING_OVERLAY))
    selector = {"matchExpressions": [{"key": "app.kubernetes.io/name", **expression}]}
    put(COLLECTOR_WAY, "/spec/egress/0/to/0/podSelector", selector)(objects)
    assert not checks.findings(objects, production=True)


def test_the_secret_of_a_kafka_user_may_be_a_copy() -> None:
    objects = copy.deepcopy(sound(PRODUCTION_OVERLAY))
    all_of(remove("KafkaUser"), remove("KafkaTopic"))(objects)
    assert not checks.findings(objects, production=True)


EXPRESSIONS = [
    ("In", ["a", "b"], [True, False, False]),
    ("NotIn", ["a", "b"], [False, True, True]),
    ("Exists", None, [True, True, False]),
    ("DoesNotExist", None, [False, False, True]),
]


@pytest.mark.parametrize(("operator", "values", "taken"), EXPRESSIONS, ids=[operator for operator, *_ in EXPRESSIONS])
def test_a_selector_takes_what_its_expressions_say(operator: str, values: list[str] | None, taken: list[bool]) -> None:
    expression = {"key": "team", "operator": operator} | ({"values": values} if values else {})
    labels: list[dict[str, str]] = [{"team": "a"}, {"team": "c"}, {"app": "a"}]
    assert [selects({"matchExpressions": [expression]}, each) for each in labels] == taken


def test_an_operator_that_kubernetes_has_not_is_told() -> None:
    with pytest.raises(ValueError, match="In, NotIn, Exists or DoesNotExist"):
        selects({"matchExpressions": [{"key": "team", "operator": "Like"}]}, {})


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
