"""One record of a source, read field by field: each is as its format says, or `UnreadableRecord` names it.

A record is what JSON can say, and bytes and times beside, since Parquet has those.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final, TypeAlias

from epistream.wire.errors import EpistreamError
from epistream.wire.limits import (
    ADDRESS_CHARACTERS_MAX,
    CONTENT_BYTES_MAX,
    CONTROL,
    ID_CHARACTERS_MAX,
    LANGUAGE,
    PLACE_MAX,
    TIME_END,
)

Json: TypeAlias = Any
"""What JSON can say."""
DEPTH_MAX: Final = 32
"""How deep values may be in each other."""
SAFE_INTEGER: Final = 2**53
"""Integers up to here are kept exactly by a number of `details`."""
INTEGER_END: Final = 10**300
"""Python takes long to write longer ones, and then refuses."""
SHOWN_CHARACTERS: Final = 60
_FIRST_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


class UnreadableRecord(EpistreamError):
    """A record is not as its format says.

    Attributes:
        path: the field, such as `instances[0].output`; empty when the whole record is meant.
        expected: what should have been there.
        found: what is there, shortened.
    """

    default_reason = "MALFORMED"

    def __init__(self, path: str, expected: str, found: str) -> None:
        where = path if len(path) <= ID_CHARACTERS_MAX else f"{path[:ID_CHARACTERS_MAX]}…"
        super().__init__(f"{where or 'the record'}: expected {expected}, found {found}")
        self.path = path
        self.expected = expected
        self.found = found


def shown(value: object) -> str:
    """A value as a person may see it in a message, short."""
    if value is None:
        return "nothing"
    if isinstance(value, str | int | float | bool):
        text = json.dumps(value) if not isinstance(value, str) else json.dumps(value[:SHOWN_CHARACTERS])
        return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
    if isinstance(value, Mapping):
        return "an object"
    return f"a list of {len(value)}" if isinstance(value, list | tuple) else f"a value of {type(value).__name__}"


class Fields:
    """The fields of an object, each taken by name.

    A field that is taken is known, and `rest` is the others. A field that is null counts as not there, and so does an
    empty text where a field may be absent, since CSV knows nothing else. Every method raises
    `UnreadableRecord` when the field is not what it asks for.
    """

    def __init__(self, value: Json, path: str = "") -> None:
        """Raises UnreadableRecord: it is no object, or something in it no JSON."""
        if not isinstance(value, Mapping):
            raise UnreadableRecord(path, "an object", shown(value))
        if not path:
            _check(value, path, 0)
        self._value: Mapping[str, Json] = value
        self._path = path
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return self._value.get(name) not in (None, "")

    def has(self, name: str) -> bool:
        """Whether there is a field of that name, whatever it holds: which of several shapes a record has."""
        return name in self._value

    def path(self, name: str) -> str:
        """The path of a field, as messages name it."""
        return f"{self._path}.{name}" if self._path else name

    def wrong(self, name: str, expected: str) -> UnreadableRecord:
        """The error that says that field `name` is not as expected."""
        return UnreadableRecord(self.path(name), expected, shown(self._value.get(name)))

    def text(self, name: str) -> str:
        """A text that may be a content: not blank, at most 256 KiB, without NUL."""
        value = self._get(name, "a text")
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        return checked_text(value, self.path(name))

    def words(self, name: str, default: str = "") -> str:
        """A text that may be empty or absent."""
        value = self._take(name)
        if value is None or value == "":
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "a text, or nothing")
        return checked_text(value, self.path(name)) if not value.isspace() else default

    def name(self, name: str, default: str = "") -> str:
        """A name on one line, at most 200 characters, or an integer as one. Required, unless there is a `default`."""
        value = self._take(name)
        if value is None or value == "":
            if default:
                return default
            raise self.wrong(name, "a name")
        return self._line(name, value, ID_CHARACTERS_MAX)

    def maybe_name(self, name: str) -> str:
        """As `name`; empty when it is not there."""
        return self.name(name) if name in self else ""

    def address(self, name: str) -> str:
        """An address on one line, at most 2,000 characters."""
        value = self._get(name, "an address")
        if value == "":
            raise self.wrong(name, "an address")
        return self._line(name, value, ADDRESS_CHARACTERS_MAX)

    def maybe_address(self, name: str) -> str:
        """As `address`; empty when it is not there."""
        return self.address(name) if name in self else ""

    def integer(self, name: str, low: int = -SAFE_INTEGER, high: int = SAFE_INTEGER) -> int:
        """An integer in a range; a text of digits, as CSV has it, is one."""
        expected = f"an integer from {low} to {high}" if high < PLACE_MAX else f"an integer from {low} on"
        number = _number(self._get(name, expected))
        if number is None or not number.is_integer() or not low <= number <= high:
            raise self.wrong(name, expected)
        return int(number)

    def maybe_integer(self, name: str, low: int = -SAFE_INTEGER, high: int = SAFE_INTEGER) -> int | None:
        """As `integer`; None when it is not there, or is no number, as Parquet has it in a column of others."""
        value = self._value.get(name)
        absent = name not in self or (isinstance(value, float) and math.isnan(value))
        return None if absent else self.integer(name, low, high)

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number in a range; a text that is one, as CSV has it, too."""
        expected = "a number" if math.isinf(low) else f"a number from {low:g} to {high:g}"
        number = _number(self._get(name, expected))
        if number is None or not low <= number <= high:
            raise self.wrong(name, expected)
        return number

    def image(self, name: str) -> tuple[bytes | None, str]:
        """The bytes of an image, as Parquet has them, and its path: `{"bytes": …, "path": …}`, or bytes alone.

        None, and an empty path, when it is not there.
        """
        value, path = self._take(name), ""
        if isinstance(value, Mapping):
            path = Fields(value, self.path(name)).maybe_address("path")
            value = value.get("bytes", b"")
        elif value is None:
            return None, ""
        if not isinstance(value, bytes) or not value:
            raise self.wrong(name, "bytes, or nothing")
        return value, path

    def time(self, name: str) -> datetime:
        """A time from 1970 to 2199, in ISO 8601 or as Parquet has it. Without a zone it is UTC."""
        time = _time(self._get(name, "a time"))
        if time is None:
            raise self.wrong(name, "a time in ISO 8601, from 1970 to 2199")
        return time

    def maybe_time(self, name: str) -> datetime | None:
        """As `time`; None when it is not there."""
        return self.time(name) if name in self else None

    def choice(self, name: str, *allowed: str) -> str:
        """One of some words."""
        value = self._get(name, "a word")
        if value not in allowed:
            raise self.wrong(name, f"one of {', '.join(allowed)}")
        return str(value)

    def meaning(self, name: str, words: Mapping[str, str]) -> str:
        """What one of some words means; capitals and underscores in it are form."""
        value = self._get(name, "a word")
        said = " ".join(value.lower().replace("_", " ").split()) if isinstance(value, str) else ""
        if said not in words:
            raise self.wrong(name, f"one of {', '.join(dict.fromkeys(words.values()))}")
        return words[said]

    def language(self, name: str, default: str) -> str:
        """The language of a program and of its tests, in lower case, as the service takes it."""
        value = self.name(name, default).lower()
        if not LANGUAGE.fullmatch(value):
            raise self.wrong(name, "a language such as python or c++")
        return value

    def object(self, name: str) -> "Fields":
        """An object."""
        return Fields(self._get(name, "an object"), self.path(name))

    def items(self, name: str, least: int = 0, most: int | None = None) -> Sequence[Json]:
        """A list."""
        value = self._get(name, "a list") if least else (self._take(name) or [])
        if not isinstance(value, list | tuple):
            raise self.wrong(name, "a list")
        if len(value) < least or (most is not None and len(value) > most):
            many = f"at least {least}" if most is None else f"{least} to {most}"
            raise UnreadableRecord(self.path(name), f"a list of {many}", f"one of {len(value)}")
        return value

    def objects(self, name: str, least: int = 0, most: int | None = None) -> list["Fields"]:
        """A list of objects."""
        return [Fields(value, f"{self.path(name)}[{i}]") for i, value in enumerate(self.items(name, least, most))]

    def texts(self, name: str, least: int = 0, most: int | None = None) -> list[str]:
        """A list of texts, none of them blank."""
        return [self._text_at(name, i, value) for i, value in enumerate(self.items(name, least, most))]

    def names(self, name: str) -> list[str]:
        """A list of names."""
        return [self._line(f"{name}[{i}]", value, ID_CHARACTERS_MAX) for i, value in enumerate(self.items(name))]

    def places(self, name: str, count: int) -> list[int]:
        """The place of each of so many, 1 for the best."""
        ranks = self.items(name, count, count)
        return [
            Fields({"rank": rank}, f"{self.path(name)}[{i}]").integer("rank", 1, PLACE_MAX)
            for i, rank in enumerate(ranks)
        ]

    def raw(self, name: str) -> Json:
        """Whatever is there, or None."""
        return self._take(name)

    def rest(self) -> dict[str, Json]:
        """The fields that nothing has taken."""
        return {name: value for name, value in self._value.items() if name not in self._taken and value is not None}

    def digest(self) -> str:
        """32 hexadecimal digits that stand for all of the object."""
        return digest(self._value)

    def _take(self, name: str) -> Json:
        self._taken.add(name)
        return self._value.get(name)

    def _get(self, name: str, expected: str) -> Json:
        value = self._take(name)
        if value is None:
            raise UnreadableRecord(self.path(name), expected, "nothing")
        return value

    def _text_at(self, name: str, index: int, value: Json) -> str:
        path = f"{self.path(name)}[{index}]"
        if not isinstance(value, str):
            raise UnreadableRecord(path, "a text", shown(value))
        return checked_text(value, path)

    def _line(self, name: str, value: Json, characters_max: int) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value) if abs(value) < 10**characters_max else ""
        if not isinstance(value, str) or not value.strip() or len(value) > characters_max or CONTROL.search(value):
            expected = f"one line of 1 to {characters_max} characters"
            raise UnreadableRecord(self.path(name), expected, shown(value))
        return value


def checked_text(value: str, path: str) -> str:
    """The text, if it may be a content. Raises UnreadableRecord otherwise."""
    if not value or value.isspace():
        raise UnreadableRecord(path, "a text", "white space only" if value else "an empty text")
    if "\0" in value:
        raise UnreadableRecord(path, "a text without NUL", f"NUL at character {value.index(chr(0))}")
    if 4 * len(value) > CONTENT_BYTES_MAX and len(value.encode()) > CONTENT_BYTES_MAX:
        raise UnreadableRecord(path, f"at most {CONTENT_BYTES_MAX} bytes of UTF-8", str(len(value.encode())))
    return value


def digest(*values: Json) -> str:
    """32 hexadecimal digits that stand for some values."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_said)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def is_line(text: str, characters_max: int) -> bool:
    """Whether it is one line without control characters, and not longer than that."""
    return len(text) <= characters_max and not CONTROL.search(text)


def plain(value: Json) -> Json:
    """A value as `details` can say it: bytes by their digest, times in ISO 8601, large integers as text.

    What is no finite number is null.
    """
    match value:
        case bool() | None | str():
            return value
        case int():
            return value if abs(value) <= SAFE_INTEGER else str(value)
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case _:
            return _said(value)


def _said(value: object) -> Json:
    if isinstance(value, bytes):
        return {"bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    return value.isoformat() if isinstance(value, date) else str(value)


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _time(value: Json) -> datetime | None:
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        aware = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    return aware if _FIRST_TIME <= aware < TIME_END else None


def _check(value: Json, path: str, depth: int) -> None:
    """Raises UnreadableRecord unless all of it can be said in JSON (or is bytes or a time) and in UTF-8."""
    if depth > DEPTH_MAX:
        raise UnreadableRecord("", f"values at most {DEPTH_MAX} deep in each other", "deeper ones")
    if isinstance(value, str):
        _check_utf8(value, path)
    if isinstance(value, int) and abs(value) >= INTEGER_END:
        raise UnreadableRecord(path, "an integer of at most 300 digits", "a longer one")
    for name, key, each in _parts(value, path):
        if not isinstance(key, str):
            raise UnreadableRecord(path, "names of fields that are texts", shown(key))
        _check_utf8(key, path)
        _check(each, name, depth + 1)


def _parts(value: Json, path: str) -> Iterator[tuple[str, Json, Json]]:
    if isinstance(value, Mapping):
        yield from ((f"{path}.{key}" if path else str(key), key, each) for key, each in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"{path}[{i}]", "", each) for i, each in enumerate(value))


def _check_utf8(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown_path = path.encode(errors="replace").decode()
        raise UnreadableRecord(shown_path, "text in UTF-8", f"something else at character {error.start}") from error
