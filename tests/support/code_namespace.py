"""A namespace of code on a running service, with an executor beside it, in processes of their own."""

import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Final, Self

import numpy as np

from epistream.clients import Credentials
from epistream.clients.producer import OriginName, submission
from epistream.clients.sync import SyncKnowledgeClient, SyncProducer
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns
from tests.support.bubblewrap import find_bubblewrap
from tests.support.cli import clean_environment
from tests.support.rpc import DIMENSION, vector

END_SECONDS: Final = 120


class CodeNamespace:
    """Its producer's and its reader's side.

    Args:
        address: where the service is.
        credentials: what to show to it.
        policy: the namespace's.
        name: its name; by itself one that no other has.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials | None = None,
        policy: ns.Policy | None = None,
        *,
        name: str | None = None,
    ) -> None:
        self.address, self.name = address, name or f"programs-{uuid.uuid4().hex[:12]}"
        self._stack = contextlib.ExitStack()
        self.client = self._stack.enter_context(SyncKnowledgeClient(address, credentials=credentials))
        self.producer = self._stack.enter_context(SyncProducer(address, credentials=credentials))
        self.client.create_namespace(self.name, encoder=ns.Encoder(model="none", dimension=DIMENSION), policy=policy)
        self._seed = 0

    def submit(
        self,
        item_id: str,
        content: str,
        *asserts: str,
        derived_from: Iterable[str] = (),
        tests: pb.Tests | None = None,
        origin: OriginName = "EXPERT",
    ) -> pb.Receipt:
        """A version of an item."""
        self._seed += 1
        made = submission(
            content,
            namespace=self.name,
            producer="dr-ada",
            origin=origin,
            modality="CODE",
            item_id=item_id,
            generator="gpt" if origin == "SYNTHETIC" else "",
            derived_from=derived_from,
            embedding=np.frombuffer(vector(self._seed), "<f4"),
        )
        made.tests.CopyFrom(tests or pb.Tests(language="python", asserts=asserts))
        [receipt] = self.producer.submit(made)
        return receipt

    def feedback(self, item_id: str, aspect: str = "execution") -> list[pb.Submission]:
        """What was said of an item under one aspect, in the order in which it came."""
        recorded = self.client.list_feedback(self.name, item_id)
        return [each.submission for each in recorded if each.submission.feedback.aspect == aspect]

    def verdicts(self, item_id: str) -> list[str]:
        """The words of the verdicts on an item."""
        return [each.feedback.degree for each in self.feedback(item_id)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def executor_command(code: CodeNamespace, *flags: str) -> list[str]:
    """What starts an executor of the namespace."""
    program = [sys.executable, "-m", "epistream.services", "execute", f"--address={code.address}", f"-n{code.name}"]
    return [*program, f"--bubblewrap={find_bubblewrap()}", "--json", *flags]


def run_executor(code: CodeNamespace, *flags: str, **environment: str) -> list[dict[str, Any]]:
    """Run an executor until all is judged. Returns what it printed of each version."""
    command = executor_command(code, "--once", *flags)
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=END_SECONDS, env=clean_environment(environment)
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextlib.contextmanager
def running_executor(code: CodeNamespace, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """An executor that follows the namespace, and is told to stop in the end; killed where it does not in time."""
    command = executor_command(code, *flags)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=clean_environment({})) as process:
        try:
            yield process
            process.terminate()
            process.wait(END_SECONDS)
        finally:
            process.kill()
