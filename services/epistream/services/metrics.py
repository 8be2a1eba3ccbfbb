"""What Prometheus can read of a service; kafka/metrics.py has the rest. docs/metrics.md lists every metric.

Labels are bounded: methods, codes, outcomes and reasons of the contract, topics and partitions of the settings, and the
first hundred namespaces. No name of an item, a producer or a consumer is ever one.
"""

import collections
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from epistream.indexer.commit import submitted_us
from epistream.indexer.model import Embedded, Malformed, record_of
from epistream.v1 import knowledge_pb2 as pb

NAMESPACES_MAX: Final = 100
"""How many namespaces have metrics of their own."""

_DENIALS: Final = ("unauthenticated", "permission_denied")

_LATENCIES_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Around the objectives: freshness 0.25 s, push 1 s."""


@dataclass(frozen=True, slots=True)
class NamespaceState:
    """What is read of a namespace when Prometheus asks."""

    name: str
    head_revision: int
    index_vectors: int


@dataclass(frozen=True, slots=True)
class State:
    """What is read of the service when Prometheus asks."""

    namespaces: Sequence[NamespaceState]
    outbox_pending: int
    encoder_ready: bool
    store_full: bool


class Metrics:
    """Every metric of a service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        self.grpc_requests: Final = self._counter("grpc_requests", "Calls that ended.", "method", "code")
        self.grpc_request_duration: Final = self._histogram(
            "grpc_request_duration_seconds", "How long unary calls took.", "method"
        )
        self.ingest_outcomes: Final = self._counter(
            "ingest_outcomes", "What became of submissions.", "source", "outcome"
        )
        self.dead_letters: Final = self._counter("dlq", "Refused submissions.", "reason")
        self.freshness: Final = self._histogram("freshness_seconds", "From submitted to searchable.")
        self.commit_duration: Final = self._histogram(
            "ingest_commit_duration_seconds", "How long groups took from matching until they were searchable."
        )
        self.store_commit_duration: Final = self._histogram(
            "store_commit_duration_seconds", "How long the store's transactions of them took."
        )
        self.push_latency: Final = self._histogram(
            "push_latency_seconds", "From committed to sent: the oldest change of each message."
        )
        self.applied_latency: Final = self._histogram(
            "applied_latency_seconds", "From committed to acknowledged as applied: the oldest change of each message."
        )
        self.watch_streams: Final = Gauge("epistream_watch_streams", "Open subscriptions.", registry=self.registry)
        self.watch_resyncs: Final = self._counter(
            "watch_resyncs", "Subscriptions that could not go on from a revision.", "reason"
        )
        self.auth_failures: Final = self._counter("auth_failures", "Callers that were denied.", "reason")
        self.security_errors: Final = self._counter(
            "security_errors", "Times that a part of the security could not do its work.", "part"
        )
        self.backup_last_success: Final = Gauge(
            "epistream_backup_last_success_timestamp_seconds",
            "When the last whole backup was sent.",
            registry=self.registry,
        )
        self.backup_duration: Final = Gauge(
            "epistream_backup_duration_seconds", "How long the last whole backup took.", registry=self.registry
        )
        Info("epistream_build", "What is running.", registry=self.registry).info({"version": version("epistream")})

    def watch(self, read: Callable[[], State]) -> None:
        """Read what changes by itself with `read` whenever Prometheus asks, on the metrics server's thread."""
        self.registry.register(_StateCollector(read))

    def watch_certificate(self, not_after: Callable[[], float]) -> None:
        """Read when the service's certificate expires, as Unix time in seconds, whenever Prometheus asks."""
        Gauge(
            "epistream_tls_certificate_not_after_timestamp_seconds",
            "When the service's certificate expires.",
            registry=self.registry,
        ).set_function(not_after)

    def insecure(self, what: str) -> None:
        """A caller was denied, or a part of the security failed, as `security.guard`, `tls` and `audit` call it."""
        if what in _DENIALS:
            self.auth_failures.labels(what).inc()
        else:
            self.security_errors.labels(what).inc()

    def committed(
        self,
        prepared: Sequence[Embedded | Malformed],
        receipts: Sequence[pb.Receipt],
        seconds: float,
        store_seconds: float,
        now_us: int,
    ) -> None:
        """Count a commit that took `seconds`, in the store `store_seconds`, and was searchable at `now_us`."""
        self.commit_duration.observe(seconds)
        self.store_commit_duration.observe(store_seconds)
        outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
        refusals: collections.Counter[pb.Reason.ValueType] = collections.Counter()
        for one, receipt in zip(prepared, receipts, strict=True):
            record = record_of(one)
            outcome = receipt.outcome
            named = "repeated" if receipt.earlier else _short(pb.Outcome.Name(outcome))
            outcomes["grpc" if record.position is None else "kafka", named] += 1
            if outcome == pb.OUTCOME_REFUSED and not receipt.earlier:
                refusals[receipt.reason] += 1
            elif isinstance(one, Embedded) and receipt.revision and not receipt.earlier:
                self.freshness.observe(max(0, now_us - submitted_us(one.decoded)) / 1e6)
        for (source, named), count in outcomes.items():
            self.ingest_outcomes.labels(source, named).inc(count)
        for reason, count in refusals.items():
            self.dead_letters.labels(_short(pb.Reason.Name(reason))).inc(count)

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        return Counter(f"epistream_{name}_total", description, labels, registry=self.registry)

    def _histogram(self, name: str, description: str, *labels: str) -> Histogram:
        return Histogram(f"epistream_{name}", description, labels, buckets=_LATENCIES_SECONDS, registry=self.registry)


class _StateCollector(Collector):
    def __init__(self, read: Callable[[], State]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        state = self._read()
        revision = GaugeMetricFamily("epistream_store_revision", "The head revision.", labels=["namespace"])
        vectors = GaugeMetricFamily("epistream_index_vectors", "Vectors in the index.", labels=["namespace"])
        for namespace in sorted(state.namespaces, key=lambda n: n.name)[:NAMESPACES_MAX]:
            revision.add_metric([namespace.name], namespace.head_revision)
            vectors.add_metric([namespace.name], namespace.index_vectors)
        yield revision
        yield vectors
        yield GaugeMetricFamily("epistream_outbox_pending", "Messages that Kafka has not yet.", state.outbox_pending)
        yield GaugeMetricFamily("epistream_encoder_ready", "1 when the encoder is loaded.", int(state.encoder_ready))
        yield GaugeMetricFamily("epistream_store_full", "1 while the store finds no space.", int(state.store_full))

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance, so that registering reads nothing."""
        return []


def _short(name: str) -> str:
    """`OUTCOME_ADMITTED` as `admitted`."""
    return name.split("_", 1)[1].lower()
