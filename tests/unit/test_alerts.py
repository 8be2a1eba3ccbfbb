"""The alert rules as they are written. tests/service/test_prometheus.py has Prometheus itself read them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.components.monitoring.rules import EXTRACTED, RULES_TESTS, Alert, alerts, extracted, groups
from tests.support.metrics import documented
from tests.support.promql import metrics_in

RUNBOOKS = Path(__file__).resolve().parents[2] / "docs" / "runbooks.md"
TESTS = [test for file in RULES_TESTS for test in yaml.safe_load(file.read_text())["tests"]]
ALERTS = alerts()
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=[f"{a.name}-{a.severity}" for a in ALERTS])

_SAMPLE_SUFFIXES = ("", "_bucket", "_count", "_sum")
OF_PROMETHEUS = {"up"}
RECORDED = {rule["record"] for group in groups() for rule in group["rules"] if "record" in rule}


def cases_of(alert: Alert) -> list[dict[str, Any]]:
    """What the files of tests have for an alert of a severity."""
    named = f"{alert.name} {alert.severity} "
    return [test for test in TESTS if test["name"].startswith(named)]


@each_alert
def test_an_alert_says_what_it_is_and_where_to_read_on(alert: Alert) -> None:
    assert re.fullmatch(r"Epistream[A-Z][A-Za-z]+", alert.name)
    assert alert.severity in {"critical", "warning"}
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    assert all(alert.annotations.values())
    assert alert.annotations["runbook_url"] == f"docs/runbooks.md#{alert.name.lower()}"


def test_what_is_extracted_is_what_the_object_has() -> None:
    assert EXTRACTED.read_text() == extracted()
    assert yaml.safe_load(extracted()) == {"groups": groups()}


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    text = RUNBOOKS.read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert sorted(section.splitlines()[0] for section in sections) == sorted({alert.name for alert in ALERTS})
    for section in sections:
        assert [word for word in ("**Means.**", "**Look.**", "**Do.**") if word not in section] == []


def test_runbooks_name_only_metrics_that_are_there() -> None:
    there = set(documented())
    named = set(re.findall(r"\b(?:epistream|process)_[a-z_]+[a-z]", RUNBOOKS.read_text()))
    assert [name for name in named if not any(metric.startswith(name) for metric in there)] == []


@each_alert
def test_an_alert_asks_for_metrics_that_are_there(alert: Alert) -> None:
    there = {name + suffix for name in documented() for suffix in _SAMPLE_SUFFIXES}
    asked = metrics_in(alert.expression)
    assert asked
    assert asked - there - OF_PROMETHEUS - RECORDED == set()


@each_alert
def test_an_alert_has_a_test_that_it_fires_and_one_that_it_stays_silent(alert: Alert) -> None:
    names = [test["name"].removeprefix(f"{alert.name} {alert.severity} ") for test in cases_of(alert)]
    assert any(name.startswith("fires ") for name in names)
    assert any(name.startswith("stays silent ") for name in names)
    for test in cases_of(alert):
        expected = [sample for case in test["promql_expr_test"] for sample in case["exp_samples"]]
        assert bool(expected) == (" fires " in test["name"])
        assert all(alert.name in case["expr"] for case in test["promql_expr_test"])


@each_alert
def test_what_an_alert_tells_is_among_the_labels_that_it_has(alert: Alert) -> None:
    told = set(re.findall(r"\$labels\.(\w+)", alert.annotations["description"]))
    samples = [s for test in cases_of(alert) for c in test["promql_expr_test"] for s in c["exp_samples"]]
    labels = [set(re.findall(r'(\w+)="', sample["labels"])) for sample in samples]
    assert told <= set.union(*labels)


def test_there_are_no_tests_of_alerts_that_are_gone() -> None:
    names = {f"{alert.name} {alert.severity}" for alert in ALERTS}
    assert {" ".join(test["name"].split()[:2]) for test in TESTS} == names
