"""What the poller tells of a partition that is read no more changes nothing. No process runs."""

from epistream.indexer.model import Place, Position, Record
from epistream.services.kafka.backlog import Backlog
from epistream.services.kafka.parcels import pack, unpack
from epistream.services.kafka.polling import Polling
from epistream.services.kafka.progress import Progress, Stopped
from epistream.services.kafka.survey import Source


def test_of_a_partition_that_was_left_nothing_is_taken_in() -> None:
    backlog, progress = Backlog(), Progress()
    polling = Polling(Source("nowhere", ("facts",), "group"), backlog, progress, lambda: None)
    parcels = [pack(Record(b"", received_us=0, position=Position("facts", number, 7))) for number in range(2)]
    for number in range(2):
        progress.begin(("facts", number), 7, 0)
        polling.begin({("facts", number): Place(7)})
    polling.leave([("facts", 0), ("facts", 2)])
    progress.stop(("facts", 0), Stopped("TOPIC_REPLACED", "it is another topic"))

    for number, parcel in enumerate(parcels):
        polling._take({"polled": ["facts", number, Place(8), [parcel]]})
        at = {("facts", number): 20}
        polling._take({"positions": at, "ends": at})
        polling._take({"stopped": ["facts", number, "OFFSET_OUT_OF_RANGE", "what was to be read is gone"]})

    assert backlog.take(wait=False) == [unpack(parcels[1])]
    assert progress.done()["facts", 0] == 7
    assert {at: lag.records for at, lag in progress.lag(0).items()} == {("facts", 0): 0, ("facts", 1): 13}
    reasons = {at: why.reason for at, why in progress.stopped().items()}
    assert reasons == {("facts", 0): "TOPIC_REPLACED", ("facts", 1): "OFFSET_OUT_OF_RANGE"}
    assert not polling.reads
