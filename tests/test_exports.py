"""The names that users import stay where they are."""

import inspect
from collections.abc import Callable

import epistream.clients as clients

NAMES = [
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


def test_the_clients_export_these_names_and_no_others() -> None:
    assert clients.__all__ == NAMES
    modules = {name for name, value in vars(clients).items() if inspect.ismodule(value)}
    public = {name for name in vars(clients) if not name.startswith("_")}
    assert public - modules == set(NAMES)


def test_every_blocking_client_has_every_method_of_its_namesake() -> None:
    renamed = {"aclose": "close", "open": "__init__"}
    for name in ("Producer", "Subscriber", "Replica", "KnowledgeClient", "ReviewClient"):
        theirs = {renamed.get(m, m) for m in vars(getattr(clients, name)) if not m.startswith("_")}
        ours = set(vars(getattr(clients, f"Sync{name}")))
        if name == "Subscriber":
            theirs -= {"epoch", "head_revision"}  # within `position`; within the events
        assert theirs <= ours, name


def test_every_blocking_method_takes_what_its_namesake_takes() -> None:
    for name in ("Producer", "Subscriber", "Replica", "KnowledgeClient", "ReviewClient"):
        for method, function in vars(getattr(clients, f"Sync{name}")).items():
            theirs = getattr(getattr(clients, name), method, None)
            if method.startswith("_") or theirs is None or not inspect.isfunction(function):
                continue
            assert parameters(function) == parameters(theirs), method


def parameters(function: Callable[..., object]) -> list[tuple[str, object, object]]:
    """The names, kinds and defaults; types differ where one takes an asynchronous source and the other does not."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]
