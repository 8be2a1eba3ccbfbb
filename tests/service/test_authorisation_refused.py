"""What is kept of what is refused (docs/decisions/0015): nothing in the name of others."""

import asyncio
from typing import Final

import grpc
import pytest

from epistream.clients import Credentials
from epistream.services.kafka.redrive import redrive_store
from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1.raw_pb2 import RawSubmitRequest
from epistream.wire.errors import Denied
from epistream.wire.limits import SUBMISSION_BYTES_MAX
from tests.support.rpc import Client, failure_of, rpc_failure_of, submission
from tests.support.secured import Secured, metrics, sample

OF_A_LATER_VERSION: Final = b"\xc2\x3e\xac\x02" + bytes(300)
"""The field 1000 of a message, 300 bytes: nobody here knows it, and it counts as bytes."""


NOT_UTF8: Final = b"\x32\x01\xff"
"""A content that no submission can have. Who may submit it can be read all the same, from before and after it."""
CUT_OFF: Final = b"\x32\x05x"
"""A content that ends too early. What stands before it can be read."""


def torn(namespace: str, producer: str, tail: bytes) -> bytes:
    """A submission that cannot be decoded."""
    named = pb.Submission(namespace=namespace, provenance=pb.Provenance(producer=producer))
    return named.SerializeToString() + tail


@pytest.mark.parametrize(
    "planted",
    [
        pytest.param(torn("b", "writer-1", CUT_OFF), id="another namespace"),
        pytest.param(torn("a", "somebody", CUT_OFF), id="another producer"),
        pytest.param(torn("", "somebody", CUT_OFF), id="another producer, no namespace"),
        pytest.param(torn("b", "writer-1", NOT_UTF8), id="another namespace that is asked about"),
        pytest.param(torn("b", "writer-1", NOT_UTF8) + torn("a", "writer-1", b""), id="another namespace, then mine"),
    ],
)
async def test_nobody_leaves_a_dead_letter_in_the_name_of_others(
    secured: Secured,
    root: Client,  # noqa: ARG001 - a and b exist
    planted: bytes,
) -> None:
    before = await metrics(secured, "root")
    mine = submission("a", 91, provenance=pb.Provenance(producer="writer-1"))
    request = RawSubmitRequest(submissions=[mine.SerializeToString(), planted]).SerializeToString()
    async with secured.client("writer") as client:
        stream = client.stream_raw("IngestService/SubmitStream")
        await stream.write(request)
        for answer in (client.call_raw("IngestService/Submit", request), stream.read()):
            assert isinstance(await failure_of(answer), Denied)
    after = await metrics(secured, "root")
    for name in ("epistream_dlq_total", "epistream_ingest_outcomes_total"):
        assert sample(after, name) == sample(before, name)


@pytest.mark.parametrize(
    "allowed", [torn("a", "writer-1", CUT_OFF), torn("", "", CUT_OFF), torn("a", "", CUT_OFF), b"\xff\xff"]
)
async def test_what_cannot_be_decoded_is_kept_where_its_names_are_the_callers_own(
    secured: Secured,
    root: Client,  # noqa: ARG001 - a and b exist
    allowed: bytes,
) -> None:
    before = await metrics(secured, "root")
    async with secured.client("writer") as client:
        request = RawSubmitRequest(submissions=[allowed]).SerializeToString()
        answer = ingest_pb.SubmitResponse.FromString(await client.call_raw("IngestService/Submit", request))
    assert [receipt.reason for receipt in answer.receipts] == [pb.REASON_MALFORMED]
    assert sample(await metrics(secured, "root"), "epistream_dlq_total") == sample(before, "epistream_dlq_total") + 1


async def test_what_is_left_of_a_submission_that_was_cut_is_not_another_one(
    secured: Secured,
    root: Client,  # noqa: ARG001 - a and b exist
) -> None:
    """Its sender was asked about its end, which is not kept. Somebody with more rights may send it again."""
    others = submission("b", 92, provenance=pb.Provenance(producer="somebody"), origin=pb.ORIGIN_EXPERT)
    begins = others.SerializeToString() + OF_A_LATER_VERSION[:2]
    length = SUBMISSION_BYTES_MAX - len(begins) - 3
    begins += bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14]) + bytes(length)
    assert len(begins) == SUBMISSION_BYTES_MAX
    assert pb.Submission.FromString(begins).namespace == "b"
    ends = pb.Submission(namespace="a", origin=pb.ORIGIN_SYNTHETIC, provenance=pb.Provenance(producer="writer-1"))
    async with secured.client("writer") as client:
        request = RawSubmitRequest(submissions=[begins + ends.SerializeToString()]).SerializeToString()
        answer = ingest_pb.SubmitResponse.FromString(await client.call_raw("IngestService/Submit", request))
    assert [receipt.outcome for receipt in answer.receipts] == [pb.OUTCOME_REFUSED]
    shown = Credentials(token="root", tls_ca_file=secured.authority.ca_file)
    data = secured.service.folder
    redriven = await asyncio.to_thread(redrive_store, data, secured.service.address, credentials=shown)
    assert redriven.outcomes.keys() == {"REFUSED"}


async def test_who_may_write_nowhere_leaves_no_dead_letter(secured: Secured, root: Client) -> None:  # noqa: ARG001
    before = await metrics(secured, "root")
    async with secured.client("read-a") as client:
        request = RawSubmitRequest(submissions=[b"\xff\xff"]).SerializeToString()
        error = await rpc_failure_of(client.call_raw("IngestService/Submit", request))
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED
    after = await metrics(secured, "root")
    assert sample(after, "epistream_dlq_total") == sample(before, "epistream_dlq_total")
