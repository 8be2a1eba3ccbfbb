"""Rendered manifests as one looks at them: objects by kind, pods wherever they are declared, the settings inside."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[3]
K8S: Final = ROOT / "k8s"

Object = dict[str, Any]
"""One Kubernetes object, as YAML has it."""


def overlays() -> list[Path]:
    """Every folder that can be applied: the overlays, the examples, and the namespace before them."""
    places = ("overlays/*", "examples/*", "namespace")
    return sorted(path.parent for place in places for path in K8S.glob(f"{place}/kustomization.yaml"))


@cache
def rendered(folder: Path) -> str:
    """What `kubectl kustomize` makes of an overlay.

    Raises:
        ValueError: it refuses, with its words.
    """
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", folder], check=False, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{folder}: {done.stderr.strip()}")
    return done.stdout


class _Loader(yaml.SafeLoader):
    """As Kubernetes reads YAML: what looks like a day or a time is a text."""


_Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def objects_of(text: str) -> list[Object]:
    """The objects of a YAML stream."""
    return [without_nulls(item) for item in yaml.load_all(text, _Loader) if item]


def without_nulls(at: Any) -> Any:
    """An object without the keys that have no value: kustomize keeps them, and to Kubernetes they are not there."""
    if isinstance(at, list):
        return [without_nulls(each) for each in at]
    if isinstance(at, dict):
        return {key: without_nulls(each) for key, each in at.items() if each is not None}
    return at


def name_of(item: Object) -> str:
    """Kind and name, for people."""
    return f"{item['kind']} {item['metadata']['name']}"


def namespace_of(item: Object) -> str:
    """The namespace; empty for what belongs to the whole cluster or says none."""
    return str(item["metadata"].get("namespace", ""))


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that some object would make, or that is one itself."""

    owner: Object
    metadata: Object
    spec: Object

    @property
    def labels(self) -> dict[str, str]:
        return self.metadata.get("labels") or {}

    @property
    def annotations(self) -> dict[str, str]:
        return self.metadata.get("annotations") or {}

    @property
    def namespace(self) -> str:
        return namespace_of(self.owner)

    @property
    def containers(self) -> list[Object]:
        """All of them: those that only prepare, too."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def volumes(self) -> dict[str, Object]:
        return {volume["name"]: volume for volume in self.spec.get("volumes", [])}

    @property
    def claims(self) -> dict[str, str]:
        """The claims that it names, and where they are mounted."""
        places = {m["name"]: m["mountPath"] for c in self.containers for m in c.get("volumeMounts", [])}
        return {
            volume["persistentVolumeClaim"]["claimName"]: places.get(name, "")
            for name, volume in self.volumes.items()
            if "persistentVolumeClaim" in volume
        }


class Cluster:
    """All objects of one overlay. Where one has no `spec`, an empty one stands for it."""

    def __init__(self, objects: Sequence[Object]) -> None:
        self.objects = [item if "spec" in item else {**item, "spec": {}} for item in objects]

    def of(self, *kinds: str) -> list[Object]:
        """The objects of these kinds."""
        return [item for item in self.objects if item["kind"] in kinds]

    def named(self, kind: str, name: str, namespace: str) -> Object | None:
        """One object, if it is there."""
        for item in self.of(kind):
            if item["metadata"]["name"] == name and namespace_of(item) in ("", namespace):
                return item
        return None

    def pods(self) -> list[Pod]:
        """Every pod, and every template of one."""
        return [pod for item in self.objects if (pod := _pod(item))]

    def service_pods(self) -> list[Pod]:
        """The pods of the service itself."""
        return [pod for pod in self.pods() if pod.owner["kind"] == "StatefulSet"]

    def backup_pods(self) -> list[Pod]:
        """The pods that take backups."""
        return [pod for pod in self.pods() if any(c.get("args", [])[:1] == ["backup"] for c in pod.containers)]

    def executor_pods(self) -> list[Pod]:
        """The pods that run the tests of code."""
        return [pod for pod in self.pods() if any(c.get("args", [])[:1] == ["execute"] for c in pod.containers)]

    def store_claims(self) -> dict[str, str]:
        """The claims that the service's StatefulSets make for their pods, and where they are mounted there."""
        found = {}
        for pod in self.service_pods():
            places = {m["name"]: m["mountPath"] for c in pod.containers for m in c.get("volumeMounts", [])}
            for name in claims_made_by(pod.owner):
                for number in range(pod.owner["spec"].get("replicas", 1)):
                    found[f"{name}-{pod.owner['metadata']['name']}-{number}"] = places.get(name, "")
        return found

    def settings(self) -> Iterator[tuple[Object, dict[str, Any]]]:
        """Each ConfigMap with settings of the service, and what they say.

        Raises:
            ValueError: they are no TOML.
        """
        for item in self.of("ConfigMap"):
            if "settings.toml" in item.get("data", {}):
                try:
                    yield item, tomllib.loads(item["data"]["settings.toml"])
                except tomllib.TOMLDecodeError as error:
                    raise ValueError(f"{name_of(item)}: settings.toml: {error}") from error


def _pod(item: Object) -> Pod | None:
    match item["kind"]:
        case "Pod":
            template = item
        case "StatefulSet" | "Deployment" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job":
            template = item["spec"].get("template", {})
        case "CronJob":
            template = item["spec"].get("jobTemplate", {}).get("spec", {}).get("template", {})
        case _:
            return None
    if "containers" not in template.get("spec", {}):
        return None
    return Pod(item, template.get("metadata") or {}, template["spec"])


def claims_made_by(owner: Object) -> list[str]:
    """The names of the claims that a StatefulSet makes for each of its pods."""
    return [made.get("metadata", {}).get("name", "") for made in owner["spec"].get("volumeClaimTemplates", [])]


def selects(selector: Object | None, labels: dict[str, str]) -> bool:
    """Whether a label selector takes something with these labels. An empty one takes everything, None takes nothing.

    Raises:
        ValueError: an operator is none that Kubernetes has.
    """
    if selector is None:
        return False
    wanted: dict[str, str] = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or []
    return wanted.items() <= labels.items() and all(_holds(expression, labels) for expression in expressions)


def leads_to(service: Object, labels: dict[str, str]) -> bool:
    """Whether a Service leads to pods with these labels. One without a selector leads elsewhere."""
    selector: dict[str, str] = service["spec"].get("selector") or {}
    return bool(selector) and selector.items() <= labels.items()


def _holds(expression: Object, labels: dict[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"expected In, NotIn, Exists or DoesNotExist, found {expression}")
