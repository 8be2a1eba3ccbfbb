"""`feedback` says who judged the items of a record, and how. It is a list, and each entry is one kind of verdict.

    each: answers                 # a list: each of its entries is an item, and is called each
    content: "{each.text}"
    feedback:
      - kind: RANKING             # one verdict on all of them
        rater: "{annotator}"
        place: "{each.rank}"      # of each item; or a field with a list, or a list, of one for each
      - kind: RATING              # a verdict on each of them
        each: each.ratings        # a list: each of its entries is a verdict, and is called each here
        rater: "{each.user}"
        rater_type: HUMAN         # as when nothing is said; or AI, EXECUTOR
        aspect: helpfulness
        score: "{each.stars}"
        scale: [1, 5]

PAIRWISE and EDIT judge two items, RANKING two or more, RATING, BINARY and CRITIQUE one. What is judged are the items of
the record, or those that `items` names by their ids; then `content` may be left out. Where the record has a word for
it, `place` and `score` name its field, and what each word means.

    feedback:
      - kind: PAIRWISE
        rater: "{judge}"
        items: ["{model_a}/{question}", "{model_b}/{question}"]
        place: {"{winner}": {model_a: [1, 2], model_b: [2, 1], tie: [1, 1]}}

`rationale`, `degree` and `time` may be said, too. A verdict of which the record has no place, score or rationale at all
is left out: nobody judged.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from epistream.clients.sources.drafts import Judged, Verdict
from epistream.clients.sources.record import Fields, Json, UnreadableRecord, is_line, shown
from epistream.clients.sources.spread import Place, Spread
from epistream.clients.sources.templates import (
    EACH,
    Path,
    Template,
    WrongMapping,
    choice,
    entries,
    field_path,
    names_and_meanings,
    rest,
    view,
)
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.limits import PLACE_MAX, WORD_CHARACTERS_MAX

_TEXTS: Final = ("rater", "aspect", "rationale", "degree", "time")
KEYS: Final = ("kind", "rater_type", "each", "items", "place", "score", "scale", *_TEXTS)
_OF_SEVERAL: Final = ("PAIRWISE", "RANKING", "EDIT")
_NEEDED: Final = {
    "PAIRWISE": "place",
    "RANKING": "place",
    "RATING": "score",
    "BINARY": "score",
    "EDIT": "",
    "CRITIQUE": "rationale",
}
"""What each kind cannot do without."""
_YES_AND_NO: Final = {"1": 1, "1.0": 1, "true": 1, "yes": 1, "0": 0, "0.0": 0, "false": 0, "no": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One entry of `feedback`."""

    path: str
    """Where it stands, as errors of records name it."""
    kind: str
    rater_type: "pb.RaterType.ValueType"
    each: Path
    items: Spread | None
    place: Spread | None
    score: Spread | None
    scale: tuple[float, float] | None
    texts: Mapping[str, Template]

    @property
    def paths(self) -> set[Path]:
        """The fields of the record, and of its entries, that it names."""
        named = {path for one in self.texts.values() for path in one.paths}
        named |= {path for one in (self.items, self.place, self.score) if one is not None for path in one.paths}
        return ({path for path in named if path[0] != EACH} | {self.each}) if self.each else named

    def verdicts(
        self, record: Mapping[str, Json], places: Sequence[Place], details: Mapping[str, Json]
    ) -> Iterator[Verdict]:
        """What the record says of its items, which are in `places`. Raises UnreadableRecord."""
        alone = self.items is None and self.kind not in _OF_SEVERAL
        for seen, judged in [(place.view, [place]) for place in places] if alone else [(record, places)]:
            for verdict in self._seen(seen, judged):
                yield replace(verdict, details={**details, **verdict.details})

    def _seen(self, seen: Mapping[str, Json], places: Sequence[Place]) -> Iterator[Verdict]:
        """The verdicts of one record or entry: one, or those of the list that `each` names."""
        for one in [view(seen, entry) for entry in entries(seen, self.each)] if self.each else [seen]:
            judged = places if self.items is None else _named(self.items, one)
            # What is said of an item stands in its own entry, unless the verdict has one of its own.
            judged = [replace(each, view=one) for each in judged] if self.each else judged
            for group in [judged] if self.kind in _OF_SEVERAL else [[each] for each in judged]:
                verdict = self._verdict(one, group)
                if verdict is not None:
                    yield verdict

    def _verdict(self, seen: Mapping[str, Json], group: Sequence[Place]) -> Verdict | None:
        if self.kind in _OF_SEVERAL and len(group) < 2:
            return None
        texts = {key: one.text(seen) or "" for key, one in self.texts.items()}
        places, scores = self._numbers("place", group), self._numbers("score", group)
        needed = {"place": places, "score": scores, "rationale": [texts.get("rationale") or None], "": [True]}
        if all(value is None for value in needed[_NEEDED[self.kind]]):
            return None
        if self.kind in ("PAIRWISE", "EDIT") and len(group) != 2:
            raise UnreadableRecord(self.path, f"2 items for {self.kind}", str(len(group)))
        judged = [
            Judged(one.key, self._place(places[i], one.number), self._score(scores[i], one.number))
            for i, one in enumerate(group)
        ]
        if self.kind == "PAIRWISE":
            judged.sort(key=lambda one: one.place or 0)
        said = Fields(texts, self.path)
        return Verdict(
            kind=pb.FeedbackKind.Value(f"FEEDBACK_KIND_{self.kind}"),
            judged=tuple(judged),
            rater=said.name("rater"),
            rater_type=self.rater_type,
            aspect=_word(said, "aspect"),
            rationale=said.words("rationale"),
            scale=self.scale,
            degree=_word(said, "degree"),
            time=said.maybe_time("time"),
            details=self._left(seen),
        )

    def _numbers(self, name: str, group: Sequence[Place]) -> Sequence[str | None]:
        spread = self.place if name == "place" else self.score
        return [None] * len(group) if spread is None else spread.of(group)

    def _place(self, said: str | None, number: int) -> int | None:
        if self.place is None:
            return None
        most = 2 if self.kind == "PAIRWISE" else PLACE_MAX
        return Fields({"place": said}, f"{self.path}.judged[{number}]").integer("place", 1, most)

    def _score(self, said: str | None, number: int) -> float | None:
        if self.score is None or (said is None and self.kind in _OF_SEVERAL):
            return None
        fields = Fields({"score": said}, f"{self.path}.judged[{number}]")
        if self.kind == "BINARY":
            if (said or "").lower() not in _YES_AND_NO:
                raise fields.wrong("score", "1 for yes or 0 for no")
            return _YES_AND_NO[(said or "").lower()]
        return fields.number("score", *(self.scale or (-math.inf, math.inf)))

    def _left(self, seen: Mapping[str, Json]) -> Mapping[str, Json]:
        """Of an entry that is a verdict, what nothing names."""
        if not self.each:
            return {}
        own = [one for one in (self.items, self.place, self.score, *self.texts.values()) if one is not None]
        left = rest(seen[EACH], {path[1:] for one in own for path in one.paths if path[0] == EACH})
        return left if isinstance(left, Mapping) else {}


def parse(value: Json, path: str, where: str, *, several: bool) -> Judgement:
    """The entry of `feedback` that stands at `where` of a mapping file.

    Args:
        value: what stands there.
        path: the same without the file's name.
        where: the file and the path in it.
        several: whether a record is several items.

    Raises:
        WrongMapping: it says something else.
    """
    said = names_and_meanings(value, where, KEYS)
    kind = choice(said.get("kind"), f"{where}.kind", list(_NEEDED))
    needed = _NEEDED[kind]
    for key, what in (("rater", "who judged"), (needed, f"{kind} is nothing without it")):
        if key and key not in said:
            raise WrongMapping(f"{where}.{key}: required: {what}")
    for key, kinds in (("place", ("PAIRWISE", "RANKING")), ("score", ("RATING", "BINARY", "PAIRWISE", "RANKING"))):
        if key in said and kind not in kinds:
            raise WrongMapping(f"{where}.{key}: expected only for {', '.join(kinds)}; take it out of {kind}")
    if kind in _OF_SEVERAL and not several and "items" not in said:
        raise WrongMapping(
            f"{where}: {kind} judges several items, and a record is one: say which list they are with `each` beside "
            "`content`, or name them by their ids with `items`"
        )
    rater_type = choice(said.get("rater_type", "HUMAN"), f"{where}.rater_type", ["HUMAN", "AI", "EXECUTOR"])
    return Judgement(
        path=path,
        kind=kind,
        rater_type=pb.RaterType.Value(f"RATER_TYPE_{rater_type}"),
        each=field_path(said["each"], f"{where}.each") if "each" in said else (),
        items=_spread(said, "items", path, where),
        place=_spread(said, "place", path, where),
        score=_spread(said, "score", path, where),
        scale=_scale(said, where, kind),
        texts={key: Template.parse(said[key], f"{where}.{key}") for key in _TEXTS if key in said},
    )


def _named(items: Spread, seen: Mapping[str, Json]) -> list[Place]:
    """Those that `items` names."""
    keys = items.all(seen)
    checked = [Fields({"id": key}, f"{items.path}[{i}]").name("id") for i, key in enumerate(keys)]
    return [Place(key, i, len(keys), seen) for i, key in enumerate(checked)]


def _spread(said: Mapping[str, Json], key: str, path: str, where: str) -> Spread | None:
    return Spread.parse(said[key], f"{path}.{key}", f"{where}.{key}") if key in said else None


def _scale(said: Mapping[str, Json], where: str, kind: str) -> tuple[float, float] | None:
    expected = "the lowest and the highest score, such as [1, 5]"
    if "scale" not in said:
        if kind == "RATING":
            raise WrongMapping(f"{where}.scale: required for RATING: {expected}")
        return None
    value = said["scale"]
    ends = value if isinstance(value, list) and len(value) == 2 else []
    if not all(isinstance(end, int | float) and not isinstance(end, bool) and abs(end) < 1e300 for end in ends):
        ends = []
    if not ends or ends[0] >= ends[1]:
        raise WrongMapping(f"{where}.scale: expected {expected}, found {shown(value)}")
    return float(ends[0]), float(ends[1])


def _word(said: Fields, name: str) -> str:
    value = said.maybe_name(name)
    if not is_line(value, WORD_CHARACTERS_MAX):
        raise said.wrong(name, f"one line of at most {WORD_CHARACTERS_MAX} characters")
    return value
