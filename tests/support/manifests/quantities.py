"""Kubernetes' quantities, such as 1536Mi, 1.5Gi, 2G, 500m or 2e9: what they come to, and where objects have them."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

_UNITS: Final[dict[str, Fraction]] = {
    **{unit: Fraction(1000) ** power for power, unit in enumerate(("n", "u", "m", "", "k", *"MGTPE"), start=-3)},
    **{f"{unit}i": Fraction(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}
_QUANTITY: Final = re.compile(
    rf"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE]([+-]?[0-9]{{1,3}})|({'|'.join(filter(None, _UNITS))})?)"
)
"""As `resource.Quantity` in Kubernetes' API machinery describes it: a unit or an exponent, and never both."""


_OF_RESOURCES: Final = ("requests", "limits", "capacity", "hard", "max", "min", "default", "defaultRequest")
"""The fields with a quantity for each resource: of containers, claims, volumes, a ResourceQuota and a LimitRange."""


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


def quantities(at: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Each quantity in an object, with the path to it, also those that are none."""
    if isinstance(at, list):
        for number, each in enumerate(at):
            yield from quantities(each, f"{path}.{number}")
    if isinstance(at, dict):
        for key, each in at.items():
            place = f"{path}.{key}".removeprefix(".")
            if key in _OF_RESOURCES and isinstance(each, dict):
                yield from ((f"{place}.{name}", value) for name, value in each.items())
            elif key == "sizeLimit":
                yield place, each
            else:
                yield from quantities(each, place)
