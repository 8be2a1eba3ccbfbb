"""What `epistream review` prints for people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from epistream.clients.cli.show import add_row, output, reason_name, receipt_text, table_of, when
from epistream.clients.cli.words import words
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import review_service_pb2 as api

if TYPE_CHECKING:
    from rich.table import Table


def reviews_table(page: api.ListReviewsResponse) -> "Table":
    """What waits, the most urgent first."""
    table = table_of(f"{page.pending_count} wait", "review", "priority", "since", "why", "by", "looks at it", "content")
    for review in page.reviews:
        said = review.submission
        add_row(
            table,
            str(review.review_id),
            _priority(review),
            when(review.receipt.time),
            reason_name(review.receipt.reason),
            f"{said.provenance.producer} ({_origin(said.origin)})",
            review.claim.reviewer,
            _says(said),
        )
    return table


def print_review(review: api.Review) -> None:
    """A review as a panel."""
    from rich.panel import Panel

    said, disputed = review.submission, review.receipt.reason == pb.REASON_DISPUTED
    lines = [
        *([f"prompt: {said.prompt}", ""] if said.prompt else ()),
        _says(said),
        "",
        f"item        {review.item_id}",
        f"producer    {said.provenance.producer} ({_origin(said.origin)})",
        *([f"source      {said.provenance.source}"] if said.provenance.source else ()),
        *([f"generator   {said.provenance.generator}"] if said.provenance.generator else ()),
        f"{'disputed' if disputed else 'held':<12}{when(review.receipt.time)}, {receipt_text(review.receipt)}",
        *([f"conflict    {review.conflict_id}"] if review.conflict_id else ()),
        *(_claimed(review.claim) if review.HasField("claim") else ()),
        *(f"comment     {when(one.time)} {one.reviewer}: {one.text}" for one in review.comments),
        *(_decided(review.decision) if review.HasField("decision") else ()),
    ]
    title = f"review {review.review_id}"
    output().print(Panel(words("\n".join(lines)), title=words(title), title_align="left"))


def conflicts_table(conflicts: Sequence[api.Conflict]) -> "Table":
    """Conflicts, a row for each party."""
    table = table_of("", "conflict", "since", "party", "by", "says", "stands", "how it ended")
    for conflict in conflicts:
        for place, party in enumerate(conflict.parties):
            over = conflict.state == api.CONFLICT_STATE_RESOLVED
            add_row(
                table,
                "" if place else str(conflict.conflict_id),
                "" if place else when(conflict.open_time),
                party.item_id or f"review {party.review_id}",
                f"{party.producer} ({_origin(party.origin)})",
                party.content,
                ("yes" if party.stands else "no") if over else ("gone" if party.gone else "open"),
                _ended(conflict.resolution) if over and not place else "",
            )
    return table


def _says(said: pb.Submission) -> str:
    return f"(takes {said.item_id} back)" if said.retraction else said.content


def _claimed(claim: api.ReviewClaim) -> list[str]:
    return [f"claimed     by {claim.reviewer} until {when(claim.expire_time)}"]


def _priority(review: api.Review) -> str:
    if not review.HasField("priority"):
        return ""
    given = review.priority
    if given.due:
        return "due"
    return f"{given.value:.3f}{', disputed' if given.disputed else ''}"


def _decided(decision: api.ReviewDecision) -> list[str]:
    by = f" by {decision.reviewer}" if decision.reviewer else ""
    why = f": {decision.comment}" if decision.comment else ""
    return [f"decided     {when(decision.receipt.time)}{by}, {receipt_text(decision.receipt)}{why}"]


def _ended(resolution: api.ConflictResolution) -> str:
    by = f"resolved by {resolution.reviewer}" if resolution.reviewer else "nobody contradicts any more"
    return f"{by}, {when(resolution.time)}{f': {resolution.comment}' if resolution.comment else ''}"


def _origin(origin: "pb.Origin.ValueType") -> str:
    return pb.Origin.Name(origin).removeprefix("ORIGIN_")
