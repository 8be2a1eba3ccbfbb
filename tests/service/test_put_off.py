"""What was put off goes on by itself: when the service starts, where a kill came between a change of policy and that,
and where more may go on than goes with what made room for it."""

from collections import Counter
from contextlib import closing
from pathlib import Path

from epistream.indexer.moment import AT_ONCE
from epistream.indexer.store import read_only
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.knowing import DIMENSION, NAMESPACE, commit, open_engine, submission
from tests.support.rpc import client_of
from tests.support.service import running_service
from tests.support.waits import until

SYNTHETIC = pb.ORIGIN_SYNTHETIC
COUNTS = {NAMESPACE: 2 * AT_ONCE + 3, "others": 2}
"""How many submissions wait in each namespace."""


def put_off(folder: Path) -> None:
    """A store whose policies have room for all that waits, since just now."""
    with closing(open_engine(folder)) as engine:
        encoder = ns_pb.Encoder(model="none", dimension=DIMENSION)
        engine.namespaces.create(ns_pb.CreateNamespaceRequest(name="others", encoder=encoder))
        for floor in (1.0, 0.0):
            policy = ns_pb.Policy(real_share_floor=floor, near_duplicate_threshold=1.0)
            for name in COUNTS:
                engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=name, policy=policy))
            if floor:
                for name, count in COUNTS.items():
                    sent = [
                        submission(f"{n}: so it is.", id=f"{n}", origin=SYNTHETIC, namespace=name) for n in range(count)
                    ]
                    assert {receipt.reason for receipt in commit(engine, *sent)} == {pb.REASON_DEFERRED}


async def test_what_may_go_on_does_so_in_each_namespace_and_not_in_one_commit(tmp_path: Path) -> None:
    put_off(tmp_path)

    with running_service(tmp_path) as service:
        async with client_of(service.address) as client:

            async def all_went_on() -> bool:
                listed = (await client.namespaces.ListNamespaces(ns_pb.ListNamespacesRequest())).namespaces
                return {one.name: (one.item_count, one.held_count) for one in listed} == {
                    name: (count, 0) for name, count in COUNTS.items()
                }

            await until(all_went_on)

    with read_only(tmp_path) as catalog:
        changes = [pb.Change.FromString(one.change) for one in catalog.changes(1, 0, 10_000, 10_000)]
    in_commits = Counter(change.commit_time.ToMicroseconds() for change in changes)
    assert list(in_commits.values()) == [AT_ONCE, AT_ONCE, 3]


async def test_what_does_not_go_on_with_what_makes_room_for_it_does_so_at_once_after_it(tmp_path: Path) -> None:
    """There is room for one synthetic version in a thousand. Of copies the first takes it, the others take none."""
    copies = [submission("It is.", id=f"c-{n}", item=f"c-{n}", origin=SYNTHETIC, generator="gpt") for n in range(40)]
    with running_service(tmp_path) as service:
        async with client_of(service.address) as client:
            asked = ns_pb.CreateNamespaceRequest(
                name=NAMESPACE,
                encoder=ns_pb.Encoder(model="none", dimension=DIMENSION),
                policy=ns_pb.Policy(real_share_floor=0.999, near_duplicate_threshold=1.0, guard=ns_pb.GUARD_MEASURE),
            )
            await client.namespaces.CreateNamespace(asked)
            await client.submit(submission("First.", id="first", origin=SYNTHETIC))
            receipts = await client.submit(*copies)
            assert {receipt.reason for receipt in receipts} == {pb.REASON_DEFERRED}
            for start in (0, 1000):
                people = [submission(f"{n}: so it is.", id=f"{n}") for n in range(start, start + 1000)]
                await client.submit(*people)

            async def none_waits() -> bool:
                answer = await client.namespaces.GetNamespace(ns_pb.GetNamespaceRequest(name=NAMESPACE))
                return answer.namespace.held_count == 0

            await until(none_waits)

            receipts = await client.submit(
                *(submission(f"{n}: is it?", id=f"p-{n}", origin=SYNTHETIC) for n in range(3))
            )
            assert receipts[-1].reason == pb.REASON_DEFERRED
            policy = ns_pb.Policy(real_share_floor=0.0)
            await client.namespaces.UpdatePolicy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
            await until(none_waits)
