"""A collector of traces: a real server of OTLP over gRPC on this machine, which keeps what it is sent.

with collector() as collected:
    with running_service(folder, trace_endpoint=collected.endpoint): ...
    collected.await_trace(trace_id, "epistream.push")
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as api
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import Tracer

PATIENCE_SECONDS: Final = 30.0
PRODUCER: Final = "test-producer"


@dataclass(frozen=True, slots=True)
class Span:
    """A span as it came, and whose it is."""

    service: str
    span: trace_pb2.Span

    @property
    def name(self) -> str:
        """What it is called."""
        return self.span.name

    def attributes(self) -> dict[str, str | int]:
        """What is told with it."""
        return {
            one.key: one.value.int_value if one.value.HasField("int_value") else one.value.string_value
            for one in self.span.attributes
        }


@dataclass(slots=True)
class Collector:
    """What was sent. Threads may share it."""

    address: str = ""
    spans: list[Span] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def endpoint(self) -> str:
        """Where it is."""
        return f"http://{self.address}"

    def of_trace(self, trace_id: int) -> list[Span]:
        """The spans of a trace that have come."""
        with self.changed:
            return [one for one in self.spans if one.span.trace_id == trace_id.to_bytes(16, "big")]

    def await_named(self, name: str, trace_id: int | None = None, count: int = 1) -> list[Span]:
        """The spans of a name, in a trace or anywhere, when there are so many; fails when they do not come."""

        def found() -> list[Span]:
            among = self.spans if trace_id is None else self.of_trace(trace_id)
            return [one for one in among if one.name == name]

        with self.changed:
            assert self.changed.wait_for(lambda: len(found()) >= count, PATIENCE_SECONDS), (
                f"{count} spans {name} did not come; there are {[one.name for one in self.spans]}"
            )
            return found()


class _Servicer:
    def __init__(self, kept: Collector) -> None:
        self._kept = kept

    def Export(self, request: Any, context: object) -> Any:  # noqa: N802, ARG002 - the name and form of the protocol
        with self._kept.changed:
            for resource in request.resource_spans:
                named = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self._kept.spans += [Span(named["service.name"], span) for span in scope.spans]
            self._kept.changed.notify_all()
        return api.ExportTraceServiceResponse()


@contextmanager
def collector(address: str = "127.0.0.1:0") -> Iterator[Collector]:
    """One that takes spans while the block runs."""
    kept = Collector()
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    add: Any = rpc.add_TraceServiceServicer_to_server
    add(_Servicer(kept), server)
    kept.address = f"127.0.0.1:{server.add_insecure_port(address)}"
    server.start()
    try:
        yield kept
    finally:
        server.stop(None).wait()


@contextmanager
def producers_tracer(endpoint: str, *, sampled: bool = True) -> Iterator[Tracer]:
    """A producer's own tracer, with OpenTelemetry's SDK, which sends each span at once."""
    provider = TracerProvider(
        ALWAYS_ON if sampled else ALWAYS_OFF, Resource({"service.name": PRODUCER}), shutdown_on_exit=False
    )
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint)))
    try:
        yield provider.get_tracer("tests")
    finally:
        provider.shutdown()
