"""What is counted and timed of a service. docs/metrics.md lists every metric.

scrape.py has what is read when Prometheus asks, kafka/metrics.py what Kafka adds.

Labels are bounded: methods, codes, outcomes and reasons of the contract, topics and partitions of the settings, and the
first hundred namespaces. No name of an item or a consumer is ever one, and of producers only those are whose collapse
alarm is on, or of whom the newest windows are.
"""

import collections
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)

from epistream.indexer.commit import submitted_us
from epistream.indexer.model import Embedded, Malformed, record_of
from epistream.services.security.rules import RULES
from epistream.v1 import knowledge_pb2 as pb

_DENIALS: Final = ("unauthenticated", "permission_denied")
_REFUSING: Final = (
    pb.REASON_INVALID,
    pb.REASON_MALFORMED,
    pb.REASON_UNKNOWN_NAMESPACE,
    pb.REASON_VERSION_CONFLICT,
    pb.REASON_SUBMISSION_ID_REUSED,
    pb.REASON_UNKNOWN_ITEM,
    pb.REASON_ORIGIN_NOT_CARRIED,
)
_FAILING: Final = ("INTERNAL", "UNKNOWN", "DATA_LOSS")
"""Of each method: what no caller can cause."""
_SECURITY_PARTS: Final = ("access_file", "tls_files", "audit")

_LATENCIES_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Around the objectives: freshness 0.25 s, push 1 s."""


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
        self.ingest_records: Final = self._counter(
            "ingest_records", "What became of the records from Kafka.", "topic", "outcome"
        )
        self.review_decisions: Final = self._counter("review_decisions", "Reviews that people decided.", "outcome")
        self.dead_letters: Final = self._counter("dlq", "Refused submissions.", "reason")
        self.freshness: Final = self._histogram("freshness_seconds", "From submitted to searchable.")
        self.commit_duration: Final = self._histogram(
            "ingest_commit_duration_seconds", "How long groups took from matching until they were searchable."
        )
        self.store_commit_duration: Final = self._histogram(
            "store_commit_duration_seconds", "How long the store's transactions of them took."
        )
        self.store_fsync_duration: Final = self._histogram(
            "store_fsync_duration_seconds", "How long the last step of these took, which waits for the disk."
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
        self.collapse_windows: Final = self._counter(
            "collapse_windows", "Windows of synthetic knowledge that were looked at.", "result"
        )
        self.collapse_window_duration: Final = self._histogram(
            "collapse_window_duration_seconds", "How long these took, from reading until they were kept."
        )
        self.collapse_failures: Final = self._counter("collapse_failures", "Times that the collapse watch stood still.")
        self.backup_last_success: Final = Gauge(
            "epistream_backup_last_success_timestamp_seconds",
            "When the last whole backup was sent.",
            registry=self.registry,
        )
        self.backup_duration: Final = Gauge(
            "epistream_backup_duration_seconds", "How long the last whole backup took.", registry=self.registry
        )
        Info("epistream_build", "What is running.", registry=self.registry).info({"version": version("epistream")})
        for of_the_process in (ProcessCollector, PlatformCollector, GCCollector):
            of_the_process(registry=self.registry)
        self._begin_at_0()

    def _begin_at_0(self) -> None:
        """What an alert has to see the first time: of a sample that begins with 1 Prometheus sees no increase."""
        for method in RULES:
            for code in _FAILING:
                self.grpc_requests.labels(method, code)
        for reason in _REFUSING:
            self.dead_letters.labels(_short(pb.Reason.Name(reason)))
        for part in _SECURITY_PARTS:
            self.security_errors.labels(part)

    def insecure(self, what: str) -> None:
        """A caller was denied, or a part of the security failed, as `security.guard`, `tls` and `audit` call it."""
        if what in _DENIALS:
            self.auth_failures.labels(what).inc()
        else:
            self.security_errors.labels(what).inc()

    def watched(self, alarm: pb.CollapseAlarm, seconds: float) -> None:
        """Count a window of the collapse watch that was kept, and took so long."""
        self.collapse_windows.labels(alarm.missing.lower() or "compared").inc()
        self.collapse_window_duration.observe(seconds)

    def committed(
        self,
        prepared: Sequence[Embedded | Malformed],
        receipts: Sequence[pb.Receipt],
        seconds: float,
        now_us: int,
    ) -> None:
        """Count a commit that was searchable at `now_us`.

        Args:
            prepared: what was committed.
            receipts: one for each.
            seconds: how long it took, from matching on.
            now_us: when it was searchable, microseconds since 1970.
        """
        self.commit_duration.observe(seconds)
        outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
        of_topics: collections.Counter[tuple[str, str]] = collections.Counter()
        for one, receipt in zip(prepared, receipts, strict=True):
            record = record_of(one)
            outcome = receipt.outcome
            named = "repeated" if receipt.earlier else _short(pb.Outcome.Name(outcome))
            outcomes["grpc" if record.position is None else "kafka", named] += 1
            if record.position is not None:
                of_topics[record.position.topic, named] += 1
            if isinstance(one, Embedded) and receipt.revision and not receipt.earlier:
                self.freshness.observe(max(0, now_us - submitted_us(one.decoded)) / 1e6)
        for (source, named), count in outcomes.items():
            self.ingest_outcomes.labels(source, named).inc(count)
        for (topic, named), count in of_topics.items():
            self.ingest_records.labels(topic, named).inc(count)

    def stored(self, seconds: float, fsync_seconds: float) -> None:
        """Observe a transaction of the store: how long it took, and how long its last step."""
        self.store_commit_duration.observe(seconds)
        self.store_fsync_duration.observe(fsync_seconds)

    def refused(self, receipts: Sequence[pb.Receipt]) -> None:
        """Count what became dead letters."""
        for receipt in receipts:
            self.dead_letters.labels(_short(pb.Reason.Name(receipt.reason))).inc()

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        return Counter(f"epistream_{name}_total", description, labels, registry=self.registry)

    def _histogram(self, name: str, description: str, *labels: str) -> Histogram:
        return Histogram(f"epistream_{name}", description, labels, buckets=_LATENCIES_SECONDS, registry=self.registry)


def _short(name: str) -> str:
    """`OUTCOME_ADMITTED` as `admitted`."""
    return name.split("_", 1)[1].lower()
