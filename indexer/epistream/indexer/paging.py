"""How much of an answer is sent at a time, and where the next page begins. Pure."""

from collections.abc import Iterable
from typing import Final, TypeVar

from google.protobuf.message import Message

from epistream.wire.errors import InvalidInput

LIMIT_MAX: Final = 1000
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of a whole answer, where the operator does not say otherwise."""
REVISION_MAX: Final = 2**63 - 1
"""What SQLite can count to; what is asked about may be beyond."""
_Row = TypeVar("_Row", bound=Message)

_AROUND_BYTES: Final = 8
"""Of a message within another: its number and its length."""
_BESIDE_BYTES: Final = 128
"""Of what an answer says beside its rows: revisions, counts, the page token."""


class Room:
    """What an answer still has room for, so that it is not made larger than it may be sent."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_left = bytes_max - _BESIDE_BYTES

    def takes(self, row: Message) -> bool:
        """Whether there is room for one more, which is counted."""
        self._bytes_left -= row.ByteSize() + _AROUND_BYTES
        return self._bytes_left >= 0


def fitting(rows: Iterable[_Row], bytes_max: int) -> list[_Row]:
    """The first rows, as many as an answer of so many bytes has room for, but one at least. Takes one more at most."""
    room, page = Room(bytes_max), list[_Row]()
    for row in rows:
        if not room.takes(row) and page:
            break
        page.append(row)
    return page


def limit_of(asked: int, default: int) -> int:
    """How many to answer; `default` where nothing was said. Raises InvalidInput beyond LIMIT_MAX."""
    if asked > LIMIT_MAX:
        raise InvalidInput.at("limit", f"{asked} is above {LIMIT_MAX}: page on instead")
    return asked or default


def page_token(token: str) -> int:
    """Where the page before ended, 0 for the first. Raises InvalidInput for what no answer had."""
    if not token:
        return 0
    if not token.isascii() or not token.isdigit() or len(token) > 19 or int(token) > REVISION_MAX:
        raise InvalidInput.at("page_token", "this is not a page token: send the `next_page_token` of the page before")
    return int(token)
