"""Which topics positions are of: learnt once, kept while they move on, and forgotten with an operator's decision."""

from collections.abc import Iterator
from contextlib import closing

import apsw
import pytest

from epistream.indexer import positions
from epistream.indexer.model import Place, Position

PART = ("facts", 0)


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    with closing(apsw.Connection(":memory:")) as connection:
        connection.execute(positions.SCHEMA)
        yield connection


def test_a_partition_begins_with_what_is_known_of_its_topic(connection: apsw.Connection) -> None:
    positions.place(connection, *PART, 5, "one")
    positions.place(connection, "facts", 1, 5)
    assert positions.read(connection) == {PART: Place(5, topic_id="one"), ("facts", 1): Place(5)}


def test_what_is_learnt_stays_while_the_position_moves_on(connection: apsw.Connection) -> None:
    positions.place(connection, *PART, 5)
    positions.learn(connection, {PART: "one", ("facts", 1): "one"})
    positions.learn(connection, {PART: "another"})
    positions.write(connection, {PART: Position(*PART, 7, 3)})
    assert positions.read(connection) == {PART: Place(8, 3, "one")}


@pytest.mark.parametrize("offset", [0, 8, 9])
def test_an_operators_decision_is_about_whichever_topic_is_there_next(connection: apsw.Connection, offset: int) -> None:
    positions.place(connection, *PART, 8, "one")
    positions.place(connection, *PART, offset)
    assert positions.read(connection) == {PART: Place(offset)}
