"""Errors of gRPC as ours, waits, and the making of submissions."""

from datetime import UTC, datetime

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_status import rpc_status

from epistream.clients import submission
from epistream.clients.channel import Backoff, translate
from epistream.clients.knowledge import point
from epistream.clients.producer import BATCH_BYTES_MAX, batches
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import (
    Broken,
    Conflict,
    Denied,
    EpistreamError,
    InvalidInput,
    NotFound,
    Resync,
    State,
    Unavailable,
)
from epistream.wire.status import to_status

Code = grpc.StatusCode


def rpc_error(code: grpc.StatusCode, details: str, status: object = None) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata(*(rpc_status.to_status(status).trailing_metadata if status is not None else ()))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=details)


@pytest.mark.parametrize(
    "error",
    [
        InvalidInput.at("submission.content", "expected text"),
        NotFound("no such namespace", reason="UNKNOWN_NAMESPACE"),
        Conflict("somebody was first"),
        Resync("compacted", reason="COMPACTED", state=State("e", 9, 5)),
        Unavailable("later", reason="OVERLOADED", retry_delay_seconds=0.7),
        Broken("a bug"),
    ],
)
def test_what_the_service_says_arrives_as_it_was_said(error: EpistreamError) -> None:
    status = to_status(error)
    code = next(code for code in Code if code.value[0] == status.code)
    arrived = translate(rpc_error(code, error.message, status))
    assert type(arrived) is type(error)
    assert vars(arrived) == vars(error)


@pytest.mark.parametrize(
    ("code", "details", "kind", "reason"),
    [
        (Code.UNAVAILABLE, "failed to connect to all addresses", Unavailable, "UNAVAILABLE"),
        (Code.INTERNAL, "Received RST_STREAM with error code 2", Unavailable, "UNAVAILABLE"),
        (Code.CANCELLED, "Cancelling all calls", Unavailable, "UNAVAILABLE"),
        (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", Unavailable, "DEADLINE"),
        (Code.RESOURCE_EXHAUSTED, "too many streams", Unavailable, "OVERLOADED"),
        (Code.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)", InvalidInput, "TOO_LARGE"),
        (Code.UNIMPLEMENTED, "Method not found!", Broken, "INTERNAL"),
        (Code.UNAUTHENTICATED, "no token", Denied, "UNAUTHENTICATED"),
        (Code.PERMISSION_DENIED, "", Denied, "PERMISSION_DENIED"),
        (Code.UNKNOWN, "Unexpected <class 'KeyError'>", Broken, "INTERNAL"),
    ],
)
def test_what_grpc_says_itself_becomes_what_a_caller_can_do(
    code: grpc.StatusCode, details: str, kind: type[EpistreamError], reason: str
) -> None:
    arrived = translate(rpc_error(code, details))
    assert type(arrived) is kind
    assert arrived.reason == reason
    assert details in arrived.message


def test_details_that_contradict_the_code_are_not_believed() -> None:
    arrived = translate(rpc_error(Code.UNAVAILABLE, "proxy", to_status(NotFound("no"))))
    assert type(arrived) is Unavailable


def test_waits_double_up_to_a_second_and_begin_again_after_a_success() -> None:
    backoff = Backoff(draw=lambda: 1.0)
    assert [backoff.next_seconds() for _ in range(7)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.reset()
    assert backoff.next_seconds() == 0.05
    assert Backoff(draw=lambda: 0.0).next_seconds() == 0.0


def test_equal_submissions_are_one_and_any_difference_makes_two() -> None:
    def made(**changed: object) -> pb.Submission:
        fields: dict[str, object] = {"namespace": "n", "producer": "p", "origin": "EXPERT"} | changed
        return submission("The limit is 5 mg.", **fields)  # type: ignore[arg-type] # a table of any fields

    first, second = made(), made()
    assert first.submission_id == second.submission_id
    assert len(first.submission_id) == 64
    others = [
        made(namespace="m"),
        made(producer="q"),
        made(origin="CRAWLED"),
        made(modality="CODE"),
        made(item_id="i"),
        made(source="s"),
        made(attributes={"a": "b"}),
        made(attributes={"b": "a"}),
        made(embedding=[1.0, 2.0]),
        made(expected_version=0),
        made(media=pb.Media(uri="u")),
        made(derived_from=["x"]),
        made(time=datetime(2026, 1, 1, tzinfo=UTC)),
    ]
    assert len({first.submission_id} | {other.submission_id for other in others}) == len(others) + 1
    assert made(submission_id="mine").submission_id == "mine"


def test_a_submission_has_every_field_in_its_place() -> None:
    made = submission(
        "def f(): ...",
        namespace="n",
        producer="p",
        origin="SYNTHETIC",
        modality="CODE",
        item_id="i",
        source="s",
        generator="g",
        derived_from=["a", "b"],
        licence="MIT",
        time=datetime(2026, 1, 1, tzinfo=UTC),
        attributes={"k": "v"},
        embedding=np.array([0.5, -1.0]),
        expected_version=0,
    )
    assert (made.namespace, made.item_id, made.content) == ("n", "i", "def f(): ...")
    assert (made.origin, made.modality) == (pb.ORIGIN_SYNTHETIC, pb.MODALITY_CODE)
    assert made.provenance.derived_from == ["a", "b"]
    assert (made.provenance.source, made.provenance.generator, made.provenance.licence) == ("s", "g", "MIT")
    assert made.provenance.time.ToDatetime(UTC) == datetime(2026, 1, 1, tzinfo=UTC)
    assert dict(made.attributes) == {"k": "v"}
    assert made.embedding.float32 == b"\0\0\0?\0\0\x80\xbf"
    assert made.HasField("expected_version")
    assert made.HasField("submitted_time")
    assert not made.retraction


def test_batches_keep_the_order_and_the_limits() -> None:
    small = [pb.Submission(submission_id=str(n)) for n in range(2500)]
    assert [len(batch) for batch in batches(small)] == [1000, 1000, 500]
    assert [one for batch in batches(small) for one in batch] == small
    large = [pb.Submission(content="x" * size) for size in (10, 600_000, 500_000, 1_200_000, 10, 10)]
    made = list(batches(large))
    assert [[len(one.content) for one in batch] for batch in made] == [
        [10, 600_000],
        [500_000],
        [1_200_000],
        [10, 10],
    ]
    assert all(len(batch) == 1 or sum(one.ByteSize() for one in batch) <= BATCH_BYTES_MAX for batch in made)
    assert list(batches([])) == []


def test_a_point_is_a_revision_a_time_or_nothing() -> None:
    assert point(None) is None
    assert point(7) == pb.AsOf(revision=7)
    at = point(datetime(2026, 1, 1, tzinfo=UTC))
    assert at is not None
    assert at.time.seconds == 1767225600
