"""What one principal may use."""

import asyncio
from contextlib import ExitStack

import pytest

from epistream.services.security.access import Limits, Principal
from epistream.services.security.limits import Allowance, Allowances, Bucket, Room
from epistream.wire.errors import InvalidInput, Unavailable


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def limits(**bounds: float) -> Limits:
    return Limits.model_validate(bounds)


def test_a_bucket_gives_a_seconds_worth_at_once_and_then_its_rate() -> None:
    clock = Clock()
    bucket = Bucket(10, clock)
    for _ in range(10):
        assert bucket.delay_seconds() == 0
        bucket.take(1)
    assert bucket.delay_seconds() == pytest.approx(0.1)
    clock.seconds += 0.1
    assert bucket.delay_seconds() == pytest.approx(0, abs=1e-9)
    bucket.take(1)
    clock.seconds += 60
    for _ in range(10):
        assert bucket.delay_seconds() == 0
        bucket.take(1)
    assert bucket.delay_seconds() > 0, "a minute of rest is worth a second"


def test_what_is_larger_than_the_bucket_goes_through_and_is_paid_off() -> None:
    clock = Clock()
    bucket = Bucket(10, clock)
    assert bucket.delay_seconds() == 0
    bucket.take(100)
    assert bucket.delay_seconds() == pytest.approx(9.1)
    clock.seconds += 9.2
    assert bucket.delay_seconds() == 0


def test_less_than_one_a_second_works() -> None:
    clock = Clock()
    bucket = Bucket(0.5, clock)
    assert bucket.delay_seconds() == 0
    bucket.take(1)
    assert bucket.delay_seconds() == pytest.approx(2)


def test_calls_above_the_rate_are_told_when_to_come_back() -> None:
    allowance = Allowance(limits(calls_per_second=2), Clock())
    allowance.begin_call()
    allowance.begin_call()
    with pytest.raises(Unavailable) as error:
        allowance.begin_call()
    assert error.value.reason == "RATE_LIMITED"
    assert error.value.retry_delay_seconds == pytest.approx(0.5)


def test_after_a_few_requests_that_are_too_large_to_be_read_no_call_begins_for_some_seconds() -> None:
    clock = Clock()
    allowance = Allowance(limits(), clock)
    for _ in range(5):
        allowance.begin_call()
        allowance.unread()
    owes = not allowance.idle
    with pytest.raises(Unavailable, match="wait 10 s, and send less at a time") as error:
        allowance.begin_call()
    assert error.value.reason == "RATE_LIMITED"

    clock.seconds += error.value.retry_delay_seconds
    assert (owes, allowance.idle) == (True, True)
    allowance.begin_call()


def test_who_breaks_off_many_requests_at_once_owes_for_a_few() -> None:
    allowance = Allowance(limits(), Clock())
    for _ in range(200):
        allowance.unread()
    with pytest.raises(Unavailable) as error:
        allowance.begin_call()
    assert error.value.retry_delay_seconds == pytest.approx(30)


@pytest.mark.parametrize("bounds", [{"submissions_per_second": 3.0}, {"bytes_per_second": 3000.0}])
def test_submissions_above_the_rate_are_turned_away_until_they_are_paid_off(bounds: dict[str, float]) -> None:
    clock = Clock()
    allowance = Allowance(limits(**bounds), clock)
    allowance.admit_submissions()
    allowance.pay(3, 3000)
    assert allowance.delay_seconds() > 0
    assert not allowance.idle, "what is owed is not forgotten"
    with pytest.raises(Unavailable, match="a second: wait") as error:
        allowance.admit_submissions()
    assert error.value.reason == "RATE_LIMITED"
    clock.seconds += error.value.retry_delay_seconds + 0.001
    assert allowance.delay_seconds() == 0
    allowance.admit_submissions()


def test_calls_open_at_one_time_are_bounded() -> None:
    allowance = Allowance(limits(calls=1), Clock())
    with allowance.call(), pytest.raises(Unavailable, match="1 calls open"), allowance.call():
        pass
    with allowance.call():
        assert not allowance.idle
    assert allowance.idle


def test_a_message_has_a_largest_size() -> None:
    allowance = Allowance(limits(message_bytes=100), Clock())
    allowance.check_size(100)
    with pytest.raises(InvalidInput) as error:
        allowance.check_size(101)
    assert error.value.reason == "TOO_LARGE"


async def test_bytes_in_hand_are_bounded_and_one_large_request_goes_alone() -> None:
    allowance = Allowance(limits(in_hand_bytes=100), Clock())
    with allowance.in_hand(500):
        assert not allowance.idle
        with pytest.raises(Unavailable, match="too much"), allowance.in_hand(1):
            pass
    with allowance.in_hand(60), allowance.in_hand(40):
        pass
    assert allowance.idle


async def test_room_is_waited_for() -> None:
    room = Room(10)
    await room.take(10)
    waiting = asyncio.create_task(room.take(5))
    await asyncio.sleep(0)
    assert not waiting.done()
    room.give(10)
    await asyncio.wait_for(waiting, 5)


def test_streams_are_counted_while_they_are_open() -> None:
    allowance = Allowance(limits(streams=1), Clock())
    with allowance.stream(), pytest.raises(Unavailable, match="1 streams open"), allowance.stream():
        pass
    with allowance.stream():
        pass


def test_without_limits_nothing_is_refused() -> None:
    allowance = Allowance(limits(), Clock())
    for _ in range(1000):
        allowance.begin_call()
        allowance.admit_submissions()
        allowance.pay(1000, 1 << 30)
    allowance.check_size(1 << 40)
    with allowance.stream(), allowance.in_hand(1 << 40):
        assert not allowance.idle


def test_each_principal_has_an_allowance_that_stays_until_its_limits_change() -> None:
    allowances = Allowances(Clock())
    one = Principal("one", (), limits(calls_per_second=1))
    assert allowances.of(one) is allowances.of(Principal("one", (), limits(calls_per_second=1)))
    assert allowances.of(one) is not allowances.of(Principal("two", (), one.limits))
    assert allowances.of(one) is not allowances.of(Principal("one", (), limits(calls_per_second=2)))


def test_who_comes_while_all_others_are_busy_is_known_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epistream.services.security.limits._REMEMBERED", 2)
    allowances = Allowances(Clock())
    with ExitStack() as streams:
        for name in "ab":
            streams.enter_context(allowances.of(Principal(name, (), limits(streams=9))).stream())
        late = Principal("late", (), limits(streams=9))
        assert allowances.of(late) is allowances.of(late)


def test_the_one_idle_longest_is_forgotten_and_one_in_use_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epistream.services.security.limits._REMEMBERED", 3)
    allowances = Allowances(Clock())
    names = [Principal(name, (), limits(streams=9)) for name in "abcdef"]
    busy = allowances.of(names[0])
    with busy.stream():
        idle = allowances.of(names[1])
        for principal in names[2:]:
            allowances.of(principal)
        assert allowances.of(names[0]) is busy
        assert allowances.of(names[1]) is not idle
