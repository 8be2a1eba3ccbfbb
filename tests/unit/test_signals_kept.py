"""What is kept of the measurements of a namespace: the newest whole, and the values of those before, within bounds."""

from pathlib import Path

import pytest

from epistream.indexer.sealed import kept, seal
from epistream.indexer.signals import kept as keeping
from epistream.indexer.signals.kept import HISTORY_MAX, KeptSignals, measured
from epistream.v1 import knowledge_service_pb2 as api
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.windows import change, window

NUMBER = 1


def answer_of(revision: int, names: int = 1) -> api.ListSignalsResponse:
    """An answer of `names` signals with a value, the revision, and one without."""
    made = api.ListSignalsResponse(revision=revision, model=f"m{revision}", records=revision * 10)
    made.time.FromMicroseconds(revision)
    cell = made.cells.add()
    for n in range(names):
        cell.signals.add(name=f"near_self_{n}", value=revision, producer="model")
    cell.signals.add(name="drift", missing="no video")
    return made


def test_the_values_of_what_was_measured_before_are_kept_the_newest_first(tmp_path: Path) -> None:
    signals = KeptSignals(tmp_path, "epoch")
    for revision in (1, 2, 3):
        signals.write(NUMBER, [revision], answer_of(revision))
    found = signals.read(NUMBER, HISTORY_MAX)
    assert found is not None
    assert (found.revision, [one.revision for one in found.history]) == (3, [2, 1])
    [newest, _] = found.history
    assert (newest.model, newest.records, newest.time.ToMicroseconds()) == ("m2", 20, 2)
    assert [(one.name, one.producer, one.value) for one in newest.signals] == [("near_self_0", "model", 2.0)]
    for asked, told in ((0, 0), (1, 1), (2, 2)):
        answer = signals.read(NUMBER, asked)
        assert answer is not None
        assert len(answer.history) == told
    assert signals.is_of(NUMBER, [3])
    assert not signals.is_of(NUMBER, [2])


def test_thirty_are_kept_and_fewer_where_they_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signals = KeptSignals(tmp_path, "epoch")
    for revision in range(1, 41):
        signals.write(NUMBER, [revision], answer_of(revision))
    found = signals.read(NUMBER, 100)
    assert found is not None
    assert [one.revision for one in found.history] == list(range(39, 9, -1))
    assert len(found.history) == HISTORY_MAX
    monkeypatch.setattr(keeping, "HISTORY_BYTES_MAX", 10_000)
    for revision in range(41, 50):
        signals.write(NUMBER, [revision], answer_of(revision, names=60))
    found = signals.read(NUMBER, 100)
    assert found is not None
    assert 0 < len(found.history) < 9
    assert sum(one.ByteSize() for one in found.history) <= 10_000
    assert found.history[0].revision == 48


def test_a_file_of_the_format_before_is_as_good_as_none(tmp_path: Path) -> None:
    signals = KeptSignals(tmp_path, "epoch")
    signals.write(NUMBER, [1], answer_of(1))
    file = tmp_path / "signals" / f"{NUMBER}.sealed"
    found = kept("signals", 2, file)
    assert found is not None
    figures, arrays = found
    file.write_bytes(seal("signals", 1, figures, {"answer": arrays["answer"]}))
    assert signals.read(NUMBER) is None
    assert not signals.is_of(NUMBER, [1])
    signals.write(NUMBER, [1], answer_of(1))
    answer = signals.read(NUMBER, HISTORY_MAX)
    assert answer is not None
    assert len(answer.history) == 0


def test_every_value_of_a_measurement_is_in_the_history(tmp_path: Path) -> None:
    recorded = ns_pb.Namespace(encoder=ns_pb.Encoder(model="none", dimension=2))
    answer = measured(window(change("a", "One."), change("b", "Two."), vectors=[[1, 0], [0, 1]]), recorded, 2, 5)
    signals = KeptSignals(tmp_path, "epoch")
    signals.write(NUMBER, [1], answer)
    signals.write(NUMBER, [2], answer)
    found = signals.read(NUMBER, 1)
    assert found is not None
    told = {one.name: one.value for one in found.history[0].signals}
    assert told["relative_gain"] > 0
    assert told == {one.name: one.value for cell in answer.cells for one in cell.signals if one.HasField("value")}
