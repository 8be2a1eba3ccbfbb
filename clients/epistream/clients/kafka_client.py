"""What every Kafka client of ours needs: the address read, and Kafka's errors as ours."""

import re
from typing import Any, Final

from epistream.wire.errors import Broken, EpistreamError, InvalidInput, Unavailable

_ADDRESS: Final = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:,\[\]]+):\d{1,5}")


def broker_list(bootstrap: str) -> list[str]:
    """The brokers of `host:port[,host:port…]`.

    >>> broker_list("kafka-0:9092, [::1]:9092")
    ['kafka-0:9092', '[::1]:9092']

    Raises:
        InvalidInput: it is not such a list.
    """
    brokers = [part.strip() for part in bootstrap.split(",")]
    for broker in brokers:
        if not _ADDRESS.fullmatch(broker):
            raise InvalidInput.at("bootstrap", f"expected host:port, or several with commas between; found {broker!r}")
    return brokers


def translated(error: Any, bootstrap: str, doing: str) -> EpistreamError:
    """The error to raise, or to fail a future with, for one of kafka-python's hundred and more. Chain the cause.

    Args:
        error: an instance of `kafka.errors.KafkaError`.
        bootstrap: the address that the client was given.
        doing: what was tried, such as `sending to epistream.changes.v1`.
    """
    from kafka import errors as kafka

    what = f"{doing} (Kafka at {bootstrap}): {error}"
    match error:
        case kafka.MessageSizeTooLargeError() | kafka.RecordListTooLargeError():
            return InvalidInput(f"{what}. Send less in one record.", reason="TOO_LARGE")
        case kafka.InvalidTimestampError() | kafka.InvalidRecordError():
            return InvalidInput(f"{what}. The topic does not take such a record.")
        case _ if type(error) is kafka.KafkaError:  # what kafka-python gives to the other records of a refused batch
            return Unavailable(f"{what}. This record was not written; send it again.")
        case kafka.IllegalStateError():
            return Unavailable(f"{what}. The client was closed.")
        case _ if error.retriable:
            return Unavailable(f"{what}. Is Kafka running, is the address right, and does the topic exist?")
        case _:
            return Broken(what)
