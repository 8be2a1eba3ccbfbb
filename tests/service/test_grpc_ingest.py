"""IngestService over gRPC, as a client generated from the protos meets it."""

import asyncio

import grpc
import pytest

from epistream.indexer import deadletters
from epistream.indexer.store import read_only
from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge_pb
from epistream.v1.raw_pb2 import RawSubmitRequest
from epistream.wire.errors import Conflict, InvalidInput, NotFound
from tests.support.rpc import Client, failure_of, rpc_failure_of, submission, vector
from tests.support.service import RunningService


async def submit_raw(client: Client, *submissions: bytes) -> ingest_pb.SubmitResponse:
    request = RawSubmitRequest(submissions=submissions).SerializeToString()
    return ingest_pb.SubmitResponse.FromString(await client.call_raw("IngestService/Submit", request))


async def test_each_submission_of_a_batch_gets_its_receipt_in_order(client: Client) -> None:
    await client.make_namespace("order")
    receipts = await client.submit(*(submission("order", n) for n in range(1, 6)))
    assert [r.submission_id for r in receipts] == ["s-1", "s-2", "s-3", "s-4", "s-5"]
    assert [r.outcome for r in receipts] == [pb.OUTCOME_ADMITTED] * 5
    assert [r.revision for r in receipts] == [1, 2, 3, 4, 5]


async def test_a_submission_sent_again_gets_the_earlier_receipt(client: Client) -> None:
    await client.make_namespace("again")
    [first] = await client.submit(submission("again", 1))
    [second] = await client.submit(submission("again", 1))
    assert second.earlier
    second.earlier = False
    assert second == first


async def test_a_wrong_submission_is_refused_in_its_receipt_and_the_others_go_on(client: Client) -> None:
    await client.make_namespace("others")
    wrong = submission("others", 2)
    wrong.origin = pb.ORIGIN_UNSPECIFIED
    receipts = await client.submit(submission("others", 1), wrong, submission("nowhere", 3), submission("others", 4))
    assert [r.outcome for r in receipts] == [
        pb.OUTCOME_ADMITTED,
        pb.OUTCOME_REFUSED,
        pb.OUTCOME_REFUSED,
        pb.OUTCOME_ADMITTED,
    ]
    assert [v.field for v in receipts[1].violations] == ["origin"]
    assert receipts[2].reason == pb.REASON_UNKNOWN_NAMESPACE


async def test_one_that_cannot_be_decoded_spoils_no_other(client: Client) -> None:
    await client.make_namespace("spoiled")
    good = [submission("spoiled", n).SerializeToString() for n in (1, 2)]
    answer = await submit_raw(client, good[0], b"\xff\xff\xff", good[1])
    assert [r.reason for r in answer.receipts] == [pb.REASON_NEW, pb.REASON_MALFORMED, pb.REASON_NEW]


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_1_to_1000_submissions(client: Client, count: int) -> None:
    error = await failure_of(client.submit(*(submission("any", n) for n in range(count))))
    assert isinstance(error, InvalidInput)
    assert [v.field for v in error.violations] == ["submissions"]
    assert str(count) in error.violations[0].description


async def test_an_atomic_batch_with_a_wrong_submission_writes_nothing_and_names_it(client: Client) -> None:
    await client.make_namespace("atomic")
    wrong = submission("atomic", 2)
    wrong.provenance.producer = ""
    error = await failure_of(client.submit(submission("atomic", 1), wrong, atomic=True))
    assert isinstance(error, InvalidInput)
    assert [v.field for v in error.violations] == ["submissions[1].provenance.producer"]
    missing = client.knowledge.Get(knowledge_pb.GetRequest(namespace="atomic", item_id="item-1"))
    assert isinstance(await failure_of(missing), NotFound)
    receipts = await client.submit(submission("atomic", 1), submission("atomic", 2), atomic=True)
    assert [r.revision for r in receipts] == [1, 2]


async def test_what_an_atomic_batch_is_refused_for_is_counted_and_what_is_repeated_is_no_transaction(
    client: Client, service: RunningService
) -> None:
    await client.make_namespace("counted")
    dead, stored = 'epistream_dlq_total{reason="unknown_namespace"}', "epistream_store_commit_duration_seconds_count"
    before = service.metric(dead)
    await failure_of(client.submit(submission("counted", 1), submission("nowhere", 2), atomic=True))
    assert service.metric(dead) == before + 1
    await client.submit(submission("counted", 3))
    transactions, committed = service.metric(stored), service.metric("epistream_ingest_commit_duration_seconds_count")
    (again,) = await client.submit(submission("counted", 3))
    assert again.earlier
    assert service.metric("epistream_ingest_commit_duration_seconds_count") == committed + 1
    assert service.metric(stored) == transactions


async def test_an_atomic_batch_that_comes_too_late_is_a_conflict(client: Client) -> None:
    await client.make_namespace("late")
    await client.submit(submission("late", 1))
    stale = submission("late", 2, item_id="item-1", expected_version=0)
    assert isinstance(await failure_of(client.submit(stale, atomic=True)), Conflict)


async def test_the_status_of_a_thousand_refusals_still_arrives(client: Client) -> None:
    await client.make_namespace("thousand")
    wrong = [submission("thousand", n, attributes={"": "x" * 50}) for n in range(1000)]
    error = await failure_of(client.submit(*wrong, atomic=True))
    assert isinstance(error, InvalidInput)
    assert error.violations[0].field.startswith("submissions[0].")
    assert error.violations[-1].description == "More fields are wrong than fit into this answer."


async def test_a_stream_answers_its_batches_in_order(client: Client) -> None:
    await client.make_namespace("stream")
    call = client.ingest.SubmitStream()
    for number in range(20):
        batch = [submission("stream", 10 * number + k) for k in range(10)]
        await call.write(ingest_pb.SubmitStreamRequest(submissions=batch))
    await call.done_writing()
    answers = [answer async for answer in call]
    ids = [receipt.submission_id for answer in answers for receipt in answer.receipts]
    assert ids == [f"s-{n}" for n in range(200)]
    assert [r.revision for a in answers for r in a.receipts] == list(range(1, 201))


async def test_a_stream_ends_with_what_is_wrong_after_the_receipts_before_it(client: Client) -> None:
    await client.make_namespace("streamed")
    call = client.ingest.SubmitStream()
    await call.write(ingest_pb.SubmitStreamRequest(submissions=[submission("streamed", 1)]))
    await call.write(ingest_pb.SubmitStreamRequest())
    answer = await call.read()
    assert isinstance(answer, ingest_pb.SubmitStreamResponse)
    assert answer.receipts[0].outcome == pb.OUTCOME_ADMITTED
    assert isinstance(await failure_of(call.read()), InvalidInput)


async def test_streams_side_by_side_commit_everything_once(client: Client) -> None:
    await client.make_namespace("side")

    async def stream(lane: int) -> list[int]:
        call = client.ingest.SubmitStream()
        for number in range(10):
            batch = [submission("side", 1000 * lane + 5 * number + k) for k in range(5)]
            await call.write(ingest_pb.SubmitStreamRequest(submissions=batch))
        await call.done_writing()
        return [receipt.revision async for answer in call for receipt in answer.receipts]

    lanes = await asyncio.gather(*(stream(lane) for lane in range(1, 5)))
    assert all(lane == sorted(lane) for lane in lanes)
    assert sorted(revision for lane in lanes for revision in lane) == list(range(1, 201))


async def test_a_retracted_item_is_in_no_answer(client: Client) -> None:
    await client.make_namespace("retract")
    await client.submit_many("retract", range(1, 4))
    request = ingest_pb.RetractRequest(
        namespace="retract",
        submission_id="take-back",
        item_id="item-2",
        origin=pb.ORIGIN_EXPERT,
        provenance=pb.Provenance(producer="tests"),
        expected_version=1,
    )
    receipt = (await client.ingest.Retract(request)).receipt
    assert (receipt.outcome, receipt.reason, receipt.revision) == (pb.OUTCOME_REVISED, pb.REASON_RETRACTION, 4)
    get = client.knowledge.Get(knowledge_pb.GetRequest(namespace="retract", item_id="item-2"))
    assert isinstance(await failure_of(get), NotFound)
    near = knowledge_pb.SearchRequest(namespace="retract", vector=pb.Embedding(float32=vector(2)))
    hits = (await client.knowledge.Search(near)).hits
    assert sorted(hit.change.item_id for hit in hits) == ["item-1", "item-3"]


async def test_a_message_above_the_limit_is_turned_away_and_the_channel_goes_on(client: Client) -> None:
    await client.make_namespace("large")
    large = [submission("large", n, attributes={"k": "v" * 900}, content="x" * 900_000) for n in range(20)]
    error = await rpc_failure_of(client.submit(*large))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    [receipt] = await client.submit(submission("large", 1))
    assert receipt.outcome == pb.OUTCOME_ADMITTED


async def test_a_submission_above_a_mebibyte_is_refused_and_the_others_go_on(client: Client) -> None:
    await client.make_namespace("mebibyte")
    large = submission("mebibyte", 2, content="x" * (1024 * 1024))
    receipts = await client.submit(submission("mebibyte", 1), large, submission("mebibyte", 3))
    assert [r.outcome for r in receipts] == [pb.OUTCOME_ADMITTED, pb.OUTCOME_REFUSED, pb.OUTCOME_ADMITTED]


async def test_bytes_that_are_no_request_are_refused_and_not_kept(client: Client, service: RunningService) -> None:
    await client.make_namespace("garbage")
    before = newest_letter(service)
    garbage = b"\x0a\xff\xff\xff\xff\x0fgarbage"
    stream = client.stream_raw("IngestService/SubmitStream")
    await stream.write(garbage)
    for answer in (client.call_raw("IngestService/Submit", garbage), stream.read()):
        error = await failure_of(answer)
        assert isinstance(error, InvalidInput)
        assert "not a SubmitRequest" in error.message
    assert newest_letter(service) == before
    [receipt] = await client.submit(submission("garbage", 1))
    assert receipt.outcome == pb.OUTCOME_ADMITTED


async def test_of_a_submission_that_is_too_large_no_more_is_kept_than_shows_that(
    client: Client, service: RunningService
) -> None:
    before = newest_letter(service)
    large = submission("any", 1, content="x" * (3 * 1024 * 1024)).SerializeToString()
    [receipt] = (await submit_raw(client, large)).receipts
    assert receipt.outcome == pb.OUTCOME_REFUSED
    assert str(len(large)) in receipt.violations[0].description
    with read_only(service.folder) as catalog:
        [letter] = deadletters.read(catalog.connection, before, 10)
    assert letter.record.value == large[: 1024 * 1024 + 1]
    assert letter.receipt == receipt


def newest_letter(service: RunningService) -> int:
    with read_only(service.folder) as catalog:
        return int(catalog.connection.execute("SELECT IFNULL(MAX(number), 0) FROM dead_letters").get)
