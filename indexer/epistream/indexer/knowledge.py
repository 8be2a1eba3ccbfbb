"""What is known, and what was known: get, history, search, diff, feedback, alarms, signals.

Blocking, any thread; changes nothing.
"""

from collections.abc import Iterable
from contextlib import closing
from typing import Final

import numpy as np
from google.protobuf import timestamp_pb2
from google.protobuf.message import Message

from epistream.indexer import conflicts, filters, generated, sayings, valid_time
from epistream.indexer.catalog import Catalog, Committed
from epistream.indexer.embed import NO_ENCODER, Embedder
from epistream.indexer.explain import explain
from epistream.indexer.model import Vector
from epistream.indexer.namespaces import Namespaces, NamespaceState
from epistream.indexer.paging import REVISION_MAX, Room, fitting, limit_of, page_token
from epistream.indexer.signals.kept import HISTORY_MAX, KeptSignals, not_measured
from epistream.indexer.store import Store
from epistream.indexer.vectors import vector_of
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from epistream.wire.canonical import canonical_text
from epistream.wire.errors import InvalidInput, NotFound, Resync, State, Unavailable

SEARCH_LIMIT: Final = 10
PAGE_LIMIT: Final = 100
CORROBORATIONS_MAX: Final = 100
QUERY_BYTES_MAX: Final = 256 * 1024
DIFF_CHANGES_MAX: Final = 10_000
"""So many changes a page of differences looks at, however few of them match."""
_ITEMS_AT_A_TIME: Final = 100

_POINT_NEEDED: Final = "a revision or a time is needed"


class Knowledge:
    """The questions that consumers ask. Each method takes the request as it came and returns the response."""

    def __init__(
        self,
        store: Store,
        namespaces: Namespaces,
        embedder: Embedder | None,
        signals: KeptSignals,
        answer_bytes_max: int,
    ) -> None:
        """`answer_bytes_max` bounds an answer, and what is read for it."""
        self._store, self._namespaces, self._embedder, self._signals = store, namespaces, embedder, signals
        self._answer_bytes_max = answer_bytes_max

    def get(self, request: api.GetRequest) -> api.GetResponse:
        """One item at a point in time.

        Raises:
            NotFound: the namespace or the item is not there, or was not then.
            Resync: the point is beyond the head, or no longer retained.
        """
        state = self._namespaces.state(request.namespace)
        with self._store.reader() as catalog:
            at = self._point(catalog, state, request, "as_of", by_valid_time=True)
            revision = _wanted_version(catalog, state.config.number, request, at)
            if revision is None:
                held = " that held then" if request.as_of.HasField("valid_time") else ""
                raise NotFound(f"{request.namespace} has no item {request.item_id!r}{held} at revision {at}")
            change = _change(catalog.committed(state.config.number, revision), with_embedding=request.include_embedding)
            count, decisions = sayings.corroborations(
                catalog, state.config.number, request.item_id, at, CORROBORATIONS_MAX
            )
            marks = _marks(catalog, state.config.number, [request.item_id], at)
        answer = api.GetResponse(
            change=change, corroboration_count=count, revision=at, open_conflicts=marks.get(request.item_id)
        )
        for decision in decisions:
            answer.corroborations.add(
                producer=decision.receipt.producer,
                submission_id=decision.receipt.submission_id,
                origin=decision.origin,
                time=decision.receipt.time,
            )
        return answer

    def history(self, request: api.HistoryRequest) -> api.HistoryResponse:
        """The versions of an item, in the order in which they came, or of valid time.

        Raises:
            NotFound: the namespace is not there, or never had the item.
        """
        state = self._namespaces.state(request.namespace)
        limit = limit_of(request.limit, PAGE_LIMIT)
        number, at = state.config.number, state.head
        with self._store.reader() as catalog:
            if catalog.head(number, request.item_id) is None:
                raise NotFound(f"{request.namespace} never had an item {request.item_id!r}")
            after = min(request.after_version, REVISION_MAX)
            if request.by_valid_time:
                revisions = valid_time.versions(catalog, number, request.item_id, at, after, limit)
            else:
                revisions = catalog.versions(number, request.item_id, after, limit)
            known = (_change(catalog.committed(number, revision)) for revision in revisions if revision <= at)
            return api.HistoryResponse(changes=fitting(known, self._answer_bytes_max), revision=at)

    def list_feedback(self, request: api.ListFeedbackRequest) -> api.ListFeedbackResponse:
        """What raters said about an item, in the order in which they came.

        Raises:
            NotFound: there is no such namespace.
            InvalidInput: no item is named, or the page token is not one.
        """
        state = self._namespaces.state(request.namespace)
        limit, after = limit_of(request.limit, PAGE_LIMIT), page_token(request.page_token)
        if not request.item_id:
            raise InvalidInput.at("item_id", "required: the item that was judged")
        answer, room = api.ListFeedbackResponse(), Room(self._answer_bytes_max)
        with self._store.reader() as catalog:
            for sequence, decision in sayings.feedback(catalog, state.config.number, request.item_id, after, limit + 1):
                one = api.RecordedFeedback(submission=decision.recorded, time=decision.receipt.time)
                if len(answer.feedback) == limit or (not room.takes(one) and answer.feedback):
                    answer.next_page_token = str(after)
                    break
                answer.feedback.append(one)
                after = sequence
        return answer

    def explain(self, request: api.ExplainRequest) -> api.ExplainResponse:
        """Why a submission was decided as it was: every decision on it, the oldest first.

        Raises:
            NotFound: there is no such namespace, or no decision on such a submission.
        """
        state = self._namespaces.state(request.namespace)
        sender = (request.producer, request.submission_id)
        told: list[api.Explanation] = []
        with self._store.reader() as catalog:
            found = catalog.submissions(state.config.number, [sender]).get(sender)
            sequence = found[1] if found is not None else 0
            while sequence:
                decision = catalog.decision(sequence)
                told.append(explain(decision))
                sequence = decision.releases
        if not told:
            name = f"{request.submission_id!r} of {request.producer!r} in {request.namespace}"
            refused = "what was refused is a dead letter (`epistream redrive --dry-run` says why)"
            raise NotFound(f"there is no decision on {name}: {refused}")
        return api.ExplainResponse(explanations=reversed(told))

    def list_alarms(self, request: api.ListAlarmsRequest) -> api.ListAlarmsResponse:
        """What the collapse watch knows of the producers of a namespace.

        Raises:
            NotFound: there is no such namespace.
            InvalidInput: the limit is wrong.
        """
        state = self._namespaces.state(request.namespace)
        limit = limit_of(request.limit, PAGE_LIMIT)
        with self._store.reader() as catalog:
            number = state.config.number
            alarms = generated.alarms(catalog, number, on=request.on, producer=request.producer or None, limit=limit)
            return api.ListAlarmsResponse(alarms=alarms, head_revision=catalog.counts(number).head)

    def list_signals(self, request: api.ListSignalsRequest) -> api.ListSignalsResponse:
        """What was last measured of a namespace, and before; without values where nothing was yet.

        Raises:
            NotFound: there is no such namespace.
            InvalidInput: more of the past was asked for than is ever kept.
        """
        state = self._namespaces.state(request.namespace)
        if request.history > HISTORY_MAX:
            raise InvalidInput.at("history", f"{request.history} is above {HISTORY_MAX}: no more are kept")
        return self._signals.read(state.config.number, request.history) or not_measured(state.recorded)

    def search(self, request: api.SearchRequest) -> api.SearchResponse:
        """The items nearest to a text or a vector.

        Raises:
            NotFound: there is no such namespace.
            InvalidInput: the query does not fit the namespace, or the filter is too large; TOO_LARGE, so are the hits.
            Unavailable: the encoder is loading.
            Resync: the point is beyond the head, or no longer retained.
        """
        state = self._namespaces.state(request.namespace)
        limit = limit_of(request.limit, SEARCH_LIMIT)
        filters.check(request.filter, "filter")
        query = self._query(state, request)
        with self._store.reader() as catalog:
            at = self._point(catalog, state, request, "as_of")
            wanted = request.filter if request.HasField("filter") else None
            found = state.searchable.search(query[np.newaxis], limit, as_of=at, filter=wanted)[0]
            answer, room = api.SearchResponse(revision=at), Room(self._answer_bytes_max)
            with closing(catalog.chosen(state.config.number, [near.revision for near in found])) as rows:
                for near, committed in zip(found, rows, strict=True):
                    change = _change(committed, with_embedding=request.include_embeddings)
                    hit = api.Hit(similarity=near.similarity, change=change)
                    if not room.takes(hit):
                        text = f"the nearest {len(found)} have more than {self._answer_bytes_max:,} bytes: ask for less"
                        raise InvalidInput(text, reason="TOO_LARGE")
                    answer.hits.append(hit)
            marks = _marks(catalog, state.config.number, [hit.change.item_id for hit in answer.hits], at)
            for hit in answer.hits:
                hit.open_conflicts.extend(marks.get(hit.change.item_id, ()))
        if request.include_query_embedding:
            answer.query_embedding = query.astype("<f4").tobytes()
        return answer

    def diff(self, request: api.DiffRequest) -> api.DiffResponse:
        """What changed between two points.

        Raises:
            NotFound: there is no such namespace.
            InvalidInput: `from` is missing or after `to`, the filter is too large, or the page token is not one.
            Resync: a point is beyond the head, or no longer retained.
        """
        state = self._namespaces.state(request.namespace)
        limit = limit_of(request.limit, PAGE_LIMIT)
        filters.check(request.filter, "filter")
        if not request.HasField("from"):
            raise InvalidInput.at("from", _POINT_NEEDED)
        with self._store.reader() as catalog:
            start = self._point(catalog, state, request, "from")
            end = self._point(catalog, state, request, "to")
            if start > end:
                raise InvalidInput.at("to", f"revision {end} is before the revision {start} of `from`")
            answer = api.DiffResponse(from_revision=start, to_revision=end)
            reached = self._add_differences(answer, catalog, state.config.number, request, limit)
        if reached < end:
            answer.next_page_token = str(reached)
        return answer

    def _add_differences(
        self, answer: api.DiffResponse, catalog: Catalog, number: int, request: api.DiffRequest, limit: int
    ) -> int:
        """Add the next page's entries. Returns the revision up to which all changes are looked at then.

        What does not match fills the page, too: so one call reads no more than an answer may have, whatever the filter.
        """
        start, end = answer.from_revision, answer.to_revision
        after = reached = max(page_token(request.page_token), start)
        until, room = min(end, after + DIFF_CHANGES_MAX), Room(self._answer_bytes_max)
        while items := catalog.changed_items(number, reached, until, end, _ITEMS_AT_A_TIME):
            for newest, item_id in items:
                entry = _difference(catalog, number, item_id, start, end)
                if not room.takes(entry) and reached > after:
                    return reached
                reached = newest
                if _either_matches(request.filter, entry):
                    answer.entries.append(entry)
                    if len(answer.entries) == limit:
                        return reached
        return until

    def _query(self, state: NamespaceState, request: api.SearchRequest) -> Vector:
        """The query's vector, shape (dimension,), length one."""
        dimension = state.config.encoder.dimension
        match request.WhichOneof("query"):
            case "vector":
                vector = vector_of(request.vector, "vector")
                if len(vector) != dimension:
                    raise InvalidInput.at(
                        "vector", f"the namespace takes {dimension} dimensions, this has {len(vector)}"
                    )
                return vector
            case "text":
                return self._encode(state, request.text)
            case _:
                raise InvalidInput.at("query", "give a text or a vector")

    def _encode(self, state: NamespaceState, text: str) -> Vector:
        model, own = state.config.encoder.model, self._embedder
        if model == NO_ENCODER:
            raise InvalidInput.at("text", "the namespace has no encoder: give a vector")
        if own is None or own.model != model:
            raise InvalidInput.at(
                "text", f"the namespace's encoder is {model}, the service has {own.model if own else 'none'}"
            )
        wanted = canonical_text(text)
        if not wanted or len(wanted.encode()) > QUERY_BYTES_MAX:
            raise InvalidInput.at("text", f"1 to {QUERY_BYTES_MAX} bytes are needed, this has {len(wanted.encode())}")
        if not own.ready:
            raise Unavailable("the encoder is loading", reason="ENCODER_LOADING", retry_delay_seconds=2)
        vector: Vector = own.encode([wanted], ahead=True)[0]
        return vector

    def _point(
        self, catalog: Catalog, state: NamespaceState, request: Message, field: str, *, by_valid_time: bool = False
    ) -> int:
        """The revision that an answer holds for: that of the request's `field`, the head when it is unset.

        `by_valid_time`: whether a valid time may be named.
        """
        if not request.HasField(field):
            return state.head
        as_of: pb.AsOf = getattr(request, field)
        if as_of.HasField("valid_time") and not by_valid_time:
            text = "only Get reads by valid time: search without it, and get the items that are found"
            raise InvalidInput.at(f"{field}.valid_time", text)
        match as_of.WhichOneof("point"):
            case "revision":
                at = as_of.revision
            case "time":
                at = min(
                    catalog.revision_at(state.config.number, _microseconds(as_of.time, f"{field}.time")), state.head
                )
            case None if as_of.HasField("valid_time"):
                at = state.head
            case _:
                raise InvalidInput.at(field, _POINT_NEEDED)
        if at > state.head:
            text = f"{field}: revision {at} is beyond the head, which is {state.head}"
            raise Resync(text, reason="FUTURE_REVISION", state=self._state(state))
        if at < state.floor:
            text = f"{field}: revision {at} is no longer retained, the oldest is {state.floor}"
            raise Resync(text, reason="COMPACTED", state=self._state(state))
        return at

    def _state(self, state: NamespaceState) -> State:
        return State(self._store.epoch, state.head, state.floor)


def _wanted_version(catalog: Catalog, number: int, request: api.GetRequest, at: int) -> int | None:
    """The revision of the version that is asked for: the one in answers, or the one that held."""
    if not request.as_of.HasField("valid_time"):
        return catalog.version_at(number, request.item_id, at)
    valid = _microseconds(request.as_of.valid_time, "as_of.valid_time")
    return valid_time.version_held(catalog, number, request.item_id, at, valid)


def _marks(catalog: Catalog, number: int, item_ids: Iterable[str], at: int) -> dict[str, list[api.OpenConflict]]:
    """The open conflicts of items at a revision; only of those that have any."""
    found = conflicts.open_of(catalog.connection, number, item_ids, at)
    return {
        item_id: [api.OpenConflict(conflict_id=conflict, item_ids=others) for conflict, others in known]
        for item_id, known in found.items()
    }


def _change(committed: Committed, *, with_embedding: bool = False) -> pb.Change:
    change = pb.Change.FromString(committed.change)
    if with_embedding and committed.embedding is not None:
        change.embedding = committed.embedding
    return change


def _difference(catalog: Catalog, number: int, item_id: str, start: int, end: int) -> api.DiffEntry:
    """An item at both points; without either where it is the same."""
    before, after = catalog.version_at(number, item_id, start), catalog.version_at(number, item_id, end)
    entry = api.DiffEntry(item_id=item_id)
    if before == after:
        return entry
    if before is not None:
        entry.before.CopyFrom(_change(catalog.committed(number, before)))
    if after is not None:
        entry.after.CopyFrom(_change(catalog.committed(number, after)))
    return entry


def _either_matches(wanted: pb.Filter, entry: api.DiffEntry) -> bool:
    return any(
        entry.HasField(side) and filters.matches(wanted, getattr(entry, side).knowledge) for side in ("before", "after")
    )


def _microseconds(time: timestamp_pb2.Timestamp, field: str) -> int:
    try:
        return time.ToMicroseconds()
    except ValueError as error:
        raise InvalidInput.at(field, f"this is no time: {error}") from error
