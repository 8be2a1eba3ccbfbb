"""Whatever a record is, it is mapped, or refused by the one error that says what is wrong with it."""

import copy
import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson
from hypothesis import example, given
from hypothesis import strategies as st

from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.mapping import parse
from epistream.clients.sources.record import UnreadableRecord
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import WORKS
from epistream.clients.sources.templates import WrongMapping
from epistream.clients.sources.work import Work
from epistream.indexer.rules import violations
from epistream.v1 import knowledge_pb2 as pb
from tests.support.fuzzing import examples
from tests.support.source_mappings import mapped
from tests.support.source_shapes import OTHER_SHAPES

TEXTS = st.text(st.characters(), max_size=12) | st.sampled_from(
    [
        "1",
        "0.5",
        "2024-05-01",
        "\0",
        "\ud800",
        " ",
        "x" * 3000,
        "{",
        '{"a": 1}',
        "[]",
        "2/3",
        "https://a.example/b c",
        "é/ü",
    ]
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([10**400, -(2**63), 2**53 + 1]),
        st.floats(),
        TEXTS,
        st.binary(max_size=9),
        st.datetimes(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=10,
)
RECORDS = [(work, EXAMPLES[work.name]) for work in WORKS] + [
    (work, record) for work in WORKS for name, record, *_ in OTHER_SHAPES if work.name == name
]
RECORDS += mapped()


def places(record: Any) -> list[tuple[str | int, ...]]:
    """The paths of all values in a record."""
    found: list[tuple[str | int, ...]] = []
    steps: list[Any] = []
    if isinstance(record, dict):
        steps = list(record)
    elif isinstance(record, list):
        steps = list(range(len(record)))
    for step in steps:
        found.append((step,))
        found += [(step, *more) for more in places(record[step])]
    return found


@st.composite
def nearly_right(draw: st.DrawFn) -> tuple[Work, Any]:
    """A record as it should be, with some values replaced or taken out, and some added."""
    work, record = draw(st.sampled_from(RECORDS))
    record = copy.deepcopy(record)
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(places(record)))
        inside = record
        for step in above:
            inside = inside[step]
        if draw(st.booleans()) or isinstance(inside, list):
            inside[last] = draw(VALUES)
        else:
            del inside[last]
        if not isinstance(record, dict) or not places(record):
            break
    record.update(draw(st.dictionaries(TEXTS, VALUES, max_size=2)))
    return work, record


def assert_taken_or_refused(work: Work, record: Any) -> None:
    try:
        made = submissions(work, record)
    except UnreadableRecord as error:
        error.message.encode()
        return
    for one in made:
        MessageToJson(one)
        assert one.ByteSize() <= 1 << 20
        one.namespace = "n"
        assert violations(one) == ()
        if one.HasField("feedback"):
            continue
        assert one.details.ByteSize() <= 64 * 1024
        for media in one.further_media:
            alike = pb.Submission()
            alike.CopyFrom(one)
            alike.media.CopyFrom(media)
            assert violations(alike) == ()
        for media in (one.media, *one.further_media):
            assert len(media.role) <= 100
            assert not media.HasField("end") or media.start.ToNanoseconds() <= media.end.ToNanoseconds()
    assert submissions(work, copy.deepcopy(record)) == submissions(work, record)


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
@examples(20, long=100)
@given(VALUES)
@example({})
@example([])
@example({"text": [[[[]]]] * 40})
def test_any_value_is_mapped_or_refused(work: Work, record: Any) -> None:
    assert_taken_or_refused(work, record)


@given(nearly_right())
def test_a_record_that_is_nearly_right_is_mapped_or_refused(drawn: tuple[Work, Any]) -> None:
    assert_taken_or_refused(*drawn)


@pytest.mark.parametrize(("work", "record"), RECORDS, ids=lambda each: each.name if isinstance(each, Work) else "")
def test_every_value_may_be_missing_null_too_long_or_of_another_kind(work: Work, record: Any) -> None:
    others: list[Any] = [None, "", 7, -1, "x" * 300_000, [], {}, ["\ud800"], True, float("nan")]
    for *above, last in places(record):
        for value in others:
            changed = copy.deepcopy(record)
            inside = changed
            for step in above:
                inside = inside[step]
            inside[last] = value
            assert_taken_or_refused(work, changed)


def test_values_that_are_too_deep_are_refused_before_they_are_looked_at() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UnreadableRecord, match="at most 32 deep in each other"):
        submissions(WORKS[1], {**EXAMPLES["c4"], "more": deep})


def test_details_that_are_too_long_are_replaced_by_their_digest_the_longest_first() -> None:
    record = {**EXAMPLES["c4"], "long": "x" * 70_000, "short": "y" * 1000, "number": 2**60, "nothing": None}
    (made,) = submissions(WORKS[1], record)
    details = json.loads(MessageToJson(made))["details"]
    assert set(details["long"]) == {"bytes", "sha256"}
    assert details["short"] == "y" * 1000
    assert details["number"] == str(2**60)
    assert "nothing" not in details


def test_tests_that_do_not_fit_are_left_out_from_the_end_and_counted() -> None:
    work = next(work for work in WORKS if work.name == "codecontests")
    cases = [{"input": f"{i} {'x' * 500}", "output": "y"} for i in range(2000)]
    made = submissions(work, {**EXAMPLES[work.name], "generated_tests": cases})[0]
    assert made.tests.ByteSize() <= 256 * 1024
    assert [case.input for case in made.tests.cases][:3] == ["3\n", "0\n", cases[0]["input"]]
    assert json.loads(MessageToJson(made))["details"]["tests_left_out"] == 2002 - len(made.tests.cases)
    assert len(made.tests.cases) > 400


def test_a_test_that_is_too_long_is_left_out_alone() -> None:
    work = next(work for work in WORKS if work.name == "codecontests")
    made = submissions(work, {**EXAMPLES[work.name], "private_tests": [{"input": "x" * 300_000, "output": "y"}]})[0]
    assert [case.input for case in made.tests.cases] == ["3\n", "-1\n"]
    assert json.loads(MessageToJson(made))["details"]["tests_left_out"] == 1


@pytest.mark.parametrize(("given_to_it", "inputs", "left_out"), [("x" * 300_000, [], 1), ("a\0b", ["a\0b"], None)])
def test_where_no_test_fits_there_are_none_and_one_with_nul_fits(
    given_to_it: str, inputs: list[str], left_out: int | None
) -> None:
    work = next(work for work in WORKS if work.name == "apps")
    said = json.dumps({"inputs": [given_to_it], "outputs": ["1"]})
    made = submissions(work, {**EXAMPLES[work.name], "input_output": said})[0]
    made.namespace = "n"
    assert violations(made) == ()
    assert made.HasField("tests") == bool(inputs)
    assert [case.input for case in made.tests.cases] == inputs
    assert json.loads(MessageToJson(made)).get("details", {}).get("tests_left_out") == left_out


@given(VALUES)
def test_any_mapping_is_taken_or_refused(said: Any) -> None:
    with pytest.raises(WrongMapping):
        parse(said, "x.yaml")
