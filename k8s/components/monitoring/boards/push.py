"""Who follows, how far they are, and how soon they have what was committed."""

from typing import Final

from k8s.components.monitoring.boards.panels import APPLIED, LAG, SENT, SLOW
from k8s.components.monitoring.boards.queries import max_of, of, one, or_none, rate
from k8s.components.monitoring.grafana import Dashboard, Panel, Query, Row

DASHBOARD: Final = Dashboard(
    "epistream-push",
    "Epistream / Push and consumers",
    "Who follows, how far they are, and how soon they have what was committed.",
    (
        Row("How soon", (SENT, APPLIED, LAG)),
        Row(
            "Who",
            (
                Panel(
                    "Subscriptions",
                    "Open streams.",
                    "short",
                    one(of("epistream_watch_streams"), "{{instance}}"),
                ),
                SLOW,
                Panel(
                    "Head revision",
                    "By namespace: how fast there is something to push.",
                    "short",
                    one(max_of("epistream_store_revision", "namespace"), "{{namespace}}"),
                ),
            ),
        ),
        Row(
            "What",
            (
                Panel(
                    "Messages",
                    "A second, with changes that were committed while the subscription was open.",
                    "ops",
                    (
                        Query(rate("epistream_push_latency_seconds_count"), "sent"),
                        Query(rate("epistream_applied_latency_seconds_count"), "acknowledged"),
                    ),
                ),
                Panel(
                    "Subscriptions that could not go on",
                    "By reason. COMPACTED: somebody was away for longer than is retained.",
                    "ops",
                    one(or_none(rate("epistream_watch_resyncs_total", by="reason")), "{{reason}}"),
                ),
                Panel(
                    "Subscriptions that ended",
                    "A second, by status.",
                    "ops",
                    one(
                        or_none(rate("epistream_grpc_requests_total", 'method="SyncService/Subscribe"', by="code")),
                        "{{code}}",
                    ),
                ),
            ),
        ),
    ),
)
