"""An import: the records of some files, each with its submissions, and where to go on when it was interrupted."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from epistream.clients.sources.formats import groups
from epistream.clients.sources.formats.files import File, Position, Read, read
from epistream.clients.sources.formats.piece import CannotRead, Piece
from epistream.clients.sources.landmark import Landmark, Trail, check
from epistream.clients.sources.record import Json, UnreadableRecord, digest
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.work import Work
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.limits import REASON_CHARACTERS_MAX

RAW_BYTES_MAX: Final = 512 * 1024
_ROW: Final = re.compile(r"rows\[(\d+)\](\.|$)")
"""Where the path of a field begins that is one of a row's."""
_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is imported, and how."""

    work: Work
    files: tuple[File, ...]
    namespace: str
    producer: str = ""
    """Who says so where a record names nobody; the work when empty."""
    media_base: str = ""
    """What stands before relative paths of media."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Fields to add to each record that lacks them."""

    @property
    def size(self) -> int:
        """Of all files: bytes, or folders of problems."""
        return sum(file.size for file in self.files)

    @property
    def identity(self) -> str:
        """Stands for all that decides what becomes of a record."""
        return digest(
            self.work.name, self.work.mapping, self.namespace, self.producer, self.media_base, dict(self.extra)
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A record, ready to be sent."""

    submissions: tuple[pb.Submission, ...]
    position: Position
    """Where to go on when all of them are acknowledged; before it where it is not `whole`."""
    done: int
    """How much of all files was read by then, of the job's `size`."""
    unreadable: str = ""
    """Why nothing could be made of it, or of some of its rows; then its last submissions say so, one for each."""
    whole: bool = True
    """False where the file ends before a line end: it may be half of a record, and is read again."""
    before: Landmark | None = field(default=None, compare=False)
    """What stands before the position, as far as it was read from the start on."""


def prepared(job: Job, start: Position | None = None) -> Iterator[Prepared]:
    """The records from a position on. Raises as `files.read`."""
    trail = Trail()
    for one in read(job.files, start):
        trail.add(one)
        made, wrong = _made(job, one.piece)
        told = [_unreadable(job, replace(one, piece=piece), reason) for piece, reason in wrong]
        reasons = "; ".join(reason for _, reason in wrong)
        yield Prepared((*made, *told), one.position, one.done, reasons, one.piece.whole, trail.landmark())


@dataclass(frozen=True, slots=True)
class State:
    """How far an import is: everything before is acknowledged."""

    identity: str
    position: Position
    records: int
    """Those before the position."""
    before: Landmark | None = None
    """What stands before the position; None where nothing does, and in what earlier versions kept."""

    def save(self, path: Path) -> None:
        """Writes it, whole or not at all. Raises CannotRead where it cannot be written."""
        said = {"version": _VERSION, "import": self.identity, "records": self.records, **_place(self.position)}
        text = json.dumps(said | ({"before": asdict(self.before)} if self.before is not None else {}))
        new = path.with_name(f"{path.name}.new")
        try:
            with new.open("w", encoding="utf-8") as file:
                file.write(f"{text}\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError as error:
            raise CannotRead(f"{path} cannot be written: {error}. Name another place with --state") from error

    @classmethod
    def load(cls, path: Path, job: Job) -> "State | None":
        """What was kept of the same import; None where nothing was.

        Raises:
            CannotRead: the file is of another import, or is no state; or the input is another file than was imported.
        """
        if not path.exists():
            return None
        try:
            said = json.loads(path.read_text("utf-8"))
            before = Landmark(int(said["before"]["begin"]), said["before"]["digest"]) if "before" in said else None
            state = cls(said["import"], Position(said["file"], int(said["offset"])), int(said["records"]), before)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CannotRead(
                f"{path} is no state of an import: {error}. Remove it, or name another with --state"
            ) from error
        if said.get("version") != _VERSION or state.identity != job.identity:
            raise CannotRead(
                f"{path} is of an import with another source, namespace or options. Begin anew with --again, or name "
                "another state with --state"
            )
        if before is not None:
            check(job.files, state.position, before)
        return state


def reached(job: Job, record: Prepared, records: int, last: State | None) -> State:
    """The state once a record is acknowledged, with so many before its position; `last` is the one before it."""
    known = last.before if last is not None and last.position == record.position else None
    return State(job.identity, record.position, records, record.before or known)


def state_path(path: Path, work: Work) -> Path:
    """Where the state is kept when nothing is said: beside the input."""
    whole = path.resolve()
    return whole.with_name(f"{whole.name}.{work.name}.import-state")


def _made(job: Job, piece: Piece) -> tuple[list[pb.Submission], list[tuple[Piece, str]]]:
    """What is made of a piece, and of what nothing can be made, with the reason: the piece, or rows of it."""
    if piece.error:
        return [], [(piece, piece.error)]
    try:
        return _read(job, piece), []
    except UnreadableRecord as error:
        at = _wrong_row(job, piece, error)
        if at is None:
            return [], [(piece, error.message)]
        made, wrong = _made(job, groups.one([*piece.parts[:at], *piece.parts[at + 1 :]]))
        reason = UnreadableRecord(_ROW.sub("", error.path), error.expected, error.found).message
        return made, [(piece.parts[at], reason), *wrong]


def _wrong_row(job: Job, piece: Piece, error: UnreadableRecord) -> int | None:
    """Which row of a piece an error is of: the one that it names, or the first that is wrong by itself."""
    named = _ROW.match(error.path)
    if piece.parts and named:
        return int(named[1])
    return next((at for at, row in enumerate(piece.parts) if _made(job, row)[1]), None)


def _read(job: Job, piece: Piece) -> list[pb.Submission]:
    made = submissions(job.work, _with_extra(piece, job.extra), job.media_base)
    return [_addressed(job, each) for each in made]


def _place(position: Position) -> dict[str, str | int]:
    return {"file": position.file, "offset": position.offset}


def _with_extra(piece: Piece, extra: Mapping[str, str]) -> Json:
    """The record with the fields that it lacks; of rows that belong together each is a record."""
    if piece.parts:
        return {**piece.value, "rows": [_filled(row, extra) for row in piece.value["rows"]]}
    return _filled(piece.value, extra)


def _filled(value: Json, extra: Mapping[str, str]) -> Json:
    """With what `Fields` takes as not there, null and an empty text, filled in."""
    if not isinstance(value, Mapping):
        return value
    return {**value, **{name: text for name, text in extra.items() if value.get(name) in (None, "")}}


def _addressed(job: Job, submission: pb.Submission) -> pb.Submission:
    submission.namespace = job.namespace
    if job.producer and submission.provenance.producer == job.work.name:
        submission.provenance.producer = job.producer
    return submission


def _unreadable(job: Job, one: Read, reason: str) -> pb.Submission:
    """Says what was read, before which place, and why nothing could be made of it.

    The service does not look at the origin: it names the topic, where this is sent over Kafka.
    """
    made = pb.Submission(
        origin=job.work.origin,
        provenance=pb.Provenance(
            producer=job.producer or job.work.name, source=f"{quote(one.position.file)}#{one.position.offset}"
        ),
        unreadable=pb.Unreadable(
            record=one.piece.as_read()[:RAW_BYTES_MAX],
            reason=reason[:REASON_CHARACTERS_MAX].encode(errors="replace").decode(),
        ),
    )
    made.submission_id = hashlib.sha256(made.SerializeToString(deterministic=True)).hexdigest()
    made.namespace = job.namespace
    return made
