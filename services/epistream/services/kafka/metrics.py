"""What Prometheus can read of the Kafka side of a service."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from epistream.services.kafka.progress import Lag, Partition, Stopped


class KafkaMetrics:
    """The metrics of the intake and of the publisher. Labels are the topics and partitions of the settings."""

    def __init__(self, registry: CollectorRegistry, told: Iterable[str] = ()) -> None:
        """Registers the metrics. `told` are the topics that the publisher tells."""
        self._registry: Final = registry
        self._retries: Final = Counter(
            "epistream_ingest_retries_total",
            "Batches from Kafka that were tried again, by stage; in `poll`, how often its process was started anew.",
            ("stage",),
            registry=registry,
        )
        self._given_up: Final = Counter(
            "epistream_ingest_given_up_total",
            "Records that became dead letters because the service itself fails on them. More than none is a bug.",
            registry=registry,
        )
        self._published: Final = Counter(
            "epistream_outbox_published_total", "Messages that Kafka has acknowledged.", ("topic",), registry=registry
        )
        self._unpublishable: Final = Counter(
            "epistream_outbox_unpublishable_total",
            "Messages that Kafka refuses, such as too large ones. They are in the store.",
            ("topic",),
            registry=registry,
        )
        for topic in told:
            self._unpublishable.labels(topic)  # of a sample that begins with 1 Prometheus sees no increase
        self._publishing_failures: Final = Counter(
            "epistream_outbox_failures_total", "How often publishing had to begin anew.", registry=registry
        )

    def retried(self, stage: str) -> None:
        """A batch is tried again in `prepare` or in `commit`; in `poll`, the poller was started anew."""
        self._retries.labels(stage).inc()

    def given_up(self) -> None:
        """A record became a dead letter because of a bug."""
        self._given_up.inc()

    def published(self, topic: str, count: int) -> None:
        """Kafka has acknowledged messages."""
        self._published.labels(topic).inc(count)

    def unpublishable(self, topic: str) -> None:
        """Kafka refuses a message for good."""
        self._unpublishable.labels(topic).inc()

    def publishing_failed(self) -> None:
        """Publishing begins anew."""
        self._publishing_failures.inc()

    def watch_intake(
        self,
        lag: Callable[[], Mapping[Partition, Lag]],
        stopped: Callable[[], Mapping[Partition, Stopped]],
        poll_age_seconds: Callable[[], float],
    ) -> None:
        """Read these whenever Prometheus asks."""
        self._registry.register(_IntakeCollector(lag, stopped, poll_age_seconds))


class _IntakeCollector(Collector):
    def __init__(
        self,
        lag: Callable[[], Mapping[Partition, Lag]],
        stopped: Callable[[], Mapping[Partition, Stopped]],
        poll_age_seconds: Callable[[], float],
    ) -> None:
        self._lag, self._stopped, self._poll_age_seconds = lag, stopped, poll_age_seconds

    def collect(self) -> Iterable[Metric]:
        records = _gauge("ingest_lag_records", "Offsets in Kafka that are not yet durable here.")
        seconds = _gauge(
            "ingest_lag_seconds", "Age of the newest durable record while there are more; 0 when there are none."
        )
        for (topic, number), lag in sorted(self._lag().items()):
            records.add_metric([topic, str(number)], lag.records)
            seconds.add_metric([topic, str(number)], lag.seconds)
        stopped = _gauge(
            "ingest_stopped", "1 for a partition that is not read until an operator decides, or permits it.", "reason"
        )
        for (topic, number), why in sorted(self._stopped().items()):
            stopped.add_metric([topic, str(number), why.reason], 1)
        yield records
        yield seconds
        yield stopped
        yield GaugeMetricFamily(
            "epistream_consumer_poll_age_seconds", "Since Kafka was last polled.", self._poll_age_seconds()
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance, so that registering reads nothing."""
        return []


def _gauge(name: str, description: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"epistream_{name}", description, labels=("topic", "partition", *labels))
