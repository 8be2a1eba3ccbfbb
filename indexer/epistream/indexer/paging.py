"""How much of an answer is sent at a time, and where the next page begins. Pure."""

from typing import Final

from epistream.wire.errors import InvalidInput

LIMIT_MAX: Final = 1000
REVISION_MAX: Final = 2**63 - 1
"""What SQLite can count to; what is asked about may be beyond."""


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
