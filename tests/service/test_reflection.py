"""A client that has only server reflection, and nothing generated from the protos, can use the service."""

import json
import subprocess
import sys
from pathlib import Path

from epistream.clients import SyncKnowledgeClient, SyncProducer
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support import reflecting_client
from tests.support.rpc import submission
from tests.support.service import running_service

VECTOR = (1.0, 2.0, 2.0)


def test_a_client_made_of_reflection_alone_lists_namespaces_and_searches(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        with SyncKnowledgeClient(service.address) as client, SyncProducer(service.address) as producer:
            client.create_namespace("facts", encoder=ns_pb.Encoder(model="none", dimension=len(VECTOR)))
            fact = submission("facts", 1)
            fact.embedding.CopyFrom(pb.Embedding(values=VECTOR))
            [receipt] = producer.submit(fact)
            assert receipt.outcome == pb.OUTCOME_ADMITTED
        program = [sys.executable, str(Path(reflecting_client.__file__)), service.address, "facts", *map(str, VECTOR)]
        done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["modules_of_ours"] == []
    assert {"epistream.v1.IngestService", "epistream.v1.SyncService", "grpc.health.v1.Health"} <= set(seen["services"])
    assert [(one["name"], one["headRevision"]) for one in seen["namespaces"]] == [("facts", "1")]
    [hit] = seen["hits"]
    assert hit["change"]["itemId"] == "item-1"
    assert hit["change"]["knowledge"]["content"] == "Fact number 1."
