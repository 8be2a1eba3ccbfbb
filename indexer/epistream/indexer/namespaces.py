"""Namespaces: made, described, and their policies changed. Each keeps its searchable state here."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import Message

from epistream.indexer import generated
from epistream.indexer.clock import Clock
from epistream.indexer.commit import Draft, write
from epistream.indexer.embed import NO_ENCODER, Embedder
from epistream.indexer.index import Searchable
from epistream.indexer.model import NamespaceConfig
from epistream.indexer.paging import REVISION_MAX, limit_of, page_token
from epistream.indexer.standing import Standing, fresh
from epistream.indexer.store import Store
from epistream.indexer.vectors import DIMENSION_MAX
from epistream.v1 import journal_pb2
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import Conflict, FieldViolation, InvalidInput, NotFound

DEFAULT_THRESHOLD: Final = 0.95
"""docs/decisions/0002-threshold.md: above it the default encoder finds form-only differences, below mostly others."""

_RANGES: Final = (
    ("near_duplicate_threshold", 0.5, 1, "a cosine"),
    ("generation_max", 1, 1000, "a number"),
    ("worth_min", 0, 1, "a share"),
    ("real_share_floor", 0, 1, "a share"),
    ("anchor_items", 64, 10_000, "a number"),
    ("watch_items", 32, 10_000, "a number"),
    ("watch_every", 32, 10_000, "a number"),
)
"""What the figures of a policy may be: name, lowest, highest, what it is."""

_POLICIES_LIMIT: Final = 100

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


@dataclass(slots=True)
class NamespaceState:
    """A namespace as it is now. Changed only on the writer thread, after what changed it is durable."""

    config: NamespaceConfig
    recorded: ns_pb.Namespace
    """As the journal has it: without head and counts."""
    searchable: Searchable
    standing: Standing
    """What decides beside the catalog. Replaced by each batch."""
    head: int = 0
    """The newest revision that is durable and searchable."""
    commit_us: int = 0
    """When it was committed."""
    alarms: Mapping[tuple[str, int], pb.CollapseAlarm] = field(default_factory=dict)
    """The collapse alarms that are on, by producer and modality. Replaced, never changed."""

    @property
    def floor(self) -> int:
        """The oldest revision that can be resumed from and asked about."""
        retained = self.config.policy.retained_revisions
        return max(0, self.head - retained) if retained else 0


class Namespaces:
    """The namespaces of one store.

    Attributes:
        configs: what the stages need to know, by name. Replaced, never changed, so that a reader sees one moment.
    """

    def __init__(
        self, store: Store, embedder: Embedder | None, clock: Clock, new_searchable: Callable[[int], Searchable]
    ) -> None:
        self._store, self._embedder, self._clock, self._new_searchable = store, embedder, clock, new_searchable
        self._states: Mapping[str, NamespaceState] = {}
        self.configs: Mapping[str, NamespaceConfig] = {}
        with store.reader() as catalog:
            for number, recorded in catalog.namespaces():
                state = self._take(number, recorded)
                state.head = catalog.counts(number).head
                state.commit_us = catalog.newest_commit_us(number)
                state.alarms = {(one.producer, one.modality): one for one in generated.alarms(catalog, number, on=True)}

    def states(self) -> Iterable[NamespaceState]:
        """All namespaces."""
        return self._states.values()

    def state(self, name: str) -> NamespaceState:
        """One namespace.

        Raises:
            NotFound: there is none of that name.
        """
        state = self._states.get(name)
        if state is None:
            raise NotFound(f"there is no namespace {name!r}: make it first", reason="UNKNOWN_NAMESPACE")
        return state

    def create(self, request: ns_pb.CreateNamespaceRequest) -> ns_pb.Namespace:
        """Make a namespace; asked again for the same, answer it. Only the writer thread.

        Raises:
            InvalidInput: the name, the encoder or the policy is wrong.
            Conflict: the name is taken by a namespace that is not as asked for.
        """
        if not _NAME.fullmatch(request.name):
            raise InvalidInput.at(
                "name",
                f"{request.name!r} must be 1 to 100 of a-z, 0-9, '-', '_', '.', beginning with a letter or digit",
            )
        policy = _defaults()
        _merge(policy, request.policy, "policy")
        wanted = ns_pb.Namespace(
            name=request.name, encoder=self._encoder(request.encoder), policy=policy, policy_version=1
        )
        existing = self._states.get(request.name)
        if existing is not None and not request.policy.HasField("guard"):
            wanted.policy.guard = existing.recorded.policy.guard  # its default was another one: see _complete
        if existing is not None:
            return self._same_or_conflict(existing, wanted)
        wanted.create_time.FromMicroseconds(self._clock.now_us())
        wanted.policy_time.CopyFrom(wanted.create_time)
        number = 1 + max((state.config.number for state in self._states.values()), default=0)
        self._record(number, wanted)
        self._take(number, wanted)
        return self.get(request.name)

    def update_policy(self, request: ns_pb.UpdatePolicyRequest) -> ns_pb.Namespace:
        """Change a policy. Only the writer thread.

        Raises:
            NotFound: there is no such namespace.
            InvalidInput: the mask or a value is wrong.
        """
        state = self.state(request.name)
        changed = ns_pb.Namespace()
        changed.CopyFrom(state.recorded)
        _merge(changed.policy, request.policy, "policy", _masked(request))
        if changed.policy == state.recorded.policy:
            return self.get(request.name)
        changed.policy_version += 1
        changed.policy_time.FromMicroseconds(self._clock.now_us())
        self._record(state.config.number, changed)
        state.recorded, state.config = changed, _config(state.config.number, changed)
        self.configs = {**self.configs, request.name: state.config}
        return self.get(request.name)

    def get(self, name: str) -> ns_pb.Namespace:
        """One namespace, with its figures now.

        Raises:
            NotFound: there is none of that name.
        """
        state = self.state(name)
        answer = ns_pb.Namespace()
        answer.CopyFrom(state.recorded)
        with self._store.reader() as catalog:
            counts = catalog.counts(state.config.number)
        answer.head_revision, answer.compacted_revision = counts.head, state.floor
        answer.item_count, answer.held_count, answer.merged_count = counts.items, counts.held, counts.merged
        answer.feedback_count, answer.rejected_count = counts.feedback, counts.rejected
        return answer

    def list(self) -> list[ns_pb.Namespace]:
        """All namespaces, by name, with their figures now."""
        return [self.get(name) for name in sorted(self._states)]

    def policies(self, request: ns_pb.ListPoliciesRequest) -> ns_pb.ListPoliciesResponse:
        """The policies that a namespace has had, the newest first.

        Raises:
            NotFound: there is no such namespace.
            InvalidInput: the limit or the page token is wrong.
        """
        state, limit = self.state(request.name), limit_of(request.limit, _POLICIES_LIMIT)
        before = page_token(request.page_token) or REVISION_MAX
        with self._store.reader() as catalog:
            found = catalog.policies(state.config.number, before, limit + 1)
        answer = ns_pb.ListPoliciesResponse()
        for one in map(_complete, found[:limit]):
            version = answer.policies.add(version=one.policy_version, policy=one.policy)
            if one.HasField("policy_time") or one.policy_version == 1:
                version.time.CopyFrom(one.policy_time if one.HasField("policy_time") else one.create_time)
        if len(found) > limit:
            answer.next_page_token = str(answer.policies[-1].version)
        return answer

    def _take(self, number: int, recorded: ns_pb.Namespace) -> NamespaceState:
        recorded = _complete(recorded)
        config = _config(number, recorded)
        state = NamespaceState(
            config, recorded, self._new_searchable(config.encoder.dimension), fresh(config.encoder.dimension)
        )
        self._states = {**self._states, recorded.name: state}
        self.configs = {**self.configs, recorded.name: config}
        return state

    def _record(self, number: int, namespace: ns_pb.Namespace) -> None:
        with self._store.newest():
            sequence, digest = self._store.journal.last()
        draft = Draft(self._clock.now_us(), sequence, digest, {})
        draft.add_record(number, journal_pb2.JournalRecord(namespace=namespace))
        write(self._store, draft, ())

    def _encoder(self, asked: ns_pb.Encoder) -> ns_pb.Encoder:
        if asked.model == NO_ENCODER:
            if not 1 <= asked.dimension <= DIMENSION_MAX:
                raise InvalidInput.at(
                    "encoder.dimension", f"{asked.dimension} must be 1 to {DIMENSION_MAX} where the model is 'none'"
                )
            return ns_pb.Encoder(model=NO_ENCODER, dimension=asked.dimension)
        own = self._embedder
        if own is None or asked.model not in ("", own.model) or asked.dimension not in (0, own.dimension):
            has = f"{own.model} with {own.dimension} dimensions" if own else "none"
            violation = FieldViolation(
                "encoder",
                f"{asked.model or 'the default'} with {asked.dimension or 'any'} dimensions: the service has {has}",
            )
            raise InvalidInput("the service has no such encoder", violation, reason="NO_SUCH_ENCODER")
        return ns_pb.Encoder(model=own.model, dimension=own.dimension)

    def _same_or_conflict(self, existing: NamespaceState, wanted: ns_pb.Namespace) -> ns_pb.Namespace:
        recorded = existing.recorded
        if recorded.encoder != wanted.encoder or recorded.policy != wanted.policy:
            raise Conflict(
                f"the namespace {wanted.name} exists with another encoder or policy: get it to see them",
                reason="ALREADY_EXISTS",
            )
        return self.get(wanted.name)


def _config(number: int, recorded: ns_pb.Namespace) -> NamespaceConfig:
    return NamespaceConfig(
        number=number,
        name=recorded.name,
        encoder=recorded.encoder,
        policy=recorded.policy,
        policy_version=recorded.policy_version,
    )


def _complete(recorded: ns_pb.Namespace) -> ns_pb.Namespace:
    """With every field of the policy set, also those that were not there yet when it was recorded."""
    complete = ns_pb.Namespace()
    complete.CopyFrom(recorded)
    complete.policy.CopyFrom(_defaults())
    complete.policy.guard = ns_pb.GUARD_MEASURE  # the default until there was another, which is recorded
    complete.policy.MergeFrom(recorded.policy)
    return complete


def _defaults() -> ns_pb.Policy:
    return ns_pb.Policy(
        near_duplicate_threshold=DEFAULT_THRESHOLD,
        accept_producer_embeddings=True,
        retained_revisions=0,
        generation_max=2,
        require_generator=True,
        guard=ns_pb.GUARD_HOLD_NOISE,
        worth_min=0.0,
        real_share_floor=0.1,
        verify_code=False,
        anchor_items=500,
        anchor_after=0,
        watch_items=250,
        watch_every=125,
        on_collapse=ns_pb.COLLAPSE_ACTION_WATCH,
    )


def _masked(request: ns_pb.UpdatePolicyRequest) -> list[str] | None:
    paths = list(request.update_mask.paths)
    known = set(ns_pb.Policy.DESCRIPTOR.fields_by_name)
    unknown = [path for path in paths if path not in known]
    if unknown:
        raise InvalidInput.at("update_mask", f"{unknown[0]!r} is no field of a policy: {', '.join(sorted(known))} are")
    return paths or None


def _merge(policy: ns_pb.Policy, given: ns_pb.Policy, path: str, fields: list[str] | None = None) -> None:
    """Put the given values into a policy: those named, or those set.

    A field that is named but not set goes back to its default.
    """
    defaults: Message = _defaults()
    for name in fields if fields is not None else [one.name for one, _ in given.ListFields()]:
        setattr(policy, name, getattr(given if given.HasField(name) else defaults, name))  # type: ignore[arg-type]
    for name, lowest, highest, what in _RANGES:
        value = getattr(policy, name)
        if not lowest <= value <= highest:
            raise InvalidInput.at(f"{path}.{name}", f"{value:g} must be {what} from {lowest:g} to {highest:g}")
    if policy.guard not in (ns_pb.GUARD_MEASURE, ns_pb.GUARD_HOLD_NOISE, ns_pb.GUARD_HOLD):
        raise InvalidInput.at(f"{path}.guard", f"{policy.guard} must be GUARD_MEASURE, GUARD_HOLD_NOISE or GUARD_HOLD")
    if policy.on_collapse not in (ns_pb.COLLAPSE_ACTION_WATCH, ns_pb.COLLAPSE_ACTION_HOLD):
        raise InvalidInput.at(f"{path}.on_collapse", f"{policy.on_collapse} must be COLLAPSE_ACTION_WATCH or …_HOLD")
