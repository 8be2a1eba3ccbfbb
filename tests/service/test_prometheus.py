"""Prometheus itself reads the rules, the dashboards' queries and a real service."""

import asyncio
import json
import math
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from epistream.services.metrics_server import MetricsServer
from epistream.services.security.tls import Tls, TlsFiles
from epistream.wire.errors import EpistreamError, Unavailable
from k8s.components.monitoring.boards.queries import OR_NONE
from k8s.components.monitoring.generate import DASHBOARDS, FOLDER
from k8s.components.monitoring.prometheus import ROOT, Prometheus, Scraped, Tools, find_tools, settings_for
from k8s.components.monitoring.rules import EXTRACTED, RULES_TESTS, Alert, alerts, groups
from tests.support.certificates import Authority
from tests.support.kafka import Kafka
from tests.support.manifests.cluster import Object
from tests.support.metrics import documented, labels_of
from tests.support.monitored import NAMESPACE, Monitored, monitored, with_traffic
from tests.support.promql import metrics_in
from tests.support.secured import Secured, sample
from tests.support.service import RunningService
from tests.support.waits import until

PATIENCE_SECONDS = 120.0
WINDOW_SECONDS = 10
ALERTS = alerts()


@pytest.fixture(scope="session")
def tools() -> Tools:
    try:
        return find_tools()
    except EpistreamError as error:
        raise AssertionError(f"These tests need Prometheus. {error.message}") from error


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, kafka: Kafka) -> Iterator[Monitored]:
    yield from monitored(tmp_path_factory.mktemp("monitored"), kafka)


def promtool(tools: Tools, *arguments: str, text: str = "") -> str:
    """What promtool says; fails when it finds something."""
    done = subprocess.run([tools.promtool, *arguments], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_service_with_tls_and_a_token_can_be_read(tools: Tools, tmp_path: Path) -> None:
    ca, token = tmp_path / "ca.crt", tmp_path / "token"
    ca.touch()
    token.touch()
    settings = tmp_path / "prometheus.yml"
    settings.write_text(json.dumps(settings_for(Scraped("127.0.0.1:9464", 5, ca, token), EXTRACTED)))
    assert "is valid prometheus config" in promtool(tools, "check", "config", str(settings))
    (job,) = json.loads(settings.read_text())["scrape_configs"]
    assert (job["scheme"], job["tls_config"]["ca_file"]) == ("https", str(ca))
    assert job["authorization"]["credentials_file"] == str(token)


def test_where_it_cannot_be_had_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match=r"install Prometheus 2\.42 or newer"):
        find_tools(cache=tmp_path)


MONITORING = [sys.executable, "-m", "k8s.components.monitoring.run", "--port=0", "--interval=1"]


@contextmanager
def made_monitoring(*flags: str) -> Iterator[list[str]]:
    """What `make monitoring` prints with these flags, up to its last line; it is stopped in the end."""
    with subprocess.Popen([*MONITORING, *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield [process.stdout.readline() for _ in range(4)]
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def refused_monitoring(*flags: str) -> str:
    """What it prints where it cannot read the service."""
    command = [*MONITORING, *flags]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 3, refused
    return refused.stdout


def read_at(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - it is HTTP
        return bytes(answer.read())


def pages_in(lines: Iterable[str]) -> list[str]:
    return [page[0] for page in (re.search(r"http://\S+", line) for line in lines) if page]


def test_make_monitoring_runs_one_until_it_is_told_to_stop(service: RunningService, tools: Tools) -> None:
    del tools  # they are there, so nothing is fetched below
    with made_monitoring(f"--metrics={service.metrics_address}") as lines:
        assert service.metrics_address in lines[0]
        pages = pages_in(lines)
        assert len(pages) == 2
        for page in pages:
            assert b"<html" in read_at(page)
    nowhere = refused_monitoring("--metrics=127.0.0.1:1")
    assert "No metrics can be read at 127.0.0.1:1" in nowhere
    assert "connection refused" in nowhere


def test_make_monitoring_reads_a_service_with_tls_and_an_access_file(
    secured: Secured, tools: Tools, tmp_path: Path
) -> None:
    """With the flags of docs/operations.md, and not without any of them."""
    del tools
    ca, token = secured.authority.ca_file, tmp_path / "token"
    token.write_text("root")
    metrics = f"--metrics={secured.service.metrics_address}"
    flags = {"ca": f"--ca-file={ca}", "token": f"--token-file={token}", "name": "--server-name=localhost"}
    with made_monitoring(metrics, *flags.values()) as lines:
        assert secured.service.metrics_address in lines[0]
        prometheus = pages_in(lines)[0].partition("/classic")[0].removesuffix("/alerts")
        (target,) = json.loads(read_at(f"{prometheus}/api/v1/targets"))["data"]["activeTargets"]
        assert (target["health"], target["scrapeUrl"]) == ("up", f"https://{secured.service.metrics_address}/metrics")
    wrong = {
        'Get "http://': (metrics, flags["token"]),
        "401": (metrics, flags["ca"]),
        "elsewhere.example.org": (metrics, flags["ca"], flags["token"], "--server-name=elsewhere.example.org"),
    }
    with ThreadPoolExecutor() as pool:  # each takes seconds to be looked at, and to end
        for why, said in zip(wrong, pool.map(lambda given: refused_monitoring(*given), wrong.values()), strict=True):
            assert "No metrics can be read" in said
            assert why in said.partition("make monitoring")[0]


def test_what_stands_between_it_and_a_service_with_tls_is_said(tools: Tools, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    authority.renew()
    tls = Tls(TlsFiles(authority.cert_file, authority.key_file), print)
    token = tmp_path / "token"
    token.write_text("right")
    server = MetricsServer(CollectorRegistry(), "127.0.0.1:0", tls=tls, admits=lambda given, _: given == "right")
    given = (server.address, 1, authority.ca_file, token)
    cases = {
        "without TLS": (Scraped(server.address, 1), "--ca-file"),
        "without a token": (Scraped(*given[:3]), "401"),
        "under another name": (Scraped(*given, "elsewhere.example.org"), "elsewhere.example.org"),
    }

    def read(case: str, scraped: Scraped) -> None:
        with Prometheus(tools, tmp_path / case, scraped, EXTRACTED) as prometheus:
            prometheus.wait_read()

    try:
        with ThreadPoolExecutor() as pool:  # each takes seconds to be looked at, and to end
            refused = {case: pool.submit(read, case, scraped) for case, (scraped, _) in cases.items()}
            pool.submit(read, "right", Scraped(*given, "localhost")).result()
        for case, (_, said) in cases.items():
            with pytest.raises(Unavailable, match=said):
                refused[case].result()
    finally:
        server.stop()


def queries() -> dict[str, str]:
    """Every query of every dashboard, as Grafana sends it when all is chosen, by where it stands."""
    chosen = {"$job": ".+", "$instance": ".+", "$__rate_interval": f"{WINDOW_SECONDS}s"}
    found = {}
    for name in DASHBOARDS:
        for panel in json.loads((FOLDER / f"{name}.json").read_text())["panels"]:
            for target in panel.get("targets", ()):
                expression = target["expr"]
                for variable, value in chosen.items():
                    expression = expression.replace(variable, value)
                found[f"{name}: {panel['title']} ({panel['type']}) {target['refId']}"] = expression
    return found


def test_the_rules_are_valid(tools: Tools) -> None:
    assert f"{sum(len(group['rules']) for group in groups())} rules found" in promtool(
        tools, "check", "rules", str(EXTRACTED)
    )


def test_each_alert_fires_and_stays_silent_when_it_should(tools: Tools) -> None:
    assert promtool(tools, "test", "rules", *map(str, RULES_TESTS)).count("SUCCESS") == len(RULES_TESTS)


@cache
def cases_that(does: str) -> dict[str, Object]:
    """The cases in which an alert `fires`, or `stays silent`, by their names: each as a file of tests."""
    written: list[Object] = [yaml.safe_load(file.read_text()) for file in RULES_TESTS]
    cases = [{**tests, "tests": [case]} for tests in written for case in tests["tests"]]
    named = {str(case["tests"][0]["name"]): case for case in cases}
    return {name: case for name, case in named.items() if re.match(rf"\S+ \S+ {does} ", name)}


def wrong_answers(tools: Tools, folder: Path, cases: dict[str, Object], changed: dict[str, Object]) -> dict[str, int]:
    """How many queries of each of these cases are not answered as they should be.

    `changed` has the rule of each alert, by its name and severity: it is the only one while the alert's cases are run.
    """
    recording = [rule for group in groups() for rule in group["rules"] if "record" in rule]
    files = []
    for number, (name, case) in enumerate(cases.items()):
        rules = [*recording, changed[" ".join(name.split()[:2])]]
        (folder / f"rules-{number}.yaml").write_text(json.dumps({"groups": [{"name": "changed", "rules": rules}]}))
        files.append(folder / f"tests-{number}.yaml")
        files[-1].write_text(json.dumps({**case, "rule_files": [f"rules-{number}.yaml"]}))
    command = [str(tools.promtool), "test", "rules", *map(str, files)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    _, *said = done.stdout.split("Unit Testing: ")
    wrong = {name: each.count("    expr: ") for name, each in zip(cases, said, strict=True)}
    assert any(wrong.values()) == bool(done.returncode), done.stdout
    return wrong


def rule_of(alert: Alert, expression: str) -> Object:
    """The rule of an alert, at once and with another condition."""
    return {"alert": alert.name, "expr": expression, "labels": {"severity": alert.severity}}


def test_a_test_of_an_alert_can_fail(tools: Tools, tmp_path: Path) -> None:
    fires = cases_that("fires")
    never = {f"{alert.name} {alert.severity}": rule_of(alert, "vector(0) > 1") for alert in ALERTS}
    assert wrong_answers(tools, tmp_path, fires, never) == dict.fromkeys(fires, 1)


@pytest.fixture(scope="module")
def wrong_when_there(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """The wrong answers in the cases in which alerts stay silent, when all that they ask for is their condition."""
    always = {}
    for alert in ALERTS:
        there = (
            f'group by (job, instance) (last_over_time({metric}{{job="epistream"}}[1w]))'
            for metric in sorted(metrics_in(alert.expression))
        )
        always[f"{alert.name} {alert.severity}"] = rule_of(alert, " and ".join(there))
    return wrong_answers(tools, tmp_path_factory.mktemp("always"), cases_that("stays silent"), always)


@pytest.mark.parametrize("alert", ALERTS, ids=[f"{alert.name}-{alert.severity}" for alert in ALERTS])
def test_a_test_that_an_alert_stays_silent_can_fail(alert: Alert, wrong_when_there: dict[str, int]) -> None:
    """All that the alert asks for is there: with that alone as its condition, it fires in each of these cases."""
    named = f"{alert.name} {alert.severity} "
    cases = {name: case for name, case in cases_that("stays silent").items() if name.startswith(named)}
    assert cases
    for name, case in cases.items():
        assert wrong_when_there[name] == len(case["tests"][0]["promql_expr_test"]), name


def test_every_query_of_a_dashboard_is_promql(tools: Tools, tmp_path: Path) -> None:
    rules = [{"record": f"query:number:{n}", "expr": expression} for n, expression in enumerate(queries().values())]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool(tools, "check", "rules", str(path))


@pytest.mark.slow
async def test_a_prometheus_beside_a_service_has_data_for_every_query_and_rule(
    tools: Tools, watched: Monitored, tmp_path: Path
) -> None:
    secured, token = watched.secured, tmp_path / "token"
    token.write_text("root")
    scraped = Scraped(secured.service.metrics_address, 1, secured.authority.ca_file, token)
    with Prometheus(tools, tmp_path / "prometheus", scraped, EXTRACTED) as prometheus:

        async def watch() -> None:
            await eventually(lambda: without_data(prometheus), "a query without data")
            await eventually(lambda: not_in_order(prometheus), "a rule that is not in order")
            slow = f'epistream_watch_slow_consumers{{namespace="{NAMESPACE}"}}'
            await eventually(lambda: sample(watched.page(), slow) != 1, "not just the one that falls behind is slow")
            await eventually(lambda: state_of(prometheus, "EpistreamSlowConsumers") != "pending", "no alert of it")
            assert state_of(prometheus, "EpistreamDown") == "inactive"

        await with_traffic(watched, watch)
    promtool(tools, "check", "metrics", text=watched.page())
    metrics = watched.metrics()
    sampled = {name: labels_of(metric) for name, metric in metrics.items() if metric.samples}
    assert sampled == {name: set(documented()[name].labels) for name in sampled}
    assert set(sampled) == set(metrics)
    outcomes = {sample.labels["outcome"] for sample in metrics["epistream_ingest_outcomes_total"].samples}
    assert outcomes == {"admitted", "revised", "merged", "held", "refused", "repeated"}


async def eventually(what_is_wrong: Callable[[], object], said: str) -> None:
    """Wait until nothing is wrong any more."""
    wrong: list[object] = []

    async def nothing() -> bool:
        wrong[:] = [await asyncio.to_thread(what_is_wrong)]
        return not wrong[0]

    try:
        await until(nothing, seconds=PATIENCE_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{said}: {wrong[0]}") from error


def without_data(prometheus: Prometheus) -> list[str]:
    """The queries that have no number over the last seconds, but for the 0 that a panel shows where there is none."""
    now = time.time()
    missing = []
    for name, expression in queries().items():
        sampled = expression.replace(OR_NONE, "")
        answer = prometheus.get("query_range", query=sampled, start=str(now - WINDOW_SECONDS), end=str(now), step="1")
        values = [float(value) for series in answer["result"] for _, value in series["values"]]
        if not any(map(math.isfinite, values)):
            missing.append(name)
    return missing


def not_in_order(prometheus: Prometheus) -> list[str]:
    """The rules that are not well, or not all."""
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == sum(len(group["rules"]) for group in groups())
    return [rule["name"] for rule in rules if rule["health"] != "ok"]


def state_of(prometheus: Prometheus, alert: str) -> str:
    """`inactive`, `pending` or `firing`."""
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    return str(next(rule["state"] for rule in rules if rule["name"] == alert))


def test_every_metric_of_a_dashboard_or_a_rule_exists(watched: Monitored) -> None:
    asked = {name for expression in queries().values() for name in metrics_in(expression)}
    asked |= {name for group in groups() for rule in group["rules"] for name in metrics_in(rule["expr"])}
    recorded = {rule["record"] for group in groups() for rule in group["rules"] if "record" in rule}
    families = watched.metrics()
    there = {name + suffix for name in families for suffix in ("", "_bucket", "_count", "_sum")}
    assert asked - recorded - there == {"up"}
