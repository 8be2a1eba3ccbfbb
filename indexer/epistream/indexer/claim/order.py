"""The one change of word order that is form: a phrase of time at the end of a sentence, or at its beginning."""

from typing import Final

from epistream.indexer.claim.facts import DATE, QUANTITY, TIME, TITLE, Facts
from epistream.indexer.claim.words import HAPPENED, PARTICIPLES, PLACE_PREPOSITIONS, SUBORDINATE, TIME_PREPOSITIONS, WAS

_CLAUSE_MARKS: Final = frozenset('.,"?()')
_FACTS_MIN: Final = 4
"""`in 2010 X happened` has this many facts."""
_BEFORE_YEAR: Final = ("in", "since")
"""Behind other prepositions a number of four digits may be no year: `sold at 2000`."""
_YEAR_DIGITS: Final = 4


def with_time_first(facts: Facts) -> Facts:
    """`X was founded in 2010` as `in 2010 X was founded`, where the time surely belongs to the sentence's one verb.

    Surely means: it stands right behind that verb, or behind the verb and places with proper names. `The book describes
    events in 1940` stays as it is: the year may be that of the events.
    """
    keys, shown, cases = facts
    if len(keys) < _FACTS_MIN or keys[-2] not in TIME_PREPOSITIONS or not is_moment(keys[-1]):
        return facts
    if keys[-1][0] == QUANTITY and keys[-2] not in _BEFORE_YEAR:
        return facts
    if not _ends_in_verb(keys[: _place_start(keys, cases, len(keys) - 2)]):
        return facts
    return Facts(keys[-2:] + keys[:-2], shown[-2:] + shown[:-2], cases[-2:] + cases[:-2])


def is_moment(key: str) -> bool:
    """Whether a key is a date, a time of day, or a number that can be a year."""
    is_year = key[0] == QUANTITY and len(key) == 1 + _YEAR_DIGITS and key[1] in "12" and key[1:].isdigit()
    return is_year or (key[0] in (DATE, TIME) and len(key) > 1)


def _place_start(keys: list[str], cases: str, end: int) -> int:
    """Where `in Leeds` before `end` begins; `end` if there is no such phrase."""
    start = end
    while start > 1 and cases[start - 1] == TITLE:
        start -= 1
    return start - 1 if start < end and keys[start - 1] in PLACE_PREPOSITIONS else end


def _ends_in_verb(keys: list[str]) -> bool:
    """Whether a sentence of one clause ends here in its verb: `died`, `was founded`."""
    if len(keys) < _FACTS_MIN - 2 or any(_may_open_a_clause(key) for key in keys):
        return False
    is_passive = keys[-2] in WAS and (keys[-1].endswith(("ed", "en")) or keys[-1] in PARTICIPLES)
    before = keys[:-2] if is_passive else keys[:-1]
    has_other_verb = any(key in WAS or key in HAPPENED for key in before)
    return not has_other_verb and (is_passive or keys[-1] in HAPPENED)


def _may_open_a_clause(key: str) -> bool:
    return key in SUBORDINATE or key in _CLAUSE_MARKS or key.endswith("ing") or is_moment(key)
