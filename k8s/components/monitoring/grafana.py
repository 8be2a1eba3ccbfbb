"""Dashboards as Grafana's JSON, from the little that differs between panels.

The JSON is that of Grafana 11 (schema 39), which 12 reads too. No data source is named: each dashboard asks for one,
for the job and for the instances, and every query keeps to what was chosen.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

SCHEMA_VERSION: Final = 39
COLUMNS: Final = 24
"""How wide Grafana's grid is."""
_DATA_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_GREEN, _RED = "green", "red"


@dataclass(frozen=True, slots=True)
class Query:
    """One line, or one for each combination of labels."""

    expression: str
    legend: str
    """`{{topic}}` for a label."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph over time, or the newest value as a large number."""

    title: str
    description: str
    """What it shows, and what is wrong when it looks otherwise."""
    unit: str
    """One of Grafana's."""
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    """`timeseries` or `stat`."""
    width: int = 8
    stacked: bool = False
    most: float | None = None
    """From here on it is red: the objective, a limit."""
    least: float | None = None
    """Below it is red."""
    signed: bool = False
    """Whether it may be below 0."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page."""

    uid: str
    """Stays the same for ever: links and Grafana know it by this."""
    title: str
    description: str
    rows: tuple[Row, ...]

    def json(self) -> str:
        """As Grafana provisions it."""
        # All of them are in one ConfigMap, whose size is bounded.
        return json.dumps(self._model(), indent=1) + "\n"

    def _model(self) -> dict[str, Any]:
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["epistream"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "timepicker": {},
            "annotations": {"list": []},
            "links": [_links()],
            "templating": {"list": _variables()},
            "panels": list(_laid_out(self.rows)),
        }


def _links() -> dict[str, Any]:
    """The other dashboards, with what is chosen here."""
    return {
        "type": "dashboards",
        "title": "Epistream",
        "tags": ["epistream"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "hide": 0,
            "includeAll": False,
            "multi": False,
            "options": [],
            "refresh": 1,
            "regex": "",
            "skipUrlSync": False,
        },
        _label_variable("job", "label_values(epistream_build_info, job)"),
        _label_variable("instance", 'label_values(epistream_build_info{job=~"$job"}, instance)'),
    ]


def _label_variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.title(),
        "type": "query",
        "datasource": _DATA_SOURCE,
        "query": query,
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "includeAll": True,
        "multi": True,
        "options": [],
        # When the time range changes.
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
    }


def _laid_out(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The panels from left to right, row by row, each with its place."""
    number, top = 0, 0
    for row in rows:
        number += 1
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
        left, top, lowest = 0, top + 1, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top, lowest = 0, top + lowest, 0
            height = 4 if panel.kind == "stat" else 8
            number += 1
            yield _panel(panel, number, {"x": left, "y": top, "w": panel.width, "h": height})
            left, lowest = left + panel.width, max(lowest, height)
        top += lowest


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATA_SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _STAT_OPTIONS if panel.kind == "stat" else _GRAPH_OPTIONS,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATA_SOURCE,
                "editorMode": "code",
                "expr": query.expression,
                "legendFormat": query.legend,
                "range": True,
            }
            for index, query in enumerate(panel.queries)
        ],
    }


_STAT_OPTIONS: Final = {
    "colorMode": "value",
    "graphMode": "area",
    "justifyMode": "auto",
    "orientation": "auto",
    "percentChangeColorMode": "standard",
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    "showPercentChange": False,
    "textMode": "auto",
    "wideLayout": True,
}
_GRAPH_OPTIONS: Final = {
    "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
    "tooltip": {"mode": "multi", "sort": "desc"},
}


def _defaults(panel: Panel) -> dict[str, Any]:
    limited = panel.most is not None or panel.least is not None
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": _steps(panel)}}
    if panel.kind == "timeseries":
        if not panel.signed:
            defaults["min"] = 0
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 0,
            "showPoints": "never",
            "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "dashed" if limited else "off"},
        }
    else:
        defaults["color"] = {"mode": "thresholds"}
    return defaults


def _steps(panel: Panel) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [{"color": _GREEN if panel.least is None else _RED, "value": None}]
    if panel.least is not None:
        steps.append({"color": _GREEN, "value": panel.least})
    if panel.most is not None:
        steps.append({"color": _RED, "value": panel.most})
    return steps
