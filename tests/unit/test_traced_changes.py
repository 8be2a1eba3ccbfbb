"""The bounds of what is remembered for traces, and what a push belongs to."""

import pytest

from epistream.indexer.feed import Batch
from epistream.services import traced_changes
from epistream.services.traced_changes import SECONDS_MAX, Push, TracedChanges
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import sync_service_pb2 as api


def push(after: int, last: int, *sent: int, namespace: str = "facts") -> Push:
    """One with these revisions, or with all."""
    revisions = sent or range(after + 1, last + 1)
    body = api.Changes(changes=[pb.Change(revision=one) for one in revisions]).SerializeToString()
    return Push(namespace, "model", after, Batch(body, len(revisions), last, ()), 0, 1)


def test_a_push_belongs_to_what_was_in_it() -> None:
    changes: TracedChanges[str] = TracedChanges()
    for revision, owner in ((3, "a"), (4, "a"), (7, "b")):
        changes.add("facts", revision, owner)
    changes.add("other", 5, "c")
    assert changes.within(push(0, 2)) == {}
    assert changes.within(push(2, 10)) == {"a": 4, "b": 7}
    assert changes.within(push(3, 6)) == {"a": 4}
    assert changes.within(push(4, 6)) == {}
    assert changes.within(push(7, 8)) == {}
    assert changes.within(push(4, 5, namespace="other")) == {"c": 5}
    assert changes.within(push(4, 5, namespace="none")) == {}


def test_what_a_filter_keeps_back_was_not_pushed() -> None:
    changes: TracedChanges[str] = TracedChanges()
    for revision in (1, 2, 3):
        changes.add("facts", revision, f"of {revision}")
    assert changes.within(push(0, 3, 2)) == {"of 2": 2}


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced_changes, "CHANGES_MAX", 3)
    changes: TracedChanges[str] = TracedChanges()
    for revision in range(1, 5):
        changes.add("facts", revision, f"of {revision}")
        changes.add("other", revision, f"of {revision}")
        assert len(changes) <= 3
    assert changes.within(push(0, 4)) == {"of 4": 4}
    assert changes.within(push(0, 4, namespace="other")) == {"of 3": 3, "of 4": 4}


def test_what_is_old_is_forgotten() -> None:
    now = 0.0
    changes: TracedChanges[str] = TracedChanges(lambda: now)
    changes.add("facts", 1, "a")
    now = SECONDS_MAX
    assert changes.within(push(0, 1)) == {"a": 1}
    now += 1
    assert changes.within(push(0, 1)) == {}
    changes.add("other", 1, "b")
    assert len(changes) == 1
