"""The border of a service whose encoder and commit are the test's, so that they take as long as it needs.

The server, the servicer, the guard, the audit log and the writer are real.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from epistream.indexer.clock import SystemClock
from epistream.indexer.model import Arrived, Malformed, Record
from epistream.services import ingest
from epistream.services.calls import Calls
from epistream.services.metrics import Metrics
from epistream.services.security.audit import Audit
from epistream.services.security.guard import Guard
from epistream.services.server import Server
from epistream.services.writer import Prepared, Writer
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1.raw_pb2 import RawSubmitRequest
from tests.support.rpc import PATIENCE_SECONDS, Client
from tests.support.security import hash_of

THREADS: Final = 2
LARGE: Final = 800_000
ACCESS: Final = f"""
[roles.writer]
verbs = ["write"]
namespaces = ["*"]

[principals.writer]
roles = ["writer"]
token_hashes = ["{hash_of("writer")}"]
limits = {{ in_hand_bytes = 1000000, calls = 2 }}

[principals.other]
roles = ["writer"]
token_hashes = ["{hash_of("other")}"]
"""


class Stage:
    """Work that is held up while the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def take(self) -> None:
        """Be in it until it may go on."""
        self.begun += 1
        assert self.may_go_on.wait(PATIENCE_SECONDS)


class Pool(ThreadPoolExecutor):
    """Counts what it was given."""

    given = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.given += 1
        return super().submit(fn, *args, **kwargs)


class NoticingWriter(Writer):
    """Counts the batches that somebody would have liked to cancel, whether or not it was too late."""

    cancels = 0

    def submit_batch(
        self, prepared: Sequence[Prepared], *, atomic: bool = False, wait: bool = False, ahead: bool = False
    ) -> Future[list[pb.Receipt]]:
        future = super().submit_batch(prepared, atomic=atomic, wait=wait, ahead=ahead)
        cancel = future.cancel

        def noticed() -> bool:
            self.cancels += 1
            return cancel()

        future.cancel = noticed  # type: ignore[method-assign]
        return future


class Border:
    """A server with an IngestService whose stages can be held up."""

    def __init__(self, folder: Path) -> None:
        (folder / "access.toml").write_text(ACCESS)
        self.preparing, self.committing = Stage(), Stage()
        self.pool = Pool(2 * THREADS)
        self.written: list[bytes] = []
        self._audit_file, self._audit = folder / "audit.jsonl", Audit(folder / "audit.jsonl", print)
        guard = Guard(folder / "access.toml", lambda _: None)
        calls = Calls(Metrics(), guard, self._audit, calls_max=100, unary_seconds=60, answer_bytes_max=1 << 20)
        self.writer = NoticingWriter(self._commit, committed=lambda *_: None, failed=lambda _: None)
        ready = asyncio.Event()
        ready.set()
        ways = ingest.Ways(self._prepare, self.pool, THREADS, ready, self.writer, SystemClock())
        servicer = ingest.IngestServicer(ways, calls, submissions_max=1000)
        self._server = Server("127.0.0.1:0", {ingest.SERVICE: servicer.handlers()}, max_message_bytes=1 << 24)
        self.address = self._server.address

    async def start(self) -> None:
        self.writer.start()
        await self._server.start()

    async def stop(self) -> None:
        self.preparing.may_go_on.set()
        self.committing.may_go_on.set()
        await self._server.stop()
        await asyncio.to_thread(self.writer.stop)
        self.pool.shutdown()
        self._audit.close()

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._audit_file.read_text().splitlines()]

    def codes(self) -> list[str]:
        return [line["code"] for line in self.audit()]

    def _prepare(self, records: Sequence[Arrived], *, wait: bool = True) -> list[Prepared]:  # noqa: ARG002 - the stage's
        self.preparing.take()
        return [Malformed(one, pb.REASON_INVALID, ()) for one in records if isinstance(one, Record)]

    def _commit(self, prepared: Sequence[Prepared], *, atomic: bool = False) -> list[pb.Receipt]:  # noqa: ARG002
        self.committing.take()
        self.written += [one.record.value or b"" for one in prepared if isinstance(one, Malformed)]
        return [pb.Receipt(namespace="a", outcome=pb.OUTCOME_ADMITTED, revision=7) for _ in prepared]


def shown(who: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {who}"),)


def request_of(size: int = 1, origin: pb.Origin.ValueType = pb.ORIGIN_EXPERT) -> bytes:
    one = pb.Submission(namespace="a", origin=origin, content="x" * size)
    return RawSubmitRequest(submissions=[one.SerializeToString()]).SerializeToString()


def submitting(
    client: Client, size: int = 1, who: str = "writer", origin: pb.Origin.ValueType = pb.ORIGIN_EXPERT
) -> Any:
    stub: Any = client.channel.unary_unary("/epistream.v1.IngestService/Submit")
    return stub(request_of(size, origin), timeout=PATIENCE_SECONDS, metadata=shown(who))


async def streaming(client: Client, *requests: bytes) -> Any:
    """A stream of the writer's with these batches."""
    stub: Any = client.channel.stream_stream("/epistream.v1.IngestService/SubmitStream")
    stream = stub(metadata=shown("writer"))
    for request in requests:
        await stream.write(request)
    return stream
