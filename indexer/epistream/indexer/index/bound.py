"""An upper bound of the inner product of two vectors of length one, from a few of their values.

Split a vector x of length one into its head x1 and its tail x2. By Cauchy and Schwarz

    <q, x>  =  <q1, x1> + <q2, x2>  <=  <q1, x1> + |q2| |x2|

so that one number in place of the tail is enough: the bound is the inner product of (q1, |q2|) and (x1, |x2|). What is
bound to be further away than a threshold needs no closer look, and nothing that is near is lost. Example in 4
dimensions with a head of 2:

    x = (.5, .5, .5, .5)  kept as (.5, .5, .71)     q = (.5, -.5, .5, .5)  asked as (.5, -.5, .71)
    inner product .5, bound .25 - .25 + .71 * .71 = .5 (here the tails are the same)

The shorter the head, the faster the scan and the higher the bound: of unrelated vectors about 1 - head / dimension. So
a threshold near one is met with a shorter head than a lower one. Measured with vectors of 384 dimensions, the work of a
scan and of the closer looks that it leaves, in values a row (a whole scan is 384):

    threshold                            .90   .92   .94   .95   .97
    made statements         head of 64   118    69    66    66    66
                            head of 96    98    98    98    98    98
    4,848 texts under       head of 64   601   182    94    79    68
    all-MiniLM-L6-v2        head of 96   153   120   106   102    99
"""

from typing import Final

import numpy as np

from epistream.indexer.index.base import LENGTH_TOLERANCE, Vectors

SHORT_FROM: Final = 0.939
"""From this threshold on the shorter head is the better one: 0.94, less what callers take off for rounding."""
SHORT_SHARE: Final = 6
"""The shorter head is the first of so many parts of a vector."""
LONG_SHARE: Final = 4
"""The longer one."""
HEAD_MIN: Final = 32
"""Shorter heads leave too many candidates."""


def heads(dimension: int) -> set[int]:
    """How many values the heads have that are kept of vectors: one number or two."""
    return {head_for(dimension, at_least) for at_least in (SHORT_FROM, 0.0)}


def head_for(dimension: int, at_least: float) -> int:
    """Which of `heads` is best for a threshold."""
    share = SHORT_SHARE if at_least >= SHORT_FROM else LONG_SHARE
    return min(dimension, max(HEAD_MIN, dimension // share))


def shortened(vectors: Vectors, head: int) -> Vectors:
    """The first `head` values and the length of the tail of each vector, shape (n, head + 1), float32.

    The tails are taken as if the vectors were as long as the index lets them be, so that the bound holds for these too.
    """
    short = np.empty((len(vectors), head + 1), dtype=np.float32)
    short[:, :head] = vectors[:, :head]
    left = (1 + LENGTH_TOLERANCE) ** 2 - np.square(short[:, :head], dtype=np.float64).sum(axis=1)
    short[:, head] = np.sqrt(np.maximum(0, left))
    return short
