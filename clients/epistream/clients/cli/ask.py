"""`epistream get`, `search`, `history`, `diff`, `explain`, `feedback`, `alarms`, `signals`: what is known, and why."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from epistream.clients.cli import options
from epistream.clients.cli.connection import reaching
from epistream.clients.client_settings import Service

if TYPE_CHECKING:
    from epistream.clients.knowledge import KnowledgeClient

Answer = TypeVar("Answer")


def ask(service: Service, timeout_seconds: float, question: "Callable[[KnowledgeClient], Awaitable[Answer]]") -> Answer:
    """The answer of the service to a question. Blocks; not for a process with an event loop.

    Raises:
        EpistreamError: as the client's methods.
    """
    from epistream.clients.knowledge import KnowledgeClient

    async def answer() -> Answer:
        address = options.reach(service.address)
        async with KnowledgeClient(address, credentials=service.credentials, timeout_seconds=timeout_seconds) as client:
            return await question(client)

    return asyncio.run(answer())


@reaching
def get(
    item_id: Annotated[str, typer.Argument(metavar="ITEM", help="The item.")],
    *,
    service: Service,
    namespace: options.Namespace,
    as_of: options.AsOf = None,
    valid_at: Annotated[
        str | None,
        typer.Option(
            "--valid-at",
            metavar="TIME",
            help="What held at this date (2026-01-31) or time in the world, as is known, or was with --as-of.",
        ),
    ] = None,
    embedding: Annotated[bool, typer.Option("--embedding", help="With --json: send the vector too.")] = False,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """Show one item as it is, or as it was.

    Examples:
      epistream get limit -n pharmacy
      epistream get limit -n pharmacy --as-of 120
      epistream get limit -n pharmacy --as-of 2026-01-31T12:00:00Z --json
      epistream get limit -n pharmacy --valid-at 2021-06-30
    """
    from epistream.clients.cli import show

    at, held = options.point(as_of), options.moment(valid_at)
    answer = ask(
        service,
        timeout,
        lambda client: client.get(namespace, item_id, as_of=at, valid_time=held, include_embedding=embedding),
    )
    if as_json:
        show.print_json([answer])
    else:
        show.print_item(answer)


@reaching
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for.")],
    *,
    service: Service,
    namespace: options.Namespace,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, max=1000, help="How many.")] = 10,
    as_of: options.AsOf = None,
    origin: options.Origins = None,
    modality: options.Modalities = None,
    producer: options.Producers = None,
    attribute: options.Attributes = None,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="With --json: send the vectors too.")] = False,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """Find the items nearest to a text, now or at a point in the past.

    With --json each line is one hit, the nearest first.

    Examples:
      epistream search "How much may an adult take?" -n pharmacy
      epistream search "daily limit" -n pharmacy --origin expert --limit 3
      epistream search "daily limit" -n pharmacy --attribute kind=function --as-of 120
    """
    from epistream.clients.cli import show

    at, wanted = options.point(as_of), options.only(origin, modality, producer, attribute)
    answer = ask(
        service,
        timeout,
        lambda client: client.search(
            namespace, text, limit=limit, filter=wanted, as_of=at, include_embeddings=embeddings
        ),
    )
    show.show(answer.hits, as_json=as_json, table=lambda: show.hits_table(answer))


@reaching
def history(
    item_id: Annotated[str, typer.Argument(metavar="ITEM", help="The item.")],
    *,
    service: Service,
    namespace: options.Namespace,
    by_valid_time: Annotated[
        bool, typer.Option("--by-valid-time", help="In the order in which they hold in the world.")
    ] = False,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """Show all versions of an item, in the order in which they came.

    With --json each line is one change.

    Examples:
      epistream history limit -n pharmacy
      epistream history limit -n pharmacy --by-valid-time
    """
    from epistream.clients.cli import show

    changes = ask(service, timeout, lambda client: client.history(namespace, item_id, by_valid_time=by_valid_time))
    show.show(changes, as_json=as_json, table=lambda: show.changes_table(changes))


@reaching
def feedback(
    item_id: Annotated[str, typer.Argument(metavar="ITEM", help="The item.")],
    *,
    service: Service,
    namespace: options.Namespace,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """Show what raters said about an item, in the order in which they came.

    With --json each line is one submission of feedback, with the time at which it was recorded.

    Example:
      epistream feedback limit -n pharmacy
    """
    from epistream.clients.cli import show

    found = ask(service, timeout, lambda client: client.list_feedback(namespace, item_id))
    show.show(found, as_json=as_json, table=lambda: show.feedback_table(found))


@reaching
def explain(
    submission_id: Annotated[str, typer.Argument(metavar="SUBMISSION", help="The producer's id of the submission.")],
    *,
    service: Service,
    namespace: options.Namespace,
    producer: Annotated[str, typer.Option("--producer", "-p", help="Who sent it.")],
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """Say why a submission was decided as it was: the rules that were asked, with their figures, by which policy.

    What was held and decided later has more than one decision.

    Examples:
      epistream explain s-17 -n pharmacy -p writer
      epistream explain s-17 -n pharmacy -p writer --json
    """
    from epistream.clients.cli import show

    found = ask(service, timeout, lambda client: client.explain(namespace, producer, submission_id))
    show.show(found, as_json=as_json, table=lambda: show.explanations_table(found))


@reaching
def alarms(
    *,
    service: Service,
    namespace: options.Namespace,
    on: Annotated[bool, typer.Option("--on", help="Only alarms that are on.")] = False,
    producer: Annotated[str, typer.Option("--producer", help="Only of this producer.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most this many.")] = 100,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """Show what the collapse watch knows: how diverse the knowledge of each producer of models is beside people's.

    Alarms that are on come first, then whose newest window ended last. The store as a whole has no producer.

    Examples:
      epistream alarms -n pharmacy
      epistream alarms -n pharmacy --on --json
    """
    from epistream.clients.cli import show

    found = ask(service, timeout, lambda client: client.list_alarms(namespace, on=on, producer=producer, limit=limit))
    show.show(found, as_json=as_json, table=lambda: show.alarms_table(found))


@reaching
def signals(
    *,
    service: Service,
    namespace: options.Namespace,
    history: Annotated[
        int, typer.Option("--history", min=0, max=30, help="Also so many of the measurements before.")
    ] = 0,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """Show what hinders knowledge of each kind: four stages by four modalities, over the newest records.

    A signal without a value says why. With --history each line has the values before, too, the newest first, and `-`
    where there was none. With --json it is one object. docs/signals.md has the formulas.

    Examples:
      epistream signals -n pharmacy
      epistream signals -n pharmacy --history 5
      epistream signals -n pharmacy --json
    """
    from epistream.clients.cli import show

    answer = ask(service, timeout, lambda client: client.list_signals(namespace, history=history))
    show.show([answer], as_json=as_json, table=lambda: show.signals_table(answer))


@reaching
def diff(
    earlier: Annotated[str, typer.Argument(metavar="FROM", help="The earlier point: a revision, or a time.")],
    later: Annotated[str | None, typer.Argument(metavar="TO", help="The later point; now when not given.")] = None,
    *,
    service: Service,
    namespace: options.Namespace,
    origin: options.Origins = None,
    modality: options.Modalities = None,
    producer: options.Producers = None,
    attribute: options.Attributes = None,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """Show what is not the same at two points: each item before and after.

    With --json each line is one entry.

    Examples:
      epistream diff 120 -n pharmacy
      epistream diff 2026-01-31T12:00:00Z 2026-02-01T12:00:00Z -n pharmacy --json
    """
    from epistream.clients.cli import show

    start, end = options.point(earlier), options.point(later)
    assert start is not None  # noqa: S101 -- a required argument
    wanted = options.only(origin, modality, producer, attribute)
    answer = ask(service, timeout, lambda client: client.diff(namespace, start, end, filter=wanted))
    show.show(answer.entries, as_json=as_json, table=lambda: show.diff_table(answer))
