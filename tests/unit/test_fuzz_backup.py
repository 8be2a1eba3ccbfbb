"""Whatever a backup file holds, with the right SHA-256: a restore makes a whole store of it, or none and says why."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epistream.indexer import store as stores
from epistream.indexer.backup import HEADER_LENGTH_BYTES, MAGIC, RECORD_LENGTH_BYTES, Backup
from epistream.indexer.restore import restore
from epistream.indexer.store import FILE
from epistream.v1 import backup_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import EpistreamError
from tests.support.fuzzing import examples
from tests.support.knowing import START_US, commit, commit_from_kafka, open_engine, record, retraction, submission


class Parts:
    """A backup file, taken apart: the header and the records."""

    def __init__(self, whole: bytes) -> None:
        at = len(MAGIC)
        length = int.from_bytes(whole[at : at + HEADER_LENGTH_BYTES], "little")
        at += HEADER_LENGTH_BYTES
        self.header, at = whole[at : at + length], at + length
        self.records: list[bytes] = []
        while at < len(whole):
            length = int.from_bytes(whole[at : at + RECORD_LENGTH_BYTES], "little")
            at += RECORD_LENGTH_BYTES
            self.records.append(whole[at : at + length])
            at += length


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Of a small store that has something of everything."""
    engine = open_engine(tmp_path_factory.mktemp("small"))
    commit(engine, *(submission(f"Fact {n}.", id=f"s-{n}", item=f"i-{n % 2}") for n in range(4)))
    commit(engine, retraction("i-1", id="gone"))
    commit_from_kafka(engine, [submission("From Kafka.", id="k")], 1)
    engine.pipeline.commit(engine.pipeline.prepare([record(pb.Submission(content="of nobody"))]))
    made = Parts(b"".join(Backup(engine.store.readers, "1", START_US).data()))
    engine.close()
    return made


Change = Callable[[list[bytes]], None]


def removed(at: int) -> Change:
    return lambda records: records.__delitem__(at % len(records))


def twice(at: int) -> Change:
    return lambda records: records.insert(at, records[at % len(records)])


def other(at: int, value: bytes) -> Change:
    return lambda records: records.insert(at, value)


def damaged(at: int, place: int, value: bytes) -> Change:
    def change(records: list[bytes]) -> None:
        one = records[at % len(records)]
        place_in = place % (len(one) + 1)
        records[at % len(records)] = one[:place_in] + value + one[place_in + len(value) :]

    return change


NUMBERS = st.integers(0, 12)
SOME_BYTES = st.binary(max_size=20)
numbers = st.sampled_from([0, 1, 2, 7, 2**31, 2**63 - 1])
texts = st.sampled_from(["", "facts", "x" * 300, "\0"])
made_up = st.one_of(
    st.builds(
        backup_pb2.BackupEntry,
        sequence=numbers,
        namespace=numbers,
        change=st.none() | SOME_BYTES,
        embedding=st.none() | SOME_BYTES,
        record=SOME_BYTES,
        digest=SOME_BYTES,
    ).map(lambda entry: backup_pb2.BackupRecord(entry=entry)),
    st.builds(backup_pb2.BackupDeadLetter, number=numbers, topic=st.none() | texts, value=SOME_BYTES).map(
        lambda letter: backup_pb2.BackupRecord(dead_letter=letter)
    ),
    st.builds(
        backup_pb2.BackupPosition, topic=texts, partition=st.integers(0, 3), next_offset=numbers, topic_id=texts
    ).map(lambda position: backup_pb2.BackupRecord(position=position)),
    st.builds(backup_pb2.BackupAcknowledged, sequence=numbers, dead_letter=numbers).map(
        lambda told: backup_pb2.BackupRecord(acknowledged=told)
    ),
).map(lambda record: record.SerializeToString())
changes = st.one_of(
    NUMBERS.map(removed),
    NUMBERS.map(twice),
    st.builds(other, NUMBERS, st.one_of(SOME_BYTES, made_up)),
    st.builds(damaged, NUMBERS, st.integers(0, 300), SOME_BYTES),
)
header_lengths = st.sampled_from([None, None, None, 0, 5, 2**32, 2**63 - 1, 2**64 - 1])


@examples(60)
@given(st.lists(changes, max_size=3), st.one_of(st.just(b""), SOME_BYTES), header_lengths, st.booleans())
def test_any_backup_is_restored_whole_or_not_at_all_even_with_the_right_digest(
    parts: Parts, changed: list[Change], header: bytes, header_length: int | None, checked: bool
) -> None:
    restored_whole(parts, changed, header, header_length, checked=checked)


def test_a_backup_as_it_was_made_is_restored(parts: Parts) -> None:
    """The checks above and below can fail."""
    assert restored_whole(parts, [], b"", None, checked=True)


@pytest.mark.parametrize(
    ("header", "header_length"),
    [
        pytest.param(b"", 2**64 - 1, id="longer than any file"),
        pytest.param(b"\xff", None, id="of another program"),
    ],
)
def test_a_header_of_a_backup_found_by_fuzzing_is_refused(
    parts: Parts, header: bytes, header_length: int | None
) -> None:
    assert not restored_whole(parts, [], header, header_length, checked=True)


def restored_whole(
    parts: Parts, changed: list[Change], header: bytes, header_length: int | None, *, checked: bool
) -> bool:
    """Whether a backup with these changes and the digest for them is restored; then all of it must be."""
    records = list(parts.records)
    for change in changed:
        change(records)
    header = parts.header + header
    length = len(header) if header_length is None else header_length
    body = MAGIC + length.to_bytes(HEADER_LENGTH_BYTES, "little") + header
    body += b"".join(len(one).to_bytes(RECORD_LENGTH_BYTES, "little") + one for one in records)
    with TemporaryDirectory() as name:
        file, folder = Path(name) / "b", Path(name) / "new"
        file.write_bytes(body + hashlib.sha256(body).digest())
        with suppress(EpistreamError):
            restore(file, folder, checked=checked)
        if not folder.exists():
            return False
        assert sorted(path.name for path in folder.iterdir()) == ["lock", FILE]
        store = stores.Store(folder)
        assert not checked or stores.check(store) == []
        store.close()
        return True
