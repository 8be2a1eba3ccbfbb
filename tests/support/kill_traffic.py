"""What producers send while a service is killed: new items, revisions, duplicates, retractions, reused ids.

All of it goes to two namespaces that share the names of their items and the ids of their submissions.
"""

import random
import uuid
from typing import Final

import numpy as np

from epistream.v1 import knowledge_pb2 as pb

NAMESPACES: Final = ("killed", "killed-too")
_SHARES: Final = (2, 1)
"""Of each in the traffic: unequal, so that revision and version of one are soon wrong for the other."""
DIMENSION: Final = 16
SHARED_ITEMS: Final = 40
"""All producers revise and retract these in both namespaces, so that they meet."""
ORIGINS: Final = (pb.ORIGIN_EXPERT, pb.ORIGIN_EXPERT, pb.ORIGIN_COLLABORATIVE, pb.ORIGIN_SYNTHETIC)


class Traffic:
    """An endless mix of submissions of one producer, of the same kinds in the same order for the same seed."""

    def __init__(self, producer: str, seed: int) -> None:
        self._producer = producer
        self._chance = random.Random(f"{producer} {seed}")
        self._numbers = np.random.default_rng([seed, *producer.encode()])
        self._plain: list[pb.Submission] = []
        """Those that decide alike whenever they are sent again."""

    def next(self) -> pb.Submission:
        """The next one. It may be one of before, sent again."""
        kinds = (self.new, self._revision, self._same_content, self._again, self._reused_id, self._retraction)
        [kind] = self._chance.choices((*kinds, self._stale, self._elsewhere), (36, 22, 10, 10, 6, 8, 4, 4))
        return kind()

    def new(self) -> pb.Submission:
        """A new item, which nobody else revises."""
        return self._kept(self._made(item_id=self._own_item() if self._chance.random() < 0.7 else ""))

    def atomic_batch(self) -> list[pb.Submission]:
        """Some that are sent nowhere else, to be written together; in one of three batches one will be refused.

        Mostly they are for both namespaces.
        """
        batch = [self._made(item_id=self._own_item()) for _ in range(3)]
        if self._chance.random() < 1 / 3:
            batch.append(self._reused_id())
        return batch

    def _revision(self) -> pb.Submission:
        return self._kept(self._made(item_id=self._shared_item(), origin=self._chance.choice(ORIGINS)))

    def _same_content(self) -> pb.Submission:
        before = self._before()
        return self._kept(self._made(namespace=before.namespace, content=before.content, embedding=before.embedding))

    def _again(self) -> pb.Submission:
        return self._before()

    def _reused_id(self) -> pb.Submission:
        before = self._before()
        return self._made(namespace=before.namespace, submission_id=before.submission_id)

    def _retraction(self) -> pb.Submission:
        return pb.Submission(
            namespace=self._namespace(),
            submission_id=self._unique("retraction"),
            item_id=self._shared_item(),
            origin=self._chance.choice(ORIGINS),
            provenance=pb.Provenance(producer=self._producer),
            retraction=True,
        )

    def _stale(self) -> pb.Submission:
        return self._made(item_id=self._shared_item(), expected_version=self._chance.randrange(4))

    def _elsewhere(self) -> pb.Submission:
        """One of before word for word, its id too, for another namespace: nothing of it is known there."""
        before = self._before()
        made = pb.Submission()
        made.CopyFrom(before)
        made.namespace = self._chance.choice([name for name in NAMESPACES if name != before.namespace])
        return self._kept(made)

    def _before(self) -> pb.Submission:
        return self._chance.choice(self._plain) if self._plain else self.new()

    def _kept(self, made: pb.Submission) -> pb.Submission:
        self._plain.append(made)
        return made

    def _made(self, **fields: object) -> pb.Submission:
        made = pb.Submission(
            namespace=self._namespace(),
            submission_id=self._unique("s"),
            origin=pb.ORIGIN_EXPERT,
            modality=pb.MODALITY_TEXT,
            content=f"The part {self._unique('p')} weighs {self._chance.randrange(10_000)} grams.",
            provenance=pb.Provenance(producer=self._producer, generator="gpt"),
            embedding=pb.Embedding(float32=self._numbers.standard_normal(DIMENSION).astype("<f4").tobytes()),
        )
        made.MergeFrom(pb.Submission(**fields))  # type: ignore[arg-type] # as the caller says
        return made

    def _namespace(self) -> str:
        [name] = self._chance.choices(NAMESPACES, _SHARES)
        return name

    def _own_item(self) -> str:
        return self._unique("item")

    def _shared_item(self) -> str:
        return f"shared-{self._chance.randrange(SHARED_ITEMS)}"

    def _unique(self, kind: str) -> str:
        return f"{kind}-{uuid.UUID(int=self._chance.getrandbits(128)).hex[:16]}"
