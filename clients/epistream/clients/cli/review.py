"""`epistream review`: people decide what was held, and conflicts, in the terminal."""

from typing import TYPE_CHECKING, Annotated

import typer

from epistream.clients.cli import options, reviewing
from epistream.clients.cli.connection import reaching
from epistream.clients.cli.exits import Wrong
from epistream.clients.client_settings import Service

if TYPE_CHECKING:
    from epistream.v1 import knowledge_pb2 as pb

app = typer.Typer(
    help="Decide what was held, and conflicts. Without a command: go through what waits, one by one.",
    invoke_without_command=True,
    rich_markup_mode="rich",
)

_Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="The review, as `review list` shows it.")]
_Subject = Annotated[int, typer.Argument(metavar="ID", min=1, help="The review or conflict.")]
_Reviewer = Annotated[
    str, typer.Option("--reviewer", "-r", envvar="EPISTREAM_REVIEWER", help="Who decides; the journal keeps the name.")
]
_Authority = Annotated[
    reviewing.Authority,
    typer.Option(
        "--origin", "-o", case_sensitive=False, help="On whose authority: an expert's, or a person's with a model."
    ),
]
_Comment = Annotated[str, typer.Option("--comment", "-c", help="Why.")]
_Reasons = Annotated[
    list[str] | None,
    typer.Option(
        "--reason", metavar="REASON", help="Only what was held for this, such as lower_authority. Repeatable."
    ),
]
_Producers = Annotated[list[str] | None, typer.Option("--producer", help="Only of this producer. May be repeated.")]
_Limit = Annotated[int, typer.Option("--limit", "-l", min=1, max=1000, help="How many.")]


@app.callback()
@reaching
def walk(
    context: typer.Context,
    *,
    service: Service,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", envvar="EPISTREAM_NAMESPACE", help="The namespace.")
    ] = "",
    reviewer: _Reviewer = "",
    origin: _Authority = reviewing.Authority.EXPERT,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
) -> None:
    """Go through what waits, one by one, the most urgent first.

    Each is claimed while it is looked at, so that several people can go through the same queue.

    Example:
      epistream review -n pharmacy -r dr-ada
    """
    if context.invoked_subcommand is not None:
        return
    for name, given in (("--namespace", namespace), ("--reviewer", reviewer)):
        if not given:
            raise typer.BadParameter(f"{name} is needed to go through what waits")
    reviewing.walk(service, timeout, namespace, reviewer, origin)


@app.command("list")
@reaching
def list_waiting(
    *,
    service: Service,
    namespace: options.Namespace,
    reason: _Reasons = None,
    producer: _Producers = None,
    modality: options.Modalities = None,
    limit: _Limit = 10,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """List what waits to be reviewed, the most urgent first.

    With --json each line is one review.

    Examples:
      epistream review list -n pharmacy
      epistream review list -n pharmacy --reason conflict_with_expert --limit 50
    """
    from epistream.clients.cli import show, show_reviews

    reasons = [_reason(name) for name in reason or ()]
    wanted = options.only(None, modality, producer, None)
    modalities = list(wanted.modalities) if wanted is not None else []
    page = reviewing.ask(
        service,
        timeout,
        lambda client: client.reviews(
            namespace, reasons=reasons, producers=producer or (), modalities=modalities, limit=limit
        ),
    )
    show.show(page.reviews, as_json=as_json, table=lambda: show_reviews.reviews_table(page))


@app.command("show")
@reaching
def show_one(
    review_id: _Id,
    *,
    service: Service,
    namespace: options.Namespace,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """Show a review: what was submitted, why it was held, what was said of it, and how it ended.

    Example:
      epistream review show 12 -n pharmacy
    """
    from epistream.clients.cli import show, show_reviews

    review = reviewing.ask(service, timeout, lambda client: client.review(namespace, review_id))
    if as_json:
        show.print_json([review])
    else:
        show_reviews.print_review(review)


@app.command("claim")
@reaching
def claim(
    review_id: _Id,
    *,
    service: Service,
    namespace: options.Namespace,
    reviewer: _Reviewer,
    origin: _Authority = reviewing.Authority.EXPERT,
    minutes: Annotated[float, typer.Option("--minutes", min=0, max=480, help="For how long; 0 lets go of it.")] = 15,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
) -> None:
    """Keep others from deciding a review for a while.

    Examples:
      epistream review claim 12 -n pharmacy -r dr-ada
      epistream review claim 12 -n pharmacy -r dr-ada --minutes 0
    """
    from epistream.clients.cli.show import note, when

    held = reviewing.ask(
        service, timeout, lambda client: client.claim(namespace, review_id, seconds=minutes * 60), reviewer, origin
    )
    note(f"claimed until {when(held.expire_time)}" if held is not None else "let go of")


@app.command("decide")
@reaching
def decide(
    review_id: _Id,
    decision: Annotated[
        reviewing.Decision,
        typer.Argument(
            metavar="DECISION", help="`admit` lets it in or stand, `reject` turns it away or takes it back."
        ),
    ],
    *,
    service: Service,
    namespace: options.Namespace,
    reviewer: _Reviewer,
    origin: _Authority = reviewing.Authority.EXPERT,
    comment: _Comment = "",
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """End a review: let it in, or turn it away. What raters dispute stands, or is retracted.

    Examples:
      epistream review decide 12 admit -n pharmacy -r dr-ada
      epistream review decide 12 reject -n pharmacy -r dr-ada --comment "That is the limit for children."
    """
    from epistream.clients.cli import show

    receipt = reviewing.ask(
        service, timeout, reviewing.deciding(decision, namespace, review_id, comment), reviewer, origin
    )
    if as_json:
        show.print_json([receipt])
    else:
        show.print_receipt(receipt)


@app.command("comment")
@reaching
def comment(
    subject_id: _Subject,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to say.")],
    *,
    service: Service,
    namespace: options.Namespace,
    reviewer: _Reviewer,
    origin: _Authority = reviewing.Authority.EXPERT,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
) -> None:
    """Say something of a review or a conflict. The journal keeps it.

    Example:
      epistream review comment 12 "Who measured that?" -n pharmacy -r dr-ada
    """
    from epistream.clients.cli.show import note, when

    kept = reviewing.ask(service, timeout, lambda client: client.comment(namespace, subject_id, text), reviewer, origin)
    note(f"kept at {when(kept.time)}")


@app.command("conflicts")
@reaching
def conflicts(
    *,
    service: Service,
    namespace: options.Namespace,
    resolved: Annotated[bool, typer.Option("--resolved", help="Those that are over, and how they ended.")] = False,
    item: Annotated[str, typer.Option("--item", metavar="ITEM", help="Only those that this item is a party of.")] = "",
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """List items, and what is held, that say different things of what seems the same.

    With --json each line is one conflict.

    Example:
      epistream review conflicts -n pharmacy
    """
    from epistream.clients.cli import show, show_reviews

    found = reviewing.ask(service, timeout, lambda client: client.conflicts(namespace, resolved=resolved, item_id=item))
    show.show(found, as_json=as_json, table=lambda: show_reviews.conflicts_table(found))


@app.command("resolve")
@reaching
def resolve(
    conflict_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="The conflict.")],
    *,
    service: Service,
    namespace: options.Namespace,
    reviewer: _Reviewer,
    origin: _Authority = reviewing.Authority.EXPERT,
    item: Annotated[
        list[str] | None, typer.Option("--item", metavar="ITEM", help="This item stands. Repeatable.")
    ] = None,
    review: Annotated[
        list[int] | None, typer.Option("--review", metavar="ID", help="What this review holds stands. Repeatable.")
    ] = None,
    comment: _Comment = "",
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """End a conflict: say what stands. Items that do not are retracted, what is held is let in or turned away.

    Examples:
      epistream review resolve 14 --item limit -n pharmacy -r dr-ada
      epistream review resolve 14 --item limit --review 14 --comment "Of adults and of children." -n pharmacy -r dr-ada
    """
    from epistream.clients.cli import show, show_reviews

    over = reviewing.ask(
        service,
        timeout,
        lambda client: client.resolve(
            namespace, conflict_id, item_ids=item or (), review_ids=review or (), comment=comment
        ),
        reviewer,
        origin,
    )
    show.show([over], as_json=as_json, table=lambda: show_reviews.conflicts_table([over]))


def _reason(name: str) -> "pb.Reason.ValueType":
    """A reason by its name. Raises Wrong."""
    from epistream.v1 import knowledge_pb2 as pb

    known = {one.removeprefix("REASON_").lower(): number for one, number in pb.Reason.items() if number}
    if name.lower() not in known:
        raise Wrong(f"--reason: there is no reason {name!r}; these are: {', '.join(known)}")
    return known[name.lower()]
