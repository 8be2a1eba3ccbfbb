"""The dashboard to look at first."""

from typing import Final

from k8s.components.monitoring.boards.panels import (
    APPLIED,
    DEAD_LETTERS,
    FREE,
    FRESHNESS,
    LAG,
    MEMORY,
    OUTBOX,
    OUTCOMES,
    SENT,
    SLOW,
    WAITING_RECORDS,
)
from k8s.components.monitoring.boards.queries import max_of, of, one, or_none, quantiles, rate, sum_of
from k8s.components.monitoring.grafana import Dashboard, Panel, Query, Row

_NOT_AFTER: Final = "epistream_tls_certificate_not_after_timestamp_seconds"

DASHBOARD: Final = Dashboard(
    "epistream-overview",
    "Epistream / Overview",
    "Is knowledge fresh, is anybody behind, and what becomes of what comes in?",
    (
        Row(
            "Now",
            (
                Panel(
                    "Instances",
                    "That Prometheus reaches.",
                    "short",
                    one(sum_of("up"), "up"),
                    "stat",
                    4,
                    least=1,
                ),
                Panel(
                    "Searchable within a second",
                    "The share of what was submitted. The objective is 99 %.",
                    "percentunit",
                    one(
                        rate("epistream_freshness_seconds_bucket", 'le="1.0"')
                        + " / "
                        + rate("epistream_freshness_seconds_count"),
                        "within a second",
                    ),
                    "stat",
                    4,
                    least=0.99,
                ),
                Panel(
                    "Slow consumers",
                    "More than ten seconds behind.",
                    "short",
                    one(sum_of("epistream_watch_slow_consumers"), "slow"),
                    "stat",
                    4,
                    most=1,
                ),
                Panel(
                    "Items",
                    "In answers, over all namespaces.",
                    "short",
                    one(sum_of("epistream_store_items"), "items"),
                    "stat",
                    4,
                ),
                Panel(
                    "Held",
                    "Submissions that wait for a person, for their tests or parents, or for room beside what is real.",
                    "short",
                    one(sum_of("epistream_store_held"), "held"),
                    "stat",
                    4,
                ),
                Panel(
                    "Version",
                    "How many instances run which.",
                    "short",
                    one(f"count by (version) ({of('epistream_build_info')})", "{{version}}"),
                    "stat",
                    4,
                ),
            ),
        ),
        Row("Is knowledge fresh?", (FRESHNESS, SENT, APPLIED)),
        Row("Is anybody behind?", (LAG, SLOW, WAITING_RECORDS, OUTBOX)),
        Row(
            "What becomes of what comes in?",
            (
                OUTCOMES,
                DEAD_LETTERS,
                Panel(
                    "Items, merged, held",
                    "Items that are in answers; submissions that said the same again; submissions that are held.",
                    "short",
                    (
                        Query(sum_of("epistream_store_items", "namespace"), "{{namespace}}: items"),
                        Query(sum_of("epistream_store_merged", "namespace"), "{{namespace}}: merged"),
                        Query(sum_of("epistream_store_held", "namespace"), "{{namespace}}: held"),
                    ),
                ),
            ),
        ),
        Row(
            "How much of it is real?",
            (
                Panel(
                    "Real share",
                    "Of the newest 1,000 changes those that are not SYNTHETIC, by modality; `all` is the namespace.",
                    "percentunit",
                    one(
                        "min by (namespace, modality) (" + of("epistream_real_share") + ")",
                        "{{namespace}}: {{modality}}",
                    ),
                    width=12,
                ),
                Panel(
                    "The least that a policy allows",
                    "What is above it is put off. 0: the namespace may be synthetic alone.",
                    "percentunit",
                    one(max_of("epistream_real_share_floor", "namespace"), "{{namespace}}"),
                ),
                Panel(
                    "Changes that the share is of",
                    "At most 1,000; of fewer than a hundred there is no alert.",
                    "short",
                    one(max_of("epistream_real_share_changes", "namespace, modality"), "{{namespace}}: {{modality}}"),
                ),
            ),
        ),
        Row(
            "Does a model say less and less?",
            (
                Panel(
                    "Collapse alarms",
                    "1 while it is on. Without a producer: all that the namespace knows. `epistream alarms` has the"
                    " figures.",
                    "short",
                    one(
                        "max by (namespace, producer, modality) (" + of("epistream_collapse_alarm") + ")",
                        "{{namespace}}: {{producer}} {{modality}}",
                    ),
                    most=1,
                ),
                Panel(
                    "Diversity beside people's",
                    "The Vendi score of the newest window over that of as many items of people. About 1 is as diverse.",
                    "short",
                    one(
                        "min by (namespace, producer, modality) (" + of("epistream_collapse_ratio", 'order="1"') + ")",
                        "{{namespace}}: {{producer}} {{modality}}",
                    ),
                ),
                Panel(
                    "Windows to look at",
                    "A flood of synthetic knowledge makes more due than are looked at; it should come back to 0.",
                    "short",
                    one(sum_of("epistream_collapse_windows_due", "namespace"), "{{namespace}}"),
                ),
                Panel(
                    "Windows looked at",
                    "A second, by what came of it. `no_anchors`: not enough of people yet. Failures: the watch stands"
                    " still.",
                    "ops",
                    (
                        *one(or_none(rate("epistream_collapse_windows_total", by="result")), "{{result}}"),
                        Query(rate("epistream_collapse_failures_total"), "failures"),
                    ),
                    width=12,
                ),
                Panel(
                    "How long a window takes",
                    "From reading until it was kept. The watch rests nine times as long.",
                    "s",
                    quantiles("epistream_collapse_window_duration_seconds"),
                    width=12,
                ),
            ),
        ),
        Row(
            "What hinders knowledge?",
            (
                Panel(
                    "Signals",
                    "By namespace and cell, of several producers' the worst. docs/signals.md says what each means and"
                    " which end is the worse one.",
                    "short",
                    one(max_of("epistream_signal", "namespace, cell, signal"), "{{namespace}}: {{cell}}: {{signal}}"),
                    signed=True,
                ),
                Panel(
                    "Their intervals",
                    "Both ends, 95 %, of signals that have an interval.",
                    "short",
                    (
                        *one(
                            max_of("epistream_signal_low", "namespace, cell, signal"),
                            "{{namespace}}: {{cell}}: {{signal}}: low",
                        ),
                        *one(
                            max_of("epistream_signal_high", "namespace, cell, signal"),
                            "{{namespace}}: {{cell}}: {{signal}}: high",
                        ),
                    ),
                    signed=True,
                ),
                Panel(
                    "Without a value, and to look at",
                    "Signals that cannot be told, since an input is missing; and those that should be looked at."
                    " `epistream signals` says why.",
                    "short",
                    (
                        Query(sum_of("epistream_signals_missing", "namespace"), "{{namespace}}: without a value"),
                        Query(sum_of("epistream_signals_alarming", "namespace"), "{{namespace}}: to look at"),
                    ),
                ),
                Panel(
                    "Since they were measured",
                    "It grows where nothing is decided any more.",
                    "s",
                    one(
                        f"time() - ({max_of('epistream_signals_timestamp_seconds', 'namespace')} > 0)",
                        "{{namespace}}",
                    ),
                ),
            ),
        ),
        Row(
            "Is the service well?",
            (
                Panel(
                    "Calls that failed",
                    "Calls a second that did not end with OK, by status. CANCELLED ends subscriptions every day;"
                    " INTERNAL, UNKNOWN and DATA_LOSS are defects.",
                    "ops",
                    one(or_none(rate("epistream_grpc_requests_total", 'code!="OK"', by="code")), "{{code}}"),
                ),
                FREE,
                MEMORY,
            ),
        ),
        Row(
            "Is it secure?",
            (
                Panel(
                    "Denied",
                    "Callers a second that were denied: nobody knows them, or no role allows what they asked.",
                    "ops",
                    one(or_none(rate("epistream_auth_failures_total", by="reason")), "{{reason}}"),
                ),
                Panel(
                    "Parts that failed",
                    "Times a second that the access file or the certificates could not be used, or that a line of the"
                    " audit log was not written.",
                    "ops",
                    one(rate("epistream_security_errors_total", by="part"), "{{part}}"),
                ),
                Panel(
                    "Certificate ends in",
                    "0 where the service has none; below 0 it has ended.",
                    "s",
                    one(or_none(f"min ({of(_NOT_AFTER)}) - time()"), "left"),
                    signed=True,
                ),
            ),
        ),
    ),
)
