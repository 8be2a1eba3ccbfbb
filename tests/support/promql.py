"""What a PromQL expression of ours asks for. Prometheus says whether it is PromQL; this reads what is."""

import re
from typing import Final, NamedTuple

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR: Final = re.compile(
    r"(?<![\w:.$])(?P<name>[a-zA-Z_:][\w:]*)\s*(?:\{(?P<matchers>[^}]*)\})?\s*(?:\[(?P<range>[^\]]+)\])?"
)
_GROUPING: Final = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_WORDS: Final = {"and", "or", "unless", "bool", "offset", "sum", "max", "min", "count", "avg", "inf", "nan", "atan2"}


class Selector(NamedTuple):
    """A metric that is asked for."""

    metric: str
    matchers: frozenset[str]
    """As they are written, such as `code!="OK"`."""
    range: str | None
    """Such as `5m`; None for the newest sample."""
    function: str | None
    """That it is given to directly, such as `rate`."""


def selectors(expression: str) -> list[Selector]:
    """Every metric that an expression asks for."""
    strings: list[str] = []

    def hidden(match: re.Match[str]) -> str:
        strings.append(match[0])
        return f'"{len(strings) - 1}"'

    def shown(text: str) -> str:
        return re.sub(r'"(\d+)"', lambda match: strings[int(match[1])], text)

    text = _GROUPING.sub(" ", _STRING.sub(hidden, expression))
    found = []
    for match in _SELECTOR.finditer(text):
        followed_by = text[match.end() :].lstrip()[:1]
        if match["name"].lower() in _WORDS or (match["matchers"] is None and followed_by == "("):
            continue
        matchers = frozenset(shown(part.strip()) for part in (match["matchers"] or "").split(",") if part.strip())
        before = re.search(r"(\w+)\s*\(\s*$", text[: match.start()])
        found.append(Selector(match["name"], matchers, match["range"], before[1] if before else None))
    return found


def metrics_in(expression: str) -> set[str]:
    """The names of the metrics that an expression asks for."""
    return {selector.metric for selector in selectors(expression)}
