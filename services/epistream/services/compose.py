"""Builds every object of a service once, top to bottom, and takes them down in the order that loses nothing.

The only place that knows all parts.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from epistream.indexer.clock import SystemClock
from epistream.indexer.embed import NO_ENCODER
from epistream.indexer.encoder import SentenceTransformerEmbedder
from epistream.indexer.engine import Engine
from epistream.indexer.opening import Opening
from epistream.indexer.outbox import acknowledge
from epistream.services import admin, ingest, knowledge, namespaces, reviews, sync
from epistream.services.calls import Calls, Handler
from epistream.services.collapse_watching import CollapseWatching
from epistream.services.consumers import Consumers
from epistream.services.health import Health, follow_space
from epistream.services.measuring import Measuring
from epistream.services.metrics import Metrics
from epistream.services.metrics_server import MetricsServer
from epistream.services.scrape import OpeningCollector, ServiceCollector
from epistream.services.security.audit import PERMISSION_DENIED, UNAUTHENTICATED, Audit
from epistream.services.security.guard import Guard
from epistream.services.security.tls import Tls, TlsFiles
from epistream.services.server import Server
from epistream.services.settings import Settings, is_loopback
from epistream.services.subscription import Parts
from epistream.services.tracing import Traces
from epistream.services.writer import Prepared, Writer
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import Denied, EpistreamError, InvalidInput, Unavailable
from epistream.wire.kafka_security import KafkaSecurity
from epistream.wire.topics import TOLD, dead_letter_topic

_LOG: Final = logging.getLogger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_LET_GO_SECONDS: Final = 0.5
"""How often is looked whether some of what was put off may go on."""
_LET_GO_SECONDS_MAX: Final = 60.0
"""The same where it fails again and again."""
_ADMIT_SECONDS: Final = 10.0
"""How long the metrics wait for the event loop to say whether somebody may read them."""
_SPARE_CALLS: Final = 500
"""Calls beyond those that are let in, so that who is turned away is told why, and health is answered."""
_SERVICES: Final = (
    ingest.SERVICE,
    knowledge.SERVICE,
    namespaces.SERVICE,
    sync.SERVICE,
    admin.SERVICE,
    reviews.SERVICE,
)
_THREADS: Final = 4
"""Of each pool. Most of the work inside waits for the disk or for the encoder."""


class Part(Protocol):
    """Something that runs beside the server, on threads of its own."""

    def start(self) -> None:
        """Begin. Does not block."""

    def stop(self) -> None:
        """End, and leave nothing undone that was begun. Blocks until then."""


class Service:
    """One service over one data folder. What is built from the store, `start` builds.

    Attributes:
        settings: what it was made with.
        engine: the store, and what is derived from it.
        writer: the thread that writes.
        metrics: what Prometheus reads.
        health: what is told of each service.
        tls: the certificates; None serves in plaintext.
        guard: knows who may call.
        traces: follows submissions; None where nothing is traced.
        collapse_watching: finds who says less and less.
        intake: takes submissions from Kafka; None without it.
        publisher: tells Kafka what happened; None without it.
        measuring: has the signals measured; None where they are not.
    """

    def __init__(self, settings: Settings) -> None:
        """Bind the addresses of the metrics and of health. Call it on the event loop.

        Raises:
            InvalidInput: it is another instance than the one that owns the store; or other machines would reach it,
                and neither TLS and an access file nor `insecure` is set; or a file of these is wrong; or traces are
                wanted and their packages are missing.
            Unavailable: an address is in use.
        """
        _refuse_another_instance(settings)
        _refuse_exposure(settings)
        self.settings = settings
        self.metrics = Metrics()
        self.tls = _make_tls(settings, self.metrics)
        self.guard = Guard(settings.access_file, self.metrics.insecure)
        self._audit = Audit(settings.audit_file, self.metrics.insecure)
        self._clock = SystemClock()
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._failure: EpistreamError | None = None
        self.traces = _make_traces(settings, self._loop)
        self._embedder = _make_embedder(settings.encoder)
        self._encoder_ready = asyncio.Event()
        self._followers: list[asyncio.Task[None]] = []
        self._started: list[Part] = []
        self._opening = Opening()
        self.health = Health(_SERVICES, settings.health_address)
        self._metrics_server: MetricsServer | None = None
        if settings.metrics_address:
            self.metrics.registry.register(OpeningCollector(self._opening))
            self._metrics_server = MetricsServer(
                self.metrics.registry, settings.metrics_address, tls=self.tls, admits=self._admits
            )

    async def _open(self) -> None:
        """Open the store and build what is over it, while health and metrics answer: it may take long."""
        settings = self.settings

        def opened() -> Engine:
            return Engine(
                settings.folder,
                self._embedder,
                clock=self._clock,
                carried=settings.carried(),
                opening=self._opening,
                answer_bytes_max=settings.max_answer_bytes,
            )

        for each in _SIGNALS:
            # Nothing is served yet, and what is half made is made anew by the next start.
            signal.signal(each, _end_at_once)
        self.engine = await asyncio.to_thread(opened)
        try:
            self._compose()
        except BaseException:
            self.engine.close()
            raise

    def _compose(self) -> None:
        settings, engine, metrics = self.settings, self.engine, self.metrics
        prepare, commit, traces = engine.pipeline.prepare, engine.pipeline.commit, self.traces
        engine.store.timed, engine.pipeline.refused = metrics.stored, metrics.refused
        if traces is not None:
            prepare, commit = traces.preparing(prepare), traces.committing(commit)
        self.writer = Writer(commit, committed=self._committed, failed=self._part_failed)
        self._readers = ThreadPoolExecutor(_THREADS, "reader")
        self._lister = ThreadPoolExecutor(1, "review-lister")
        self._pushers = ThreadPoolExecutor(_THREADS, "pusher")
        self._preparers = ThreadPoolExecutor(2 * _THREADS, "preparer")  # as many for each lane
        self._calls = Calls(
            metrics,
            self.guard,
            self._audit,
            calls_max=settings.max_calls,
            unary_seconds=settings.default_call_seconds,
            answer_bytes_max=settings.max_answer_bytes,
        )
        ways = ingest.Ways(prepare, self._preparers, _THREADS, self._encoder_ready, self.writer, self._clock, traces)
        consumers = Consumers()
        parts = Parts(engine.feed, engine.epoch, consumers, metrics, self._clock, self._pushers, traces)
        self._server = self._server_of(self._serve(ways, parts))
        self.collapse_watching = CollapseWatching(engine, self.writer, metrics)
        self._compose_metrics(consumers)
        self.measuring = _make_measuring(settings, engine)
        self.intake: Part | None = None
        self.publisher: Part | None = None
        if settings.kafka is not None:
            self._compose_kafka(settings.kafka)

    def _serve(self, ways: ingest.Ways, parts: Parts) -> dict[str, dict[str, Handler]]:
        """The handlers of every service's methods."""
        settings, engine, metrics = self.settings, self.engine, self.metrics
        takes = ingest.IngestServicer(ways, self._calls, submissions_max=settings.max_submissions_per_call)
        knows = knowledge.KnowledgeServicer(engine.knowledge, self._readers)
        names = namespaces.NamespaceServicer(engine.namespaces, self.writer, self._readers)
        admins = admin.AdminServicer(settings.folder, metrics)
        reviewing = reviews.ReviewServicer(
            engine.reviews, engine.resolutions, self.writer, self._readers, self._lister, metrics, self._clock
        )
        self._sync = sync.SyncServicer(
            parts,
            engine.namespaces,
            streams_max=settings.max_streams,
            progress_interval_seconds=settings.progress_interval_seconds,
        )
        return {
            ingest.SERVICE: takes.handlers(),
            knowledge.SERVICE: knows.handlers(self._calls),
            namespaces.SERVICE: names.handlers(self._calls),
            sync.SERVICE: self._sync.handlers(self._calls),
            admin.SERVICE: admins.handlers(self._calls),
            reviews.SERVICE: reviewing.handlers(self._calls),
        }

    def _compose_metrics(self, consumers: Consumers) -> None:
        self._collector = self._collector_of(consumers)
        self.metrics.registry.register(self._collector)

    def _server_of(self, services: Mapping[str, Mapping[str, Handler]]) -> Server:
        settings = self.settings
        return Server(
            settings.address,
            services,
            max_message_bytes=settings.max_message_bytes,
            calls_max=settings.max_calls + settings.max_streams + _SPARE_CALLS,
            credentials=self.tls.grpc_credentials() if self.tls is not None else None,
            connection_seconds=settings.connection_seconds,
            window_bytes=settings.receive_window_bytes,
            healthy=self.health.add_to,
            reflects=not self.guard.guarded if settings.reflection is None else settings.reflection,
        )

    def _compose_kafka(self, bootstrap: str) -> None:
        # Imported here: a service without Kafka needs none of its packages.
        from epistream.services.kafka.intake import Intake
        from epistream.services.kafka.metrics import KafkaMetrics
        from epistream.services.kafka.publishing import Publishing
        from epistream.services.kafka.survey import Source

        settings, engine = self.settings, self.engine
        told = (*TOLD, *map(dead_letter_topic, settings.kafka_topics))
        metrics = KafkaMetrics(self.metrics.registry, told)
        security = settings.security_of_kafka()
        warn_of_plaintext(bootstrap, security)
        source = Source(bootstrap, settings.kafka_topics, settings.kafka_group, settings.kafka_start, security)
        self.intake = Intake(
            source,
            engine.pipeline,
            engine.store,
            self.writer,
            metrics,
            failed=self._part_failed,
            people=settings.topics_of_people(),
            clock=self._clock,
            traces=self.traces,
        )
        self.publisher = Publishing(
            bootstrap,
            settings.folder,
            lambda cursor: self.writer.run(lambda: acknowledge(engine.store, cursor)).result(),
            engine.feed.subscribe_to_commits,
            metrics,
            group=settings.kafka_group,
            submission_topics=settings.kafka_topics,
            security=security,
        )

    async def start(self) -> None:
        """Open the store and begin to serve: when this returns, the service answers. Kafka need not be there yet.

        Health and the metrics answer at once. A signal ends the process at once until the store is open.

        Raises:
            Unavailable: the folder or an address is in use, the disk is full, or the system refuses something. What
                was begun has ended then.
            Broken: the store cannot be read.
        """
        await self.health.start()
        try:
            await self._open()
        except BaseException:
            await self.health.stop()
            self._stop_metrics()
            raise
        self._opening.end()
        for each in _SIGNALS:
            self._loop.add_signal_handler(each, self._signalled)
        self.writer.start()
        try:
            await self._begin()
        except BaseException as error:
            await self.stop()
            if isinstance(error, (OSError, RuntimeError)):  # such as that a thread cannot be started
                raise Unavailable(f"the service cannot start: {error}") from error
            raise

    async def _begin(self) -> None:
        """Serve, and start what runs beside it."""
        self._sync.start()
        if self.guard.guarded:
            self._follow(self.guard.keep_reading())
        if self._embedder is None:
            self._encoder_ready.set()
        else:
            threading.Thread(target=self._load_encoder, name="encoder-loading", daemon=True).start()
        await self._server.start()
        self.health.serving()
        self._follow(follow_space(self.health, ingest.SERVICE, self.engine.store, self.writer))
        self._follow(self._let_go())
        for part in (self.collapse_watching, self.intake, self.publisher, self.measuring):
            if part is not None:
                part.start()
                self._started.append(part)
        if self.settings.addresses_file is not None:
            self._write_addresses(self.settings.addresses_file)

    def _follow(self, following: Coroutine[Any, Any, None]) -> None:
        self._followers.append(asyncio.create_task(following))

    async def _let_go(self) -> None:
        """Have what was put off and may go on decided, in commits between which others are written.

        A policy was changed, or more may go on than goes with what made room for it; also where a kill came before.
        """
        pause = _LET_GO_SECONDS
        while True:
            decided = 0
            for name in [] if self.engine.store.full else self.engine.pipeline.behind():
                try:
                    decided += await asyncio.wrap_future(self.writer.run(partial(self.engine.pipeline.let_go, name)))
                    pause = _LET_GO_SECONDS
                except EpistreamError:  # nothing can be written now, or not of this one: later, or by the next start
                    pause = min(2 * pause, _LET_GO_SECONDS_MAX)
            await asyncio.sleep(0 if decided else pause)

    async def stopped(self) -> int:
        """Wait for a signal to stop, or a failure; then stop. A second signal ends the process at once.

        Returns:
            The process's exit code: 0 after a signal, 1 after a failure.
        """
        await self._stopping.wait()
        await self.stop()
        return 1 if self._failure is not None else 0

    async def stop(self) -> None:
        """Go down in the order that loses nothing: no new calls, calls in flight, Kafka, the writer, the store."""
        self.health.not_serving()
        self._calls.draining.set()
        self._sync.drain()
        if self.intake is not None and self.intake in self._started:
            await asyncio.to_thread(self.intake.stop)
        if not await self._calls.drained(self.settings.drain_seconds):
            _LOG.warning("Some calls did not end within %g seconds and are cut off", self.settings.drain_seconds)
        await self._server.stop()
        await self.health.stop()
        self._sync.stop()
        for each in self._followers:
            each.cancel()
        for part in (self.publisher, self.measuring, self.collapse_watching):
            if part is not None and part in self._started:
                await asyncio.to_thread(part.stop)
        await asyncio.to_thread(self.writer.stop)
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for pool in (self._readers, self._lister, self._pushers, self._preparers):
            pool.shutdown(cancel_futures=True)
        self._stop_metrics()
        self._collector.close()  # an answer that was begun may still be read
        if self._embedder is not None:
            self._embedder.close()
        self.engine.close()
        self._audit.close()
        if self.traces is not None:
            self.traces.stop()

    def _stop_metrics(self) -> None:
        if self._metrics_server is not None:
            self._metrics_server.stop()

    @property
    def address(self) -> str:
        """Where gRPC is served."""
        return self._server.address

    @property
    def metrics_address(self) -> str:
        """Where Prometheus reads; empty for nowhere."""
        return self._metrics_server.address if self._metrics_server is not None else ""

    @property
    def health_address(self) -> str:
        """Where the health service is served alone; empty for nowhere."""
        return self.health.address

    def _admits(self, token: str | None, peer: str) -> bool:
        """Whether somebody may read the metrics; called on the metrics' threads."""

        async def asked() -> bool:
            who, code = None, UNAUTHENTICATED
            with contextlib.suppress(Denied):
                caller = self.guard.caller_with(token)
                if caller.may_monitor():
                    return True
                self.metrics.insecure("permission_denied")
                who, code = caller.name, PERMISSION_DENIED
            self._audit.record({"principal": who, "peer": peer, "method": "metrics", "code": code})
            return False

        return not self.guard.guarded or asyncio.run_coroutine_threadsafe(asked(), self._loop).result(_ADMIT_SECONDS)

    def _signalled(self) -> None:
        for each in _SIGNALS:
            self._loop.remove_signal_handler(each)
            signal.signal(each, _end_at_once)
        _LOG.info("Going down; a second signal ends the process at once")
        self._stopping.set()

    def _load_encoder(self) -> None:
        try:
            if self._embedder is not None:
                self._embedder.load()
        except EpistreamError as error:
            _LOG.critical("The encoder cannot be loaded; the service stops: %s", error)
            self._loop.call_soon_threadsafe(self._fail, error)
        else:
            self._loop.call_soon_threadsafe(self._encoder_ready.set)

    def _part_failed(self, error: EpistreamError) -> None:
        self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: EpistreamError) -> None:
        self._failure = error
        self._stopping.set()

    def _committed(self, prepared: Sequence[Prepared], receipts: Sequence[pb.Receipt], seconds: float) -> None:
        self.metrics.committed(prepared, receipts, seconds, self._clock.now_us())

    def _collector_of(self, consumers: Consumers) -> ServiceCollector:
        return ServiceCollector(
            self.engine,
            self.writer,
            consumers,
            self._clock,
            encoder_ready=lambda: self._embedder is not None and self._embedder.ready,
            certificate_not_after=self.tls.not_after if self.tls is not None else None,
            with_outbox=self.settings.kafka is not None,
        )

    def _write_addresses(self, path: Path) -> None:
        """Whoever waits for the file finds all of it or nothing."""
        addresses = {
            "address": self.address,
            "metrics_address": self.metrics_address,
            "health_address": self.health_address,
            "pid": os.getpid(),
        }
        unfinished = path.with_name(f"{path.name}.{os.getpid()}")
        unfinished.write_text(json.dumps(addresses) + "\n")
        unfinished.replace(path)


def warn_of_plaintext(bootstrap: str, security: KafkaSecurity) -> None:
    """Say in the log when what goes to Kafka and comes from it can be read, and changed, by others."""
    from epistream.clients.kafka_client import broker_list

    if not security.encrypts and not all(map(is_loopback, broker_list(bootstrap))):
        _LOG.warning(
            "Kafka at %s is on other machines, and nothing is encrypted: whoever is on the way reads along, and can "
            "change what becomes known. Set kafka_security to SASL_SSL or SSL",
            bootstrap,
        )


def _make_embedder(name: str) -> SentenceTransformerEmbedder | None:
    return None if name == NO_ENCODER else SentenceTransformerEmbedder(name)


def _make_traces(settings: Settings, loop: asyncio.AbstractEventLoop) -> Traces | None:
    if not settings.trace_endpoint:
        return None
    return Traces(settings.trace_endpoint, settings.trace_ratio, loop.call_soon_threadsafe)


def _end_at_once(number: int, _frame: object) -> None:
    """A handler of our own: as the first process of a container it would ignore a signal that has none."""
    os._exit(128 + number)


def _make_measuring(settings: Settings, engine: Engine) -> Part | None:
    seconds = settings.signals_interval_seconds
    return Measuring(engine, settings.folder, seconds) if seconds else None


def _make_tls(settings: Settings, metrics: Metrics) -> Tls | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    files = TlsFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    return Tls(files, metrics.insecure)


def _refuse_another_instance(settings: Settings) -> None:
    """Before there is a folder: a second pod has an empty volume of its own, and would answer that nothing is known."""
    if settings.instance_index:
        raise InvalidInput.at(
            "instance_index",
            f"this is instance {settings.instance_index}, and one instance, 0, owns the store: another would begin an"
            " empty store and answer beside it under the same name. Scale back to 1:"
            " kubectl scale statefulset epistream --replicas=1 -n NAMESPACE",
        )


def _refuse_exposure(settings: Settings) -> None:
    """Health is no matter: it says which services there are and whether they answer."""
    lacks = [
        what
        for what, value in (("TLS (--tls-cert-file)", settings.tls_cert_file), ("--access-file", settings.access_file))
        if value is None
    ]
    for field in ("address", "metrics_address"):
        address = getattr(settings, field)
        if address and lacks and not settings.insecure and not is_loopback(address):
            raise InvalidInput.at(
                field,
                f"{address} can be reached from other machines, without {' and without '.join(lacks)}: set what is"
                " missing, take 127.0.0.1, or set --insecure if everybody on the network is trusted",
            )
