"""What a real service serves for Prometheus is what docs/metrics.md says, no more and no less."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from epistream.services.scrape import NAMESPACES_MAX
from epistream.services.security.rules import RULES
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.topics import SUBMISSIONS, TOLD, dead_letter_topic
from k8s.components.monitoring.rules import alerts
from tests.support.metrics import documented, labels_of, served
from tests.support.rpc import client_of, submission
from tests.support.service import RunningService, running_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One with Kafka's metrics; whether there is a Kafka makes no difference to which there are."""
    with running_service(tmp_path_factory.mktemp("metrics") / "data", kafka="127.0.0.1:1") as running:
        yield running
        running.kill()  # nothing of it is kept, and saying good-bye to no Kafka takes a while


@pytest.fixture(scope="module")
def metrics(service: RunningService) -> dict[str, Metric]:
    return served(service.metrics_address)


def test_every_metric_is_documented_and_every_documented_one_is_served(metrics: dict[str, Metric]) -> None:
    assert set(metrics) == set(documented())


def test_the_types_are_those_of_the_document(metrics: dict[str, Metric]) -> None:
    types = {name: "gauge" if metric.type == "info" else metric.type for name, metric in metrics.items()}
    assert types == {name: row.type for name, row in documented().items()}


def test_a_metric_without_labels_is_there_from_the_start(metrics: dict[str, Metric]) -> None:
    missing = [name for name, row in documented().items() if not row.labels and not metrics[name].samples]
    assert missing == ["epistream_tls_certificate_not_after_timestamp_seconds"], "this service has no certificate"


def test_what_an_alert_has_to_see_the_first_time_of_is_there_from_the_start(metrics: dict[str, Metric]) -> None:
    """Prometheus sees no increase of a sample that begins with 1."""
    one_is_enough = re.compile(r"(?:sum by \([^)]*\) \()?increase\((\w+)\{.*> 0")
    found = {match[1] for alert in alerts() if (match := one_is_enough.fullmatch(alert.expression))}
    assert found >= {"epistream_security_errors_total", "epistream_outbox_unpublishable_total"}
    assert [name for name in found if not metrics[name].samples] == []
    parts = {sample.labels["part"] for sample in metrics["epistream_security_errors_total"].samples}
    assert parts == {"access_file", "tls_files", "audit"}
    reasons = {sample.labels["reason"] for sample in metrics["epistream_dlq_total"].samples}
    assert len(reasons) >= 7
    assert reasons == {name.removeprefix("REASON_").lower() for name in refusing()}
    (failing,) = (alert.expression for alert in alerts() if alert.name == "EpistreamCallsFailing")
    asked = re.search(r'(\w+)\{.*code=~"([\w|]+)"', failing)
    assert asked
    there = {(sample.labels["method"], sample.labels["code"]) for sample in metrics[asked[1]].samples}
    assert there >= {(method, code) for method in RULES for code in asked[2].split("|")}
    topics = {sample.labels["topic"] for sample in metrics["epistream_outbox_unpublishable_total"].samples}
    assert topics == {*TOLD, *map(dead_letter_topic, SUBMISSIONS)}


def refusing() -> set[str]:
    """The reasons for which the contract says that a submission is refused."""
    contract = Path(__file__).parents[2] / "proto" / "epistream" / "v1" / "knowledge.proto"
    return set(re.findall(r"// REFUSED[^;]*?\n  (REASON_\w+) =", contract.read_text()))


async def test_labels_are_those_of_the_document(service: RunningService) -> None:
    async with client_of(service.address) as client:
        await client.make_namespace("labels")
        await client.submit(submission("labels", 1), submission("nowhere", 1))
    found = {name: labels_of(metric) for name, metric in served(service.metrics_address).items() if metric.samples}
    assert {"epistream_dlq_total", "epistream_store_items", "epistream_ingest_outcomes_total"} <= set(found)
    assert found == {name: set(documented()[name].labels) for name in found}


async def test_what_is_there_is_counted_by_namespace(service: RunningService) -> None:
    async with client_of(service.address) as client:
        await client.make_namespace("counted", retained_revisions=1)
        await client.submit_many("counted", range(1, 4))
        same, other = submission("counted", 1), submission("counted", 1)
        same.item_id = other.item_id = ""
        same.submission_id, same.provenance.producer = "s-same", "others"
        other.submission_id, other.content, other.origin = "s-other", "Fact number 9.", pb.ORIGIN_SYNTHETIC
        outcomes = [receipt.outcome for receipt in await client.submit(same, other)]
        assert outcomes == [pb.OUTCOME_MERGED, pb.OUTCOME_HELD]
        await client.retract("counted", "item-3")
    expected = {
        "store_revision": 4,
        "compacted_revision": 3,
        "store_items": 2,
        "store_held": 1,
        "store_merged": 1,
        "index_vectors": 3,
        "index_live_vectors": 2,
        "watch_lag_revisions": 0,
        "watch_slow_consumers": 0,
    }
    found = {name: service.metric(f'epistream_{name}{{namespace="counted"}}') for name in expected}
    assert found == expected


def test_the_store_the_disk_and_the_process_have_a_size(service: RunningService) -> None:
    assert service.metric("epistream_store_size_bytes") == (service.folder / "store.sqlite").stat().st_size
    assert service.metric("epistream_disk_free_bytes") > 0
    assert service.metric("epistream_writer_waiting_bytes") <= service.metric("epistream_writer_waiting_max_bytes")
    assert service.metric("process_resident_memory_bytes") > 0


async def test_only_a_hundred_namespaces_have_metrics_of_their_own(service: RunningService) -> None:
    async with client_of(service.address) as client:
        for number in range(NAMESPACES_MAX + 1):
            await client.make_namespace(f"many-{number}")
    metrics = served(service.metrics_address)
    of_namespaces = [name for name, row in documented().items() if row.labels == {"namespace"}]
    assert {len(metrics[name].samples) for name in of_namespaces} == {NAMESPACES_MAX}
