"""A program in a process of its own is kept running, and both sides hear each other, whatever happens to it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from epistream.services.kafka import keeper
from epistream.services.kafka.keeper import Keeper
from tests.support import kept_program
from tests.support.processes import is_running
from tests.support.waits import wait_until


class Told:
    """What a program has told, and how often another one was begun."""

    def __init__(self, take: Callable[[Mapping[str, Any]], None] = lambda _: None) -> None:
        self.messages: list[Mapping[str, Any]] = []
        self.ended = 0
        self._take = take

    def take(self, message: Mapping[str, Any]) -> bool:
        self._take(message)
        self.messages.append(message)
        return True

    def end(self) -> None:
        self.ended += 1

    def began(self) -> int:
        return sum("began" in message for message in self.messages)


@contextmanager
def kept(told: Told, *arguments: str, first: object = "first", patient: bool = True) -> Iterator[Keeper]:
    one = Keeper(kept_program, arguments, told.take, told.end, first=lambda: first, patient=patient)
    one.start()
    try:
        yield one
    finally:
        assert one.stop(10)
        assert one.pid is None


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_both_hear_each_other_and_what_is_printed_is_no_message(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    with kept(told, "one", "two") as one:
        wait_until(lambda: len(told.messages) == 2)
        one.send({("facts", 0): 7})
        one.send("log")
        wait_until(lambda: len(told.messages) == 3)
        wait_until(lambda: "from the program" in caplog.text)
        pid = one.pid
    assert "it is killed" not in caplog.text
    assert told.messages == [{"began": ["one", "two"]}, {"heard": "first"}, {"heard": {("facts", 0): 7}}]
    assert told.ended == 0
    assert pid is not None
    assert not is_running(pid)


def test_one_that_crashes_is_begun_anew_and_told_first_what_is_told_first(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    with kept(told) as one:
        wait_until(lambda: len(told.messages) == 2)
        one.send("crash")
        wait_until(lambda: len(told.messages) == 4)
    assert told.messages[2:] == [{"began": []}, {"heard": "first"}]
    assert told.ended == 1
    assert "ended with code 7; starting it anew" in caplog.text


def test_a_message_that_cannot_be_taken_in_ends_the_process_and_another_begins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(message: Mapping[str, Any]) -> None:
        if message == {"heard": "first"} and told.ended == 0:
            raise ZeroDivisionError("for the test")

    told = Told(refuse)
    with kept(told):
        wait_until(lambda: {"heard": "first"} in told.messages)
    assert told.ended == 1
    assert "tells cannot be taken in" in caplog.text


def test_a_message_of_many_megabytes_comes_whole_and_the_end_in_the_middle_of_one_is_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Told()
    with kept(told) as one:
        wait_until(lambda: len(told.messages) == 2)
        one.send("large")
        wait_until(lambda: told.began() == 2)
    assert len(told.messages[2]["large"]) == 8_000_000
    monkeypatch.setattr(keeper, "_MESSAGE_BYTES_MAX", 1_000_000)
    short = Told()
    with kept(short) as one:
        wait_until(lambda: len(short.messages) == 2)
        one.send("large")
        wait_until(lambda: short.began() == 2)
    assert not any("large" in message for message in short.messages)


def test_what_is_printed_before_the_service_is_there_hangs_nothing() -> None:
    told = Told()
    with kept(told, "print"):
        wait_until(lambda: told.ended == 1)


@pytest.mark.parametrize("message", ["hang", "stop"])
def test_one_that_hangs_is_killed_in_time_also_while_something_waits_to_be_sent(
    message: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    one = Keeper(kept_program, (), told.take, told.end, first=lambda: "first", patient=True)
    one.start()
    wait_until(lambda: len(told.messages) == 2)
    pid = one.pid
    assert pid is not None
    if message == "hang":
        one.send("hang")
        wait_until(lambda: len(told.messages) == 3)
    else:
        os.kill(pid, signal.SIGSTOP)
    sender = threading.Thread(target=one.send, args=(bytes(1_000_000),))
    sender.start()
    assert one.stop(4), "half of the time is left for the killing"
    assert "did not end in time; it is killed" in caplog.text
    sender.join(10)
    assert not sender.is_alive()
    assert not is_running(pid)


def test_an_impatient_keeper_drops_what_a_busy_process_does_not_read() -> None:
    told = Told()
    with kept(told, patient=False) as one:
        wait_until(lambda: len(told.messages) == 2)
        one.send("hang")
        wait_until(lambda: len(told.messages) == 3)
        for _ in range(100_000):
            one.send(None)


def test_restarts_leave_nothing_open() -> None:
    told = Told()
    with kept(told) as one:
        wait_until(lambda: told.began() == 1)
        before = open_files()
        for count in range(2, 6):
            one.send("crash")
            wait_until(lambda: told.began() == count)  # noqa: B023
        wait_until(lambda: open_files() <= before)
