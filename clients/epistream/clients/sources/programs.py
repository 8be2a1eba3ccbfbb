"""Tests of programs, as several works publish them. Nothing is run here."""

import json
from collections.abc import Iterable, Iterator

from epistream.clients.sources.record import Fields, Json, UnreadableRecord, shown
from epistream.v1 import knowledge_pb2 as pb


def asserted(asserts: Iterable[str], setup: str = "", language: str = "python") -> pb.Tests | None:
    """Tests that are statements; None where there are none."""
    kept = list(asserts)
    return pb.Tests(language=language, setup=setup, asserts=kept) if kept else None


def given(cases: Iterable[tuple[str, str]], language: str = "python", entry_point: str = "") -> pb.Tests | None:
    """Tests that are inputs and outputs; None where there are none."""
    made = [pb.TestCase(input=given, output=expected) for given, expected in cases]
    return pb.Tests(language=language, entry_point=entry_point, cases=made) if made else None


def pairs(inputs: Json, outputs: Json, path: str, *, as_json: bool = False) -> Iterator[tuple[str, str]]:
    """Inputs and outputs that stand in two lists: texts, or lists of lines; with `as_json` any values, as JSON.

    Raises:
        UnreadableRecord: they are no lists of the same length, or not what they should be.
    """
    for name, values in (("inputs", inputs), ("outputs", outputs)):
        if not isinstance(values, list | tuple):
            raise UnreadableRecord(f"{path}.{name}", "a list", shown(values))
    if len(inputs) != len(outputs):
        raise UnreadableRecord(f"{path}.outputs", f"a list of {len(inputs)}, as inputs", f"one of {len(outputs)}")
    said = _json if as_json else _stream
    for i, (put_in, put_out) in enumerate(zip(inputs, outputs, strict=True)):
        yield said(put_in, f"{path}.inputs[{i}]"), said(put_out, f"{path}.outputs[{i}]")


def parsed(record: Fields, name: str) -> Json:
    """A value, or the JSON in a text, as data cards have it; None where there is nothing.

    Raises:
        UnreadableRecord: the text is no JSON.
    """
    value = record.raw(name)
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return Fields({name: json.loads(value)}).raw(name)
    except (ValueError, RecursionError) as error:
        raise record.wrong(name, "JSON") from error


def _stream(value: Json, path: str) -> str:
    """What goes through a standard stream."""
    lines = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(line, str) for line in lines):
        raise UnreadableRecord(path, "a text or a list of lines", shown(value))
    return "\n".join(lines)


def _json(value: Json, path: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UnreadableRecord(path, "what JSON can say", shown(value)) from error
