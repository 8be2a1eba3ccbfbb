"""A namespace of code, some of which was let in since its tests pass; what is known of it then.

`python -m tests.support.verified_life FOLDER` prints what `known` says of the store in FOLDER.
"""

import hashlib
import shutil
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from tests.support.collapsing import ALL_KINDS, kinds
from tests.support.knowing import NAMESPACE, HandClock, commit, submission
from tests.support.rehearsing import SYNTHETIC, Life

ANCHORED = {"people": True, "tested": True, "signed": True, "put-off": True, "unasked": False}
"""The items of the life in the order in which they came to be, and whether each is people's or its tests passed."""
_AT = kinds(ALL_KINDS, 9, 3)


def code(item: str, place: int, origin: pb.Origin.ValueType = SYNTHETIC) -> pb.Submission:
    """A program whose vector is near those of the same place."""
    made = submission(f"def {item.replace('-', '_')}():\n    return 1\n", id=item, item=item, origin=origin)
    made.modality, made.embedding.float32 = pb.MODALITY_CODE, _AT[place].astype("<f4").tobytes()
    return made


def lived(folder: Path) -> Life:
    """Write the store; it is left open."""
    life = Life(folder, verify_code=True)
    life.say(code("people", 0, pb.ORIGIN_EXPERT), *(code(one, n) for n, one in enumerate(("tested", "signed"), 1)))
    life.decide(pb.REASON_UNVERIFIED, admits=True, by="executor", origin=SYNTHETIC)
    life.decide(pb.REASON_UNVERIFIED, admits=True)
    life.say(code("put-off", 3), code("wrong", 4))
    life.change(real_share_floor=1.0)
    life.decide(pb.REASON_UNVERIFIED, admits=True, by="executor", origin=SYNTHETIC)
    life.decide(pb.REASON_UNVERIFIED, admits=False, by="executor", origin=SYNTHETIC)
    life.change(real_share_floor=0.0, verify_code=False)
    life.say(code("unasked", 5))
    return life


def gains_of(engine: Engine) -> bytes:
    """The state of both posteriors."""
    gains = engine.namespaces.state(NAMESPACE).standing.gains
    assert gains is not None
    return gains.to_bytes()


def beyond_people(engine: Engine, place: int) -> float:
    """How much another program of the same place tells beyond what people said and tests verified."""
    (receipt,) = commit(engine, code(f"more-{place}", place))
    return receipt.figures.human_gain


def known(folder: Path) -> str:
    """The posteriors of a store, and what two more programs would tell; nothing is written to it."""
    with tempfile.TemporaryDirectory() as other:
        copy = shutil.copytree(folder, Path(other) / "store")
        with closing(Engine(copy, clock=HandClock())) as engine:
            state = hashlib.sha256(gains_of(engine)).hexdigest()
            return " ".join([state, *(beyond_people(engine, place).hex() for place in (1, 5))])


if __name__ == "__main__":
    print(known(Path(sys.argv[1])))
