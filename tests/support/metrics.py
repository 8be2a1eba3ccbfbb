"""What a service serves for Prometheus, read strictly, and what docs/metrics.md says of it."""

import re
import ssl
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"

_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"
_ROW: Final = re.compile(r"^\| `(\w+)` \| (\w+) \|(.*?)\| .+ \|$", re.MULTILINE)
_SUFFIXES: Final = {"counter": "_total", "info": "_info"}
_BY_ITSELF: Final = {"histogram": {"le"}}
"""The labels that a type brings."""


@dataclass(frozen=True, slots=True)
class Documented:
    """A row of docs/metrics.md."""

    type: str
    labels: frozenset[str]


def documented() -> dict[str, Documented]:
    """The metrics of docs/metrics.md, by the names that queries use."""
    rows = _ROW.findall(DOCUMENT.read_text())
    assert len(rows) == len({name for name, _, _ in rows}), "a metric stands twice in docs/metrics.md"
    # Values that a label may have stand behind it in parentheses.
    return {
        name: Documented(kind, frozenset(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", labels))))
        for name, kind, labels in rows
    }


def page_of(address: str, *, ca: bytes | None = None, token: str | None = None, accept: str = "") -> str:
    """What a service at HOST:PORT serves: over HTTPS with this CA, with this bearer token. Raises OSError."""
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    headers |= {"Accept": accept} if accept else {}
    url = f"{'http' if ca is None else 'https'}://{address}/metrics"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - it is HTTP
    context = ssl.create_default_context(cadata=ca.decode()) if ca is not None else None
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310 - it is HTTP
        assert answer.headers["Content-Type"].startswith(accept.partition(";")[0])
        page: bytes = answer.read()
    return page.decode()


def served(address: str, *, ca: bytes | None = None, token: str | None = None) -> dict[str, Metric]:
    """The metrics that a service serves as OpenMetrics, by the names that queries use; read as `page_of` does."""
    page = page_of(address, ca=ca, token=token, accept=_OPENMETRICS)
    families = text_string_to_metric_families(page)  # type: ignore[no-untyped-call] # the library's parser
    return {family.name + _SUFFIXES.get(family.type, ""): family for family in families}


def labels_of(metric: Metric) -> set[str]:
    """The labels of a metric's samples."""
    return {name for sample in metric.samples for name in sample.labels} - _BY_ITSELF.get(metric.type, set())
