"""A store that is damaged anywhere: nothing wrong is answered of the journal, and what can be made anew is."""

import itertools
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from epistream.indexer import repair, views
from epistream.indexer import store as stores
from epistream.indexer.engine import Engine
from epistream.indexer.feed import Wish
from epistream.indexer.positions import Cursor
from epistream.indexer.store import ANEW, DAMAGED, FILE, WAL, Store
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.wire.errors import Broken, NotFound, Unavailable
from tests.support.knowing import NAMESPACE, commit, commit_from_kafka, direction, open_engine, retraction, submission

ROOT = Path(__file__).parents[2]
PAGE_BYTES = 1024
ITEMS = 30
KILLED_AT = """
import os, signal, sys
from pathlib import Path
from epistream.indexer import repair

nth, folder = int(sys.argv[1]), sys.argv[2]
seen = 0

def step(event, arguments):
    global seen
    names = event in ("os.link", "os.remove", "os.rename") or event == "open" and not isinstance(arguments[0], int)
    if names and str(arguments[0]).startswith(folder):
        seen += 1
        if seen > nth:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(step)
repair.remake(Path(folder))
"""
"""Makes a store anew and dies before the nth of its steps that change a name in the folder, or open one."""
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
        gains: what it knows of how new something would be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._copies = folder, 0
        engine = open_engine(folder)
        commit_from_kafka(engine, [a_fact(n) for n in range(45)], 7)
        commit(engine, retraction("i-3", id="r"))
        commit(engine, *[judgement(n) for n in range(ITEMS)], *[repetition(n) for n in range(ITEMS, 45)])
        engine.signals.write(1, [45], api.ListSignalsResponse(revision=45, model="measured", records=45))
        self.answers = answers(engine)
        self.dump = list(engine.store.logical_dump())
        self.gains = gains_of(engine)
        engine.close()
        connection = apsw.Connection(str(folder / FILE))
        self.pages: dict[int, str] = dict(connection.execute("SELECT pageno, name FROM dbstat ORDER BY pageno"))
        connection.close()

    def damaged(self, page: int, damage: Damage, seed: int = 0) -> Path:
        """A copy with damage in a page: 1, 2, 3 …"""
        return self._with(FILE, slice((page - 1) * PAGE_BYTES, page * PAGE_BYTES), damage, f"{page} {seed}")

    def damaged_beside(self, name: str, damage: Damage, seed: int) -> Path:
        """A copy with damage somewhere in another of its files."""
        return self._with(name, slice(None), damage, f"{name} {seed}")

    def _with(self, name: str, place: slice, damage: Damage, seed: str) -> Path:
        self._copies += 1
        copy = self.folder.with_name(f"damaged-{self._copies}")
        shutil.copytree(self.folder, copy)
        content = bytearray((copy / name).read_bytes())
        part = content[place]
        damage(part, random.Random(seed))
        content[place] = part
        (copy / name).write_bytes(content)
        return copy


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sound]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "PAGE_BYTES", PAGE_BYTES)
        yield Sound(tmp_path_factory.mktemp("sound") / "data")


def a_fact(number: int) -> pb.Submission:
    content = f"Fact {number}. " + "It is long. " * (number % 7 * 10)
    return submission(content, id=f"s-{number}", item=f"i-{number % ITEMS}", attributes={"side": str(number % 2)})


def judgement(number: int) -> pb.Submission:
    """What somebody thinks of an item."""
    made = submission("", id=f"f-{number}", producer="rater")
    made.ClearField("embedding")
    made.ClearField("modality")
    made.feedback.CopyFrom(
        pb.Feedback(
            kind=pb.FEEDBACK_KIND_BINARY,
            rater_type=pb.RATER_TYPE_HUMAN,
            rater=f"rater-{number}",
            judged=[pb.Judged(item_id=f"i-{number}", score=1)],
        )
    )
    return made


def repetition(number: int) -> pb.Submission:
    """The same as a fact, from somebody else."""
    again = a_fact(number)
    again.submission_id, again.provenance.producer = f"again-{number}", "bob"
    again.ClearField("item_id")
    return again


def answers(engine: Engine) -> dict[str, bytes | str]:
    """What is answered to questions of every kind; the reason, where that is an error."""
    diff = api.DiffRequest(namespace=NAMESPACE, limit=500)
    getattr(diff, "from").revision = 2
    query = pb.Embedding(float32=direction(1, 2).tobytes())
    known, feed, head = engine.knowledge, engine.feed, engine.feed.head(NAMESPACE)
    questions: dict[str, Callable[[], bytes]] = {
        "search": lambda: known.search(
            api.SearchRequest(namespace=NAMESPACE, vector=query, limit=ITEMS)
        ).SerializeToString(),
        "signals": lambda: known.list_signals(api.ListSignalsRequest(namespace=NAMESPACE)).SerializeToString(),
        "diff": lambda: known.diff(diff).SerializeToString(),
        "replay": lambda: feed.replay(NAMESPACE, 0, Wish()).body,
        "outbox": lambda: repr(engine.outbox.pending(Cursor(0, 0), 1000).messages).encode(),
        "snapshot": lambda: feed.snapshot(NAMESPACE, head, 0, Wish()).body,
    }
    for number in range(ITEMS):
        asked = api.GetRequest(namespace=NAMESPACE, item_id=f"i-{number}")
        questions[f"get {number}"] = lambda asked=asked: known.get(asked).SerializeToString()  # type: ignore[misc]
        judged = api.ListFeedbackRequest(namespace=NAMESPACE, item_id=f"i-{number}")
        questions[f"feedback {number}"] = lambda judged=judged: known.list_feedback(judged).SerializeToString()  # type: ignore[misc]
    return {name: _answer(question) for name, question in questions.items()}


def _answer(question: Callable[[], bytes]) -> bytes | str:
    try:
        return question()
    except (Broken, NotFound) as error:
        return error.reason


def gains_of(engine: Engine) -> bytes:
    gains = engine.namespaces.state(NAMESPACE).standing.gains
    assert gains is not None
    return gains.to_bytes()


@pytest.mark.parametrize("name", ["index/1.index", "index/1.gains"])
def test_what_is_beside_the_journal_is_made_anew_from_it_wherever_it_is_damaged(sound: Sound, name: str) -> None:
    whole = (sound.folder / name).read_bytes()
    for damage, seed in itertools.product(DAMAGES, range(8)):
        folder = sound.damaged_beside(name, damage, seed)
        assert (folder / name).read_bytes() != whole
        engine = Engine(folder)
        assert answers(engine) == sound.answers, (damage, seed)
        assert gains_of(engine) == sound.gains, (damage, seed)
        engine.close()
        assert (folder / name).read_bytes() == whole, "it is as it was"


def test_what_was_measured_is_told_as_not_measured_where_it_is_damaged(sound: Sound) -> None:
    for damage, seed in itertools.product(DAMAGES, range(8)):
        engine = Engine(sound.damaged_beside("signals/1.sealed", damage, seed))
        assert engine.signals.read(1) is None, (damage, seed)
        now = answers(engine)
        assert {name for name, answer in now.items() if answer != sound.answers[name]} == {"signals"}
        engine.close()


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


def test_an_index_of_the_journal_that_has_lost_entries_hides_none(sound: Sound) -> None:
    """A leaf of it that says that it has one entry less: SQLite sees nothing wrong with that."""

    def one_less(page: bytearray, _: random.Random) -> None:
        page[3:5] = (int.from_bytes(page[3:5], "big") - 1).to_bytes(2, "big")

    told = 0
    for page in (number for number, name in sound.pages.items() if name == "journal_by_revision"):
        folder = sound.damaged(page, one_less)
        shutil.rmtree(folder / "index")
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
    assert told > 0


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


@pytest.mark.usefixtures("sound")  # its size of pages
def test_a_rebuild_that_is_killed_leaves_a_whole_store_in_its_place(tmp_path: Path) -> None:
    """Before each of its steps. What was committed last is in the WAL, as a service leaves it that is killed."""
    own = Sound(tmp_path / "data")
    engine = open_engine(own.folder)
    commit(engine, submission("In the WAL.", id="wal"))
    dump, newest = list(engine.store.logical_dump()), pages_in_wal(own.folder)
    page = next(number for number, name in own.pages.items() if name in views.TABLES and number not in newest)
    folder, last = own.damaged(page, nothing_left), engine.store.journal.last()
    engine.close()
    assert pages_in_wal(folder)
    nth, killed = 0, -signal.SIGKILL
    while killed == -signal.SIGKILL:
        copy = folder.with_name(f"killed-{nth}")
        shutil.copytree(folder, copy)
        killed = subprocess.run([sys.executable, "-c", KILLED_AT, str(nth), copy], cwd=ROOT, check=False).returncode
        store = Store(copy)
        assert store.epoch == engine.epoch
        assert store.journal.last() == last
        assert stores.damage_of_truth(store) == []
        store.close()
        repair.remake(copy)
        assert dumped(copy) == dump
        nth += 1
    assert killed == 0
    assert nth > 6, "the lock, three that may be there, the link, the place, the folder"
    assert (copy / DAMAGED).exists()
    assert not (copy / ANEW).exists()


def pages_in_wal(folder: Path) -> set[int]:
    """By their numbers, which stand first in each frame's header of 24 bytes (sqlite.org/fileformat2.html)."""
    wal = (folder / f"{FILE}-wal").read_bytes()
    return {int.from_bytes(wal[at : at + 4], "big") for at in range(32, len(wal), 24 + PAGE_BYTES)}


def dumped(folder: Path) -> list[str]:
    store = Store(folder)
    try:
        assert stores.check(store) == []
        return list(store.logical_dump())
    finally:
        store.close()


def test_a_store_that_somebody_reads_is_not_replaced_under_the_reader(
    sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "BUSY_MILLISECONDS", 1)
    folder = sound.damaged(page_of(sound, "versions"), nothing_left)
    store = Store(folder)
    store.look_for_space()
    with stores.read_only(folder) as at:
        assert at.epoch() == store.epoch
        store.look_for_space()
        store.close()
        with pytest.raises(Unavailable, match="-wal cannot be written back, and nothing was changed"):
            repair.remake(folder)
        assert not any((folder / name).exists() for name in (ANEW, DAMAGED))
    repair.remake(folder)
    assert dumped(folder) == sound.dump


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (DAMAGED, f"holds no store, but {DAMAGED}, .* rename that to {FILE} and run `epistream fsck --rebuild`"),
        (ANEW, f"holds no store, but {ANEW}, of a rebuild that was cut off: restore a backup"),
        (WAL, f"holds no store, but {WAL}, which is the newest part of one: bring {FILE} back, or restore a backup"),
    ],
)
def test_where_something_is_left_of_a_store_no_empty_one_is_made(
    sound: Sound, tmp_path: Path, left: str, says: str
) -> None:
    shutil.copy(sound.folder / FILE, tmp_path / left)
    with pytest.raises(Broken, match=says):
        Store(tmp_path)
    assert not (tmp_path / FILE).exists()
    with pytest.raises(Unavailable, match=says), stores.read_only(tmp_path):
        pass
    (tmp_path / left).rename(tmp_path / FILE)
    assert dumped(tmp_path) == sound.dump


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


def test_a_snapshot_does_not_pass_over_what_the_journal_has_lost(sound: Sound, tmp_path: Path) -> None:
    """The newest of what is in answers: no entry behind it in the snapshot would be found not to fit."""
    shutil.copytree(sound.folder, tmp_path / "data")
    engine = Engine(tmp_path / "data")
    lost = engine.store.writer.execute(
        "DELETE FROM journal WHERE revision = (SELECT MAX(revision) FROM versions WHERE ended IS NULL AND kind <> ?)"
        " RETURNING revision",
        (pb.CHANGE_KIND_RETRACTED,),
    ).get
    with pytest.raises(Broken, match=f"revision {lost} of namespace 1 is missing"):
        engine.feed.snapshot(NAMESPACE, engine.feed.head(NAMESPACE), 0, Wish())
    engine.close()


def test_damage_that_the_writer_meets_ends_the_writing(sound: Sound) -> None:
    """It is no fault of the record: from Kafka it must not become a dead letter."""
    engine = Engine(sound.damaged(page_of(sound, "submissions"), nothing_left))
    with pytest.raises(Broken, match="is damaged") as told:
        commit(engine, submission("New.", id="new"))
    assert told.value.reason == "CORRUPT"
    engine.close()
