"""Sources that may block, taken by a thread of their own."""

import threading
from collections.abc import Iterator

import pytest

from epistream.clients.reading_thread import without_blocking
from tests.support.waits import until


class Odd(BaseException):
    """Nothing that anybody expects."""


def odd() -> Iterator[int]:
    yield 1
    raise Odd


def mistaken() -> Iterator[int]:
    yield 1
    raise RuntimeError("a defect")


@pytest.mark.parametrize(("source", "kind"), [(odd, Odd), (mistaken, RuntimeError)])
async def test_whatever_a_source_raises_comes_after_its_items(source: type, kind: type[BaseException]) -> None:
    taken = []
    with pytest.raises(kind):  # noqa: PT012 -- raised by the loop
        async for item in without_blocking(source()):
            taken.append(item)  # noqa: PERF401 -- what came before the error counts
    assert taken == [1]


async def test_no_more_is_taken_ahead_than_may_be_and_nothing_when_nobody_wants_more() -> None:
    made: list[int] = []
    ended = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                made.append(len(made))
                yield made[-1]
        finally:
            ended.set()

    items = without_blocking(endless(), ahead_max=5)
    assert [await anext(items) for _ in range(3)] == [0, 1, 2]
    await until(lambda: len(made) == 9, "five ahead, and one more in hand")
    await items.aclose()
    await until(ended.is_set, "the thread's end")
    assert len(made) == 9
