"""What is read of a service at the moment when Prometheus asks; in between it costs nothing.

It runs on the threads of the metrics server. Every number is of one moment, but not all of them of the same.
"""

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from epistream.indexer import conflicts, disputes, generated, holding
from epistream.indexer.clock import Clock
from epistream.indexer.engine import Engine
from epistream.indexer.namespaces import NamespaceState
from epistream.indexer.opening import Opening
from epistream.indexer.signals import CELLS, Signal
from epistream.indexer.signals.kept import not_measured
from epistream.services.consumers import Consumers
from epistream.services.writer import Writer
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know_pb

NAMESPACES_MAX: Final = 100
"""How many namespaces have metrics of their own: the first by name."""

COLLAPSE_MAX: Final = 20
"""Of how many producers in a namespace, all together counted as one, the collapse alarm and the ratios are told: those
whose alarm is on first."""

SLOW_SECONDS: Final = 10.0
"""A consumer is slow while it does not have what was committed so long ago. The objective is one second."""

_BY_NAMESPACE: Final = {
    "store_revision": "The head revision.",
    "compacted_revision": "The oldest revision that can be resumed from and asked about.",
    "store_items": "Items that are in answers.",
    "store_held": "Submissions that are held.",
    "store_merged": "Submissions that were merged, ever.",
    "index_vectors": "Vectors in the index.",
    "index_live_vectors": "Vectors of versions that have not ended.",
    "collapse_windows_due": "Windows of synthetic knowledge that the collapse watch has not looked at yet.",
    "watch_lag_revisions": "How far the open subscription that is furthest behind is behind the head.",
    "watch_slow_consumers": f"Consumers that do not have what was committed {SLOW_SECONDS:g} seconds ago.",
}


class OpeningCollector(Collector):
    """How far the opening of the store is, which is all that can be read until it is open."""

    def __init__(self, opening: Opening) -> None:
        """`opening` is told by the thread that opens it."""
        self._opening = opening

    def collect(self) -> Iterable[Metric]:
        """What was done and what was expected, by step; as it was in the end, once the store is open."""
        opening = _gauge("opening", "1 until the store is open.", int(not self._opening.open))
        done = _gauge("opening_done", "What is done of the opening of the store.", labels=["step"])
        expected = _gauge("opening_expected", "What there is to do of it.", labels=["step"])
        for step, (so_far, of) in self._opening.steps().items():
            done.add_metric([step], so_far)
            expected.add_metric([step], of)
        return [opening, done, expected]


class ServiceCollector(Collector):
    """The state of the store, the index, the writer and the consumers."""

    def __init__(
        self,
        engine: Engine,
        writer: Writer,
        consumers: Consumers,
        clock: Clock,
        *,
        encoder_ready: Callable[[], bool],
        certificate_not_after: Callable[[], float] | None,
        with_outbox: bool,
    ) -> None:
        """What is read where.

        Args:
            engine: the store and the index.
            writer: what waits to be written.
            consumers: who is behind.
            clock: the service's.
            encoder_ready: whether the encoder is loaded.
            certificate_not_after: when the service's certificate expires, as Unix time in seconds; None without TLS.
            with_outbox: whether anything empties the outbox, so that what waits there is worth a number.
        """
        self._engine, self._writer, self._consumers, self._clock = engine, writer, consumers, clock
        self._encoder_ready, self._certificate_not_after = encoder_ready, certificate_not_after
        self._with_outbox = with_outbox
        self._reading = threading.Lock()
        self._closed = False

    def collect(self) -> Iterable[Metric]:
        """Every metric that is read when Prometheus asks; none once this is closed."""
        with self._reading:
            return [] if self._closed else list(self._collect())

    def close(self) -> None:
        """Read no more, so that the store can be closed. Blocks until what is being read is read."""
        with self._reading:
            self._closed = True

    def _collect(self) -> Iterator[Metric]:
        yield from self._of_namespaces()
        yield from self._of_reviews()
        yield from self._of_signals()
        yield from self._of_the_store()
        # The bound is each lane's, so that is near it where the fuller one is.
        yield _gauge("writer_waiting_bytes", "What waits in the fuller lane.", max(self._writer.waiting_bytes))
        yield _gauge("writer_waiting_max_bytes", "How much may wait in each lane.", self._writer.waiting_bytes_max)
        pending = self._engine.outbox.count() if self._with_outbox else 0
        yield _gauge("outbox_pending", "Messages that Kafka has not yet.", pending)
        yield _gauge("encoder_ready", "1 when the encoder is loaded.", int(self._encoder_ready()))
        certificate = _gauge("tls_certificate_not_after_timestamp_seconds", "When the certificate expires.")
        if self._certificate_not_after is not None:
            certificate.add_metric([], self._certificate_not_after())
        yield certificate

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance, so that registering reads nothing."""
        return []

    def _of_namespaces(self) -> Iterator[Metric]:
        families = {
            name: GaugeMetricFamily(f"epistream_{name}", description, labels=["namespace"])
            for name, description in _BY_NAMESPACE.items()
        }
        states = self._first_namespaces()
        for state, values in zip(states, self._values(states), strict=True):
            for family, value in zip(families.values(), values, strict=True):
                family.add_metric([state.config.name], value)
        yield from families.values()
        yield from self._of_real_shares(states)
        yield self._of_gains(states)
        yield from self._of_producers(states)

    def _of_real_shares(self, states: Sequence[NamespaceState]) -> Iterator[Metric]:
        """What the writer keeps in memory for the floor: nothing is read from the store."""
        labels = ["namespace", "modality"]
        real = _gauge("real_share", "Of the newest 1,000 changes the share that is not SYNTHETIC.", labels=labels)
        changes = _gauge("real_share_changes", "Of how many changes that share is.", labels=labels)
        floor = _gauge("real_share_floor", "The least share that the policy allows.", labels=["namespace"])
        for state in states:
            shares = state.standing.shares
            named = {_modality(modality): share for modality, share in sorted(shares.by_modality.items())}
            for modality, share in {"all": shares.whole, **named}.items():
                if share.real is not None:
                    real.add_metric([state.config.name, modality], share.real)
                    changes.add_metric([state.config.name, modality], len(share))
            floor.add_metric([state.config.name], state.config.policy.real_share_floor)
        yield from (real, changes, floor)

    def _of_gains(self, states: Sequence[NamespaceState]) -> Metric:
        """What the writer keeps in memory for the gain."""
        drift = _gauge("gain_drift", "How far what the gain is measured by was off.", labels=["namespace"])
        for state in states:
            if state.standing.gains is not None:
                drift.add_metric([state.config.name], state.standing.gains.drift)
        return drift

    def _of_producers(self, states: Sequence[NamespaceState]) -> Iterator[Metric]:
        labels = ["namespace", "producer", "modality"]
        alarm = GaugeMetricFamily("epistream_collapse_alarm", "1 while it is on.", labels=labels)
        ratio = GaugeMetricFamily(
            "epistream_collapse_ratio", "Diversity over that of as many of people.", labels=[*labels, "order"]
        )
        with self._engine.store.reader() as catalog:
            for state in states:
                for known in generated.alarms(catalog, state.config.number, limit=COLLAPSE_MAX):
                    of = [state.config.name, known.producer, _modality(known.modality)]
                    alarm.add_metric(of, known.on)
                    for figures in known.ratios:
                        ratio.add_metric([*of, f"{figures.order:g}"], figures.ratio)
        yield from (alarm, ratio)

    def _first_namespaces(self) -> list[NamespaceState]:
        return sorted(self._engine.namespaces.states(), key=lambda state: state.config.name)[:NAMESPACES_MAX]

    def _of_reviews(self) -> Iterator[Metric]:
        by_reason = ["namespace", "reason"]
        pending = _gauge(
            "reviews_pending", "Submissions that wait to be reviewed, and items that raters dispute.", labels=by_reason
        )
        age = _gauge("review_oldest_age_seconds", "How long the oldest of them has waited.", labels=by_reason)
        contested = _gauge("conflicts_open", "Conflicts that nobody has resolved.", labels=["namespace"])
        contested_age = _gauge(
            "conflict_oldest_age_seconds", "How long the oldest of them is open; 0 without one.", labels=["namespace"]
        )
        now_us = self._clock.now_us()
        with self._engine.store.reader() as catalog:
            for state in self._first_namespaces():
                name, number = state.config.name, state.config.number
                disputed, since_us = disputes.figures(catalog, number)
                waiting = [*holding.oldest(catalog, number)]
                waiting += [(pb.REASON_DISPUTED, disputed, since_us)] if since_us is not None else []
                for reason, count, oldest_us in waiting:
                    labels = [name, pb.Reason.Name(reason).removeprefix("REASON_").lower()]
                    pending.add_metric(labels, count)
                    age.add_metric(labels, max(0, now_us - oldest_us) / 1e6)
                count, oldest = conflicts.figures(catalog.connection, number)
                contested.add_metric([name], count)
                contested_age.add_metric([name], max(0, now_us - oldest) / 1e6 if oldest is not None else 0.0)
        yield from (pending, age, contested, contested_age)

    def _of_signals(self) -> Iterator[Metric]:
        """Of each namespace that was measured: each signal with a value, of several producers' the worst."""
        labels = ["namespace", "cell", "signal"]
        values = _gauge("signal", "What hinders knowledge, cell by cell.", labels=labels)
        low = _gauge("signal_low", "The lower end of its interval (95 %).", labels=labels)
        high = _gauge("signal_high", "The upper end.", labels=labels)
        missing = _gauge("signals_missing", "Signals without a value.", labels=["namespace"])
        alarms = _gauge("signals_alarming", "Signals to look at.", labels=["namespace"])
        times = _gauge("signals_timestamp_seconds", "When the signals were measured.", labels=["namespace"])
        for state in self._first_namespaces():
            answer = self._engine.signals.read(state.config.number) or not_measured(state.recorded)
            name, lacking = state.config.name, 0
            alarms.add_metric([name], sum(one.alarm for told in answer.cells for one in told.signals))
            for cell, told in zip(CELLS, answer.cells, strict=True):
                for signal in cell.signals:
                    worst = _worst(signal, told)
                    if worst is None:
                        lacking += 1
                        continue
                    of = [name, cell.name, signal.name]
                    values.add_metric(of, worst.value)
                    if worst.HasField("low") and worst.HasField("high"):
                        low.add_metric(of, worst.low)
                        high.add_metric(of, worst.high)
            missing.add_metric([name], lacking)
            times.add_metric([name], answer.time.ToMicroseconds() / 1e6)
        yield from (values, low, high, missing, alarms, times)

    def _values(self, states: Sequence[NamespaceState]) -> Iterator[tuple[int, ...]]:
        """Of each namespace the values of _BY_NAMESPACE, in its order."""
        slow_us = self._clock.now_us() - round(SLOW_SECONDS * 1e6)
        with self._engine.store.reader() as catalog:
            for state in states:
                number = state.config.number
                counts = catalog.counts(number)
                behind = self._consumers.behind(state.config.name, state.head, catalog.revision_at(number, slow_us))
                yield (
                    state.head,
                    state.floor,
                    counts.items,
                    counts.held,
                    counts.merged,
                    len(state.searchable),
                    state.searchable.live_count,
                    generated.unwatched_count(catalog, number, state.config.policy.watch_every),
                    behind.lag_revisions,
                    behind.slow_consumers,
                )

    def _of_the_store(self) -> Iterator[Metric]:
        path = self._engine.store.path
        yield _gauge("store_size_bytes", "The size of the store's file.", _size_bytes(path))
        yield _gauge("store_wal_bytes", "The size of the store's WAL.", _size_bytes(path.with_name(f"{path.name}-wal")))
        yield _gauge("store_full", "1 while the store finds no space.", int(self._engine.store.full))
        yield _gauge("disk_free_bytes", "Free where the store is.", shutil.disk_usage(path.parent).free)
        yield _gauge(
            "index_rebuild_duration_seconds",
            "How long it took at the start to load the indexes, and to make what their files lacked.",
            self._engine.index_seconds,
        )


def _gauge(
    name: str, description: str, value: float | None = None, labels: Sequence[str] | None = None
) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"epistream_{name}", description, value, labels)


def _worst(signal: Signal, told: know_pb.SignalCell) -> know_pb.Signal | None:
    """Of several producers' figures the worst; None where there is no value."""
    found = [one for one in told.signals if one.name == signal.name and one.HasField("value")]
    pick = max if signal.worse == "high" else min
    return pick(found, key=lambda one: one.value, default=None)


def _modality(modality: int) -> str:
    return pb.Modality.Name(pb.Modality.ValueType(modality)).removeprefix("MODALITY_").lower()


def _size_bytes(path: Path) -> int:
    """0 when it is not there: the WAL is gone for a moment while the store is closed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
