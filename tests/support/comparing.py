"""Compares every window that a store has the alarms of once more, from nothing, and prints what it finds.

python -m tests.support.comparing FOLDER
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from epistream.indexer.anchors import Anchors
from epistream.indexer.collapse_watch import CollapseWatch, Window
from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from tests.support.knowing import NAMESPACE, HandClock


def without_times(alarm: pb.CollapseAlarm) -> pb.CollapseAlarm:
    """What is compared, without when."""
    alarm.ClearField("time")
    alarm.ClearField("since_time")
    return alarm


def compared_again(engine: Engine) -> Iterator[pb.CollapseAlarm]:
    """What a comparison finds of each window, in the order of the journal, without when."""
    config = engine.namespaces.state(NAMESPACE).config
    again = CollapseWatch(engine.store, engine.namespaces, Anchors(), HandClock(), lambda: None)
    before: dict[tuple[str, pb.Modality.ValueType], pb.CollapseAlarm] = {}
    for entry in engine.store.journal.follow(0):
        if entry.record.WhichOneof("record") == "watched":
            kept = entry.record.watched
            key = (kept.producer, kept.modality)
            window = Window(config, *key, kept.accepted, kept.revision, before.get(key, pb.CollapseAlarm()))
            yield without_times(again.compare(window))
            before[key] = kept


def main() -> None:
    """Print each, encoded, as a line of hexadecimal digits."""
    engine = Engine(Path(sys.argv[1]), clock=HandClock())
    for alarm in compared_again(engine):
        print(alarm.SerializeToString(deterministic=True).hex())
    engine.close()


if __name__ == "__main__":
    main()
