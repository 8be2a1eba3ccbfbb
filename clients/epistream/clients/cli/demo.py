"""`epistream demo`: the demonstration's options."""

from pathlib import Path
from typing import Annotated

import typer

from epistream.clients.cli import options
from epistream.clients.client_settings import DEFAULT_ADDRESS


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Afterwards leave the service up, until Ctrl-C.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Use a store and a Kafka of its own, on free ports, and remove them.")
    ] = False,
    items: Annotated[int, typer.Option("--items", min=50, help="How many facts to publish, of some 5,500.")] = 2000,
    kafka: Annotated[
        str,
        typer.Option("--kafka", envvar="EPISTREAM_KAFKA", help="A Kafka that runs; without, a local one is started."),
    ] = "",
    data: Annotated[Path, typer.Option("--data", help="The folder for all data; not with --fresh.")] = Path(".data"),
    address: options.Address = DEFAULT_ADDRESS,
) -> None:
    """Show the main job on real input: the documentation of Python's own library.

    Starts Kafka and a service, publishes the documentation as expert
    knowledge and variants of it as synthetic knowledge, shows what was
    admitted, merged and held, corrects an item, and shows that a replica's
    answer changes. Then a model that repeats itself floods a namespace.
    Ends with 0 only if every step showed what it should.

    Examples:
      epistream demo --fresh
      epistream demo --keep --items 1000
    """
    from epistream.clients.demo.demo import DemoOptions, run_demo

    raise typer.Exit(run_demo(DemoOptions(keep, fresh, items, kafka, data, address)))
