"""compose.yaml, as far as it can be checked without Docker: its form, and that what it names is there."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from epistream.services.kafka.jars import KAFKA_VERSION
from epistream.services.settings import Settings
from k8s.components.monitoring.generate import FOLDER

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
each_service = pytest.mark.parametrize("name", SERVICES)

_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_SERVICE = {
    "type": "object",
    "required": ["image"],
    "additionalProperties": False,
    "properties": {
        "image": {"type": "string", "pattern": r"^[a-z/]+:(?!latest$).+"},
        "build": {"const": "."},
        "command": {"type": "array", "items": {"type": "string"}},
        "environment": _TEXTS,
        "ports": {"type": "array", "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}},
        "volumes": {"type": "array", "items": {"type": "string", "pattern": r"^[^:]+:/[^:]+(:ro)?$"}},
        "configs": {"type": "array", "items": {**_TEXTS, "required": ["source", "target"]}},
        "depends_on": {"type": "array", "items": {"enum": list(SERVICES)}},
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "stop_grace_period": {"type": "string", "pattern": r"^\d+s$"},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["name", "services"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "services": {"type": "object", "additionalProperties": _SERVICE},
        "configs": {
            "type": "object",
            "additionalProperties": {**_TEXTS, "required": ["content"], "additionalProperties": False}
            | {"properties": {"content": {"type": "string"}}},
        },
        "volumes": {"type": "object", "additionalProperties": {"type": "object", "maxProperties": 0}},
    },
}
"""What we use of Compose's form: every port on the loopback interface, no image without a version."""


def content(name: str) -> Any:
    """A file that is written in compose.yaml."""
    return yaml.safe_load(COMPOSE["configs"][name]["content"])


def mounted(service: str, target: str) -> Path:
    """What stands in the project for a path in a container; fails when nothing does."""
    for volume in SERVICES[service]["volumes"]:
        source, path = volume.split(":")[:2]
        if source.startswith("./") and (target == path or target.startswith(f"{path}/")):
            return Path(ROOT, source, target.removeprefix(path).lstrip("/"))
    raise AssertionError(f"nothing is mounted at {target}")


def test_it_has_the_form_that_we_use() -> None:
    jsonschema.validate(COMPOSE, SCHEMA)


@each_service
def test_what_is_mounted_is_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source = volume.split(":")[0]
        assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]
    assert {one["source"] for one in SERVICES[name].get("configs", ())} <= set(COMPOSE["configs"])


def test_no_port_of_this_machine_is_taken_twice() -> None:
    ports = [port.split(":")[1] for service in SERVICES.values() for port in service["ports"]]
    assert len(set(ports)) == len(ports)


def test_nothing_is_declared_that_nobody_uses() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert {volume for volume in used if not volume.startswith("./")} == set(COMPOSE["volumes"])
    configs = {one["source"] for service in SERVICES.values() for one in service.get("configs", ())}
    assert configs == set(COMPOSE["configs"])


def test_no_dollar_is_taken_for_a_variable_of_compose() -> None:
    assert "$" not in (ROOT / "compose.yaml").read_text()


def test_the_service_takes_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = SERVICES["epistream"]["environment"]
    for name, value in environment.items():
        assert name.removeprefix("EPISTREAM_").lower() in Settings.model_fields
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.insecure
    assert settings.kafka == "kafka:19092"
    assert f"{settings.folder}" in {volume.split(":")[1] for volume in SERVICES["epistream"]["volumes"]}
    inside = {int(port.split(":")[2]) for port in SERVICES["epistream"]["ports"]}
    assert inside == {int(address.rpartition(":")[2]) for address in (settings.address, settings.metrics_address)}


def test_kafka_is_the_one_of_the_tests_and_is_found_from_inside_and_outside() -> None:
    kafka = SERVICES["kafka"]
    assert kafka["image"] == f"apache/kafka:{KAFKA_VERSION}"
    advertised = dict(one.split("://") for one in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(","))
    assert advertised["INSIDE"] == SERVICES["epistream"]["environment"]["EPISTREAM_KAFKA"]
    assert f"{advertised['OUTSIDE']}:9092" in kafka["ports"]


def test_prometheus_reads_the_service_and_the_rules() -> None:
    settings = content("prometheus")
    (job,) = settings["scrape_configs"]
    port = SERVICES["epistream"]["environment"]["EPISTREAM_METRICS_ADDRESS"].rpartition(":")[2]
    assert job["job_name"] == "epistream"
    assert job["static_configs"] == [{"targets": [f"epistream:{port}"]}]
    (rules,) = settings["rule_files"]
    assert mounted("prometheus", rules).is_file()


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    (source,) = content("grafana-datasources")["datasources"]
    assert source["type"] == "prometheus"
    host, port = re.findall(r"http://(\w+):(\d+)", source["url"])[0]
    assert f"127.0.0.1:{port}:{port}" in SERVICES[host]["ports"]
    assert source["jsonData"]["timeInterval"] == content("prometheus")["global"]["scrape_interval"]
    (provider,) = content("grafana-dashboards")["providers"]
    assert mounted("grafana", provider["options"]["path"]).resolve() == FOLDER
    home = mounted("grafana", SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert json.loads(home.read_text())["uid"] == "epistream-overview"
