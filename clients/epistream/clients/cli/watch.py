"""`epistream watch`: the changes of a namespace as they are committed."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from epistream.clients.cli import options
from epistream.clients.cli.connection import reaching
from epistream.clients.client_settings import Service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from epistream.clients.cursor import Event
    from epistream.clients.subscriber import Subscriber
    from epistream.v1 import knowledge_pb2 as pb


_After = Annotated[
    int | None,
    typer.Option("--after", min=0, metavar="REVISION", help="Begin after this revision; 0: at the very beginning."),
]
_Count = Annotated[int | None, typer.Option("--count", min=1, help="End after so many changes.")]
_UntilRevision = Annotated[
    int | None,
    typer.Option(
        "--until-revision", min=0, metavar="REVISION", help="End when everything up to this revision was shown."
    ),
]


@reaching
def watch(
    *,
    service: Service,
    namespace: options.Namespace,
    after: _After = None,
    snapshot: Annotated[
        bool, typer.Option("--snapshot", help="Begin with all that is known now, printed when it is whole.")
    ] = False,
    consumer: Annotated[
        str, typer.Option("--consumer", help="The name that the service knows this consumer by.")
    ] = "epistream-watch",
    origin: options.Origins = None,
    modality: options.Modalities = None,
    producer: options.Producers = None,
    attribute: options.Attributes = None,
    count: _Count = None,
    until_revision: _UntilRevision = None,
    as_json: options.Json = False,
) -> None:
    """Follow the changes of a namespace, each once and in order, until Ctrl-C.

    Begins with what is committed from now on, unless told otherwise. Goes on
    by itself when the connection breaks. What was printed is acknowledged as
    applied. With --json each line is one change.

    Examples:
      epistream watch -n pharmacy
      epistream watch -n pharmacy --snapshot --origin expert --json
      epistream watch -n pharmacy --after 0 --until-revision 120 --json
    """
    from epistream.clients.cursor import Position, Start
    from epistream.clients.subscriber import Subscriber

    if snapshot and after is not None:
        raise typer.BadParameter("--snapshot and --after exclude each other")
    start: Start | Position = Start.SNAPSHOT if snapshot else Start.HEAD
    if after is not None:
        start = Position("", after)
    wanted = options.only(origin, modality, producer, attribute)
    options.reach(service.address)

    async def follow() -> None:
        async with Subscriber(
            service.address,
            namespace,
            consumer,
            credentials=service.credentials,
            start=start,
            filter=wanted,
            include_late=True,
        ) as subscriber:
            await _Watch(subscriber, count=count, until_revision=until_revision, as_json=as_json).run()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(follow())


class _Watch:
    """Prints what a subscription yields."""

    def __init__(
        self, subscriber: "Subscriber", *, count: int | None, until_revision: int | None, as_json: bool
    ) -> None:
        self._subscriber = subscriber
        self._snapshot: list[pb.Change] = []
        """What has come of a snapshot that has not ended: the connection may break, and another one begin."""
        self._last_revision = 0
        """That of the change that was printed last."""
        self._left = count
        self._until_revision = until_revision
        self._as_json = as_json

    async def run(self) -> None:
        """Until what was asked for was shown. Raises as iterating over a `Subscriber` does."""
        async for event in self._subscriber:
            self._take(event)
            position = self._subscriber.position
            if position is not None:
                self._subscriber.acknowledge(self._shown(position.revision))
                if self._until_revision is not None and position.revision >= self._until_revision:
                    return
            if self._left == 0:
                return

    def _shown(self, revision: int) -> int:
        """Up to where all was printed, of what has come up to `revision`."""
        if self._left == 0:
            return min(revision, self._last_revision)
        return revision if self._until_revision is None else min(revision, self._until_revision)

    def _take(self, event: "Event") -> None:
        from epistream.clients.cursor import Changes, SnapshotBegin, SnapshotEnd, SnapshotItems, Subscribed

        match event:
            case Changes(changes):
                self._print(self._wanted(changes))
            case Subscribed():
                self._note(f"Following epoch {event.epoch}, head at revision {event.head_revision}.")
            case SnapshotBegin(revision):
                self._snapshot = []
                self._note(f"Snapshot of revision {revision}:")
            case SnapshotItems(changes):
                self._snapshot.extend(self._wanted(changes))
                if self._left is not None and len(self._snapshot) >= self._left:
                    self._print(self._snapshot)
            case SnapshotEnd(revision):
                self._print(self._snapshot)
                self._snapshot = []
                self._note(f"End of the snapshot; changes after revision {revision}:")
            case _:
                pass

    def _note(self, text: str) -> None:
        from epistream.clients.cli.show import note

        if not self._as_json:
            note(text, style="dim")

    def _wanted(self, changes: "Sequence[pb.Change]") -> "Sequence[pb.Change]":
        until = self._until_revision
        return changes if until is None else [change for change in changes if change.revision <= until]

    def _print(self, changes: "Sequence[pb.Change]") -> None:
        from epistream.clients.cli import show

        shown = changes if self._left is None else changes[: self._left]
        if self._left is not None:
            self._left -= len(shown)
        for change in shown:
            self._last_revision = change.revision
            if self._as_json:
                show.print_json([change])
            else:
                show.print_change(change)
