"""`make monitoring-files`: write what is made from what: the dashboards' JSON, and the rules without Kubernetes.

Tests (tests/unit/test_alerts.py, test_dashboards.py) fail when they are not what is made.
"""

from pathlib import Path
from typing import Final

from k8s.components.monitoring import rules
from k8s.components.monitoring.boards import ingest, overview, push, store

FOLDER: Final = rules.FOLDER / "dashboards"
DASHBOARDS: Final = {
    "overview": overview.DASHBOARD,
    "ingest": ingest.DASHBOARD,
    "push": push.DASHBOARD,
    "store": store.DASHBOARD,
}


def files() -> dict[Path, str]:
    """Every file that is made, and what is in it."""
    dashboards = {FOLDER / f"{name}.json": dashboard.json() for name, dashboard in DASHBOARDS.items()}
    return {rules.EXTRACTED: rules.extracted()} | dashboards


def main() -> None:
    """Write them."""
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
