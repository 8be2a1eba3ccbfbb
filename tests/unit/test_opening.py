"""How far the opening of a store is, told while it is opened."""

import shutil
import time
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from epistream.indexer import opening
from epistream.indexer.engine import Engine
from epistream.indexer.opening import Opening
from epistream.indexer.store import FILE
from tests.support.knowing import commit, open_engine, retraction, submission

FACTS = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with a store: an entry for its namespace, one for each fact, and one for a retraction."""
    with closing(open_engine(tmp_path)) as engine:
        commit(engine, *(submission(f"Fact {n}.", id=f"s-{n}", item=f"item-{n}") for n in range(FACTS)))
        commit(engine, retraction("item-0", id="gone"))
    return tmp_path


def opened(folder: Path) -> dict[str, tuple[int, int]]:
    """What was told of an opening of the store."""
    told = Opening()
    Engine(folder, opening=told).close()
    return told.steps()


def test_a_store_that_is_as_it_should_be_has_nothing_made_anew(folder: Path) -> None:
    assert opened(folder) == {"chain": (0, 0), "views": (0, 0), "index": (0, 0)}


def test_an_index_without_a_file_is_made_of_every_revision(folder: Path) -> None:
    shutil.rmtree(folder / "index")
    assert opened(folder) == {"chain": (0, 0), "views": (0, 0), "index": (FACTS + 1, FACTS + 1)}


def test_views_of_an_earlier_version_are_made_of_every_entry(folder: Path) -> None:
    with closing(apsw.Connection(str(folder / FILE))) as connection:
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'format'")
    entries = FACTS + 2
    assert opened(folder) == {"chain": (entries, entries), "views": (entries, entries), "index": (0, 0)}


def test_the_log_says_how_far_it_is_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: seconds)
    caplog.set_level("INFO")
    told = Opening()
    told.expect(opening.VIEWS, 300)
    for seconds in (1.0, 9.0, 10.0, 19.0):  # noqa: B007 - read by the clock
        told.did(opening.VIEWS, 50)
    assert [record.getMessage() for record in caplog.records] == [
        "The views are made anew from the journal: 150 of 300 entries"
    ]
