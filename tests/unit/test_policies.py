"""The policies that a namespace has had can be read, each by the version that decisions name."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_service_pb2 as api
from epistream.v1 import namespace_service_pb2 as ns
from epistream.wire.errors import InvalidInput, NotFound
from tests.support.knowing import NAMESPACE, HandClock, commit, open_engine, submission


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with closing(open_engine(tmp_path)) as engine:
        yield engine


def change(engine: Engine, **fields: float) -> ns.Namespace:
    return engine.namespaces.update_policy(ns.UpdatePolicyRequest(name=NAMESPACE, policy=ns.Policy(**fields)))  # type: ignore[arg-type]


def listed(engine: Engine, limit: int = 0, token: str = "") -> ns.ListPoliciesResponse:
    return engine.namespaces.policies(ns.ListPoliciesRequest(name=NAMESPACE, limit=limit, page_token=token))


def test_each_decision_names_a_policy_that_can_be_read_after_it_was_changed(engine: Engine) -> None:
    expected = []
    for number in range(3):
        commit(engine, submission(f"Said under policy {number + 1}.", id=str(number)))
        expected.append(engine.namespaces.get(NAMESPACE).policy)
        change(engine, worth_min=(number + 1) / 10)

    policies = {one.version: one.policy for one in listed(engine).policies}

    for number in range(3):
        request = api.ExplainRequest(namespace=NAMESPACE, producer="alice", submission_id=str(number))
        (told,) = engine.knowledge.explain(request).explanations
        assert told.policy_version == number + 1
        assert policies[told.policy_version] == expected[number]


def test_they_come_in_pages_the_newest_first_also_from_another_process_and_from_the_journal_alone(
    engine: Engine, tmp_path: Path
) -> None:
    made = engine.namespaces.get(NAMESPACE)
    for number in range(4):
        changed = change(engine, worth_min=number / 10 + 0.1)
    change(engine, worth_min=0.4)  # as it is: no other version

    whole = listed(engine)
    first = listed(engine, 2)
    second = listed(engine, 2, first.next_page_token)
    last = listed(engine, 2, second.next_page_token)
    stores.rebuild(engine.store)
    rebuilt = listed(engine)
    engine.close()
    with closing(Engine(tmp_path, clock=HandClock())) as again:
        opened = listed(again)

    assert [one.version for one in whole.policies] == [5, 4, 3, 2, 1]
    assert (whole.policies[0].policy, whole.policies[0].time) == (changed.policy, changed.policy_time)
    assert (whole.policies[-1].policy, whole.policies[-1].time) == (made.policy, made.create_time)
    assert [*first.policies, *second.policies, *last.policies] == list(whole.policies)
    assert [whole.next_page_token, last.next_page_token] == ["", ""]
    assert rebuilt == opened == whole


def test_of_a_namespace_that_is_not_there_there_are_none(engine: Engine) -> None:
    with pytest.raises(NotFound):
        engine.namespaces.policies(ns.ListPoliciesRequest(name="nowhere"))
    with pytest.raises(InvalidInput):
        listed(engine, token="the next")
