"""What a client says of its caller's trace."""

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from epistream.clients.tracing import HEADER, traceparent


def test_without_a_span_nothing_is_said() -> None:
    assert traceparent() is None


def test_the_active_span_is_told_as_opentelemetry_itself_does() -> None:
    for provider in (TracerProvider(shutdown_on_exit=False), TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)):
        with provider.get_tracer("tests").start_as_current_span("send"):
            theirs: dict[str, str] = {}
            TraceContextTextMapPropagator().inject(theirs)
            assert theirs == {HEADER: traceparent()}
        provider.shutdown()
