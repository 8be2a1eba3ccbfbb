"""How knowledge comes in, over Kafka and gRPC, and what is refused."""

from typing import Final

from k8s.components.monitoring.boards.panels import DEAD_LETTERS, FRESHNESS, OUTBOX, OUTCOMES
from k8s.components.monitoring.boards.queries import max_of, of, one, or_none, quantiles, rate, slowest, sum_of
from k8s.components.monitoring.grafana import Dashboard, Panel, Query, Row

DASHBOARD: Final = Dashboard(
    "epistream-ingest",
    "Epistream / Ingest",
    "How knowledge comes in, over Kafka and gRPC, and what is refused.",
    (
        Row(
            "All of it",
            (
                OUTCOMES,
                FRESHNESS,
                Panel(
                    "Committing a group",
                    "From matching until a group of submissions was searchable, the store's transaction in it.",
                    "s",
                    quantiles("epistream_ingest_commit_duration_seconds"),
                ),
                Panel(
                    "By source",
                    "Receipts a second over gRPC and over Kafka.",
                    "ops",
                    one(rate("epistream_ingest_outcomes_total", by="source"), "{{source}}"),
                ),
                Panel(
                    "Waiting to be written",
                    "In the fuller lane, of what may wait in each. At the limit calls are turned away with"
                    " RESOURCE_EXHAUSTED, and Kafka is read more slowly.",
                    "bytes",
                    (
                        Query(max_of("epistream_writer_waiting_bytes"), "waiting"),
                        Query(max_of("epistream_writer_waiting_max_bytes"), "limit"),
                    ),
                ),
                Panel(
                    "Encoder",
                    "1 when it is loaded. Without one, 0 is as it should be.",
                    "short",
                    one(of("epistream_encoder_ready"), "{{instance}}"),
                ),
            ),
        ),
        Row(
            "From Kafka",
            (
                Panel(
                    "Records by topic",
                    "What became of them, a second.",
                    "ops",
                    one(rate("epistream_ingest_records_total", by="topic, outcome"), "{{topic}}: {{outcome}}"),
                    stacked=True,
                ),
                Panel(
                    "Waiting records by partition",
                    "Offsets that are not durable here. One partition that grows alone has more than its share, or"
                    " has stopped.",
                    "short",
                    one(max_of("epistream_ingest_lag_records", "topic, partition"), "{{topic}}/{{partition}}"),
                ),
                Panel(
                    "Age of the newest durable record",
                    "While there are more.",
                    "s",
                    one(max_of("epistream_ingest_lag_seconds", "topic, partition"), "{{topic}}/{{partition}}"),
                ),
                Panel(
                    "Since Kafka was polled",
                    "It stays under a second while Kafka is there and there is room.",
                    "s",
                    one(of("epistream_consumer_poll_age_seconds"), "{{instance}}"),
                    most=60,
                ),
                Panel(
                    "Stopped partitions",
                    "They are not read until somebody decides.",
                    "short",
                    one(or_none(sum_of("epistream_ingest_stopped", "topic, reason")), "{{topic}}: {{reason}}"),
                    most=1,
                ),
                Panel(
                    "Tried again, and given up",
                    "Batches that were tried again, by stage; records that the service itself fails on, which is a"
                    " bug.",
                    "ops",
                    (
                        Query(or_none(rate("epistream_ingest_retries_total", by="stage")), "again: {{stage}}"),
                        Query(rate("epistream_ingest_given_up_total"), "given up"),
                    ),
                ),
            ),
        ),
        Row(
            "What is told to Kafka",
            (
                OUTBOX,
                Panel(
                    "Published",
                    "Messages a second that Kafka has acknowledged, by topic.",
                    "ops",
                    one(rate("epistream_outbox_published_total", by="topic"), "{{topic}}"),
                ),
                Panel(
                    "Trouble with publishing",
                    "Messages that Kafka refuses for good, and how often publishing had to begin anew.",
                    "ops",
                    (
                        Query(rate("epistream_outbox_unpublishable_total", by="topic"), "refused: {{topic}}"),
                        Query(rate("epistream_outbox_failures_total"), "begun anew"),
                    ),
                ),
            ),
        ),
        Row(
            "Review",
            (
                Panel(
                    "Waiting for review",
                    "Submissions that are held, by why.",
                    "short",
                    one(or_none(sum_of("epistream_reviews_pending", "reason")), "{{reason}}"),
                    stacked=True,
                ),
                Panel(
                    "Oldest review",
                    "How long the oldest of them has waited. From half a week on it comes first.",
                    "s",
                    one(or_none(max_of("epistream_review_oldest_age_seconds", "reason")), "{{reason}}"),
                    most=302400,
                ),
                Panel(
                    "Decisions",
                    "Of reviewers, a second, by outcome.",
                    "ops",
                    one(or_none(rate("epistream_review_decisions_total", by="outcome")), "{{outcome}}"),
                    stacked=True,
                ),
                Panel(
                    "Open conflicts",
                    "Nobody has said yet which of the contradicting parties stand.",
                    "short",
                    one(sum_of("epistream_conflicts_open", "namespace"), "{{namespace}}"),
                ),
                Panel(
                    "Oldest conflict",
                    "How long the oldest of them is open.",
                    "s",
                    one(max_of("epistream_conflict_oldest_age_seconds", "namespace"), "{{namespace}}"),
                ),
            ),
        ),
        Row(
            "Over gRPC, and refused",
            (
                DEAD_LETTERS,
                Panel(
                    "Calls that submit",
                    "A second, by method and status.",
                    "ops",
                    one(
                        rate("epistream_grpc_requests_total", 'method=~"IngestService/.+"', by="method, code"),
                        "{{method}}: {{code}}",
                    ),
                ),
                Panel(
                    "How long they take",
                    "99 % within.",
                    "s",
                    slowest("epistream_grpc_request_duration_seconds", 'method=~"IngestService/.+"', by="method"),
                ),
            ),
        ),
    ),
)
