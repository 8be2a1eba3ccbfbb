"""Schemas: Kubernetes' own, strictly, for its objects; ours, of the fields that we use, for custom resources.

A custom resource that none of ours is about is not checked at all.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import yaml
from kubernetes_validate.utils import schema_contents  # type: ignore[import-untyped]

from tests.support.manifests.cluster import Object, name_of

VERSIONS: Final = ("1.35", "1.36", "1.37")
"""The Kubernetes versions that the manifests are checked for."""
_OURS: Final = Path(__file__).with_name("schemas")


@cache
def custom_schema(api_version: str, kind: str) -> dict[str, Any] | None:
    """Our schema of a custom resource."""
    path = _OURS / f"{kind.lower()}.yaml"
    schema = yaml.safe_load(path.read_text()) if path.is_file() else None
    return schema if schema and schema["properties"]["apiVersion"]["const"] == api_version else None


def is_foreign(item: Object) -> bool:
    """Whether it is a custom resource of a kind that no schema of ours is about, such as cert-manager's Certificate."""
    group = _group_of(item["apiVersion"])
    return group not in _groups_of_kubernetes() and (group, item["kind"]) not in _kinds_of_ours()


def _group_of(api_version: str) -> str:
    return api_version.rpartition("/")[0]


@cache
def _kinds_of_ours() -> frozenset[tuple[str, str]]:
    said = [yaml.safe_load(path.read_text())["properties"] for path in _OURS.glob("*.yaml")]
    return frozenset((_group_of(each["apiVersion"]["const"]), each["kind"]["const"]) for each in said)


@cache
def _groups_of_kubernetes() -> frozenset[str]:
    """Those of its own objects. Others end in k8s.io, too, such as the Gateway API's."""
    folder = f"kubernetes-json-schema/v{VERSIONS[-1]}.0-local"
    definitions = schema_contents(f"{folder}/_definitions.json", VERSIONS[-1])["$defs"].values()
    return frozenset(said["group"] for each in definitions for said in each.get("x-kubernetes-group-version-kind", ()))


def violation(item: Object, version: str) -> str | None:
    """What is wrong with an object in one version of Kubernetes; None if nothing is."""
    schema = custom_schema(item["apiVersion"], item["kind"])
    try:
        if schema is not None:
            jsonschema.Draft202012Validator(schema).validate(item)
            return None
    except jsonschema.ValidationError as error:
        return _told(item, error)
    return _violation_of_kubernetes(json.dumps(item), version)


@cache
def _violation_of_kubernetes(text: str, version: str) -> str | None:
    """As `violation`; remembered, since overlays share most of their objects and each question takes a while."""
    item = json.loads(text)
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return f"{name_of(item)}: no schema for {item['apiVersion']} in {version}, nor one of ours"
    except jsonschema.ValidationError as error:
        return f"{_told(item, error)} (Kubernetes {version})"
    return None


def _told(item: Object, error: jsonschema.ValidationError) -> str:
    return f"{name_of(item)}: {'.'.join(map(str, error.absolute_path))}: {error.message}"
