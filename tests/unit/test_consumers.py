"""Who is behind: asked when Prometheus asks, told apart from who merely has nothing to do."""

from epistream.services.consumers import Behind, Consumers, Stream

HEAD = 10
OLD = 8
"""What is this old should be with everybody."""


def a_stream(consumers: Consumers, consumer: str, *, passed: int, changes: int = 0, applied: int = 0) -> Stream:
    """One that looked through the revisions up to `passed`, sent changes up to `changes`, of which `applied` are."""
    stream = consumers.connect("facts", consumer, 0)
    stream.passed_revision, stream.changes_revision = passed, changes
    stream.sent_revision = passed
    if applied:
        consumers.acknowledge(stream, applied, now_us=1)
    return stream


def test_nobody_is_behind_where_nobody_follows() -> None:
    assert Consumers().behind("facts", HEAD, OLD) == Behind(0, 0)


def test_who_has_applied_all_that_was_sent_is_not_behind_whatever_its_filter_left_out() -> None:
    consumers = Consumers()
    a_stream(consumers, "filtered", passed=HEAD, changes=3, applied=3)
    assert consumers.behind("facts", HEAD, OLD) == Behind(0, 0)


def test_who_does_not_acknowledge_is_as_far_as_what_was_sent() -> None:
    consumers = Consumers()
    a_stream(consumers, "watching", passed=9, changes=9)
    assert consumers.behind("facts", HEAD, OLD) == Behind(1, 0)


def test_who_has_not_applied_what_is_old_is_slow() -> None:
    consumers = Consumers()
    a_stream(consumers, "slow", passed=HEAD, changes=HEAD, applied=7)
    a_stream(consumers, "quick", passed=HEAD, changes=HEAD, applied=8)
    assert consumers.behind("facts", HEAD, OLD) == Behind(3, 1)


def test_a_consumer_counts_once_and_only_in_its_namespace_while_it_is_there() -> None:
    consumers = Consumers()
    first, second = (a_stream(consumers, "slow", passed=1) for _ in range(2))
    assert consumers.behind("facts", HEAD, OLD) == Behind(9, 1)
    assert consumers.behind("others", HEAD, OLD) == Behind(0, 0)
    consumers.disconnect(first)
    consumers.disconnect(second)
    assert consumers.behind("facts", HEAD, OLD) == Behind(0, 0)
