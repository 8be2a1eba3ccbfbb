"""Whatever the headers of a record say, of traces or of where it came from, they are understood or left aside."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epistream.indexer.model import Position, Record
from epistream.services.kafka.redrive import ATTEMPTS_HEADER, way_back
from epistream.services.tracing import Followed, Traces
from epistream.wire.topics import EXPERT, dead_letter_topic

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LETTERS = dead_letter_topic(EXPERT)
NAMES = st.sampled_from(
    [f"epistream-dlq-{what}" for what in ("original-topic", "reason", "error")] + [ATTEMPTS_HEADER, "x", "é"]
)
VALUES = st.one_of(
    st.none(), st.binary(max_size=20), st.sampled_from([EXPERT.encode(), b"a", b"7", b"9" * 30, b"\xff"])
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_a_dead_letter_goes_back_where_it_came_from_with_its_own_headers_or_nowhere(
    headers: list[tuple[str, bytes | None]],
) -> None:
    assert_goes_back_or_nowhere(headers)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([("epistream-dlq-original-topic", b"\xff")], id="a topic that is not UTF-8"),
        pytest.param([("epistream-dlq-original-topic", None)], id="a topic without a value"),
        pytest.param(
            [("epistream-dlq-original-topic", EXPERT.encode()), (ATTEMPTS_HEADER, b"9" * 5000)],
            id="more attempts than Python reads",
        ),
    ],
)
def test_headers_found_by_fuzzing_lead_back_or_nowhere(headers: list[tuple[str, bytes | None]]) -> None:
    assert_goes_back_or_nowhere(headers)


def assert_goes_back_or_nowhere(headers: list[tuple[str, bytes | None]]) -> None:
    back = way_back(LETTERS, headers)
    said = [value for name, value in headers if name == "epistream-dlq-original-topic"]
    if back is None:
        assert not said or said[-1] != EXPERT.encode()
        return
    assert (back.topic, said[-1]) == (EXPERT, EXPERT.encode())
    *own, (name, attempts) = back.headers
    assert own == [(n, v or b"") for n, v in headers if not n.startswith("epistream-dlq-") and n != ATTEMPTS_HEADER]
    assert (name, int(attempts) > 0) == (ATTEMPTS_HEADER, True)


@pytest.mark.parametrize("topic", ["", "a", "a b", "../a", EXPERT + "x", "é" * 300])
def test_a_dead_letter_goes_to_no_topic_whose_letters_are_elsewhere(topic: str) -> None:
    """Else whoever may write a dead letter could write, by the hands of who redrives, to any topic."""
    assert way_back(LETTERS, [("epistream-dlq-original-topic", topic.encode())]) is None


@pytest.fixture(scope="module")
def traces() -> Iterator[Traces]:
    """To a collector that is not there: nothing here comes to its end, so nothing is sent."""
    traces = Traces("http://127.0.0.1:9", 0.0, lambda call: call())
    yield traces
    traces.stop()


@st.composite
def nearly_right(draw: st.DrawFn) -> bytes:
    """A traceparent with some characters instead of others."""
    value = SAMPLED.encode()
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(value)))
        value = value[:at] + draw(st.binary(max_size=3)) + value[at + draw(st.integers(0, 3)) :]
    return value


trace_names = st.sampled_from(["traceparent", "Traceparent", "tracestate", "ce_traceparent", "ce_tracestate"])
trace_values = st.one_of(
    nearly_right(), st.binary(max_size=60), st.sampled_from([b"a=1,b=2", b"=" * 600, b"a=" + b"\xff"])
)


@given(st.lists(st.tuples(trace_names, trace_values), max_size=4))
def test_any_traceparent_is_followed_or_not(traces: Traces, headers: list[tuple[str, bytes]]) -> None:
    record = Record(b"value", 0, tuple(headers), position=Position("a", 0, 0))
    arrived = traces.arrived(record)
    assert isinstance(arrived, Record)
    assert (arrived.value, arrived.headers) == (record.value, record.headers)
    if isinstance(arrived, Followed):
        assert any(name.lower().endswith("traceparent") for name, _ in headers)
    spoken = [(name, value.decode("latin-1")) for name, value in headers]
    assert traces.called("Submit", spoken, 1) is None or spoken
