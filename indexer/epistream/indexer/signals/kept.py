"""What was measured, kept beside the store: a file for each namespace, which can be made anew from the journal.

The file is state as `sealed` has it: the store's epoch, the namespace's number and mark, the names of the signals,
the answer to ListSignals, and the values of the measurements before. One that is damaged, of another version, of other
signals or of another store is as good as none: the signals are measured anew, and what came before is lost.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.sealed import keep, kept, seal
from epistream.indexer.signals.collect import RECORDS_MAX
from epistream.indexer.signals.figure import Figure, missing
from epistream.indexer.signals.table import CELLS, Signal, measure
from epistream.indexer.signals.window import Window
from epistream.v1 import knowledge_service_pb2 as api
from epistream.v1 import namespace_service_pb2 as ns_pb

FOLDER: Final = "signals"
"""Its name in the store's folder."""

HISTORY_MAX: Final = 30
"""So many measurements before the newest are kept, of each what had a value."""
HISTORY_BYTES_MAX: Final = 256 * 1024
"""They are at most so large together; of larger ones fewer are kept."""

_STATE: Final = 2
_NAMES: Final = [signal.name for cell in CELLS for signal in cell.signals]
_NOT_YET: Final = "not measured yet: this is done in the background, some time after something was decided"


class KeptSignals:
    """The signals of a store's namespaces. Any thread, any process; one that writes at a time."""

    def __init__(self, folder: Path, epoch: str) -> None:
        """`folder` is the store's, `epoch` names it."""
        self._folder, self._epoch = folder / FOLDER, epoch

    def read(self, number: int, history: int = 0) -> api.ListSignalsResponse | None:
        """What was last measured of a namespace; None where nothing was. Blocks for the disk.

        With so many of the measurements before, the newest first, as far as they are kept.
        """
        found = self._read(number)
        if found is None:
            return None
        found.answer.history.extend(found.history[:history])
        return found.answer

    def is_of(self, number: int, mark: Sequence[int]) -> bool:
        """Whether they were measured when the namespace had this `collect.mark`: nothing was decided in it since."""
        found = self._read(number)
        return found is not None and found.mark == list(mark)

    def write(self, number: int, mark: Sequence[int], answer: api.ListSignalsResponse) -> None:
        """Keep what was measured when the namespace had this mark, and the values of what was kept before.

        Raises:
            Broken: the file cannot be written; the one before is still there.
        """
        before = self._read(number)
        history = [] if before is None else [_earlier(before.answer), *before.history]
        figures = {**self._owner(number), "mark": list(mark)}
        arrays = {"answer": _bytes(answer), "history": _bytes(api.ListSignalsResponse(history=_newest(history)))}
        keep(self._path(number), seal("signals", _STATE, figures, arrays))

    def _read(self, number: int) -> "_Kept | None":
        found = kept("signals", _STATE, self._path(number))
        if found is None:
            return None
        figures, arrays = found
        mark = figures.pop("mark")
        if figures != self._owner(number):
            return None
        answer, history = (api.ListSignalsResponse.FromString(arrays[name].tobytes()) for name in ("answer", "history"))
        return _Kept(answer, list(history.history), mark)

    def _owner(self, number: int) -> dict[str, Any]:
        """What a file has to say to be read."""
        return {"epoch": self._epoch, "namespace": number, "signals": _NAMES}

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.sealed"


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a file has."""

    answer: api.ListSignalsResponse
    history: list[api.EarlierSignals]
    """The newest first."""
    mark: list[int]


def measured(window: Window, recorded: ns_pb.Namespace, revision: int, now_us: int) -> api.ListSignalsResponse:
    """The signals of a window, as they are answered."""
    answer = api.ListSignalsResponse(
        revision=revision, model=recorded.encoder.model, records=len(window.changes), records_max=RECORDS_MAX
    )
    answer.time.FromMicroseconds(now_us)
    _fill(answer, [(signal, figure) for _, signal, figure in measure(window)])
    return answer


def not_measured(recorded: ns_pb.Namespace) -> api.ListSignalsResponse:
    """Every signal without a value, for a namespace that nobody has measured yet."""
    answer = api.ListSignalsResponse(model=recorded.encoder.model, records_max=RECORDS_MAX)
    _fill(answer, [(signal, missing(_NOT_YET)) for cell in CELLS for signal in cell.signals])
    return answer


def _fill(answer: api.ListSignalsResponse, found: list[tuple[Signal, Figure]]) -> None:
    for cell in CELLS:
        told = answer.cells.add(origin=cell.origin, modality=cell.modality, bottleneck=cell.bottleneck)
        told.signals.extend(_told(signal, figure) for signal, figure in found if signal in cell.signals)


def _told(signal: Signal, figure: Figure) -> api.Signal:
    told = api.Signal(
        name=signal.name,
        value=figure.value,
        missing=figure.missing,
        unit=signal.unit,
        minimum=signal.low if math.isfinite(signal.low) else None,
        maximum=signal.high if math.isfinite(signal.high) else None,
        items=figure.items,
        producer=figure.producer,
        low=figure.low,
        high=figure.high,
        alarm=figure.alarm,
    )
    for name, share in figure.parts:
        told.parts.add(name=name, share=share)
    return told


def _earlier(answer: api.ListSignalsResponse) -> api.EarlierSignals:
    """What is kept of an answer once there is a newer one."""
    found = api.EarlierSignals(revision=answer.revision, time=answer.time, model=answer.model, records=answer.records)
    for cell in answer.cells:
        for told in cell.signals:
            if told.HasField("value"):
                found.signals.add(name=told.name, producer=told.producer, value=told.value)
    return found


def _newest(history: Sequence[api.EarlierSignals]) -> Iterator[api.EarlierSignals]:
    """As many as are kept, of measurements with the newest first."""
    room = HISTORY_BYTES_MAX
    for earlier in history[:HISTORY_MAX]:
        room -= earlier.ByteSize()
        if room < 0:
            return
        yield earlier


def _bytes(answer: api.ListSignalsResponse) -> NDArray[np.uint8]:
    return np.frombuffer(answer.SerializeToString(deterministic=True), np.uint8)
