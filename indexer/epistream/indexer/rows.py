"""Many rows into a table by few statements."""

from collections.abc import Sequence
from itertools import chain
from typing import Final, TypeAlias

import apsw

Row: TypeAlias = tuple[int | str | bytes | None, ...]

_SIZES: Final = (64, 8, 1)
"""How many rows a statement takes. Few sizes, so that SQLite prepares few statements and keeps them."""


def insert(connection: apsw.Connection, into: str, rows: Sequence[Row]) -> None:
    """Run `into`, which ends with VALUES, for all rows, in order.

    One statement for each row would let other threads run as often, and beside a busy one wait for its turn each time.
    """
    start = 0
    for size in _SIZES:
        while len(rows) - start >= size:
            part = rows[start : start + size]
            one = f"({','.join('?' * len(part[0]))})"
            connection.execute(f"{into} {','.join([one] * size)}", tuple(chain.from_iterable(part)))
            start += size
