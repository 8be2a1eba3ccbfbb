"""Traces: the way of some submissions, from the producer to the push, as spans for a collector of OpenTelemetry's.

The only place that knows OpenTelemetry, and without `trace_endpoint` it is never imported. The stages know nothing of
this: where traces are wanted, the service gives its parts stages that are wrapped here, else the stages themselves.

    a producer's span
    └─ epistream.receive     from when the record was read, or the call came, until it was durable, or answered
       ├─ epistream.prepare  the batch that it was prepared in
       └─ epistream.commit   the group that it was committed in
          └─ epistream.push  one for each subscription that it was sent to, of the first few

What belongs to a trace is told by the record itself, a `Followed`: so nothing has to be looked up while it is on its
way, and whatever becomes of it, nothing is left behind. Only a push has no record any more; `traced_changes` knows.
"""

import contextlib
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from epistream.indexer.feed import Batch
from epistream.indexer.model import Arrived, Embedded, Malformed, Record, record_of
from epistream.services.traced_changes import Push, TracedChanges
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import InvalidInput

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

_LOG: Final = logging.getLogger(__name__)

Prepared: TypeAlias = Embedded | Malformed
Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]
_Attributes: TypeAlias = dict[str, str | int]

BEGUN_PER_SECOND_MAX: Final = 100
"""How many traces are followed of what comes in a second: a producer that has everything followed slows nobody down."""
PUSHES_MAX: Final = 16
"""How many pushes of a trace are told."""
_HELD_MAX: Final = 1000
"""How many pushes wait for the end of the commit that they may belong to."""
_STOP_SECONDS: Final = 2.0
_HEADERS: Final = {
    "traceparent": "traceparent",
    "tracestate": "tracestate",
    "ce_traceparent": "traceparent",
    "ce_tracestate": "tracestate",
}
"""What W3C's headers are called, also as CloudEvents' extension has them."""
_CHANGED: Final = (pb.OUTCOME_ADMITTED, pb.OUTCOME_REVISED)


class Prepare(Protocol):
    """`Pipeline.prepare`."""

    def __call__(self, records: Sequence[Arrived], *, wait: bool = True) -> list[Prepared]:
        """Any thread; blocks for the encoder."""


class Commit(Protocol):
    """`Pipeline.commit`."""

    def __call__(self, prepared: Sequence[Prepared], *, atomic: bool = False) -> list[pb.Receipt]:
        """Decide and write, durably; one receipt each, in order."""


class Trace:
    """One way through the service: of a Kafka record, or of a call with all its submissions."""

    def __init__(self, tracer: "Tracer", receive: "Span", *, until_durable: bool) -> None:
        """`until_durable`: it ends with the commit; else whoever began it ends it."""
        self._tracer, self._receive, self._until_durable = tracer, receive, until_durable
        self._context, self._commit = _within(receive), _within(receive)
        self._pushes = 0

    def follow(self, record: Record) -> "Followed":
        """The record, as part of this trace."""
        came = (record.value, record.received_us, record.headers, record.key, record.timestamp_us, record.position)
        return Followed(*came, self)

    def prepared(self, begun_ns: int, batch_size: int, error: BaseException | None) -> None:
        """Tell that it was prepared just now, or could not be."""
        self._tell("epistream.prepare", begun_ns, {"epistream.batch_size": batch_size}, error)

    def committed(self, begun_ns: int, attributes: _Attributes, error: BaseException | None = None) -> None:
        """Tell that it was committed just now, or could not be."""
        self._commit = _within(self._tell("epistream.commit", begun_ns, attributes, error))
        if error is None and self._until_durable:
            self.end()

    def pushed(self, push: Push, revision: int) -> None:
        """Tell that something of it was sent to a subscription."""
        from opentelemetry.trace import SpanKind

        if self._pushes == PUSHES_MAX:
            return
        self._pushes += 1
        attributes: _Attributes = {
            "epistream.namespace": push.namespace,
            "epistream.consumer": push.consumer,
            "epistream.revision": revision,
            "epistream.batch_size": push.batch.count,
        }
        self._tracer.start_span(
            "epistream.push", self._commit, SpanKind.PRODUCER, attributes, start_time=push.begun_ns
        ).end(push.ended_ns)

    def end(self, error: BaseException | None = None) -> None:
        """Tell that it is over."""
        _mark(self._receive, error)
        self._receive.end()

    def _tell(self, name: str, begun_ns: int, attributes: _Attributes, error: BaseException | None) -> "Span":
        span = self._tracer.start_span(name, self._context, attributes=attributes, start_time=begun_ns)
        _mark(span, error)
        span.end()
        return span


@dataclass(frozen=True, slots=True)
class Followed(Record):
    """A record that belongs to a trace."""

    trace: Trace | None = None


@contextlib.contextmanager
def receiving(
    traces: "Traces | None", method: str, metadata: Callable[[], Metadata | None], submissions: int
) -> Iterator[Trace | None]:
    """The trace of a call, or of a batch of a stream, while the block runs; None when it is not followed."""
    trace = traces.called(method, metadata() or (), submissions) if traces is not None else None
    if trace is None:
        yield None
        return
    try:
        yield trace
    except BaseException as error:
        trace.end(error)
        raise
    trace.end()


class Traces:
    """Begins traces, wraps the stages so that they tell of what is followed, and has a thread that sends the spans."""

    def __init__(self, endpoint: str, ratio: float, soon: Callable[[Callable[[], None]], object]) -> None:
        """Connects later, and again whenever it must. While the collector is away, spans are lost.

        Args:
            endpoint: of a collector that takes OTLP over gRPC, such as `http://127.0.0.1:4317`.
            ratio: of what comes without a trace of its producer's, which share is followed; 0 to 1.
            soon: has something called on the event loop's thread.

        Raises:
            InvalidInput: the packages are missing.
        """
        try:
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            self._exporter = _exporter(endpoint)
            self._provider = _provider(self._exporter)
        except ImportError as error:
            raise InvalidInput.at(
                "trace_endpoint", "traces need packages that are not installed: pip install 'epistream[tracing]'"
            ) from error
        self._tracer: Tracer = self._provider.get_tracer("epistream")
        self._propagator = TraceContextTextMapPropagator()
        self._ratio, self._soon = ratio, soon
        self._counting = threading.Lock()
        self._second, self._begun = 0, 0
        self._changes: TracedChanges[Trace] = TracedChanges()
        self._commits = 0
        """How many commits with something followed have begun."""
        self._committing = False
        """Whether the last of them goes on."""
        self._held: deque[tuple[int, Push]] = deque(maxlen=_HELD_MAX)
        """Pushes that are not told yet, and how many commits had begun; of the event loop's thread."""

    def stop(self) -> None:
        """Send what is left, if the collector takes it soon. Blocks for a few seconds at most."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces-ending", daemon=True)
        ending.start()
        ending.join(_STOP_SECONDS)
        if ending.is_alive():
            self._exporter.shutdown()  # it gives up what it is trying
            ending.join(_STOP_SECONDS)

    def arrived(self, arrived: Arrived) -> Arrived:
        """A record that was read from Kafka just now, as part of its trace if it is followed."""
        record = record_of(arrived)
        parent = self._parent(record.headers)
        if parent is None:
            return arrived
        followed = self._trace_of_record(parent, record).follow(record)
        return followed if isinstance(arrived, Record) else replace(arrived, record=followed)

    def called(self, method: str, metadata: Metadata, submissions: int) -> Trace | None:
        """The trace of a call that has just come, for its caller to end; None when it is not followed."""
        from opentelemetry.trace import SpanKind

        parent = self._parent(metadata)
        if parent is None:
            return None
        attributes: _Attributes = {"rpc.method": method, "epistream.submissions": submissions}
        span = self._tracer.start_span("epistream.receive", parent, SpanKind.SERVER, attributes)
        return Trace(self._tracer, span, until_durable=False)

    def preparing(self, prepare: Prepare) -> Prepare:
        """`Pipeline.prepare`, which tells of what is followed."""

        def traced(records: Sequence[Arrived], *, wait: bool = True) -> list[Prepared]:
            traces = _by_trace(records)
            if not traces:
                return prepare(records, wait=wait)
            begun_ns = time.time_ns()
            error: BaseException | None = None
            try:
                return prepare(records, wait=wait)
            except BaseException as failed:
                error = failed
                raise
            finally:
                for trace in traces:
                    trace.prepared(begun_ns, len(records), error)

        return traced

    def committing(self, commit: Commit) -> Commit:
        """`Pipeline.commit`, which tells of what is followed. Only the writer thread."""

        def traced(prepared: Sequence[Prepared], *, atomic: bool = False) -> list[pb.Receipt]:
            traces = _by_trace(prepared)
            if not traces:
                return commit(prepared, atomic=atomic)
            begun_ns = time.time_ns()
            self._commits += 1
            self._committing = True
            try:
                receipts = commit(prepared, atomic=atomic)
            except BaseException as error:
                for trace in traces:
                    trace.committed(begun_ns, {"epistream.batch_size": len(prepared)}, error)
                raise
            else:
                self._tell_committed(traces, receipts, begun_ns)
            finally:
                self._committing = False
                number = self._commits
                self._soon(lambda: self._tell_pushes(number))
            return receipts

        return traced

    def pushed(self, namespace: str, consumer: str, after: int, batch: Batch, begun_ns: int) -> None:
        """A subscription was sent changes just now. Only the event loop's thread."""
        if self._committing or self._changes:
            push = Push(namespace, consumer, after, batch, begun_ns, time.time_ns())
            self._held.append((self._commits, push))
            # A commit wakes subscriptions before it is known here what was in it: then the push is told at its end.
            if not self._committing:
                self._tell_pushes(self._commits)

    def _parent(self, carried: Metadata) -> "Context | None":
        """Where a new trace's first span belongs: in the producer's, or nowhere. None when it is not to be followed."""
        from opentelemetry.context import Context
        from opentelemetry.trace import get_current_span

        wanted = random.random() < self._ratio  # noqa: S311 - a sample, it hides nothing
        parent = Context()
        if headers := _trace_headers(carried):
            parent = self._propagator.extract(headers, parent)
            producers = get_current_span(parent).get_span_context()
            if producers.is_valid:
                wanted = producers.trace_flags.sampled
        return parent if wanted and self._may_begin() else None

    def _may_begin(self) -> bool:
        with self._counting:
            second = int(time.monotonic())
            self._second, self._begun = second, self._begun + 1 if second == self._second else 1
            return self._begun <= BEGUN_PER_SECOND_MAX

    def _trace_of_record(self, parent: "Context", record: Record) -> Trace:
        from opentelemetry.trace import SpanKind

        attributes: _Attributes = {"messaging.system": "kafka"}
        if (at := record.position) is not None:
            attributes |= {
                "messaging.destination.name": at.topic,
                "messaging.destination.partition.id": str(at.partition),
                "messaging.kafka.offset": at.offset,
            }
        begun_ns = record.received_us * 1000
        span = self._tracer.start_span("epistream.receive", parent, SpanKind.CONSUMER, attributes, start_time=begun_ns)
        return Trace(self._tracer, span, until_durable=True)

    def _tell_committed(
        self, traces: Mapping[Trace, Sequence[int]], receipts: Sequence[pb.Receipt], begun_ns: int
    ) -> None:
        try:
            for trace, places in traces.items():
                mine = [receipts[place] for place in places]
                trace.committed(begun_ns, _attributes(mine, len(receipts)))
                for receipt in mine:
                    if receipt.outcome in _CHANGED and not receipt.earlier:
                        self._changes.add(receipt.namespace, receipt.revision, trace)
        except Exception:  # noqa: BLE001 - what was committed is durable, whatever comes of telling it
            _LOG.exception("A commit could not be traced")

    def _tell_pushes(self, commits: int) -> None:
        """Tell the pushes that came before one more commit had begun. Only the event loop's thread."""
        while self._held and self._held[0][0] <= commits:
            _, push = self._held.popleft()
            for trace, revision in self._changes.within(push).items():
                trace.pushed(push, revision)


def _by_trace(records: Sequence[Arrived | Prepared]) -> dict[Trace, list[int]]:
    """The places of what belongs to each trace."""
    found: dict[Trace, list[int]] = {}
    for place, one in enumerate(records):
        record = record_of(one)
        if isinstance(record, Followed) and record.trace is not None:
            found.setdefault(record.trace, []).append(place)
    return found


def _trace_headers(carried: Metadata) -> dict[str, str]:
    """W3C's headers, where they are among others; their own names go before CloudEvents'."""
    found: dict[str, str] = {}
    for name, value in carried:
        lower = name.lower()
        meant = _HEADERS.get(lower)
        if meant is not None and (lower == meant or meant not in found):
            found[meant] = value if isinstance(value, str) else value.decode("ascii", "replace")
    return found


def _attributes(receipts: Sequence[pb.Receipt], batch_size: int) -> _Attributes:
    """What a commit is told with: of several submissions what they have in common, and every outcome."""
    outcomes = sorted({pb.Outcome.Name(receipt.outcome).removeprefix("OUTCOME_") for receipt in receipts})
    reasons = sorted({pb.Reason.Name(r.reason).removeprefix("REASON_") for r in receipts if r.reason})
    namespaces = sorted({receipt.namespace for receipt in receipts})
    attributes: _Attributes = {
        "epistream.batch_size": batch_size,
        "epistream.submissions": len(receipts),
        "epistream.outcome": ",".join(outcomes),
        "epistream.namespace": ",".join(namespaces),
    }
    if reasons:
        attributes["epistream.reason"] = ",".join(reasons)
    if revision := max(receipt.revision for receipt in receipts):
        attributes["epistream.revision"] = revision
    if len(receipts) == 1 and receipts[0].item_id:
        attributes["epistream.item"] = receipts[0].item_id
    return attributes


def _within(span: "Span") -> "Context":
    from opentelemetry.context import Context
    from opentelemetry.trace import set_span_in_context

    return set_span_in_context(span, Context())


def _mark(span: "Span", error: BaseException | None) -> None:
    """Say what kind of error it was; its text may have something of what was submitted in it."""
    from opentelemetry.trace import StatusCode

    if error is not None:
        span.set_status(StatusCode.ERROR, type(error).__name__)


def _provider(exporter: "SpanExporter") -> "TracerProvider":
    """Of our own: whoever else uses OpenTelemetry in this process is left alone."""
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    named = Resource.create({SERVICE_VERSION: version("epistream")})
    if str(named.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        named = named.merge(Resource({SERVICE_NAME: "epistream"}))
    # What is followed is decided before a span is made.
    provider = TracerProvider(ALWAYS_ON, named, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporter(endpoint: str) -> "SpanExporter":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    class Telling(OTLPSpanExporter):
        """Says once that the collector is away, and once that it is back."""

        away = False

        def export(self, spans: Any) -> SpanExportResult:
            result = super().export(spans)
            if (failed := result is not SpanExportResult.SUCCESS) != self.away:
                self.away = failed
                if failed:
                    _LOG.warning("The collector at %s takes no traces; until it does they are lost", endpoint)
                else:
                    _LOG.info("The collector at %s takes traces again", endpoint)
            return result

    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it reports each attempt; we say it once
    return Telling(endpoint)
