"""The dashboards obey what grafana/dashboard-linter asks for, rule by rule, and have the form of Grafana 11 and 12.

The types of these releases themselves read them in tests/manifests/test_grafana_types.py, which needs npm.

Its rules for Loki (target-logql-rule, target-logql-auto-rule) have nothing to look at here. That every query is PromQL
(target-promql-rule) and returns data, Prometheus itself says: tests/service/test_prometheus.py.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from k8s.components.monitoring.generate import DASHBOARDS, FOLDER, files
from tests.support.metrics import documented
from tests.support.promql import metrics_in, selectors

BOARDS: dict[str, Any] = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in DASHBOARDS}
each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))

DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"short", "s", "bytes", "ops", "percentunit"}
"""Of Grafana's, those that are used."""
COUNTED = {"rate", "irate", "increase"}
OF_PROMETHEUS = {"up"}


def panels(board: Any) -> Iterator[Any]:
    """The panels that show something."""
    return (panel for panel in board["panels"] if panel["type"] != "row")


def queries(board: Any) -> Iterator[str]:
    """Every query."""
    return (target["expr"] for panel in panels(board) for target in panel["targets"])


def variable(board: Any, name: str) -> Any:
    """One of the dashboard's variables."""
    (found,) = (one for one in board["templating"]["list"] if one["name"] == name)
    return found


def test_the_files_are_what_is_generated() -> None:
    stale = [path.name for path, text in files().items() if path.read_text() != text]
    assert stale == [], "run `make monitoring-files`"
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.json" for name in DASHBOARDS}


@each_board
def test_it_has_the_form_that_grafana_loads(board: Any) -> None:
    jsonschema.validate(board, SCHEMA)


def test_each_has_an_id_and_a_title_of_its_own() -> None:
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)


@each_board
def test_uneditable_dashboard(board: Any) -> None:
    assert board["editable"] is False


@each_board
def test_template_datasource_rule(board: Any) -> None:
    (source,) = (one for one in board["templating"]["list"] if one["type"] == "datasource")
    assert (source["name"], source["label"], source["query"]) == ("datasource", "Data source", "prometheus")


@each_board
@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_rule_and_template_instance_rule(board: Any, name: str) -> None:
    found = variable(board, name)
    assert found["type"] == "query"
    assert found["datasource"] == DATA_SOURCE
    assert found["label"] == name.title()
    assert found["multi"] is True
    assert found["includeAll"] is True
    assert found["allValue"] == ".+"


@each_board
@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_label_promql_rule(board: Any, name: str) -> None:
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable(board, name)["query"])
    assert match is not None
    assert match[2] == name
    assert metrics_in(match[1]) == {"epistream_build_info"}


@each_board
def test_template_on_time_change_reload_rule(board: Any) -> None:
    assert {one["refresh"] for one in board["templating"]["list"] if one["type"] == "query"} == {2}


@each_board
def test_panel_datasource_rule(board: Any) -> None:
    for panel in panels(board):
        assert [panel["datasource"], *(t["datasource"] for t in panel["targets"])] == [DATA_SOURCE] * (
            1 + len(panel["targets"])
        )


@each_board
def test_panel_title_description_rule(board: Any) -> None:
    titles = [(panel["title"], panel["type"]) for panel in panels(board)]
    assert all(panel["title"] and panel["description"].endswith(".") for panel in panels(board))
    assert len(set(titles)) == len(titles)


@each_board
def test_panel_units_rule(board: Any) -> None:
    assert {panel["fieldConfig"]["defaults"]["unit"] for panel in panels(board)} <= UNITS


@each_board
def test_panel_no_targets_rule(board: Any) -> None:
    assert all(panel["targets"] for panel in panels(board))
    assert all(expression.strip() for expression in queries(board))


@each_board
def test_target_job_rule_and_target_instance_rule(board: Any) -> None:
    for expression in queries(board):
        found = selectors(expression)
        assert found, expression
        assert all({'job=~"$job"', 'instance=~"$instance"'} <= selector.matchers for selector in found), expression


@each_board
def test_target_rate_interval_rule(board: Any) -> None:
    for expression in queries(board):
        assert {selector.range for selector in selectors(expression)} <= {None, "$__rate_interval"}, expression


@each_board
def test_target_counter_agg_rule(board: Any) -> None:
    counters = {name for name, row in documented().items() if row.type == "counter"}
    histograms = {name for name, row in documented().items() if row.type == "histogram"}
    counted = counters | {name + suffix for name in histograms for suffix in ("_bucket", "_count", "_sum")}
    for expression in queries(board):
        for selector in selectors(expression):
            assert (selector.metric in counted) == (selector.function in COUNTED), expression


@each_board
def test_it_asks_for_metrics_and_labels_that_are_there(board: Any) -> None:
    samples = {
        name + suffix: row.labels | ({"le"} if suffix == "_bucket" else set())
        for name, row in documented().items()
        for suffix in (("_bucket", "_count", "_sum") if row.type == "histogram" else ("",))
    }
    for panel in panels(board):
        for target in panel["targets"]:
            asked = metrics_in(target["expr"]) - OF_PROMETHEUS
            assert asked <= set(samples), target["expr"]
            known = {"instance", "job"}.union(*(samples[name] for name in asked))
            by = re.findall(r"by \(([^)]*)\)", target["expr"])
            used = {name.strip() for names in by for name in names.split(",")}
            assert used | set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= known, target


@each_board
def test_panels_have_ids_of_their_own_and_do_not_overlap(board: Any) -> None:
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in board["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


def test_what_may_be_below_0_is_shown_there_and_nothing_else_is() -> None:
    """Signals as docs/signals.md says, and what is left of a certificate."""
    signed = re.compile(r"epistream_signal(_low|_high)?\{|- time\(\)")
    for panel in (panel for board in BOARDS.values() for panel in panels(board) if panel["type"] == "timeseries"):
        may_be = any(signed.search(target["expr"]) for target in panel["targets"])
        assert ("min" not in panel["fieldConfig"]["defaults"]) == may_be, panel["title"]


def test_every_metric_of_ours_is_on_a_dashboard() -> None:
    shown = {name for board in BOARDS.values() for expression in queries(board) for name in metrics_in(expression)}
    bases = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}
    assert {name for name in documented() if name.startswith("epistream_")} - bases == set()


_TARGET = {
    "type": "object",
    "required": ["refId", "datasource", "expr", "legendFormat"],
    "properties": {"refId": {"pattern": "^[A-Z]$"}},
}
_PANEL = {
    "type": "object",
    "required": ["id", "type", "title", "gridPos"],
    "properties": {
        "type": {"enum": ["row", "timeseries", "stat"]},
        "gridPos": {"type": "object", "required": ["x", "y", "w", "h"], "additionalProperties": {"type": "integer"}},
        "targets": {"type": "array", "items": _TARGET},
        "fieldConfig": {"type": "object", "required": ["defaults", "overrides"]},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["uid", "title", "schemaVersion", "panels", "templating", "time", "tags", "annotations"],
    "properties": {
        "id": False,  # Grafana gives it
        "__inputs": False,  # such a file is for importing by hand
        "uid": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,40}$"},
        "schemaVersion": {"const": 39},
        "tags": {"contains": {"const": "epistream"}},
        "panels": {"type": "array", "items": _PANEL},
    },
}
