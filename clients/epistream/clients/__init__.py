"""The clients of Epistream: publish knowledge, follow it, ask for it.

A producer:

    from epistream.clients import SyncProducer, submission

    with SyncProducer("localhost:7443") as producer:
        fact = submission(
            "The daily limit for adults is 5 mg.",
            namespace="pharmacy", item_id="limit-adults", producer="dr-ada", origin="EXPERT",
        )
        (receipt,) = producer.submit(fact)
        print(receipt.item_id, receipt.version, receipt.revision)

A consuming model's replica, which is searched in the model's own process, follows every change within a second, and
survives restarts:

    from epistream.clients import SyncReplica

    with SyncReplica("pharmacy.replica", "localhost:7443", "pharmacy", consumer="advisor") as replica:
        replica.wait_current()
        for hit in replica.search("How much may an adult take?", limit=3):
            print(f"{hit.similarity:.2f}  {hit.change.knowledge.content}")

`KafkaProducer` sends to Kafka's topics instead (it needs `epistream[kafka]`).

`SyncX` is the blocking form of the asynchronous `X`: the same methods, without `await`.
"""

from epistream.clients.channel import connect
from epistream.clients.client_settings import configured
from epistream.clients.credentials import Credentials
from epistream.clients.cursor import (
    Changes,
    Event,
    Position,
    Progress,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotItems,
    Start,
    Subscribed,
)
from epistream.clients.kafka_producer import KafkaProducer, ProducerLimits
from epistream.clients.knowledge import KnowledgeClient
from epistream.clients.producer import ModalityName, OriginName, Producer, submission
from epistream.clients.replica import Encoder, Replica
from epistream.clients.reviews import ReviewClient, ReviewerOrigin, SyncReviewClient
from epistream.clients.subscriber import Counts, Subscriber
from epistream.clients.sync import SyncKnowledgeClient, SyncProducer, SyncReplica, SyncSubscriber
from epistream.wire.errors import (
    Broken,
    Conflict,
    Denied,
    EpistreamError,
    FieldViolation,
    InvalidInput,
    NotFound,
    Resync,
    State,
    Unavailable,
)
from epistream.wire.kafka_security import KafkaSecurity

__all__ = [
    "Broken",
    "Changes",
    "Conflict",
    "Counts",
    "Credentials",
    "Denied",
    "Encoder",
    "EpistreamError",
    "Event",
    "FieldViolation",
    "InvalidInput",
    "KafkaProducer",
    "KafkaSecurity",
    "KnowledgeClient",
    "ModalityName",
    "NotFound",
    "OriginName",
    "Position",
    "Producer",
    "ProducerLimits",
    "Progress",
    "Replica",
    "Resync",
    "ReviewClient",
    "ReviewerOrigin",
    "SnapshotBegin",
    "SnapshotEnd",
    "SnapshotItems",
    "Start",
    "State",
    "Subscribed",
    "Subscriber",
    "SyncKnowledgeClient",
    "SyncProducer",
    "SyncReplica",
    "SyncReviewClient",
    "SyncSubscriber",
    "Unavailable",
    "configured",
    "connect",
    "submission",
]
