"""The client for everything that is asked: what is known, what was known, what there is, and who is how far."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from epistream.clients.channel import CALL_TIMEOUT_SECONDS, Connected, Connection, call, pages
from epistream.clients.credentials import Credentials
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge
from epistream.v1 import knowledge_service_pb2_grpc as knowledge_rpc
from epistream.v1 import namespace_service_pb2 as ns
from epistream.v1 import namespace_service_pb2_grpc as namespaces_rpc
from epistream.v1 import sync_service_pb2 as sync
from epistream.v1 import sync_service_pb2_grpc as sync_rpc

PAGE_ENTRIES: Final = 100
"""How much is asked for at a time. The service refuses answers beyond a size (64 MiB, unless it is set otherwise)."""


class KnowledgeClient(Connected):
    """Asks a service. Construct it inside the event loop that uses it.

    Each method repeats its call while the service is unavailable, `timeout_seconds` in all, and raises:
        InvalidInput, NotFound, Conflict, Denied, Broken: as the service says.
        Resync: the point asked about is beyond the head, or no longer retained.
        Unavailable: no answer in time, or TLS cannot be agreed on (`reason` TLS).
    """

    def __init__(
        self,
        target: str | grpc.aio.Channel,
        *,
        credentials: Credentials | None = None,
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> None:
        """Connects to `target` (`host:port`, or a channel, which stays the caller's to close) when it is first used.

        Raises InvalidInput: the `credentials` cannot be used.
        """
        self._connection = Connection(target, credentials)
        self._seconds = timeout_seconds

    @property
    def _knowledge(self) -> knowledge_rpc.KnowledgeServiceStub:
        return knowledge_rpc.KnowledgeServiceStub(self._connection.channel)

    @property
    def _namespaces(self) -> namespaces_rpc.NamespaceServiceStub:
        return namespaces_rpc.NamespaceServiceStub(self._connection.channel)

    @property
    def _sync(self) -> sync_rpc.SyncServiceStub:
        return sync_rpc.SyncServiceStub(self._connection.channel)

    async def get(
        self,
        namespace: str,
        item_id: str,
        *,
        as_of: int | datetime | None = None,
        valid_time: datetime | None = None,
        include_embedding: bool = False,
    ) -> knowledge.GetResponse:
        """One item at a revision or time (an aware datetime), or now.

        With `valid_time` (likewise): what held then in the world, as was known at that point.
        """
        request = knowledge.GetRequest(
            namespace=namespace, item_id=item_id, as_of=point(as_of), include_embedding=include_embedding
        )
        if valid_time is not None:
            request.as_of.valid_time.FromDatetime(valid_time)
        return await call(self._connection, lambda: self._knowledge.Get, request, self._seconds)

    async def history(
        self, namespace: str, item_id: str, *, by_valid_time: bool = False, page_entries: int = PAGE_ENTRIES
    ) -> list[pb.Change]:
        """All versions of an item in the order in which they came, or of valid time, asked for in pages."""
        changes: list[pb.Change] = []
        request = knowledge.HistoryRequest(
            namespace=namespace, item_id=item_id, limit=page_entries, by_valid_time=by_valid_time
        )
        while page := (await call(self._connection, lambda: self._knowledge.History, request, self._seconds)).changes:
            changes.extend(page)
            request.after_version = page[-1].version
        return changes

    async def list_feedback(
        self, namespace: str, item_id: str, *, page_entries: int = PAGE_ENTRIES
    ) -> list[knowledge.RecordedFeedback]:
        """What raters said about an item, in the order in which they came, asked for in pages."""
        found: list[knowledge.RecordedFeedback] = []
        request = knowledge.ListFeedbackRequest(namespace=namespace, item_id=item_id, limit=page_entries)
        async for page in pages(self._connection, lambda: self._knowledge.ListFeedback, request, self._seconds):
            found.extend(page.feedback)
        return found

    async def explain(self, namespace: str, producer: str, submission_id: str) -> list[knowledge.Explanation]:
        """Why a submission was decided as it was: every decision on it, the oldest first, with the rules asked."""
        request = knowledge.ExplainRequest(namespace=namespace, producer=producer, submission_id=submission_id)
        return list(
            (await call(self._connection, lambda: self._knowledge.Explain, request, self._seconds)).explanations
        )

    async def list_alarms(
        self, namespace: str, *, on: bool = False, producer: str = "", limit: int = PAGE_ENTRIES
    ) -> list[pb.CollapseAlarm]:
        """What the collapse watch knows: of whom the alarm is on first, then of whom the newest windows are.

        With `on` only the first; with `producer` only of that one.
        """
        request = knowledge.ListAlarmsRequest(namespace=namespace, on=on, producer=producer, limit=limit)
        return list((await call(self._connection, lambda: self._knowledge.ListAlarms, request, self._seconds)).alarms)

    async def list_signals(self, namespace: str, *, history: int = 0) -> knowledge.ListSignalsResponse:
        """What hinders knowledge of each kind, as it was last measured over the namespace's newest records.

        `history`: so many of the measurements before are answered, too, at most 30.
        """
        request = knowledge.ListSignalsRequest(namespace=namespace, history=history)
        return await call(self._connection, lambda: self._knowledge.ListSignals, request, self._seconds)

    async def search(
        self,
        namespace: str,
        query: str | Sequence[float] | NDArray[np.float32],
        *,
        limit: int = 10,
        filter: pb.Filter | None = None,  # noqa: A002 -- the contract's word
        as_of: int | datetime | None = None,
        include_embeddings: bool = False,
        include_query_embedding: bool = False,
    ) -> knowledge.SearchResponse:
        """The items nearest to a text or a vector, at a revision or time, or now."""
        request = knowledge.SearchRequest(
            namespace=namespace,
            limit=limit,
            filter=filter,
            as_of=point(as_of),
            include_embeddings=include_embeddings,
            include_query_embedding=include_query_embedding,
        )
        if isinstance(query, str):
            request.text = query
        else:
            request.vector.float32 = np.asarray(query, "<f4").tobytes()
        return await call(self._connection, lambda: self._knowledge.Search, request, self._seconds)

    async def diff(
        self,
        namespace: str,
        earlier: int | datetime,
        later: int | datetime | None = None,
        *,
        filter: pb.Filter | None = None,  # noqa: A002 -- the contract's word
        page_entries: int = PAGE_ENTRIES,
    ) -> knowledge.DiffResponse:
        """What is not the same at two points (`later` is now when not given): all pages in one answer."""
        request = knowledge.DiffRequest(namespace=namespace, to=point(later), filter=filter, limit=page_entries)
        getattr(request, "from").CopyFrom(point(earlier))
        whole = knowledge.DiffResponse()
        async for page in pages(self._connection, lambda: self._knowledge.Diff, request, self._seconds):
            whole.MergeFrom(page)
            request.to.revision = page.to_revision  # now is not later for the next page
        whole.next_page_token = ""
        return whole

    async def namespaces(self) -> list[ns.Namespace]:
        """All namespaces, by name."""
        answer = await call(
            self._connection, lambda: self._namespaces.ListNamespaces, ns.ListNamespacesRequest(), self._seconds
        )
        return list(answer.namespaces)

    async def namespace(self, name: str) -> ns.Namespace:
        """One namespace."""
        answer = await call(
            self._connection, lambda: self._namespaces.GetNamespace, ns.GetNamespaceRequest(name=name), self._seconds
        )
        return answer.namespace

    async def create_namespace(
        self, name: str, *, encoder: ns.Encoder | None = None, policy: ns.Policy | None = None
    ) -> ns.Namespace:
        """Makes a namespace with the service's own encoder and policy where nothing else is given.

        Returns one that is just so already.
        """
        request = ns.CreateNamespaceRequest(name=name, encoder=encoder, policy=policy)
        return (
            await call(self._connection, lambda: self._namespaces.CreateNamespace, request, self._seconds)
        ).namespace

    async def policies(self, name: str, *, page_entries: int = PAGE_ENTRIES) -> list[ns.PolicyVersion]:
        """The policies that a namespace has had, the newest first, asked for in pages."""
        found: list[ns.PolicyVersion] = []
        request = ns.ListPoliciesRequest(name=name, limit=page_entries)
        async for page in pages(self._connection, lambda: self._namespaces.ListPolicies, request, self._seconds):
            found.extend(page.policies)
        return found

    async def update_policy(self, name: str, policy: ns.Policy) -> ns.Namespace:
        """Changes the fields that are set in `policy`."""
        request = ns.UpdatePolicyRequest(name=name, policy=policy)
        return (await call(self._connection, lambda: self._namespaces.UpdatePolicy, request, self._seconds)).namespace

    async def consumers(self, namespace: str) -> sync.ListConsumersResponse:
        """The consumers of a namespace and how far they are."""
        return await call(
            self._connection,
            lambda: self._sync.ListConsumers,
            sync.ListConsumersRequest(namespace=namespace),
            self._seconds,
        )

    async def wait_applied(
        self, namespace: str, revision: int, consumers: Iterable[str] = (), *, timeout_seconds: float | None = None
    ) -> list[str]:
        """Waits until consumers, or all that are connected now, have applied `revision`, and names them.

        `Unavailable` names those that have not.
        """
        request = sync.WaitAppliedRequest(namespace=namespace, revision=revision, consumers=consumers)
        seconds = self._seconds if timeout_seconds is None else timeout_seconds
        return list((await call(self._connection, lambda: self._sync.WaitApplied, request, seconds)).applied)


def point(as_of: int | datetime | None) -> pb.AsOf | None:
    """A revision or a time as the contract has it; None stays None."""
    if as_of is None:
        return None
    if isinstance(as_of, int):
        return pb.AsOf(revision=as_of)
    point = pb.AsOf()
    point.time.FromDatetime(as_of)
    return point
