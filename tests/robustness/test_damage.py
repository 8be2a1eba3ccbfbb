"""A store that is damaged anywhere: nothing wrong is answered of the journal, and what can be made anew is."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from epistream.indexer import repair
from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.indexer.feed import Wish
from epistream.indexer.positions import Cursor
from epistream.indexer.store import FILE, Store
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.wire.errors import Broken, NotFound
from tests.support.knowing import NAMESPACE, commit, commit_from_kafka, direction, open_engine, retraction, submission

PAGE_BYTES = 1024
ITEMS = 30
Damage = Callable[[bytearray, random.Random], None]


def nothing_left(page: bytearray, _: random.Random) -> None:
    page[:] = bytes(len(page))


def some_bytes(page: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(page) - 100)
    page[start : start + 100] = chance.randbytes(100)


def one_bit(page: bytearray, chance: random.Random) -> None:
    page[chance.randrange(len(page))] ^= 1 << chance.randrange(8)


DAMAGES: tuple[Damage, ...] = (nothing_left, some_bytes, one_bit)


class Sound:
    """A store that is well, to be damaged in copies.

    Attributes:
        folder: its own.
        pages: the table or index that each page belongs to.
        dump: all that it says.
        answers: what it answers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._copies = folder, 0
        engine = open_engine(folder)
        commit_from_kafka(engine, [a_fact(n) for n in range(45)], 7)
        commit(engine, retraction("i-3", id="r"))
        self.answers = answers(engine)
        self.dump = list(engine.store.logical_dump())
        engine.close()
        connection = apsw.Connection(str(folder / FILE))
        self.pages: dict[int, str] = dict(connection.execute("SELECT pageno, name FROM dbstat ORDER BY pageno"))
        connection.close()

    def damaged(self, page: int, damage: Damage, seed: int = 0) -> Path:
        """A copy with damage in a page: 1, 2, 3 …"""
        self._copies += 1
        copy = self.folder.with_name(f"damaged-{self._copies}")
        shutil.copytree(self.folder, copy)
        content = bytearray((copy / FILE).read_bytes())
        place = slice((page - 1) * PAGE_BYTES, page * PAGE_BYTES)
        part = content[place]
        damage(part, random.Random(f"{page} {seed}"))
        content[place] = part
        (copy / FILE).write_bytes(content)
        return copy


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sound]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "PAGE_BYTES", PAGE_BYTES)
        yield Sound(tmp_path_factory.mktemp("sound") / "data")


def a_fact(number: int) -> pb.Submission:
    content = f"Fact {number}. " + "It is long. " * (number % 7 * 10)
    return submission(content, id=f"s-{number}", item=f"i-{number % ITEMS}", attributes={"side": str(number % 2)})


def answers(engine: Engine) -> dict[str, bytes | str]:
    """What is answered to questions of every kind; the reason, where that is an error."""
    diff = api.DiffRequest(namespace=NAMESPACE, limit=500)
    getattr(diff, "from").revision = 2
    query = pb.Embedding(float32=direction(1, 2).tobytes())
    known, feed, head = engine.knowledge, engine.feed, engine.feed.head(NAMESPACE)
    questions: dict[str, Callable[[], bytes]] = {
        "search": lambda: known.search(api.SearchRequest(namespace=NAMESPACE, vector=query)).SerializeToString(),
        "diff": lambda: known.diff(diff).SerializeToString(),
        "replay": lambda: feed.replay(NAMESPACE, 0, Wish()).body,
        "outbox": lambda: repr(engine.outbox.pending(Cursor(0, 0), 1000).messages).encode(),
        "snapshot": lambda: feed.snapshot(NAMESPACE, head, 0, Wish()).body,
    }
    for number in range(ITEMS):
        asked = api.GetRequest(namespace=NAMESPACE, item_id=f"i-{number}")
        questions[f"get {number}"] = lambda asked=asked: known.get(asked).SerializeToString()  # type: ignore[misc]
    return {name: _answer(question) for name, question in questions.items()}


def _answer(question: Callable[[], bytes]) -> bytes | str:
    try:
        return question()
    except (Broken, NotFound) as error:
        return error.reason


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_is_answered_of_a_damaged_journal_but_what_was_written(sound: Sound, damage: Damage) -> None:
    told = 0
    for page in (number for number, name in sound.pages.items() if name == "journal"):
        folder = sound.damaged(page, damage)
        if page % 2:
            shutil.rmtree(folder / "index")  # the vectors, too, come from the journal then
        try:
            engine = Engine(folder)
        except Broken as error:
            assert error.reason == "CORRUPT"  # noqa: PT017 - it may be opened, too
            told += 1
            continue
        now = answers(engine)
        assert {name: answer for name, answer in now.items() if answer not in (sound.answers[name], "CORRUPT")} == {}
        told += "CORRUPT" in now.values()
        engine.close()
    assert told > 5


def test_whatever_is_damaged_is_found_and_made_anew_from_what_is_true_or_not_at_all(sound: Sound) -> None:
    remade = refused = 0
    for page in range(1, max(sound.pages) + 1):
        folder = sound.damaged(page, DAMAGES[page % len(DAMAGES)])
        before = (folder / FILE).read_bytes()
        try:
            repair.remake(folder)
        except Broken as error:
            assert error.reason == "CORRUPT"  # noqa: PT017 - else it is made anew
            assert (folder / FILE).read_bytes() == before
            refused += 1
            continue
        store = Store(folder)
        assert stores.check(store) == []
        assert list(store.logical_dump()) == sound.dump
        store.close()
        remade += 1
    assert min(remade, refused) > 10


def page_of(sound: Sound, table: str) -> int:
    return next(number for number, name in sound.pages.items() if name == table)


def test_what_is_found_says_what_to_do(sound: Sound) -> None:
    """Of a view, of the journal, and of the file."""
    for table, expected in {
        "versions": "what is true is whole: `epistream fsck --rebuild` writes the file anew from it",
        "journal": "what is true is damaged: restore a backup. Nothing here is mended by itself",
        "dead_letters": "what is true is damaged: restore a backup. Nothing here is mended by itself",
    }.items():
        store = Store(sound.damaged(page_of(sound, table), nothing_left))
        assert stores.check(store)[-1] == expected
        store.close()


def test_a_journal_that_has_lost_its_end_is_not_taken_for_whole(sound: Sound, tmp_path: Path) -> None:
    shutil.copytree(sound.folder, tmp_path / "data")
    store = Store(tmp_path / "data")
    last, _ = store.journal.last()
    store.writer.execute("DELETE FROM journal WHERE sequence = ?", (last,))
    named = f"journal entry {last} is missing: the journal ends with entry {last - 1}"
    assert stores.check(store)[0] == named
    store.close()
    with pytest.raises(Broken, match=named):
        repair.remake(tmp_path / "data")


def test_damage_that_the_writer_meets_ends_the_writing(sound: Sound) -> None:
    """It is no fault of the record: from Kafka it must not become a dead letter."""
    engine = Engine(sound.damaged(page_of(sound, "submissions"), nothing_left))
    with pytest.raises(Broken, match="is damaged") as told:
        commit(engine, submission("New.", id="new"))
    assert told.value.reason == "CORRUPT"
    engine.close()
