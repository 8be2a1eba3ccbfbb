"""The alert rules: written in prometheusrule.yaml, extracted for whoever reads rules without Kubernetes."""

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).parent
OBJECT: Final = FOLDER / "prometheusrule.yaml"
EXTRACTED: Final = FOLDER / "rules.yaml"
RULES_TESTS: Final = (FOLDER / "rules_test.yaml", FOLDER / "rules_test_days.yaml")

_HEAD: Final = "# Extracted from prometheusrule.yaml by `make monitoring-files`: change that one.\n"


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert rule."""

    name: str
    severity: str
    expression: str
    annotations: dict[str, str]


def groups() -> list[dict[str, Any]]:
    """The groups of rules, as Prometheus has them."""
    written = yaml.safe_load(OBJECT.read_text())
    found: list[dict[str, Any]] = written["spec"]["groups"]
    return found


def alerts() -> list[Alert]:
    """Every alert rule, in the order of the file."""
    return [
        Alert(rule["alert"], rule["labels"]["severity"], rule["expr"], rule["annotations"])
        for group in groups()
        for rule in group["rules"]
        if "alert" in rule
    ]


def extracted() -> str:
    """The rules as a file that Prometheus loads: the object's `groups`, as they are written."""
    _, heading, rest = OBJECT.read_text().partition("\n  groups:\n")
    return _HEAD + textwrap.dedent(heading.lstrip("\n") + rest)
