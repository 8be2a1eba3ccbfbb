"""Numbers, units, dates and times of day in prose: forms of the same value become the same key.

`1,000 mg`, `1000mg` and `one thousand milligrams` are `=1000 mg`; `17 February 1828` and `Feb. 17th, 1828` are
`@1828-02-17`; `9:15 p.m.` and `21:15` are `~21:15`. What has more than one reading (`3,50`, `1.500 kg`, `02/03/2020`,
`3.10` without a unit) keeps its own form, so it equals only itself. Nothing is converted from one unit into another.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from epistream.indexer.claim.facts import DATE, QUANTITY, TIME
from epistream.indexer.claim.measures import (
    BEFORE_AMOUNTS,
    CARDINALS,
    CURRENCY_CODES,
    CURRENCY_SIGNS,
    DAILY,
    MONTHS,
    NUMBERED,
    ORDINALS,
    PERIODS,
    RELEASED,
    SCALES,
    TENS,
    UNITS,
)
from epistream.indexer.claim.words import FUNCTION_WORDS

_NUMERAL: Final = re.compile(r"([-+]?)((?:\d+(?:[.,:/'_]\d+)*|\.\d+)(?:[eE][+-]?\d+)?)(\w*)", re.ASCII)
_GROUPED: Final = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_DECIMAL: Final = re.compile(r"\d*\.\d+|\d+")
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d\d)(:\d\d)?")
_DAY: Final = re.compile(r"(0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?")
_YEAR: Final = re.compile(r"[12]\d{3}")
_ISO_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_ORDINAL_SUFFIXES: Final = frozenset(["st", "nd", "rd", "th"])
_HALF_OF_DAY: Final = {"am": 0, "a.m": 0, "AM": 0, "A.M": 0, "pm": 12, "p.m": 12, "PM": 12, "P.M": 12}
_DASHES: Final = "-\N{EN DASH}\N{EM DASH}"
_GROUP_DIGITS: Final = 3
_MODEL_DIGITS_MIN: Final = 3
"""Numbers of fewer digits are rarely those of models: `5s` are seconds, `747s` aircraft."""
_WORD_MIN: Final = 3
"""Units in small letters with fewer letters are signs, others may be words: `kg`, `bar`."""
_WRITTEN_OUT: Final = frozenset(unit for unit in (*UNITS, *SCALES) if unit.islower()) | {"cubic", "per", "square"}
"""Units and scales in small letters, and the words that begin a unit of two."""
_LINKS: Final = frozenset([",", "&", "(", ":", "-", "\N{EN DASH}", "and", "or", "to", "through", "'s"])
"""What may stand between the numbers of a list, and between them and what they are the numbers of."""
_PLURAL_MIN: Final = 4
"""Shorter words in -s are no plurals of `NUMBERED`: `vs`."""
_LISTED_TOKENS_MAX: Final = 8
"""How far before a number the noun is looked for whose number it may be."""
_DIGITS_MAX: Final = 18
"""Longer digit strings are identifiers; they are never computed with."""


class Reading(NamedTuple):
    """What was read: its key, and the index of the first token after it."""

    key: str
    end: int


def is_numeral(token: str) -> bool:
    """Whether a token is a number in digits, perhaps with a sign or a suffix."""
    first, second = token[:1], token[1:2]
    return first.isdigit() or (
        first != "" and first in "+-." and (second.isdigit() or (second == "." and first != "."))
    )


def is_dash(token: str) -> bool:
    """Whether a token is a hyphen or a dash, perhaps with the space before it."""
    return token != "" and not token.strip().strip(_DASHES)


def starts_quantity(tokens: Sequence[str], at: int) -> bool:
    """Whether a number in digits or words, or a sum of money, is at `at`."""
    token = _token(tokens, at)
    return is_numeral(token) or token in CARDINALS or token in CURRENCY_SIGNS or token in CURRENCY_CODES


def read_quantity(tokens: Sequence[str], at: int) -> Reading | None:
    """A number, ordinal, time of day, amount with a unit or sum of money, if there is one at `at`."""
    token = tokens[at]
    if token in CURRENCY_SIGNS or token in CURRENCY_CODES:
        return _money(tokens, at)
    if token in ORDINALS:
        return Reading(f"{QUANTITY}{ORDINALS[token]}.", at + 1)
    if is_numeral(token):
        return _read_numeral(tokens, at)
    value, end = _spelled(tokens, at)
    return None if end == at else _with_unit(tokens, str(value), end, at)


def read_date(tokens: Sequence[str], at: int) -> Reading | None:
    """A date with at least two of day, month and year, if there is one at `at`."""
    token = tokens[at]
    if token in MONTHS:
        return _month_first(tokens, at)
    if _ISO_DATE.fullmatch(token):
        return Reading(DATE + token, at + 1)
    if not _DAY.fullmatch(token):
        return None
    if at > 1 and is_dash(tokens[at - 1]) and _DAY.fullmatch(tokens[at - 2]):
        return None  # the end of a range of days
    month_at = at + 2 if _token(tokens, at + 1) == "of" else at + 1
    month = MONTHS.get(_token(tokens, month_at))
    if month is None:
        return None
    end = _after_abbreviation(tokens, month_at)
    if month_at == at + 2 and _token(tokens, end) == "'s":
        return None  # `3 of June's`
    year, end = _year(tokens, end)
    return Reading(_date_key(year, month, token), end)


def _token(tokens: Sequence[str], at: int) -> str:
    return tokens[at] if at < len(tokens) else ""


def _read_numeral(tokens: Sequence[str], at: int) -> Reading:
    match = _NUMERAL.fullmatch(tokens[at])
    if match is None:
        return Reading(QUANTITY + tokens[at], at + 1)
    sign, body, suffix = match.groups()
    if not sign and (reading := _read_time(tokens, at, body, suffix)):
        return reading
    value = _value(body)
    if value is None or len(body) > _DIGITS_MAX:
        return Reading(QUANTITY + tokens[at], at + 1)
    if not suffix:
        return _with_unit(tokens, sign + value, at + 1, at)
    if suffix in _ORDINAL_SUFFIXES and value.isdigit():
        return Reading(f"{QUANTITY}{sign}{value}.", at + 1)
    is_plural = suffix == "s" and (value.endswith("0") or len(value) >= _MODEL_DIGITS_MIN)  # `1980s`, `747s`
    if suffix not in UNITS or suffix == "m" or is_plural or _is_part(tokens, at, suffix):
        return Reading(QUANTITY + tokens[at], at + 1)  # `5m` may be metres, minutes, or millions
    unit, end = _rate(tokens, UNITS[suffix], at + 1)
    amount = sign + value if _is_version(tokens, at, suffix) else _trimmed(sign + value)
    return Reading(f"{QUANTITY}{amount} {unit}", end)


def _value(body: str) -> str | None:
    """The digits without separators of thousands; None if they can be read in more than one way."""
    if _GROUPED.fullmatch(body):
        return body.replace(",", "")
    if _DECIMAL.fullmatch(body):
        return "0" + body if body[0] == "." else body
    return None


def _trimmed(value: str) -> str:
    """Without the zeros at the end of a fraction: `5.0` is `5`.

    Only for amounts: without a unit `3.10` may be a version. `1.500` stays: in much of Europe it is 1500.
    """
    whole, point, fraction = value.partition(".")
    if not point or (len(fraction) == 3 and whole.strip("+-") != "0"):
        return value
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def _spelled(tokens: Sequence[str], at: int) -> tuple[int, int]:
    """The value of the number words at `at`, and where they end: (205000, 5) for `two hundred five thousand`."""
    total, end, scale_before = 0, at, max(SCALES.values()) + 1
    while _token(tokens, end) in CARDINALS:
        group, group_end = _below_thousand(tokens, end)
        scale = SCALES.get(_token(tokens, group_end), 1)
        if scale >= scale_before:
            break
        total, end, scale_before = total + group * scale, group_end + (scale > 1), scale
        if scale == 1:
            break
    return total, end


def _below_thousand(tokens: Sequence[str], at: int) -> tuple[int, int]:
    value, end = _below_hundred(tokens, at)
    if value and _token(tokens, end) == "hundred":
        rest, end = _below_hundred(tokens, end + 1)
        value = value * 100 + rest
    return value, end


def _below_hundred(tokens: Sequence[str], at: int) -> tuple[int, int]:
    first = _token(tokens, at)
    if first not in CARDINALS:
        return 0, at
    second = CARDINALS.get(_token(tokens, at + 1), 0)
    if first in TENS and 0 < second < 10:
        return CARDINALS[first] + second, at + 2
    return CARDINALS[first], at + 1


def _with_unit(tokens: Sequence[str], value: str, end: int, at: int) -> Reading:
    """The number at `at` with the scale and the unit that follow it."""
    scale = _token(tokens, end)
    if scale in SCALES and _trimmed(value) != value and _is_version(tokens, at, scale):
        return Reading(f"{QUANTITY}{value} {scale}", end + 1)  # `In Python 3.10 million-fold loops ...`
    value, end = _scaled(tokens, value, end)
    unit_at = end + 1 if _token(tokens, end) == "-" else end
    found = _unit(tokens, unit_at)
    if found is None:
        return Reading(QUANTITY + value, end)
    if not _is_version(tokens, at, tokens[unit_at]):
        value = _trimmed(value)
    unit, end = _rate(tokens, *found)
    return Reading(f"{QUANTITY}{value} {unit}", end)


def _scaled(tokens: Sequence[str], value: str, end: int) -> tuple[str, int]:
    """The value with the scale that follows. `1.500 million` stays, as `1.500` does."""
    word = _token(tokens, end)
    if word not in SCALES:
        return value, end
    if _trimmed(value) == value and "." in value and len(value.partition(".")[2]) == _GROUP_DIGITS:
        return f"{value} {word}", end + 1
    return _plain(Decimal(value) * SCALES[word]), end + 1


def _is_version(tokens: Sequence[str], at: int, unit: str) -> bool:
    """Whether the number at `at` may be that of a version or a section: `Python 3.10 bytes`, `section 5.20 L`.

    Behind a name and behind most words it is none if the unit is surely a sign: `Aspirin 5.0 mg`, `salt 0.50 g`.
    """
    noun = _numbered(tokens, at)
    if noun.lower() in NUMBERED:
        return True
    is_word = len(unit) >= _WORD_MIN and unit.isalpha() and not unit.isupper() and unit.lower() in _WRITTEN_OUT
    is_changed = at > 1 and tokens[at - 1] in ("from", "in", "to") and tokens[at - 2].lower() in RELEASED
    return is_word and (is_changed or _is_name(noun) or _may_be_numbered(noun))


def _is_part(tokens: Sequence[str], at: int, suffix: str) -> bool:
    """Whether the letter behind the number at `at` may be that of a part and no unit: `Rule 4.10A`, `Section 3h`."""
    noun = _numbered(tokens, at)
    return len(suffix) == 1 and (noun.lower() in NUMBERED or (_is_name(noun) and suffix.isupper()))


def _numbered(tokens: Sequence[str], at: int) -> str:
    """The word that the number at `at` may belong to, in the singular where it is one of `NUMBERED`.

    It stands before it, or before the numbers that this one is listed with: `sections 4.10 and 4.20`. Only what surely
    has numbers may have a mark behind it: `fig. 3.10`, `exercise (3.10h)`, but not `dose: 2.50 grams`.
    """
    before, is_listed = at - 1, False
    while before > max(0, at - _LISTED_TOKENS_MAX) and (is_numeral(tokens[before]) or tokens[before] in _LINKS):
        is_listed = is_listed or tokens[before] in ("-", "'s") or is_numeral(tokens[before])
        before -= 1
    word = tokens[before] if before >= 0 else ""
    noun = tokens[before - 1] if word == "." and before else word
    singular = noun.removesuffix("s") if len(noun) >= _PLURAL_MIN else noun
    if singular.lower() in NUMBERED:
        return singular
    return word if is_listed or before == at - 1 else ""


def _is_name(word: str) -> bool:
    return word[:1].isupper() and word.lower() not in FUNCTION_WORDS


def _may_be_numbered(word: str) -> bool:
    """Whether a word in small letters may be a noun whose number follows: `python`, but not `costs`."""
    return _is_noun(word) and word not in BEFORE_AMOUNTS


def _unit(tokens: Sequence[str], at: int) -> tuple[str, int] | None:
    first = _token(tokens, at)
    two_words = UNITS.get(f"{first} {_token(tokens, at + 1)}")
    if two_words is not None:
        return two_words, at + 2
    return (UNITS[first], at + 1) if first in UNITS else None


def _rate(tokens: Sequence[str], unit: str, end: int) -> tuple[str, int]:
    """The unit, or the rate that begins with it: `mg/day` for `mg per day`, `mg a day` and `mg daily`."""
    link, other = _token(tokens, end), _token(tokens, end + 1)
    if link in {"/", "per"} and other in UNITS:
        return f"{unit}/{UNITS[other]}", end + 2
    if link in {"a", "an"} and other in PERIODS:
        return f"{unit}/{UNITS[other]}", end + 2
    if link in DAILY:
        return f"{unit}/{UNITS[DAILY[link]]}", end + 1
    return unit, end


def _money(tokens: Sequence[str], at: int) -> Reading | None:
    match = _NUMERAL.fullmatch(_token(tokens, at + 1))
    value = _value(match[2]) if match else None
    if match is None or value is None or match[1] or match[3] or len(value) > _DIGITS_MAX:
        return None
    end = at + 2
    value, end = _scaled(tokens, value, end)
    unit, end = _rate(tokens, UNITS[tokens[at]], end)
    return Reading(f"{QUANTITY}{_trimmed(value)} {unit}", end)


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _read_time(tokens: Sequence[str], at: int, body: str, suffix: str) -> Reading | None:
    """A time of day: `9:15`, `9:15 p.m.`, `5pm`. Afternoon hours become those of the 24-hour clock."""
    end = at + 1
    half = suffix or _token(tokens, end)
    shift = _HALF_OF_DAY.get(half)
    if shift is not None and not suffix:
        end += 1
    if shift is not None and _token(tokens, end) == "." and "." in half:
        end += 1
    clock = _CLOCK.fullmatch(body)
    if clock and not suffix and shift is None:
        return Reading(f"{TIME}{int(clock[1])}:{clock[2]}{clock[3] or ''}", end)
    hour = int(clock[1]) if clock else int(body) if body.isdigit() and len(body) <= 2 else 0
    if shift is None or not 1 <= hour <= 12:
        return None
    rest = f":{clock[2]}{clock[3] or ''}" if clock else ":00"
    if shift:
        return Reading(f"{TIME}{hour % 12 + 12}{rest}", end)
    return Reading(f"{TIME}{hour % 12}{rest} am", end)


def _month_first(tokens: Sequence[str], at: int) -> Reading | None:
    """`February 17, 1828`, `Feb. 17th`, `February 1828`, `February of 1828`."""
    month = MONTHS[tokens[at]]
    end = _after_abbreviation(tokens, at)
    day = _token(tokens, end)
    if _DAY.fullmatch(day) and _is_free(tokens, end + 1):
        year, year_end = _year(tokens, end + 1)
        if not year and _is_noun(_token(tokens, end + 1)):
            return None  # `By June 30 men had left`
        return Reading(_date_key(year, month, day), year_end)
    year, end = _year(tokens, end + 1 if day == "of" else end)
    return Reading(_date_key(year, month, ""), end) if year else None


def _is_free(tokens: Sequence[str], at: int) -> bool:
    """Whether a number that ends before `at` can be a day: neither a range nor an amount follows."""
    follows = _token(tokens, at)
    return not is_dash(follows) and follows not in UNITS and follows not in SCALES


def _after_abbreviation(tokens: Sequence[str], month_at: int) -> int:
    is_short = len(tokens[month_at]) <= 4
    return month_at + 2 if is_short and _token(tokens, month_at + 1) == "." else month_at + 1


def _year(tokens: Sequence[str], at: int) -> tuple[str, int]:
    """The year at `at`, perhaps after a comma, and where it ends; an empty string if there is none.

    It is the year only if no noun follows: `On May 10, 2000 people left` may count people.
    """
    year_at = at + 1 if _token(tokens, at) == "," else at
    year, follows = _token(tokens, year_at), _token(tokens, year_at + 1)
    if _YEAR.fullmatch(year) and _is_free(tokens, year_at + 1) and not _is_noun(follows):
        return year, year_at + 1
    return "", at


def _is_noun(token: str) -> bool:
    """Whether a token may be the noun of what a number before it counts."""
    return token.islower() and token.isalpha() and token not in FUNCTION_WORDS


def _date_key(year: str, month: int, day: str) -> str:
    digits = day.rstrip("sthndr")
    return f"{DATE}{year or '-'}-{month:02d}" + (f"-{int(digits):02d}" if digits else "")
