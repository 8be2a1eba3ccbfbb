"""Submissions from lines of JSON: each is one in protobuf's JSON form, completed by the defaults of the command line.

    {"item_id": "limit", "content": "The limit is 5 mg.", "provenance": {"producer": "dr-ada"}}

Only the form is read here. Whether the values are right is the service's to say.
"""

import codecs
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError, SerializeToJsonError

from epistream.clients.cli.exits import Wrong
from epistream.v1 import knowledge_pb2 as pb

STANDARD_INPUT: Final = "-"
LINES_AHEAD_MAX: Final = 1000
"""How many lines are read before they are wanted."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a line gets where it says nothing itself."""

    namespace: str = ""
    producer: str = ""
    origin: str = ""
    """Such as EXPERT."""
    modality: str = "TEXT"
    source: str = ""
    generator: str = ""
    licence: str = ""
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was read: either a submission or what is wrong."""

    number: int
    """From 1."""
    submission: pb.Submission | None
    error: str = ""


def read_lines(name: str, defaults: Defaults, progress: Callable[[int], None] | None = None) -> Iterator[Line]:
    """The lines of the file `name`, or of the standard input for `-`; empty ones are left out. Blocks for each.

    Args:
        name: the file.
        defaults: completes each submission.
        progress: told after each line how many bytes were read in all.

    Raises:
        Wrong: the file cannot be read.
    """
    try:
        if name == STANDARD_INPUT:
            yield from _lines(_standard_input(), defaults, progress)
        else:
            with Path(name).open("rb") as file:
                yield from _lines(file, defaults, progress)
    except OSError as error:
        raise Wrong(f"{name} cannot be read: {error}") from error


def size_of(name: str) -> int | None:
    """How many bytes will be read; None when nobody knows."""
    path = Path(name)
    return path.stat().st_size if name != STANDARD_INPUT and path.is_file() else None


def parse(text: bytes, defaults: Defaults) -> pb.Submission:
    """The submission of one line, completed.

    Raises:
        Wrong: it is no submission in JSON; the message says why.
    """
    try:
        tree = json.loads(text.decode(), object_pairs_hook=_object)
        if not isinstance(tree, dict):
            raise Wrong(f"expected an object, found {type(tree).__name__}")
        return complete(ParseDict(tree, pb.Submission()), defaults)
    except UnicodeDecodeError as error:
        raise Wrong(f"not UTF-8: byte 0x{text[error.start]:02x} at {error.start}") from error
    except json.JSONDecodeError as error:
        raise Wrong(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise Wrong("too many objects and arrays in each other") from error
    except (ParseError, SerializeToJsonError, ValueError, TypeError, OverflowError) as error:
        told = str(error) or type(error).__name__
        raise Wrong(f"not a submission: {told.splitlines()[0]}") from error


def complete(submission: pb.Submission, defaults: Defaults) -> pb.Submission:
    """The submission with the defaults where it says nothing.

    Feedback, and what could not be read, has no modality and no labels.
    Without a `submission_id` it gets the SHA-256 of the canonical JSON of all the rest.
    """
    provenance = submission.provenance
    submission.namespace = submission.namespace or defaults.namespace
    provenance.producer = provenance.producer or defaults.producer
    provenance.source = provenance.source or defaults.source
    provenance.generator = provenance.generator or defaults.generator
    provenance.licence = provenance.licence or defaults.licence
    if not submission.origin and defaults.origin:
        submission.origin = pb.Origin.Value(f"ORIGIN_{defaults.origin}")
    knowledge = not (submission.HasField("feedback") or submission.HasField("unreadable"))
    if knowledge and not submission.modality and not submission.retraction:
        submission.modality = pb.Modality.Value(f"MODALITY_{defaults.modality}")
    for key, value in defaults.attributes.items() if knowledge else ():
        if key not in submission.attributes:
            submission.attributes[key] = value
    if not submission.submission_id:
        submission.submission_id = _digest(submission)
    if not submission.HasField("submitted_time"):
        submission.submitted_time.FromDatetime(datetime.now(UTC))
    return submission


def _standard_input() -> BinaryIO:
    """The standard input through a buffer of its own.

    Python takes the lock of its own buffer when it ends, and a thread that waits for input would hold it.
    """
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except OSError:  # it was replaced by something that is no file
        return sys.stdin.buffer


def _lines(file: BinaryIO, defaults: Defaults, progress: Callable[[int], None] | None) -> Iterator[Line]:
    read = 0
    for number, text in enumerate(file, 1):
        read += len(text)
        said = text.removeprefix(codecs.BOM_UTF8) if number == 1 else text
        if said and not said.isspace():
            try:
                yield Line(number, parse(said, defaults))
            except Wrong as error:
                yield Line(number, None, error.message)
        if progress is not None:
            progress(read)


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(members)
    if len(made) < len(members):
        names = [name for name, _ in members]
        raise Wrong(f"given twice: {next(name for name in names if names.count(name) > 1)!r}")
    return made


def _digest(submission: pb.Submission) -> str:
    """The same for the same line, however its members are ordered and spelled; `submitted_time` has no part in it."""
    rest = pb.Submission()
    rest.CopyFrom(submission)
    rest.ClearField("submitted_time")
    tree = MessageToDict(rest, preserving_proto_field_name=True)
    canonical = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
