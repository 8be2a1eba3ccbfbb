"""R9 to R12: items that change over the years, and what is asked about them, with the packaged encoder.

The items are those of the sample of TimeQA, one for each entity and relation; a version says who or what it was from a
date on. They are published twice over: on the dates from which they hold, where the store's clock stands at each; and
in any order, all now, where each says from when on it holds.
"""

import calendar
import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.wire.canonical import canonical_text
from epistream.wire.errors import NotFound
from tests.support.asked import Share, engine_with_encoder, said, share, take_in
from tests.support.knowing import HandClock
from tests.support.merging import MUTATIONS
from tests.support.samples import DATA, rows

CHANGING = DATA / "updates_timeqa_sample.jsonl"
STATEMENTS = DATA / "updates_dune_sample.jsonl"
YEARS, CONTROLS = "years", "controls"
SEEDS = (1, 2, 3)
_LATER_YEARS: Final = 800
"""By how much the store's clock is ahead of the dates, so that 1542 is after 2023. Calendars repeat after 400 years."""
_LATER_US: Final = timedelta(days=2 * 146_097) // timedelta(microseconds=1)
"""The same: 400 years have 146,097 days."""
_MONTHS: Final = {name: number for number, name in enumerate(calendar.month_abbr) if name}
_DATE: Final = r"(?:([A-Za-z]{3}) )?(\d{4})"
_SPAN: Final = re.compile(rf",? ?\b(?:from {_DATE} to {_DATE}|in {_DATE})\b,? ?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Version:
    """What an item says from a date on."""

    key: str
    """The entity and the relation."""
    question: str
    """As the sample asks it, without the dates."""
    answer: str
    start_us: int
    """When it begins to hold, by the store's clock."""
    inside_us: int
    """A moment at which it holds."""

    @property
    def content(self) -> str:
        """The statement, in canonical form."""
        return canonical_text(f"{self.question} {self.answer}.")


def versions() -> dict[str, list[Version]]:
    """The versions of each item by its key, the oldest first, of the items that have two or more."""
    found = [_versions_of(row) for row in rows(CHANGING)]
    return {kept[0].key: kept for kept in found if len(kept) > 1}


def stem(question: str) -> str:
    """A question of DUNE without the answers to choose from."""
    return question.partition("\n")[0].strip()


@dataclass(frozen=True, slots=True)
class Updating:
    """What came out. Where no order is named, everything was published on the dates from which it holds."""

    current_by_key: Share
    """R9: items, those of the mutated statements among them, of which the newest answer is the current one."""
    current_by_question: Share
    """R9: questions, without a date, whose first hit is the newest answer of their item."""
    as_of_by_key: Share
    """R10: versions that are read at a moment at which they hold."""
    as_of_by_question: Share
    """R10: the same, as the first hit of the version's question."""
    shuffled_current: Share
    """R11: items of which the newest answer is the current one, published in the orders of SEEDS with their times."""
    shuffled_complete: Share
    """R11: of those, items whose history has every version once, in the order of valid time."""
    held_by_key: Share
    """R10: of those, versions that are read at a valid time at which they hold."""
    held_by_question: Share
    """R10: the same, of the item that is the first hit of the version's question."""
    controls_changed: Share
    """R12: questions about what did not change, whose first hit the updates changed."""


def measure(folder: Path) -> Updating:
    """Publish what does not change, then the versions. Takes as long as the encoder needs for 800 sentences."""
    items = versions()
    shuffles = [f"shuffled-{seed}" for seed in SEEDS]
    clock = HandClock()
    with engine_with_encoder(folder, YEARS, CONTROLS, *shuffles, clock=clock) as engine:
        mutated, controls_changed = _controls(engine, items)
        take_in(engine, _statements(YEARS))
        for version in sorted(_all(items), key=lambda version: version.start_us):
            clock.us = version.start_us
            take_in(engine, [_submission(version, YEARS)])
        shuffled = [_shuffled(engine, items, name, seed) for name, seed in zip(shuffles, SEEDS, strict=True)]
        newest = {kept[-1] for kept in items.values()}
        return Updating(
            share([*mutated, *(_current(engine, YEARS, v.key) == v.content for v in newest)]),
            share(
                _first_hit(engine, YEARS, version.question) == items[version.key][-1].content for version in _all(items)
            ),
            share(_current(engine, YEARS, v.key, v.inside_us) == v.content for v in _all(items)),
            share(_first_hit(engine, YEARS, v.question, v.inside_us) == v.content for v in _all(items)),
            share(current for found in shuffled for current in found.currents),
            share(complete for found in shuffled for complete in found.completes),
            share(held for found in shuffled for held in found.held_by_key),
            share(held for found in shuffled for held in found.held_by_question),
            controls_changed,
        )


def _controls(engine: Engine, items: Mapping[str, Sequence[Version]]) -> tuple[list[bool], Share]:
    """Whether each mutated statement replaced its original, and how many controls that and the versions changed."""
    questions = [stem(query["question"]) for row in rows(STATEMENTS) for query in row["queries"]]
    changed = [row for row in rows(MUTATIONS) if row["expect"] == "must_not_merge"]
    take_in(engine, _statements(CONTROLS))
    take_in(engine, [_original(row) for row in changed])
    take_in(engine, [_submission(kept[0], CONTROLS) for kept in items.values()])
    before = [_first_hit(engine, CONTROLS, question) for question in questions]
    take_in(engine, [_mutated(row) for row in changed])
    take_in(engine, [_submission(version, CONTROLS) for kept in items.values() for version in kept[1:]])
    after = [_first_hit(engine, CONTROLS, question) for question in questions]
    replaced = [_current(engine, CONTROLS, row["id"]) == canonical_text(row["b"]) for row in changed]
    return replaced, share(one != other for one, other in zip(before, after, strict=True))


@dataclass(frozen=True, slots=True)
class _Shuffled:
    """What came out of one order: a bool of each item, or of each version."""

    currents: list[bool]
    completes: list[bool]
    held_by_key: list[bool]
    held_by_question: list[bool]


def _shuffled(engine: Engine, items: Mapping[str, Sequence[Version]], namespace: str, seed: int) -> _Shuffled:
    """Publish every version in any order, each with the time from which it holds."""
    order = list(_all(items))
    random.Random(seed).shuffle(order)
    take_in(engine, [_dated_submission(version, namespace) for version in order])
    return _Shuffled(
        [_current(engine, namespace, key) == kept[-1].content for key, kept in items.items()],
        [_by_valid_time(engine, namespace, key) == [v.content for v in kept] for key, kept in items.items()],
        [_held(engine, namespace, v.key, v) == v.content for v in _all(items)],
        [_held(engine, namespace, _first_item(engine, namespace, v.question), v) == v.content for v in _all(items)],
    )


def _by_valid_time(engine: Engine, namespace: str, item: str) -> list[str]:
    """What the versions of an item say, in the order of valid time."""
    request = api.HistoryRequest(namespace=namespace, item_id=item, by_valid_time=True)
    return [canonical_text(change.knowledge.content) for change in engine.knowledge.history(request).changes]


def _held(engine: Engine, namespace: str, item: str, version: Version) -> str | None:
    """What an item says at a valid time at which the version holds; None where it says nothing of then."""
    request = api.GetRequest(namespace=namespace, item_id=item)
    request.as_of.valid_time.FromMicroseconds(version.inside_us - _LATER_US)
    try:
        return canonical_text(engine.knowledge.get(request).change.knowledge.content)
    except NotFound:
        return None


def _all(items: Mapping[str, Sequence[Version]]) -> Iterator[Version]:
    return (version for kept in items.values() for version in kept)


def _current(engine: Engine, namespace: str, item: str, at_us: int | None = None) -> str:
    """What an item says, now or at a moment."""
    request = api.GetRequest(namespace=namespace, item_id=item)
    if at_us is not None:
        request.as_of.time.FromMicroseconds(at_us)
    return canonical_text(engine.knowledge.get(request).change.knowledge.content)


def _first_hit(engine: Engine, namespace: str, question: str, at_us: int | None = None) -> str:
    """The content nearest to a question, now or at a moment."""
    return canonical_text(_nearest(engine, namespace, question, at_us).knowledge.content)


def _first_item(engine: Engine, namespace: str, question: str) -> str:
    """The item nearest to a question, now."""
    return _nearest(engine, namespace, question).item_id


def _nearest(engine: Engine, namespace: str, question: str, at_us: int | None = None) -> pb.Change:
    request = api.SearchRequest(namespace=namespace, text=question, limit=1)
    if at_us is not None:
        request.as_of.time.FromMicroseconds(at_us)
    return engine.knowledge.search(request).hits[0].change


def _statements(namespace: str) -> list[pb.Submission]:
    return [
        said(row["statement"], id=row["id"], item=row["id"], namespace=namespace, producer="chronicle")
        for row in rows(STATEMENTS)
    ]


def _original(row: Mapping[str, Any]) -> pb.Submission:
    return said(row["a"], id=f"{row['id']}-a", item=row["id"], namespace=CONTROLS, producer="encyclopaedia")


def _mutated(row: Mapping[str, Any]) -> pb.Submission:
    return said(row["b"], id=f"{row['id']}-b", item=row["id"], namespace=CONTROLS, producer="encyclopaedia")


def _submission(version: Version, namespace: str) -> pb.Submission:
    name = f"{version.key} {version.start_us}"
    return said(version.content, id=name, item=version.key, namespace=namespace, producer="almanac")


def _dated_submission(version: Version, namespace: str) -> pb.Submission:
    made = _submission(version, namespace)
    made.valid_from.FromMicroseconds(version.start_us - _LATER_US)
    return made


def _versions_of(row: Mapping[str, Any]) -> list[Version]:
    """What the questions of a row say, in the order of the dates; an answer that stays is one version."""
    dated = sorted((_dated(question) for question in row["questions"]), key=lambda found: found[:2])
    kept: list[tuple[int, int, str, str]] = []
    for one in dated:
        if not kept or (kept[-1][0] != one[0] and kept[-1][3] != one[3]):
            kept.append(one)
    ends = [min(one[1], other[0]) for one, other in itertools.pairwise(kept)] + [one[1] for one in kept[-1:]]
    key = f"{row['entity']} {row['relation']}"
    return [
        Version(key, question, answer, start, (start + end) // 2)
        for (start, _, question, answer), end in zip(kept, ends, strict=True)
    ]


def _dated(question: Mapping[str, Any]) -> tuple[int, int, str, str]:
    """From when to when by the store's clock, the question without it, and the first answer."""
    span = _SPAN.search(question["question"])
    assert span is not None, question
    first_month, first_year, last_month, last_year, month, year = span.groups()
    start = _first_us(first_month or month, int(first_year or year))
    end = _first_us(last_month, int(last_year)) if last_year else _after_us(month, int(year))
    asked = " ".join(_SPAN.sub(" ", question["question"]).split()).replace(" ?", "?")
    return start, max(end, start + 2), asked, question["answers"][0]


def _first_us(month: str | None, year: int) -> int:
    """The first microsecond of a month, or of a year, by the store's clock."""
    number = _MONTHS[month.capitalize()] if month else 1
    return int(datetime(year + _LATER_YEARS, number, 1, tzinfo=UTC).timestamp()) * 1_000_000


def _after_us(month: str | None, year: int) -> int:
    """The end of a month, or of a year."""
    number = _MONTHS[month.capitalize()] if month else 12
    days = calendar.monthrange(year, number)[1]
    return _first_us(calendar.month_abbr[number], year) + days * 24 * 3600 * 1_000_000
