"""Signals: of each cell, four stages by four modalities, what shows its bottleneck.

`table` has the cells and is the place to begin. A signal is a pure function of a `window`, the newest records of a
namespace with what was said of them; it says a `figure`: a value, or why there is none. `text`, `code`, `source`,
`image`, `video`, `preference`, `disagreement` and `verified` have the functions; `collect` makes a window of a store,
and `kept` keeps what was measured beside it.
"""

from epistream.indexer.signals.figure import Figure
from epistream.indexer.signals.table import CELLS, Cell, Signal, measure
from epistream.indexer.signals.window import Said, Window

__all__ = ["CELLS", "Cell", "Figure", "Said", "Signal", "Window", "measure"]
