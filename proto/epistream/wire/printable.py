"""What a terminal may be sent of what somebody else wrote: it obeys control sequences wherever they are from.

Replaced are the control characters (C0 but for tabs and line ends, DEL, and C1, whose U+009B begins a sequence as ESC
does), the characters that order text against its direction, so that a person reads something else than a model, and
the halves of characters that no UTF-8 can say.
"""

import re
from typing import Final

_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)"
)


def printable(text: str) -> str:
    r"""A text as a terminal may show it: each character that would do more than print is U+FFFD.

    >>> printable("5\tmg\x1b[2J\n")
    '5\tmg�[2J\n'
    """
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def printable_json(text: str) -> str:
    r"""A JSON text as a terminal may show it: the same value, as those characters are escaped.

    >>> printable_json('"5 mg\x9b2J"')
    '"5 mg\\u009b2J"'
    """
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
