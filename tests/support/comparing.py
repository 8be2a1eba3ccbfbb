"""Compares every window that a store has the alarms of once more, from nothing, and prints what it finds.

python -m tests.support.comparing FOLDER
"""

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from epistream.indexer.anchors import Anchors
from epistream.indexer.collapse_watch import CollapseWatch, Window
from epistream.indexer.engine import Engine
from epistream.indexer.journal import Entry
from epistream.indexer.store import Store
from epistream.v1 import knowledge_pb2 as pb
from tests.support.knowing import NAMESPACE, HandClock


def without_times(alarm: pb.CollapseAlarm) -> pb.CollapseAlarm:
    """What is compared, without when."""
    alarm.ClearField("time")
    alarm.ClearField("since_time")
    return alarm


def compared_again(folder: Path) -> list[pb.CollapseAlarm]:
    """What a comparison finds of each window, in the order of the journal, without when."""
    engine = Engine(folder, clock=HandClock())
    config = engine.namespaces.state(NAMESPACE).config
    again = CollapseWatch(engine.store, engine.namespaces, Anchors(), HandClock(), lambda: None)
    before: dict[tuple[str, pb.Modality.ValueType], pb.CollapseAlarm] = {}
    found = []
    for kept in _watched(engine.store):
        key = (kept.producer, kept.modality)
        window = Window(config, *key, kept.accepted, kept.revision, before.get(key, pb.CollapseAlarm()))
        found.append(without_times(again.compare(window)))
        before[key] = kept
    engine.close()
    return found


def kept_alarms(folder: Path) -> list[pb.CollapseAlarm]:
    """What the journal has of each window, in its order, without when."""
    with closing(Store(folder)) as store:
        return list(map(without_times, _watched(store)))


def entries(store: Store) -> Iterator[Entry]:
    """What a store's journal has of the namespace, in order."""
    with store.reader() as catalog:
        (number,) = (number for number, known in catalog.namespaces() if known.name == NAMESPACE)
    return (entry for entry in store.journal.follow(0) if entry.namespace == number)


def _watched(store: Store) -> Iterator[pb.CollapseAlarm]:
    for entry in entries(store):
        if entry.record.WhichOneof("record") == "watched":
            yield entry.record.watched


def main() -> None:
    """Print each, encoded, as a line of hexadecimal digits."""
    for alarm in compared_again(Path(sys.argv[1])):
        print(alarm.SerializeToString(deterministic=True).hex())


if __name__ == "__main__":
    main()
