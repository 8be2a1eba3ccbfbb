"""What the command line shows people."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from epistream.clients.cli.show import when


def test_a_time_has_four_digits_of_its_year() -> None:
    told = []
    for moment in (datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 1, 31, 12, 0, 7, 250_000, tzinfo=UTC)):
        time = Timestamp()
        time.FromDatetime(moment)
        told.append(when(time))
    assert told == ["0001-01-01 00:00:00Z", "2026-01-31 12:00:07Z"]
