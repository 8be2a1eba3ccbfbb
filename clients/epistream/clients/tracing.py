"""Where a caller stands in a trace of OpenTelemetry's, so that what it sends is found in the same trace.

OpenTelemetry is never imported here: who has begun a span has it.
"""

import sys
from typing import Final

HEADER: Final = "traceparent"
"""W3C's name, in the headers of a Kafka record and in the metadata of a call."""
_MODULE: Final = "opentelemetry.trace"


def traceparent() -> str | None:
    """The span that is active in the caller, as W3C writes it; None without one, or without OpenTelemetry."""
    trace = sys.modules.get(_MODULE)
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
