"""What holds from a time on: submissions about a chair, and what an engine says of it then."""

from collections.abc import Sequence

from epistream.indexer.engine import Engine
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.wire.errors import NotFound
from tests.support.knowing import NAMESPACE, direction, submission

YEAR_SECONDS = 31_557_600


def dated(
    content: str,
    year: int | None,
    *,
    item: str = "chair",
    origin: pb.Origin.ValueType = pb.ORIGIN_EXPERT,
    attributes: dict[str, str] | None = None,
) -> pb.Submission:
    """That something holds from the beginning of a year on; each is another submission."""
    name = f"{item} {content} {year} {origin}"
    made = submission(content, id=name, item=item, origin=origin, attributes=attributes)
    if year is not None:
        made.valid_from.FromSeconds((year - 1970) * YEAR_SECONDS)
    return made


def at(sent: pb.Submission, *weights: float) -> pb.Submission:
    """The same in this direction."""
    sent.embedding.float32 = direction(*weights).astype("<f4").tobytes()
    return sent


def outcome(receipt: pb.Receipt) -> tuple[int, int]:
    return receipt.outcome, receipt.reason


def said(engine: Engine, year: int | None = None, revision: int | None = None) -> str | None:
    """What the chair is, at the head or in the middle of a year, as of a revision."""
    request = api.GetRequest(namespace=NAMESPACE, item_id="chair")
    if year is not None:
        request.as_of.valid_time.FromSeconds((year - 1970) * YEAR_SECONDS + YEAR_SECONDS // 2)
    if revision is not None:
        request.as_of.revision = revision
    try:
        return engine.knowledge.get(request).change.knowledge.content
    except NotFound:
        return None


def history(engine: Engine, *, by_valid_time: bool = False, limit: int = 100) -> list[pb.Change]:
    """All versions of the chair, read in pages."""
    request = api.HistoryRequest(namespace=NAMESPACE, item_id="chair", limit=limit, by_valid_time=by_valid_time)
    found: list[pb.Change] = []
    while page := engine.knowledge.history(request).changes:
        found.extend(page)
        request.after_version = page[-1].version
    return found


def contents(changes: Sequence[pb.Change]) -> list[str]:
    return [change.knowledge.content for change in changes]


def found(engine: Engine) -> list[str]:
    """What a search brings, in the order of the alphabet."""
    request = api.SearchRequest(namespace=NAMESPACE, limit=50, vector=pb.Embedding(float32=direction(1.0).tobytes()))
    return sorted(hit.change.knowledge.content for hit in engine.knowledge.search(request).hits)
