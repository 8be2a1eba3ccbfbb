"""Which verb each method needs, and where. A method that is not here cannot be served: `Calls` looks it up first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from epistream.services.security.access import Verb

_SOME: Final = frozenset((Verb.READ, Verb.WRITE, Verb.REVIEW, Verb.WATCH, Verb.ADMIN))


@dataclass(frozen=True, slots=True)
class Rule:
    """What a caller needs.

    Exactly one of `namespace`, `everywhere` and `within` says where.
    """

    verbs: frozenset[Verb]
    """One of these."""
    namespace: Callable[[Any], str] | None = None
    """Finds the namespace in the request: a verb is needed there."""
    everywhere: bool = False
    """In all namespaces."""
    within: str = ""
    """The method asks by itself, as this says, since where is known only within it."""
    audited: bool = True
    """Whether each call has a line in the audit log. What is denied always has."""


def _field(name: str) -> Callable[[Any], str]:
    return lambda request: str(getattr(request, name))


def _only(verb: Verb) -> frozenset[Verb]:
    return frozenset((verb,))


_BY_SUBMISSION: Final = "each submission, with its namespace, origin and producer"
_BY_REVIEWER: Final = "the request, with its namespace and its reviewer's name and origin"
_BY_SUBSCRIPTION: Final = "the first message, with its namespace and consumer; asked again when the access file changes"

RULES: Final[Mapping[str, Rule]] = {
    "IngestService/Submit": Rule(_only(Verb.WRITE), within=_BY_SUBMISSION),
    "IngestService/SubmitStream": Rule(_only(Verb.WRITE), within=_BY_SUBMISSION),
    "IngestService/Retract": Rule(_only(Verb.WRITE), within=_BY_SUBMISSION),
    "KnowledgeService/Get": Rule(_only(Verb.READ), _field("namespace"), audited=False),
    "KnowledgeService/History": Rule(_only(Verb.READ), _field("namespace"), audited=False),
    "KnowledgeService/Search": Rule(_only(Verb.READ), _field("namespace"), audited=False),
    "KnowledgeService/Diff": Rule(_only(Verb.READ), _field("namespace"), audited=False),
    "KnowledgeService/ListFeedback": Rule(_only(Verb.READ), _field("namespace"), audited=False),
    "KnowledgeService/Explain": Rule(_only(Verb.READ), _field("namespace"), audited=False),
    "KnowledgeService/ListAlarms": Rule(_only(Verb.READ), _field("namespace"), audited=False),
    "KnowledgeService/ListSignals": Rule(_only(Verb.READ), _field("namespace"), audited=False),
    "ReviewService/ListReviews": Rule(_only(Verb.REVIEW), _field("namespace"), audited=False),
    "ReviewService/GetReview": Rule(_only(Verb.REVIEW), _field("namespace"), audited=False),
    "ReviewService/ClaimReview": Rule(_only(Verb.REVIEW), within=_BY_REVIEWER),
    "ReviewService/DecideReview": Rule(_only(Verb.REVIEW), within=_BY_REVIEWER),
    "ReviewService/CommentReview": Rule(_only(Verb.REVIEW), within=_BY_REVIEWER),
    "ReviewService/ListConflicts": Rule(_only(Verb.REVIEW), _field("namespace"), audited=False),
    "ReviewService/ResolveConflict": Rule(_only(Verb.REVIEW), within=_BY_REVIEWER),
    "SyncService/Subscribe": Rule(_only(Verb.WATCH), within=_BY_SUBSCRIPTION),
    "SyncService/ListConsumers": Rule(_only(Verb.WATCH), _field("namespace"), audited=False),
    "SyncService/WaitApplied": Rule(_only(Verb.WATCH), _field("namespace"), audited=False),
    "NamespaceService/CreateNamespace": Rule(_only(Verb.ADMIN), _field("name")),
    "NamespaceService/GetNamespace": Rule(_SOME, _field("name"), audited=False),
    "NamespaceService/ListNamespaces": Rule(
        _SOME, within="those are listed in which the caller may do something", audited=False
    ),
    "NamespaceService/ListPolicies": Rule(_SOME, _field("name"), audited=False),
    "NamespaceService/UpdatePolicy": Rule(_only(Verb.ADMIN), _field("name")),
    "AdminService/Backup": Rule(_only(Verb.ADMIN), everywhere=True),
}
"""By service and method, such as `KnowledgeService/Get`."""
