"""Collapse watch: an alarm for who says less and less, a cap on copies of copies, a floor under what is real.

A model that is trained on what models made forgets the rare first and ends at one thing (Shumailov et al., Nature
631:755, 2024); it does not where synthetic data is added to real data and never takes its place (Gerstgrasser et al.,
arXiv 2404.01413). So each producer's windows are compared with a frozen human one (`Alarm`), what is made from what was
made is capped (`lineage`), and consumers get a share of real knowledge whatever comes in (`RealShareFloor`).

Pure: a state and what happened give the next state.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from epistream.indexer.sealed import Arrays, seal, unseal
from epistream.indexer.spectrum import ORDERS, Comparison, Missing, slope

RAISED_BELOW: Final = 0.95
"""The alarm is raised when even the upper end of the ratio's interval is below."""
CLEARED_FROM: Final = 0.95
"""It is cleared when the ratio itself was not below in CLEARED_AFTER windows, one after the other."""
CLEARED_AFTER: Final = 3
SUPPORT_MIN: Final = 0.45
"""Below, a window is about something else than the human one, and its ratio says nothing about collapse."""
FLOOR: Final = 0.10
FLOOR_WINDOW: Final = 1000

_STATE: Final = 1
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

    def to_bytes(self) -> bytes:
        """The state."""
        figures = {
            "on": self.on,
            "windows": self.windows,
            "recovered": self.recovered,
            "drifted": self.drifted,
            "first_low": self.first_low,
            "ratios": list(self.ratios),
        }
        return seal("alarm", _STATE, figures, {})

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """What `to_bytes` made.

        Raises:
            Broken: it is damaged (CORRUPT), or another version's.
        """
        figures, _ = unseal("alarm", _STATE, state)
        return cls(**{**figures, "ratios": tuple(figures["ratios"])})


class RealShareFloor:
    """Keeps the share of what is not synthetic at or above a floor, in every `window` deliveries and from the first on.

    What is real passes at once. What is synthetic passes while the share allows it, and else waits behind the synthetic
    items before it: deferred, never lost, never out of order. With the floor at 1/10, each real item lets nine others
    pass. An example, r real and s synthetic, floor 1/2: s1 s2 r1 s3 r2 come in, r1 s1 r2 s2 go out, s3 waits.

    One thread at a time. Items are known by their numbers.
    """

    def __init__(self, floor: float = FLOOR, window: int = FLOOR_WINDOW) -> None:
        """Nothing was delivered yet. The floor is a share, 0 to 1; the window a number of deliveries."""
        if not 0 <= floor <= 1 or window < 1:
            raise ValueError(f"expected a floor in [0, 1] and a window >= 1, found {floor} and {window}")
        self._floor, self._window = floor, window
        self._delivered: deque[bool] = deque()
        """Of the newest deliveries, a window of them, whether they were synthetic."""
        self._synthetic = 0
        self._waiting: deque[int] = deque()

    @property
    def waiting(self) -> Sequence[int]:
        """The deferred items, the next one first."""
        return tuple(self._waiting)

    @property
    def real_share(self) -> float | None:
        """The share of what is not synthetic among the newest deliveries, a window of them; None before the first."""
        return (len(self._delivered) - self._synthetic) / len(self._delivered) if self._delivered else None

    def offer(self, item: int, *, synthetic: bool) -> list[int]:
        """The items that are delivered now, in order: this one and what waited, or none of them."""
        if synthetic:
            self._waiting.append(item)
            return self._passing()
        self._deliver(synthetic=False)
        return [item, *self._passing()]

    def withdraw(self, items: Iterable[int]) -> None:
        """Let deferred items wait no longer: they were retracted, or given another way."""
        gone = set(items)
        self._waiting = deque(item for item in self._waiting if item not in gone)

    def to_bytes(self) -> bytes:
        """The state."""
        arrays: Arrays = {
            "delivered": np.array(self._delivered, np.uint8),
            "waiting": np.array(self._waiting, np.int64),
        }
        return seal("floor", _STATE, {"floor": self._floor, "window": self._window}, arrays)

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """What `to_bytes` made.

        Raises:
            Broken: it is damaged (CORRUPT), or another version's.
        """
        figures, arrays = unseal("floor", _STATE, state)
        made = cls(figures["floor"], figures["window"])
        made._delivered.extend(arrays["delivered"].astype(bool).tolist())
        made._synthetic = sum(made._delivered)
        made._waiting.extend(arrays["waiting"].tolist())
        return made

    def _passing(self) -> list[int]:
        passing = []
        while self._waiting and self._has_room():
            passing.append(self._waiting.popleft())
            self._deliver(synthetic=True)
        return passing

    def _has_room(self) -> bool:
        """Whether one more synthetic delivery leaves every window that ends with it at or above the floor."""
        full = len(self._delivered) == self._window
        synthetic = self._synthetic - (self._delivered[0] if full else 0) + 1
        deliveries = len(self._delivered) + (0 if full else 1)
        return deliveries - synthetic >= self._floor * deliveries - 1e-9

    def _deliver(self, *, synthetic: bool) -> None:
        if len(self._delivered) == self._window:
            self._synthetic -= self._delivered.popleft()
        self._delivered.append(synthetic)
        self._synthetic += synthetic
