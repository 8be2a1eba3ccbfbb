"""Knowledge in over Kafka: every record takes effect exactly once.

    poller ──decoded──► backlog ──batches──► taker ──prepared──► writer
       ▲                                       │
    survey: what there is, where it begins     └─► progress: what is durable

The poller is a process of its own (`polling` keeps it), the others are threads of the service. The topics of what
people say are a lane of their own, with a poller, a backlog and a taker: a flood of what models make keeps no
correction waiting, and each partition keeps its order (docs/decisions/0022).

The positions in Kafka are kept in the store, in the same transaction as what the records became. So after a crash at
any moment reading goes on with the first record that had no effect, and what is read again has no second one. Kafka
being away delays nothing else: the service runs, and the intake goes on when Kafka is back.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from epistream.indexer import deadletters, positions
from epistream.indexer.clock import Clock, SystemClock
from epistream.indexer.model import Place
from epistream.indexer.pipeline import Pipeline
from epistream.indexer.store import Store
from epistream.services.kafka import clients
from epistream.services.kafka.backlog import Backlog
from epistream.services.kafka.metrics import KafkaMetrics
from epistream.services.kafka.polling import Polling
from epistream.services.kafka.progress import Lag, Partition, Progress, Stopped
from epistream.services.kafka.survey import Positions, Source, Survey
from epistream.services.kafka.taker import Taken, Taker
from epistream.services.tracing import Traces
from epistream.services.writer import Writer
from epistream.wire.errors import Broken

_LOG: Final = logging.getLogger(__name__)

_STOP_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Lane:
    """What reads some of the topics."""

    polling: Polling
    backlog: Backlog
    taker: Taker

    def stop(self, deadline: float) -> None:
        """Read no more, finish what is with the writer. Blocks until then, or until the time is over."""
        for name, part in (("poller", self.polling), ("taker", self.taker)):
            _stop(name, part.stop, deadline)


class Intake:
    """Reads submissions from Kafka's topics into the store."""

    def __init__(
        self,
        source: Source,
        pipeline: Pipeline,
        store: Store,
        writer: Writer,
        metrics: KafkaMetrics,
        *,
        failed: Callable[[Broken], None],
        people: Collection[str] = (),
        clock: Clock | None = None,
        traces: Traces | None = None,
    ) -> None:
        """Nothing runs before `start`, and Kafka need not be there.

        Args:
            source: what to read.
            pipeline: where records go.
            store: where positions are kept.
            writer: the thread that commits.
            metrics: what is counted.
            failed: called on a thread of the intake when a lane has ended for good.
            people: the topics that carry nothing but what people say.
            clock: tells how old what is behind is; the machine's when None.
            traces: follows records; None follows none.

        Raises:
            Broken: the package crc32c is missing.
        """
        clients.require_crc32c()
        self._source, self._store, self._writer = source, store, writer
        self._clock = clock or SystemClock()
        self._progress = Progress()
        taken = Taken(metrics.retried, metrics.given_up, failed)
        prepare = pipeline.prepare if traces is None else traces.preparing(pipeline.prepare)
        arrived = traces.arrived if traces is not None else None
        self._lanes: list[_Lane] = []
        for ahead in (True, False):
            if topics := tuple(topic for topic in source.topics if (topic in people) is ahead):
                backlog, submit = Backlog(), partial(writer.submit_batch, ahead=ahead)
                polled, restarted = replace(source, topics=topics), partial(metrics.retried, "poll")
                polling = Polling(polled, backlog, self._progress, restarted, arrived)
                taker = Taker(backlog, prepare, submit, self._progress, taken)
                self._lanes.append(_Lane(polling, backlog, taker))
        kept = Positions(pipeline.positions, self._keep, self._learn)
        self._survey = Survey(source, kept, self._progress, self._clock, self._begin, self._leave)
        metrics.watch_intake(self.lag, self.stopped, self._poll_age_seconds)

    def start(self) -> None:
        """Start reading. Does not block."""
        readable = [name for name, is_there in clients.compressions().items() if is_there]
        _LOG.info(
            "Taking knowledge in from Kafka at %s over %s: %s (compressions: %s; checksums: %s)",
            self._source.bootstrap,
            self._source.security.describe(),
            ", ".join(self._source.topics),
            ", ".join(readable),
            clients.checksums(),
        )
        for lane in self._lanes:
            lane.taker.start()
            lane.polling.start()
        self._survey.start()

    def stop(self, timeout_seconds: float = _STOP_SECONDS) -> None:
        """Read no more, finish what is with the writer. Blocks until then, or until the time is over.

        What was read and is not yet durable is read again by the next start. Stop the writer after it.
        """
        deadline = time.monotonic() + timeout_seconds
        with ThreadPoolExecutor(len(self._lanes)) as pool:
            list(pool.map(lambda lane: lane.stop(deadline), self._lanes))
        _stop("survey", self._survey.stop, deadline)

    def lag(self) -> dict[Partition, Lag]:
        """How far each partition that is or was read is behind."""
        return self._progress.lag(self._clock.now_us())

    def stopped(self) -> dict[Partition, Stopped]:
        """The partitions that are not read until an operator has decided or permitted something, and why."""
        return self._progress.stopped()

    def _begin(self, starts: Mapping[Partition, Place]) -> None:
        """Read new partitions, too, each in its lane."""
        for lane in self._lanes:
            lane.polling.begin(starts)

    def _leave(self, partitions: Collection[Partition]) -> None:
        """Read these partitions no more, each in its lane."""
        for lane in self._lanes:
            lane.polling.leave(partitions)

    def _poll_age_seconds(self) -> float:
        """Of a lane that has nothing to read, only where no lane has; and no less than since Kafka is away.

        A consumer that has lost its broker goes on polling, and is told nothing: that alone says nothing of Kafka.
        """
        polling = [lane.polling for lane in self._lanes]
        ages = [each.poll_age_seconds() for each in ([each for each in polling if each.reads] or polling)]
        return max(*ages, self._survey.away_seconds())

    def _keep(self, starts: Mapping[Partition, Place]) -> None:
        """Keep where new partitions begin."""

        def keep() -> None:
            with self._store.transaction() as connection:
                for (topic, number), place in starts.items():
                    positions.place(connection, topic, number, place.offset, place.topic_id)
                # Of one that was to be read anew there may be letters that do not say of which topic they are.
                deadletters.learn(
                    connection, {each: place.topic_id for each, place in starts.items() if place.topic_id}
                )

        self._writer.run(keep).result()

    def _learn(self, topic_ids: Mapping[Partition, str]) -> None:
        """Keep which topics positions are of, and what was refused of their partitions."""

        def learn() -> None:
            with self._store.transaction() as connection:
                positions.learn(connection, topic_ids)
                deadletters.learn(connection, topic_ids)

        self._writer.run(learn).result()


def _stop(name: str, stop: Callable[[float], bool], deadline: float) -> None:
    if not stop(max(0.0, deadline - time.monotonic())):
        _LOG.warning("The Kafka intake's %s did not end in time; it is left behind", name)
