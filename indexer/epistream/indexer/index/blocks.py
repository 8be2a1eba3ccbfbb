"""Rows that grow without being copied, and that can be read while they grow.

A block is a matrix of fixed capacity that is filled from the top; when it is full, a new one is begun. Example with
blocks of 4 rows, after 6 were added: slots 0 to 3 are block 0, slots 4 and 5 are rows 0 and 1 of block 1, and rows 2
and 3 of block 1 are memory that the system has not handed out yet. So memory never doubles, as it does where one matrix
grows, and a reader that looks only at slots below a count it has read needs no lock: they are never written again.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from epistream.indexer.index.base import Slots, Vectors

BLOCK_BYTES: Final = 32 << 20
"""The size of a block: a scan of one takes a millisecond or more, so that going from block to block costs nothing."""


class Blocks:
    """Float32 rows by slot. One thread adds, any thread reads."""

    def __init__(self, dimension: int, block_rows: int | None = None) -> None:
        self._dimension = dimension
        self.block_rows = block_rows or max(1, BLOCK_BYTES // (4 * dimension))
        self._blocks: list[Vectors] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: Vectors, at: int | None = None) -> None:
        """Copy the rows, shape (n, dimension), behind the last one, or to the slots from `at` on."""
        count = self._count if at is None else at
        done = 0
        while done < len(rows):
            block_number, used = divmod(count, self.block_rows)
            if block_number == len(self._blocks):
                self._blocks.append(np.empty((self.block_rows, self._dimension), dtype=np.float32))
            part = rows[done : done + self.block_rows - used]
            self._blocks[block_number][used : used + len(part)] = part
            done += len(part)
            count += len(part)
        self._count = count  # last: whoever sees the new count sees the rows

    def scan(self, below: int, rows_max: int | None = None, *, since: int = 0) -> Iterator[tuple[int, Vectors]]:
        """The rows of the slots from `since` to under `below`, in order, without a copy: (first slot, rows) by block.

        Or for each part of a block, of at most `rows_max` rows.
        """
        step = min(self.block_rows, rows_max or self.block_rows)
        for block_start in range(since - since % self.block_rows, below, self.block_rows):
            block = self._blocks[block_start // self.block_rows][: below - block_start]
            for start in range(max(0, since - block_start), len(block), step):
                yield block_start + start, block[start : start + step]

    def take(self, slots: Slots) -> Vectors:
        """A copy of the rows of these slots, in their order."""
        rows = np.empty((len(slots), self._dimension), dtype=np.float32)
        block_numbers, offsets = np.divmod(slots, self.block_rows)
        for block_number in np.unique(block_numbers):
            mine = block_numbers == block_number
            rows[mine] = self._blocks[block_number][offsets[mine]]
        return rows
