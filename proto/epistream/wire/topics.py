"""The names of the Kafka topics, and which submission goes where: what producers and the service must agree on.

A name is `<organisation>.<domain>.<entity>.v<N>`; a topic's dead letters are in the topic with `dlq`
before the version.

A record's key is the item (`namespace/item_id`), so that everything about one item is in one partition, in the order in
which its producer sent it. A retraction is such a record too: it goes to the topic of its origin, where the item's
earlier submissions went, and never overtakes them. An item without an id of its own is keyed by its submission: nothing
later can refer to it but a resend.

A topic carries the submissions of some origins only. So Kafka's ACLs say not only who may speak, but as whom: whoever
may write to a topic of synthetic knowledge cannot pass for an expert.

The partition count of a topic is for ever: another count moves keys to other partitions, and the order of an item's
records is lost.
"""

import re
from collections.abc import Mapping
from typing import Final

from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import InvalidInput

EXPERT: Final = "epistream.submissions.expert.v1"
"""Submissions that a person answers for: EXPERT and COLLABORATIVE. Kept for ever: the store can be rebuilt from it."""
SYNTHETIC: Final = "epistream.submissions.synthetic.v1"
"""Submissions that nobody answers for: SYNTHETIC and CRAWLED. Kept for ever."""
UPDATES: Final = "epistream.submissions.updates.v1"
"""Submissions of which only the newest of each item matters, such as readings; compacted. Only what its producer sends
here by name: it is the topic of no origin. It carries what nobody answers for, where nothing else is set."""
CHANGES: Final = "epistream.changes.v1"
"""What was committed: `Change` messages, keyed by namespace, in the order of their revisions."""
OUTCOMES: Final = "epistream.outcomes.v1"
"""What became of every submission, over gRPC too: `Receipt` messages, keyed by the submission."""
ALARMS: Final = "epistream.alarms.v1"
"""Alarms of the collapse watch that were raised or cleared: `CollapseAlarm` messages, keyed by what is watched, of each
of which the newest is kept."""

TOLD: Final = (CHANGES, OUTCOMES, ALARMS)
"""What the service tells, beside dead letters."""

RECORD_BYTES_MAX: Final = 2 * 1024 * 1024
"""The largest record that the topics take. A submission is at most 1 MiB: larger ones come in, to be refused."""
DEAD_LETTER_BYTES_MAX: Final = RECORD_BYTES_MAX + 64 * 1024
"""The largest dead letter: a record as it came, and the headers that say what was wrong."""

SUBMISSIONS: Final = (EXPERT, SYNTHETIC, UPDATES)
"""What the service takes knowledge from."""

_VERSION: Final = re.compile(r"\.v\d+$")
_BY_ORIGIN: Final[Mapping[pb.Origin.ValueType, str]] = {
    pb.ORIGIN_EXPERT: EXPERT,
    pb.ORIGIN_COLLABORATIVE: EXPERT,
    pb.ORIGIN_SYNTHETIC: SYNTHETIC,
    pb.ORIGIN_CRAWLED: SYNTHETIC,
}
CARRIED: Final[Mapping[str, frozenset[pb.Origin.ValueType]]] = {
    EXPERT: frozenset(origin for origin, topic in _BY_ORIGIN.items() if topic == EXPERT),
    SYNTHETIC: frozenset(origin for origin, topic in _BY_ORIGIN.items() if topic == SYNTHETIC),
    # An expert's word is kept for ever, so a compacted topic is no place for it.
    UPDATES: frozenset(origin for origin, topic in _BY_ORIGIN.items() if topic == SYNTHETIC),
}
"""The origins that each of our topics carries, where nothing else is set. Any other topic carries all."""


def dead_letter_topic(topic: str) -> str:
    """The topic of the dead letters of `topic`.

    >>> dead_letter_topic("epistream.submissions.expert.v1")
    'epistream.submissions.expert.dlq.v1'
    >>> dead_letter_topic("readings")
    'readings.dlq'
    """
    version = _VERSION.search(topic)
    return f"{topic[: version.start()]}.dlq{version.group()}" if version else f"{topic}.dlq"


def submission_topic(origin: pb.Origin.ValueType) -> str:
    """The topic that a submission of this origin goes to, retractions included.

    Raises:
        InvalidInput: there is no such origin.
    """
    topic = _BY_ORIGIN.get(origin)
    if topic is None:
        raise InvalidInput.at("origin", f"expected one of EXPERT, COLLABORATIVE, CRAWLED, SYNTHETIC; found {origin}")
    return topic


def submission_key(submission: pb.Submission) -> bytes:
    """The key of a submission's record: `namespace/item_id`; without an item id, `namespace/submission_id`."""
    return f"{submission.namespace}/{submission.item_id or submission.submission_id}".encode()
