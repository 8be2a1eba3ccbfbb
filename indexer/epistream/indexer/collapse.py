"""What keeps a feed from collapsing: an alarm for who says less and less, and a floor under what is real.

A model that is trained on what models made forgets the rare first and ends at one thing (Shumailov et al., Nature
631:755, 2024); it does not where synthetic data is added to real data and never takes its place (Gerstgrasser et al.,
arXiv 2404.01413). So each producer's windows are compared with a frozen human one (`Alarm`), what is made from what was
made is capped (`lineage`), and consumers get a share of real knowledge whatever comes in (`RealShares`).

Pure: a state and what happened give the next state.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from epistream.indexer.spectrum import ORDERS, Comparison, Missing, slope

RAISED_BELOW: Final = 0.95
"""The alarm is raised when even the upper end of the ratio's interval is below."""
CLEARED_FROM: Final = 0.95
"""It is cleared when the ratio itself was not below in CLEARED_AFTER windows, one after the other."""
CLEARED_AFTER: Final = 3
SUPPORT_MIN: Final = 0.45
"""Below, a window is about something else than the human one, and its ratio says nothing about collapse."""
FLOOR_WINDOW: Final = 1000

_ORDER: Final = ORDERS.index(1.0)
"""VS_1 decides. VS_∞ varies ten times as much from sample to sample, and VS_0.5 is near n for small windows."""
_RATIOS_KEPT: Final = 16


@dataclass(frozen=True, slots=True)
class Alarm:
    """What is known of one producer's windows. Clear at first."""

    on: bool = False
    windows: int = 0
    """How many were compared."""
    recovered: int = 0
    """With the alarm on, how many of the newest were as diverse as people's, one after the other."""
    drifted: bool = False
    """Whether the newest was about something else than the human window."""
    first_low: float | None = None
    """The lower end of the first ratio's interval: what the producer itself could do."""
    ratios: tuple[float, ...] = ()
    """The newest ratios of VS_1, oldest first."""

    @property
    def slope(self) -> float | None:
        """The change of the ratio from window to window; None for fewer than three."""
        return slope(self.ratios)

    def after(self, found: Comparison | Missing) -> "Alarm":
        """The state after one more window. One that could not be compared changes nothing.

        Raised by a window about the same as the human one whose ratio is below RAISED_BELOW beyond doubt. Text about
        something else may be narrower and no worse: that is `drifted`, and such a producer is measured by its own first
        window instead. Once on, it stays on, drifted or not, until the ratio has recovered.
        """
        if isinstance(found, Missing):
            return self
        ratio, high, drifted = found.ratio[_ORDER], found.high[_ORDER], found.support < SUPPORT_MIN
        recovered = self.recovered + 1 if self.on and ratio >= CLEARED_FROM else 0
        own = self.first_low if drifted and self.first_low is not None else math.inf
        low = high < RAISED_BELOW * min(own, 1.0) and (not drifted or own < math.inf)
        return replace(
            self,
            on=low or (self.on and recovered < CLEARED_AFTER),
            windows=self.windows + 1,
            recovered=0 if recovered >= CLEARED_AFTER else recovered,
            drifted=drifted,
            first_low=found.low[_ORDER] if self.first_low is None else self.first_low,
            ratios=(*self.ratios, ratio)[-_RATIOS_KEPT:],
        )


class RealShare:
    """The share of what is not synthetic among the newest changes, a window of them.

    With a floor f no window of w deliveries has more than (1 - f) w synthetic ones, whatever comes in and from the
    first on: what does not fit is put off until something real makes room. An example, w = 10 and f = 1/2: five
    synthetic ones pass at first, a sixth passes when one of them is ten deliveries ago.

    One thread at a time.
    """

    def __init__(self, delivered: Iterable[bool] = (), window: int = FLOOR_WINDOW) -> None:
        """Of the newest deliveries, oldest first, whether they were synthetic."""
        self._window = window
        self._delivered = deque(delivered, window)
        self._synthetic = sum(self._delivered)

    def __len__(self) -> int:
        """Of how many deliveries it is, at most the window."""
        return len(self._delivered)

    @property
    def real(self) -> float | None:
        """The share; None before the first delivery."""
        return 1 - self._synthetic / len(self._delivered) if self._delivered else None

    def after_one_more(self) -> float:
        """The least share that a window has when a synthetic item is delivered now.

        Deliveries that are still to come count as real: they decide for themselves.
        """
        full = len(self._delivered) == self._window
        return 1 - (self._synthetic - (self._delivered[0] if full else 0) + 1) / self._window

    def deliver(self, *, synthetic: bool) -> None:
        """Something was delivered."""
        if len(self._delivered) == self._window:
            self._synthetic -= self._delivered[0]
        self._delivered.append(synthetic)
        self._synthetic += synthetic

    def branch(self) -> "RealShare":
        """What goes on from here by itself."""
        return RealShare(self._delivered, self._window)


class RealShares:
    """Those of a namespace: among all changes, and among those of each modality. A synthetic item needs room in both.

    So who takes one modality is kept from being drowned as well as who takes everything: with the first alone people's
    texts would make room for programs that only models write, with the second alone each modality would begin with a
    window of synthetic items.

    One thread at a time.

    Attributes:
        whole: among all changes.
        by_modality: among those of each modality of which there was one.
    """

    def __init__(
        self,
        whole: Iterable[bool] = (),
        by_modality: Mapping[int, Iterable[bool]] = MappingProxyType({}),
        window: int = FLOOR_WINDOW,
    ) -> None:
        """Of the newest deliveries, oldest first, whether they were synthetic."""
        self._window = window
        self.whole = RealShare(whole, window)
        self.by_modality = {modality: RealShare(delivered, window) for modality, delivered in by_modality.items()}

    def after_one_more(self, modality: int) -> float:
        """The least share that a window has when a synthetic item of a modality is delivered now."""
        own = self.by_modality.get(modality, self.whole)  # before the first of a modality the whole is the stricter one
        return min(self.whole.after_one_more(), own.after_one_more())

    def deliver(self, modality: int, *, synthetic: bool) -> None:
        """Something was delivered."""
        self.whole.deliver(synthetic=synthetic)
        self.by_modality.setdefault(modality, RealShare(window=self._window)).deliver(synthetic=synthetic)

    def branch(self) -> "RealShares":
        """What goes on from here by itself."""
        branch = RealShares(window=self._window)
        branch.whole = self.whole.branch()
        branch.by_modality = {modality: share.branch() for modality, share in self.by_modality.items()}
        return branch


def has_room(share: float, floor: float) -> bool:
    """Whether the floor allows a share, whatever rounding did to it."""
    return share >= floor - 1e-9
