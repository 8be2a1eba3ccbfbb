"""Conflicts as people see and resolve them. What a conflict is, and when it opens and ends: `conflicts`.

Who resolves one says which of its parties stand. What does not is retracted or rejected, what is held and stands is let
in, all in the transaction that writes the resolution: so a conflict that is resolved leaves nothing that was found
wrong in any answer.
"""

from dataclasses import dataclass
from typing import Final

from epistream.indexer import comments, conflicts, holding
from epistream.indexer.catalog import Catalog
from epistream.indexer.clock import Clock
from epistream.indexer.conflicts import Party
from epistream.indexer.model import Embedded, Ruling
from epistream.indexer.namespaces import Namespaces
from epistream.indexer.paging import fitting, limit_of, page_token
from epistream.indexer.pipeline import Pipeline
from epistream.indexer.review_rules import require_comment, require_reviewer
from epistream.indexer.reviews import retracting, ruling, told
from epistream.indexer.store import Store
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import review_service_pb2 as api
from epistream.wire.errors import Conflict, FieldViolation, InvalidInput, NotFound

LIMIT: Final = 100
_OPEN: Final = {
    api.CONFLICT_STATE_UNSPECIFIED: True,
    api.CONFLICT_STATE_OPEN: True,
    api.CONFLICT_STATE_RESOLVED: False,
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A resolution, with all that it takes."""

    namespace: str
    resolution: journal_pb2.Resolution
    sides: tuple[tuple[conflicts.Party, int], ...]
    """Its parties as they were read, with the newest versions of their items."""
    retractions: tuple[Embedded, ...]
    rulings: tuple[Ruling, ...]


class Resolutions:
    """Conflicts over one store."""

    def __init__(
        self, store: Store, namespaces: Namespaces, pipeline: Pipeline, clock: Clock, answer_bytes_max: int
    ) -> None:
        """`answer_bytes_max` bounds a list."""
        self._store, self._namespaces, self._pipeline, self._clock = store, namespaces, pipeline, clock
        self._answer_bytes_max = answer_bytes_max

    def list_conflicts(self, request: api.ListConflictsRequest) -> api.ListConflictsResponse:
        """Conflicts, the oldest first. Any thread.

        Raises:
            NotFound: there is no such namespace.
            InvalidInput: the state, the limit or the page token is wrong.
        """
        config = self._namespaces.state(request.namespace).config
        limit, after = limit_of(request.limit, LIMIT), page_token(request.page_token)
        if request.state not in _OPEN:
            raise InvalidInput.at("state", "expected CONFLICT_STATE_OPEN or CONFLICT_STATE_RESOLVED, or nothing")
        with self._store.reader() as catalog:
            found = conflicts.listed(
                catalog.connection,
                config.number,
                is_open=_OPEN[request.state],
                item_id=request.item_id,
                after=after,
                limit=limit + 1,
            )
            told_of = (_told(catalog, request.namespace, config.number, one) for one in found[:limit])
            page = fitting(told_of, self._answer_bytes_max)
        token = str(found[len(page) - 1].conflict) if len(page) < len(found) else ""
        return api.ListConflictsResponse(conflicts=page, next_page_token=token)

    def get(self, namespace: str, conflict_id: int) -> api.Conflict:
        """One conflict. Any thread.

        Raises:
            NotFound: there is no such namespace or conflict.
        """
        number = self._namespaces.state(namespace).config.number
        with self._store.reader() as catalog:
            return _told(catalog, namespace, number, _read(catalog, namespace, number, conflict_id))

    def prepare(self, request: api.ResolveConflictRequest) -> Prepared:
        """What is asked to be resolved, with all that it takes. Any thread.

        Raises:
            NotFound: there is no such namespace or conflict.
            InvalidInput: a field is wrong, or names what is no party.
            Unavailable: the encoder is loading.
        """
        require_reviewer(request.reviewer)
        require_comment("comment", request.comment, needed=False)
        namespace, number = request.namespace, self._namespaces.state(request.namespace).config.number
        with self._store.reader() as catalog:
            known = _read(catalog, namespace, number, request.conflict_id)
            sides = conflicts.sides(catalog, number, known)
            parties = [party for party in known.parties if not party.gone]
            if known.ended_by is None:
                _require_parties(request, parties)
            losing = [party for party in parties if party.item_id and party.item_id not in request.standing_item_ids]
            retractions = tuple(
                self._retraction(request, known.parties.index(party), party.item_id, catalog, number)
                for party in losing
            )
            held = [
                one for party in parties if not party.item_id and (one := holding.find(catalog, number, party.held))
            ]
        standing = set(request.standing_review_ids)
        return Prepared(
            namespace,
            journal_pb2.Resolution(
                conflict=request.conflict_id,
                standing_items=sorted(request.standing_item_ids),
                standing_held=sorted(standing),
                reviewer=request.reviewer.name,
                comment=request.comment,
            ),
            sides,
            retractions,
            tuple(
                ruling(self._pipeline, one, request.reviewer, request.comment, admits=one.sequence in standing)
                for one in held
            ),
        )

    def resolve(self, prepared: Prepared) -> api.Conflict:
        """End a conflict. Only the writer thread.

        Raises:
            Conflict: as `Pipeline.resolve`; but not where it was resolved just so before.
            Denied, Unavailable, Broken: as `Pipeline.resolve`.
        """
        namespace, resolution = prepared.namespace, prepared.resolution
        try:
            self._pipeline.resolve(namespace, resolution, prepared.sides, prepared.retractions, prepared.rulings)
        except Conflict as error:
            if error.reason != "NOT_OPEN" or not self._resolved_before(namespace, resolution):
                raise
        return self.get(namespace, resolution.conflict)

    def _resolved_before(self, namespace: str, resolution: journal_pb2.Resolution) -> bool:
        """Whether the same reviewer resolved it just so: who did not hear the answer asks again."""
        number = self._namespaces.state(namespace).config.number
        with self._store.newest() as catalog:
            known = _read(catalog, namespace, number, resolution.conflict)
            before = catalog.record(known.ended_by).resolution if known.ended_by else journal_pb2.Resolution()
        before.ClearField("time")
        return before == resolution

    def _retraction(
        self, request: api.ResolveConflictRequest, place: int, item_id: str, catalog: Catalog, number: int
    ) -> Embedded:
        """The submission by which the reviewer takes an item back, the party of a place, unless it has changed."""
        head = catalog.head(number, item_id)
        known = pb.Receipt(namespace=request.namespace, item_id=item_id, version=head.version if head else 0)
        named = f"conflict-{request.conflict_id}-party-{place}-version-{known.version}"
        return retracting(known, request.reviewer, named, self._clock)


def _read(catalog: Catalog, namespace: str, number: int, conflict_id: int) -> conflicts.Conflict:
    known = conflicts.read(catalog.connection, number, conflict_id)
    if known is None:
        raise NotFound(f"{namespace} has no conflict {conflict_id}: list those that are open")
    return known


def _require_parties(request: api.ResolveConflictRequest, parties: list[Party]) -> None:
    """Raises InvalidInput unless those that stand are parties, and there are some."""
    items = {party.item_id for party in parties if party.item_id}
    held = {party.held for party in parties if not party.item_id}
    violations = [
        FieldViolation(field, f"{one} is no party of the conflict, these are: {', '.join(map(str, sorted(known)))}")
        for field, named, known in (
            ("standing_item_ids", request.standing_item_ids, items),
            ("standing_review_ids", request.standing_review_ids, held),
        )
        for one in named
        if one not in known
    ]
    if not request.standing_item_ids and not request.standing_review_ids:
        text = "required: a party that stands; where none does, reject what is held and retract the items"
        violations.append(FieldViolation("standing_item_ids", text))
    if violations:
        raise InvalidInput("; ".join(f"{v.field}: {v.description}" for v in violations), *violations)


def _told(catalog: Catalog, namespace: str, number: int, known: conflicts.Conflict) -> api.Conflict:
    opened = catalog.decision(known.conflict)
    told_of = api.Conflict(
        namespace=namespace,
        conflict_id=known.conflict,
        differences=opened.receipt.figures.differences,
        state=api.CONFLICT_STATE_OPEN if known.ended_by is None else api.CONFLICT_STATE_RESOLVED,
        comments=map(told, comments.read(catalog, number, known.conflict)),
    )
    told_of.open_time.FromMicroseconds(known.opened_us)
    resolution = None
    if known.ended_by is not None:
        record = catalog.record(known.ended_by)
        resolution = record.resolution if record.WhichOneof("record") == "resolution" else None
        _tell_resolution(told_of.resolution, record)
    for party in known.parties:
        side = told_of.parties.add(gone=party.gone)
        _tell_party(side, party, catalog, number)
        if resolution is not None:
            side.stands = party.item_id in resolution.standing_items or party.held in resolution.standing_held
        elif known.ended_by is not None:
            side.stands = not party.gone
    return told_of


def _tell_resolution(told_of: api.ConflictResolution, record: journal_pb2.JournalRecord) -> None:
    if record.WhichOneof("record") == "resolution":
        resolution = record.resolution
        told_of.reviewer, told_of.comment = resolution.reviewer, resolution.comment
        told_of.time.CopyFrom(resolution.time)
    else:
        decision = record.decision
        told_of.reviewer, told_of.comment = decision.decided_by, decision.comment
        told_of.time.CopyFrom(decision.receipt.time)


def _tell_party(side: api.ConflictParty, party: Party, catalog: Catalog, number: int) -> None:
    said: pb.Submission | pb.Knowledge
    if party.item_id:
        side.item_id = party.item_id
        head = catalog.head(number, party.item_id)
        change = pb.Change.FromString(catalog.committed(number, head.revision).change) if head else pb.Change()
        while change.kind == pb.CHANGE_KIND_RETRACTED:  # by one authority after the other
            change = pb.Change.FromString(catalog.committed(number, change.replaced_revision).change)
        said = change.knowledge
    else:
        side.review_id = party.held
        held = holding.find(catalog, number, party.held)
        said = held.decision.held if held else pb.Submission()
    side.content, side.producer, side.origin = said.content, said.provenance.producer, said.origin
