"""Policies about pods: no more rights than the work needs, and enough room to do it."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tests.support.manifests.cluster import Cluster
from tests.support.manifests.policy import Finding, always, before_applying, everywhere, production
from tests.support.manifests.quantities import amount_of, quantities
from tests.support.manifests.secrets import WHOLE_SECRETS

UID_MIN: Final = 10001
"""Below are users that a node may have, too."""
_DIGEST: Final = re.compile(r"\S+@sha256:[0-9a-f]{64}")
_VOLUMES: Final = frozenset({"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected"})
_SELINUX_TYPES: Final = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
"""Those that Pod Security's `baseline` allows."""
_ARMOUR: Final = "container.apparmor.security.beta.kubernetes.io/"
"""The annotation, with a container's name behind it, by which a profile was named before it had a field."""
_READABLE_BY_GROUP: Final = 0o440


@everywhere
def runs_as_nobody_in_particular(cluster: Cluster) -> Iterator[Finding]:
    """Not root, and no user that the node has."""
    for pod in cluster.pods():
        for security in (pod.spec.get("securityContext", {}), *(c.get("securityContext", {}) for c in pod.containers)):
            if security.get("runAsNonRoot") is not True:
                yield pod.owner, "expected runAsNonRoot: true"
            if int(security.get("runAsUser", 0)) < UID_MIN:
                yield pod.owner, f"expected runAsUser of {UID_MIN} or more, found {security.get('runAsUser')}"
        if pod.spec.get("securityContext", {}).get("fsGroup", 0) < UID_MIN:
            yield pod.owner, "expected an fsGroup, or the volumes and the secrets cannot be read"


@everywhere
def asks_the_kernel_for_little(cluster: Cluster) -> Iterator[Finding]:
    """Seccomp's default, no capabilities, nothing gained by executing something. Executors have a profile of ours."""
    executors = [pod.owner for pod in cluster.executor_pods()]
    for pod in cluster.pods():
        wanted = "Localhost" if pod.owner in executors else "RuntimeDefault"
        for container in pod.containers:
            security = container.get("securityContext", {})
            if security.get("seccompProfile", {}).get("type") != wanted:
                yield pod.owner, f"{container['name']}: expected seccompProfile {wanted}"
            if security.get("allowPrivilegeEscalation") is not False:
                yield pod.owner, f"{container['name']}: expected allowPrivilegeEscalation: false"
            if security.get("capabilities", {}) != {"drop": ["ALL"]}:
                yield pod.owner, f"{container['name']}: expected all capabilities dropped and none added"
            if security.get("privileged"):
                yield pod.owner, f"{container['name']}: expected no privileges"


@everywhere
def leaves_on_what_confines_it(cluster: Cluster) -> Iterator[Finding]:
    """What hides parts of /proc, AppArmor and SELinux: no less of them than Pod Security's `baseline` asks for."""
    for pod in cluster.pods():
        contexts = [("the pod", pod.spec.get("securityContext") or {})]
        contexts += [(container["name"], container.get("securityContext") or {}) for container in pod.containers]
        for where, security in contexts:
            if security.get("procMount", "Default") != "Default":
                yield pod.owner, f"{where}: expected procMount: Default, found {security['procMount']}"
            armour = security.get("appArmorProfile", {}).get("type", "RuntimeDefault")
            if armour not in ("RuntimeDefault", "Localhost"):
                yield pod.owner, f"{where}: expected appArmorProfile RuntimeDefault or Localhost, found {armour}"
            labels = security.get("seLinuxOptions", {})
            if labels.get("type", "") not in _SELINUX_TYPES or labels.get("user") or labels.get("role"):
                yield (
                    pod.owner,
                    f"{where}: expected seLinuxOptions of a container's type, user and role; found {labels}",
                )
        for key, value in pod.annotations.items():
            if key.startswith(_ARMOUR) and not re.fullmatch(r"runtime/default|localhost/.+|", value):
                yield pod.owner, f"{key}: expected runtime/default or localhost/PROFILE, found {value}"


@everywhere
def root_is_read_only(cluster: Cluster) -> Iterator[Finding]:
    """What is written goes to volumes; /tmp is one, of a bounded size."""
    for pod in cluster.pods():
        for container in pod.containers:
            if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
                yield pod.owner, f"{container['name']}: expected readOnlyRootFilesystem: true"
            tmp = [m for m in container.get("volumeMounts", []) if m["mountPath"] == "/tmp"]  # noqa: S108 - the pod's
            if not tmp or "sizeLimit" not in (pod.volumes.get(tmp[0]["name"], {}).get("emptyDir") or {}):
                yield pod.owner, f"{container['name']}: expected an emptyDir with a sizeLimit at /tmp"


@everywhere
def shares_nothing_with_the_node(cluster: Cluster) -> Iterator[Finding]:
    """No namespaces, ports or folders of the node."""
    for pod in cluster.pods():
        if any(pod.spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
            yield pod.owner, "expected no namespace of the node"
        if any("hostPort" in port for container in pod.containers for port in container.get("ports", [])):
            yield pod.owner, "expected no port of the node"
        for volume in pod.volumes.values():
            if not set(volume) & _VOLUMES:
                yield pod.owner, f"volume {volume['name']}: expected one of {', '.join(sorted(_VOLUMES))}"


@everywhere
def has_no_token_of_the_cluster(cluster: Cluster) -> Iterator[Finding]:
    """Nothing here talks to the API server."""
    for item in [*cluster.of("ServiceAccount"), *(pod.owner for pod in cluster.pods())]:
        pod = next((pod for pod in cluster.pods() if pod.owner is item), None)
        if (pod.spec if pod else item).get("automountServiceAccountToken") is not False:
            yield item, "expected automountServiceAccountToken: false"
    for pod in cluster.pods():
        if pod.spec.get("serviceAccountName", "default") == "default":
            yield pod.owner, "expected a service account of its own"


@everywhere
def environment_is_ours(cluster: Cluster) -> Iterator[Finding]:
    """A Service named epistream would set EPISTREAM_PORT and more, among the names of our settings."""
    for pod in cluster.pods():
        if pod.spec.get("enableServiceLinks") is not False:
            yield pod.owner, "expected enableServiceLinks: false"


@everywhere
def variables_have_one_meaning(cluster: Cluster) -> Iterator[Finding]:
    """Once each, and `value` or `valueFrom`: a patch by an entry's place may have met another one than it was for."""
    for pod in cluster.pods():
        for container in pod.containers:
            entries = container.get("env", [])
            for name, times in sorted(Counter(entry["name"] for entry in entries).items()):
                if times > 1:
                    yield pod.owner, f"{container['name']}: expected {name} once, found it {times} times"
            for entry in entries:
                if {"value", "valueFrom"} <= entry.keys():
                    yield pod.owner, f"{container['name']}: expected {entry['name']} by value or by valueFrom, not both"


@everywhere
def resources_are_said(cluster: Cluster) -> Iterator[Finding]:
    """Memory is not promised twice; CPU and memory have bounds."""
    for pod in cluster.pods():
        for container in pod.containers:
            requests, limits = (container.get("resources", {}).get(what) or {} for what in ("requests", "limits"))
            if not {"cpu", "memory"} <= requests.keys() or not {"cpu", "memory"} <= limits.keys():
                yield pod.owner, f"{container['name']}: expected requests and limits of cpu and memory"
            elif amount_of(requests["memory"]) != amount_of(limits["memory"]):
                yield pod.owner, f"{container['name']}: expected as much memory requested as allowed"


@always
def quantities_can_be_read(cluster: Cluster) -> Iterator[Finding]:
    """What is requested, allowed or bounded is an amount, and not below zero. The schemas take any text for one."""
    for item in cluster.objects:
        for place, value in quantities(item):
            amount = amount_of(value)
            if amount is None or amount < 0:
                yield item, f"{place}: expected a quantity, such as 1536Mi, 1.5Gi or 2G; found {value!r}"


@everywhere
def secrets_are_files(cluster: Cluster) -> Iterator[Finding]:
    """Never in the environment; mounted as a folder, so that a new one takes effect; for the group's eyes only."""
    for pod in cluster.pods():
        secret_volumes = {name for name, volume in pod.volumes.items() if "secret" in volume}
        for container in pod.containers:
            sources = [entry.get("valueFrom", {}) for entry in container.get("env", [])] + container.get("envFrom", [])
            if any("secretKeyRef" in source or "secretRef" in source for source in sources):
                yield pod.owner, f"{container['name']}: expected no secret in the environment"
            for mount in container.get("volumeMounts", []):
                if mount["name"] in secret_volumes and ("subPath" in mount or mount.get("readOnly") is not True):
                    yield pod.owner, f"{mount['name']}: expected the secret mounted whole and read-only"
        for name in sorted(secret_volumes):
            secret = pod.volumes[name]["secret"]
            if secret.get("defaultMode") != _READABLE_BY_GROUP:
                yield pod.owner, f"volume {name}: expected defaultMode 0440"
            if not secret.get("items") and secret.get("secretName") not in WHOLE_SECRETS:
                yield pod.owner, f"volume {name}: expected its keys by name"


@everywhere
def image_is_fixed(cluster: Cluster) -> Iterator[Finding]:
    """The same manifest means the same image tomorrow."""
    for pod in cluster.pods():
        for container in pod.containers:
            image = container.get("image", "")
            tag = image.rpartition("/")[2].partition(":")[2]
            if "@" not in image and tag in ("", "latest"):
                yield pod.owner, f"{container['name']}: expected a tag other than latest, or a digest; found {image}"


@everywhere
def skipped_checks_have_a_reason(cluster: Cluster) -> Iterator[Finding]:
    """`checkov.io/skipN: CKV…=why`, in a sentence."""
    for item in cluster.objects:
        pods = [pod.annotations for pod in cluster.pods() if pod.owner is item]
        for annotations in (item["metadata"].get("annotations", {}), *pods):
            for key, value in annotations.items():
                if key.startswith("checkov.io/skip") and not re.fullmatch(r"CKV\w+=.{20,}", value):
                    yield item, f"{key}: expected CHECK=reason, found {value!r}"


@production
def image_has_a_digest(cluster: Cluster) -> Iterator[Finding]:
    """A tag can be moved."""
    for pod in cluster.pods():
        for container in pod.containers:
            image = container.get("image", "")
            if not _DIGEST.fullmatch(image):
                yield pod.owner, f"{container['name']}: expected NAME@sha256:DIGEST, found {image}"


@production
def has_a_place_in_the_queue(cluster: Cluster) -> Iterator[Finding]:
    """A priority, and pods apart from each other."""
    for pod in cluster.service_pods():
        if "priorityClassName" not in pod.spec:
            yield pod.owner, "expected a priorityClassName"
        keys = {constraint["topologyKey"] for constraint in pod.spec.get("topologySpreadConstraints", [])}
        if keys != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
            yield pod.owner, "expected pods spread over zones and hosts"


@before_applying
def image_is_your_own(cluster: Cluster) -> Iterator[Finding]:
    """The digest of zeros stands for the one that you have pushed."""
    for pod in cluster.pods():
        for container in pod.containers:
            if container.get("image", "").endswith("0" * 64):
                yield pod.owner, f"{container['name']}: set the digest of your image; this one is a placeholder"


@before_applying
def image_names_its_registry(cluster: Cluster) -> Iterator[Finding]:
    """A name without a host is Docker Hub's to an engine: `epistream` alone is docker.io/library/epistream."""
    for pod in cluster.pods():
        for container in pod.containers:
            image = container.get("image", "")
            host, slash, _ = image.partition("/")
            named = slash and (host == "localhost" or re.search("[.:]", host))
            if "@" in image and not named:
                yield pod.owner, f"{container['name']}: expected REGISTRY/NAME@sha256:DIGEST, found {image}"
