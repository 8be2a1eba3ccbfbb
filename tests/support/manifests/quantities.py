"""Kubernetes' quantities, such as 1536Mi, 1.5Gi, 2G, 500m or 2e9: what they come to, and where objects have them."""

import re
from collections.abc import Collection, Iterator
from fractions import Fraction
from typing import Any, Final

_UNITS: Final[dict[str, Fraction]] = {
    **{unit: Fraction(1000) ** power for power, unit in enumerate(("n", "u", "m", "", "k", *"MGTPE"), start=-3)},
    **{f"{unit}i": Fraction(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}
_QUANTITY: Final = re.compile(
    rf"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE]([+-]?[0-9]{{1,3}})|({'|'.join(filter(None, _UNITS))})?)"
)
"""As `resource.Quantity` in Kubernetes' API machinery describes it: a unit or an exponent, and never both."""

_OF_RESOURCES: Final = ("requests", "limits")
"""The fields with a quantity for each resource, in objects of every kind."""
_OF_KINDS: Final = {
    "PersistentVolume": ("capacity",),
    "ResourceQuota": ("hard",),
    "LimitRange": ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"),
}
"""Those of one kind only."""


def amount_of(quantity: object) -> Fraction | None:
    """What a quantity comes to, in bytes or CPUs; None where Kubernetes would not take it for one.

    YAML has an unquoted one as a number.
    """
    if isinstance(quantity, bool) or not isinstance(quantity, int | float | str):
        return None
    found = _QUANTITY.fullmatch(str(quantity))
    if found is None:
        return None
    number, exponent, unit = found.groups()
    return Fraction(number) * Fraction(10) ** int(exponent or 0) * _UNITS[unit or ""]


def quantities(item: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Each quantity in an object, with the path to it, also those that are none."""
    yield from _within(item, "", (*_OF_RESOURCES, *_OF_KINDS.get(item.get("kind", ""), ())))


def _within(at: object, path: str, fields: Collection[str]) -> Iterator[tuple[str, object]]:
    if isinstance(at, list):
        for number, each in enumerate(at):
            yield from _within(each, f"{path}.{number}", fields)
    if isinstance(at, dict):
        for key, each in at.items():
            place = f"{path}.{key}".removeprefix(".")
            if key in fields and isinstance(each, dict):
                yield from ((f"{place}.{name}", value) for name, value in each.items())
            elif key == "sizeLimit":
                yield place, each
            else:
                yield from _within(each, place, fields)
