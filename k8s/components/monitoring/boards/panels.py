"""Panels that stand on more than one dashboard."""

from typing import Final

from k8s.components.monitoring.boards.queries import max_of, of, one, quantiles, rate, sum_of
from k8s.components.monitoring.grafana import Panel

FRESHNESS: Final = Panel(
    "Freshness",
    "From submitted to durable and searchable. The objective is that 99 % take less than a second;"
    " EpistreamFreshnessHigh watches it.",
    "s",
    quantiles("epistream_freshness_seconds"),
    most=1.0,
)
SENT: Final = Panel(
    "Committed to sent",
    "From a change's commit until the message with it was handed to gRPC. What grows here is the event loop's or the"
    " readers' work. Consumers that never acknowledge raise it by up to 0.6 s: they are sent to less often.",
    "s",
    quantiles("epistream_push_latency_seconds"),
    most=1.0,
)
APPLIED: Final = Panel(
    "Committed to applied",
    "From a change's commit until the consumer said that it works with it. What is slow here and not in the panel of"
    " what was sent is the network's or the consumer's.",
    "s",
    quantiles("epistream_applied_latency_seconds"),
    most=1.0,
)
LAG: Final = Panel(
    "Furthest behind",
    "How many revisions the open subscription that is furthest behind lacks. A peak is a burst; what stays is a"
    " consumer that does not keep up.",
    "short",
    one(max_of("epistream_watch_lag_revisions", "namespace"), "{{namespace}}"),
)
SLOW: Final = Panel(
    "Slow consumers",
    "Consumers that lack what was committed ten seconds ago. `epistream consumers` names them.",
    "short",
    one(sum_of("epistream_watch_slow_consumers", "namespace"), "{{namespace}}"),
    most=1,
)
OUTCOMES: Final = Panel(
    "What became of submissions",
    "Receipts a second by outcome: new knowledge is admitted or revises, the same again is merged, what the gate doubts"
    " or puts off is held, what is wrong is refused.",
    "ops",
    one(rate("epistream_ingest_outcomes_total", by="outcome"), "{{outcome}}"),
    stacked=True,
)
DEAD_LETTERS: Final = Panel(
    "Refused, by reason",
    "Dead letters a second. Their bytes are kept; `epistream redrive` sends them again once the reason is gone.",
    "ops",
    one(rate("epistream_dlq_total", by="reason"), "{{reason}}"),
    stacked=True,
)
WAITING_RECORDS: Final = Panel(
    "Waiting records",
    "Offsets in Kafka that are not durable here. It should come back to 0 after each burst.",
    "short",
    one(sum_of("epistream_ingest_lag_records", "topic"), "{{topic}}"),
)
OUTBOX: Final = Panel(
    "To be told to Kafka",
    "Journal entries and dead letters that Kafka has not acknowledged.",
    "short",
    one(sum_of("epistream_outbox_pending"), "pending"),
)
FREE: Final = Panel(
    "Free on the disk",
    "Where the store is. EpistreamDiskFillingUp tells a day before it is full.",
    "bytes",
    one(of("epistream_disk_free_bytes"), "{{instance}}"),
    least=1024**3,
)
CPU: Final = Panel(
    "Processors in use",
    "By the service's own process; the two that talk to Kafka are not in it.",
    "short",
    one(f"rate({of('process_cpu_seconds_total')}[$__rate_interval])", "{{instance}}"),
)
MEMORY: Final = Panel(
    "Memory",
    "Of the service's own process. It grows with the index: four bytes for each dimension of each vector.",
    "bytes",
    one(of("process_resident_memory_bytes"), "{{instance}}"),
)
