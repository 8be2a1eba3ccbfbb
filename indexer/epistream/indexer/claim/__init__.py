"""The same-claim check: decides whether two contents that are near each other say the same.

`comparison` tells how, with an example, and is the place to begin. `prose` and `source` read texts and code into
`facts`. `walk` is the state of the reader of prose; `tokens`, `marks`, `quantities` and `order` know what is form in
the spelling of words, in marks, in numbers and dates, and in the order of words. `words` and `measures` are the tables.
"""

from epistream.indexer.claim.comparison import Claim, Comparison, claim_of, compare

__all__ = ["Claim", "Comparison", "claim_of", "compare"]
