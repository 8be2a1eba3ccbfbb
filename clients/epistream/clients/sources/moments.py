"""Places in a recording, as sources write them."""

import re
from typing import Final

from epistream.clients.sources.record import Fields

DAY_SECONDS: Final = 86_400.0
"""No recording of a source is longer."""
_CLOCK: Final = re.compile(r"(\d{1,4}):(\d{1,4}):(\d{1,6}(?:\.\d{1,9})?)")
_DURATION: Final = re.compile(r"PT(?:(\d{1,4})H)?(?:(\d{1,4})M)?(?:(\d{1,6}(?:\.\d{1,9})?)S)?")


def seconds(fields: Fields, name: str) -> float:
    """A field that is a number of seconds, a time such as `00:01:02.5`, or a duration in ISO 8601.

    Raises:
        UnreadableRecord: it is none of them, or longer than a day.
    """
    value = fields.raw(name)
    said = _CLOCK.fullmatch(value) or _DURATION.fullmatch(value) if isinstance(value, str) else None
    if said is not None and any(said.groups()):
        hours, minutes, rest = (float(part or 0) for part in said.groups())
        value = hours * 3600 + minutes * 60 + rest
    if isinstance(value, str) and not value.strip().replace(".", "", 1).isdecimal():
        raise fields.wrong(name, "seconds, a time such as 00:01:02.5, or a duration in ISO 8601, such as PT00H00M21S")
    return Fields({"seconds": value}, fields.path(name)).number("seconds", 0, DAY_SECONDS)
