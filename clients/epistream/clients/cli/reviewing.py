"""Asking in a reviewer's name, and going through what waits, one by one."""

import asyncio
import enum
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import typer

from epistream.clients.cli import options
from epistream.clients.client_settings import Service
from epistream.wire.errors import Conflict, EpistreamError

if TYPE_CHECKING:
    from epistream.clients.reviews import ReviewClient
    from epistream.v1 import knowledge_pb2 as pb
    from epistream.v1 import review_service_pb2 as api

_Answer = TypeVar("_Answer")


class Authority(enum.StrEnum):
    """On whose authority something is decided."""

    EXPERT = "EXPERT"
    COLLABORATIVE = "COLLABORATIVE"


class Decision(enum.StrEnum):
    """What a reviewer decides."""

    ADMIT = "admit"
    REJECT = "reject"


def ask(
    service: Service,
    timeout_seconds: float,
    question: "Callable[[ReviewClient], Awaitable[_Answer]]",
    reviewer: str = "",
    origin: Authority = Authority.EXPERT,
) -> _Answer:
    """The answer of the service, asked in a reviewer's name. Blocks; raises as the client's methods."""
    from epistream.clients.reviews import ReviewClient

    async def answer() -> _Answer:
        async with ReviewClient(
            options.reach(service.address),
            reviewer=reviewer,
            origin=origin.value,
            credentials=service.credentials,
            timeout_seconds=timeout_seconds,
        ) as client:
            return await question(client)

    return asyncio.run(answer())


def walk(service: Service, timeout: float, namespace: str, reviewer: str, origin: Authority) -> None:
    """Show what waits, the most urgent first, each once, and do with it what is answered."""
    from epistream.clients.cli.show import note

    seen: set[int] = set()

    def following(client: "ReviewClient") -> "Awaitable[api.Review | None]":
        return _next(client, namespace, seen)

    while (review := ask(service, timeout, following, reviewer, origin)) is not None:
        seen.add(review.review_id)
        if not _one(service, timeout, review, reviewer, origin):
            return
    note("Nothing else waits.")


async def _next(client: "ReviewClient", namespace: str, seen: set[int]) -> "api.Review | None":
    """The most urgent review that was not seen yet and that nobody else looks at, claimed; None when there is none."""
    token = ""
    while True:
        page = await client.reviews(namespace, limit=100, page_token=token)
        for review in page.reviews:
            if review.review_id in seen:
                continue
            try:
                await client.claim(namespace, review.review_id)
            except Conflict:
                continue
            return await client.review(namespace, review.review_id)
        token = page.next_page_token
        if not token:
            return None


def _one(service: Service, timeout: float, review: "api.Review", reviewer: str, origin: Authority) -> bool:
    """Show a review and do with it what is answered. Returns whether to go on."""
    from epistream.clients.cli import show, show_reviews

    show_reviews.print_review(review)
    while True:
        answer: str = typer.prompt("[a]dmit, [r]eject, [c]omment, [s]kip or [q]uit").strip().lower()[:1]
        act = _acting(answer, review)
        if act is None:
            continue
        done = None
        try:
            done = ask(service, timeout, act, reviewer, origin)
        except EpistreamError as error:
            show.note(error.message, style="red")
            if answer not in ("s", "q"):  # who leaves may: a claim that nobody lets go of runs out
                continue
        if done is not None:
            show.print_receipt(done)
        if answer != "c":
            return answer != "q"


def _acting(answer: str, review: "api.Review") -> "Callable[[ReviewClient], Awaitable[pb.Receipt | None]] | None":
    """What an answer asks for, the rest of which is asked here; None for one that is no answer."""
    if answer in ("a", "r"):
        why: str = typer.prompt("Why", default="", show_default=False)
        return deciding(Decision.ADMIT if answer == "a" else Decision.REJECT, review.namespace, review.review_id, why)
    text: str = typer.prompt("Comment") if answer == "c" else ""

    async def act(client: "ReviewClient") -> None:
        if text:
            await client.comment(review.namespace, review.review_id, text)
        else:
            await client.claim(review.namespace, review.review_id, seconds=0)

    return act if answer in ("c", "s", "q") else None


def deciding(
    decision: Decision, namespace: str, review_id: int, comment: str
) -> "Callable[[ReviewClient], Awaitable[pb.Receipt]]":
    """What a decision asks of the client."""

    def decide(client: "ReviewClient") -> "Awaitable[pb.Receipt]":
        act = client.admit if decision is Decision.ADMIT else client.reject
        return act(namespace, review_id, comment)

    return decide
