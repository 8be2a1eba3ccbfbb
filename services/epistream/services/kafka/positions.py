"""An operator's decision about where a partition of Kafka is read next. The service must not be running."""

from pathlib import Path

from epistream.indexer import positions
from epistream.indexer.store import FILE, Store, missing
from epistream.wire.errors import InvalidInput


def reread(folder: Path, topic: str, partition: int, offset: int | None = None) -> str:
    """Have a partition read from `offset` on at the next start; what was done, as a sentence.

    What is read again has no second effect. What is between the old position and a later new one is never taken in.
    Which topic the partition is of is forgotten, and learnt at the next start: one that was deleted and made anew under
    its name is read on, in this partition alone, as each is decided by itself.

    Args:
        folder: the store's.
        topic: the topic.
        partition: the number of its partition.
        offset: the next record to read. When None the partition is as if it had never been read: it begins where the
            setting `kafka_start` says, or at its oldest record where others of the topic were read.

    Raises:
        InvalidInput: the folder holds no store, or the offset is negative.
        Unavailable: a service has the store open: stop it first.
    """
    if offset is not None and offset < 0:
        raise InvalidInput.at("offset", f"expected 0 or more, found {offset}")
    if not (folder / FILE).is_file():
        raise InvalidInput.at("folder", missing(folder))
    store = Store(folder)
    try:
        with store.transaction() as connection:
            before = positions.read(connection).get((topic, partition))
            positions.place(connection, topic, partition, offset)
    finally:
        store.close()
    was = "had no position" if before is None else f"was to be read from offset {before.offset} on"
    at_new = "where the setting kafka_start says, or at the oldest record if others of its topic were read"
    now = at_new if offset is None else f"at offset {offset}"
    return f"{topic}/{partition} {was}; at its next start the service begins {now}"
