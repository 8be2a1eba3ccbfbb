"""The journal, the disk under it, the index, questions, and the process."""

from typing import Final

from k8s.components.monitoring.boards.panels import CPU, FREE, MEMORY
from k8s.components.monitoring.boards.queries import max_of, of, one, or_none, quantiles, rate, slowest, sum_of
from k8s.components.monitoring.grafana import Dashboard, Panel, Query, Row

DASHBOARD: Final = Dashboard(
    "epistream-store",
    "Epistream / Store and index",
    "The journal, the disk under it, the index, questions, and the process.",
    (
        Row(
            "Disk",
            (
                Panel(
                    "Waiting for the disk",
                    "COMMIT alone, which every commit waits for. What is slow here makes everything late; the disk is"
                    " to blame.",
                    "s",
                    quantiles("epistream_store_fsync_duration_seconds"),
                    most=0.5,
                ),
                Panel(
                    "Transactions",
                    "The store's transaction of a group, COMMIT in it. What is slow here and not at COMMIT is work in"
                    " SQLite.",
                    "s",
                    quantiles("epistream_store_commit_duration_seconds"),
                ),
                FREE,
                Panel(
                    "Size of the store",
                    "The file, and its WAL, which stays at its largest until the service stops.",
                    "bytes",
                    (
                        Query(of("epistream_store_size_bytes"), "{{instance}}: file"),
                        Query(of("epistream_store_wal_bytes"), "{{instance}}: WAL"),
                    ),
                ),
                Panel(
                    "Commits",
                    "Groups of submissions a second: each waits once for the disk.",
                    "ops",
                    one(rate("epistream_store_commit_duration_seconds_count"), "commits"),
                ),
                Panel(
                    "Revisions",
                    "The head, and the oldest that can be resumed from.",
                    "short",
                    (
                        Query(max_of("epistream_store_revision", "namespace"), "{{namespace}}: head"),
                        Query(max_of("epistream_compacted_revision", "namespace"), "{{namespace}}: oldest"),
                    ),
                ),
            ),
        ),
        Row(
            "Backups, and a full disk",
            (
                Panel(
                    "Age of the newest backup",
                    "Of those since the service was started; 0 while there is none. EpistreamBackupMissing watches over"
                    " more than one start.",
                    "s",
                    one(or_none(f"time() - max ({of('epistream_backup_last_success_timestamp_seconds')} > 0)"), "age"),
                ),
                Panel(
                    "How long it took",
                    "The newest backup, at its client's pace.",
                    "s",
                    one(max_of("epistream_backup_duration_seconds"), "took"),
                ),
                Panel(
                    "No space",
                    "1 while the store finds no space: writes are refused, Kafka waits, reading goes on.",
                    "short",
                    one(of("epistream_store_full"), "{{instance}}"),
                ),
            ),
        ),
        Row(
            "Index",
            (
                Panel(
                    "Vectors",
                    "In memory, by namespace, those of ended versions among them.",
                    "short",
                    one(sum_of("epistream_index_vectors", "namespace"), "{{namespace}}"),
                ),
                Panel(
                    "Ended versions",
                    "Their share of the vectors. They take memory and time in every search.",
                    "percentunit",
                    one(
                        "1 - "
                        + sum_of("epistream_index_live_vectors", "namespace")
                        + " / "
                        + sum_of("epistream_index_vectors", "namespace"),
                        "{{namespace}}",
                    ),
                ),
                Panel(
                    "How far the gain's inverse was off",
                    "When it was last made anew, by namespace; rounding makes some 3e-15. The service stops at 1e-6.",
                    "short",
                    one(max_of("epistream_gain_drift", "namespace"), "{{namespace}}"),
                    most=1e-6,
                ),
            ),
        ),
        Row(
            "The start",
            (
                Panel(
                    "Opening of the store",
                    "What was verified and made anew when the service was started, by step, and what there was to do."
                    " Until it is open (0) nothing is answered.",
                    "short",
                    (
                        Query(of("epistream_opening"), "{{instance}}: opening"),
                        Query(of("epistream_opening_done"), "{{instance}}: {{step}}"),
                        Query(of("epistream_opening_expected"), "{{instance}}: {{step}} to do"),
                    ),
                ),
                Panel(
                    "Loading at the start",
                    "How long the indexes took, when the service was started.",
                    "s",
                    one(of("epistream_index_rebuild_duration_seconds"), "{{instance}}"),
                ),
            ),
        ),
        Row(
            "Questions",
            (
                Panel(
                    "Calls",
                    "A second, by method.",
                    "ops",
                    one(rate("epistream_grpc_requests_total", by="method"), "{{method}}"),
                    width=12,
                ),
                Panel(
                    "How long they take",
                    "99 % within, by method.",
                    "s",
                    slowest("epistream_grpc_request_duration_seconds", by="method"),
                    width=12,
                ),
            ),
        ),
        Row(
            "Process",
            (
                CPU,
                MEMORY,
                Panel(
                    "Open files and connections",
                    "Of those that it may have.",
                    "short",
                    (
                        Query(of("process_open_fds"), "{{instance}}: open"),
                        Query(of("process_max_fds"), "{{instance}}: limit"),
                    ),
                ),
                Panel(
                    "Running for",
                    "Since it was started.",
                    "s",
                    one(f"time() - {of('process_start_time_seconds')}", "{{instance}}"),
                ),
                Panel(
                    "Garbage collections",
                    "A second, by generation. A full one (2) stops every thread.",
                    "ops",
                    one(rate("python_gc_collections_total", by="generation"), "{{generation}}"),
                ),
            ),
        ),
    ),
)
