"""Lag and positions, by example: records 10 and 11 of a partition, then the mark of a transaction at 12."""

from epistream.indexer.model import Position, Record
from epistream.services.kafka.progress import Progress

PART = ("facts", 0)


def record(offset: int, time_us: int) -> Record:
    return Record(b"", received_us=0, timestamp_us=time_us, position=Position(*PART, offset))


def begun() -> Progress:
    progress = Progress()
    progress.begin(PART, 10, now_us=1_000_000)
    progress.ends({PART: 13})
    return progress


def test_before_the_first_record_the_lag_is_as_old_as_the_reading() -> None:
    lag = begun().lag(now_us=4_000_000)[PART]
    assert (lag.records, lag.seconds) == (3, 3.0)


def test_what_is_read_but_not_durable_is_still_behind() -> None:
    progress = begun()
    progress.handed_on(PART, 12)
    progress.at(PART, 13)
    progress.durable([record(10, 2_000_000)])
    lag = progress.lag(now_us=4_000_000)[PART]
    assert (lag.records, lag.seconds) == (2, 2.0)
    assert progress.done() == {PART: 11}


def test_the_marks_of_transactions_are_no_lag_once_all_before_them_is_durable() -> None:
    progress = begun()
    progress.handed_on(PART, 12)
    progress.at(PART, 13)
    progress.durable([record(10, 2_000_000), record(11, 3_000_000)])
    lag = progress.lag(now_us=4_000_000)[PART]
    assert (lag.records, lag.seconds) == (0, 0.0)
    assert progress.done() == {PART: 13}


def test_a_producers_clock_that_is_ahead_makes_no_negative_lag() -> None:
    progress = begun()
    progress.handed_on(PART, 11)
    progress.durable([record(10, 9_000_000)])
    assert progress.lag(now_us=4_000_000)[PART].seconds == 0


def test_what_a_poller_says_of_its_topics_does_not_touch_those_of_another() -> None:
    progress = begun()
    progress.begin(("others", 0), 0, now_us=0)
    progress.deny({"facts": "ask for READ"}, ["facts"])
    progress.deny({}, ["others"])
    assert {partition: why.message for partition, why in progress.stopped().items()} == {PART: "ask for READ"}
    progress.deny({}, ["facts"])
    assert progress.stopped() == {}
