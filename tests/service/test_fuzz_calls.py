"""Whatever well-formed message a method gets, the service answers, with a status that tells of no bug, and goes on.

Every method of the protos is found by its descriptor, a new one too. Bytes that are no message: test_bad_requests.py.
"""

from collections.abc import Iterator
from typing import Any, Final

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epistream.v1 import ingest_service_pb2 as ingest_pb
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as know_pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.any_messages import messages
from tests.support.fuzzing import examples
from tests.support.methods import METHODS
from tests.support.rpc import DIMENSION, PATIENCE_SECONDS, submission, vector
from tests.support.service import RunningService, running_service

NAMESPACE: Final = "facts"
ITEMS: Final = 5
WAITED_SECONDS: Final = 0.2
"""For an answer that may never come: some calls wait."""
OF_A_BUG: Final = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)

numbers = st.integers(0, ITEMS)
NAMED: Final = {
    "namespace": st.just(NAMESPACE),
    "name": st.just(NAMESPACE),
    "item_id": st.builds("item-{}".format, numbers),
    "item_ids": st.builds("item-{}".format, numbers),
    "submission_id": st.builds("s-{}".format, numbers),
    "producer": st.sampled_from(["tests", "gpt"]),
    "consumer": st.just("model"),
    "model": st.just("none"),
    "paths": st.sampled_from(["near_duplicate_threshold", "retained_revisions", "synthetic"]),
    "epistream.v1.Embedding": st.builds(lambda number: pb.Embedding(float32=vector(number)), numbers),
    "epistream.v1.Submission": st.builds(lambda number: submission(NAMESPACE, number), numbers),
}
ANY_BYTES: Final = st.one_of(st.just(b""), st.binary(max_size=20))
"""What stands behind a message, as fields of a later version do."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningService, grpc.Channel]]:
    """A service that knows some items, and a channel to it."""
    with (
        running_service(tmp_path_factory.mktemp("any") / "data") as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        encoder = ns_pb.Encoder(model="none", dimension=DIMENSION)
        made = ns_pb.CreateNamespaceRequest(name=NAMESPACE, encoder=encoder)
        filled = ingest_pb.SubmitRequest(submissions=[submission(NAMESPACE, number) for number in range(ITEMS)])
        for method, request in (("NamespaceService/CreateNamespace", made), ("IngestService/Submit", filled)):
            assert answered(channel, method, [request.SerializeToString()]) == grpc.StatusCode.OK
        yield service, channel


def answered(
    channel: grpc.Channel, method: str, sent: list[bytes], seconds: float = PATIENCE_SECONDS
) -> grpc.StatusCode:
    """How a call ends; CANCELLED for a stream that has begun to answer and goes on."""
    described, path = METHODS[method], f"/epistream.v1.{method}"
    both = described.client_streaming, described.server_streaming
    kind = "_".join("stream" if streams else "unary" for streams in both)
    call: Any = getattr(channel, kind)(path)
    try:
        stream = call(iter(sent) if described.client_streaming else sent[0], timeout=seconds)
        if not described.server_streaming:
            return grpc.StatusCode.OK
        for _ in zip(range(len(sent)), stream, strict=False):
            pass
    except grpc.RpcError as error:
        # Of the client's own library, when it writes to a stream that has ended: services/calls.py, `_hear`.
        return grpc.StatusCode.CANCELLED if "RST_STREAM" in str(error.details()) else error.code()
    stream.cancel()
    ended: grpc.StatusCode = stream.code()
    return ended


@pytest.mark.parametrize("method", METHODS)
@settings(examples(20), suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_message_gets_an_answer_and_the_service_goes_on(
    running: tuple[RunningService, grpc.Channel], method: str, data: st.DataObject
) -> None:
    service, channel = running
    kind = messages(METHODS[method].input_type, NAMED)
    count = data.draw(st.integers(1, 3)) if METHODS[method].client_streaming else 1
    sent = [data.draw(kind).SerializeToString() + data.draw(ANY_BYTES) for _ in range(count)]
    assert answered(channel, method, sent, WAITED_SECONDS) not in OF_A_BUG, service.logged()[-3000:]
    assert "Traceback" not in service.logged()
    asked = know_pb.GetRequest(namespace=NAMESPACE, item_id="item-0").SerializeToString()
    assert answered(channel, "KnowledgeService/Get", [asked]) in (grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND)
