"""`epistream sources …`: the published works that `epistream import` knows."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from epistream.clients.cli.exits import Wrong

if TYPE_CHECKING:
    from epistream.clients.sources.work import Work

app = typer.Typer(
    help="The published works that can be imported: list and describe them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="The work, such as c4 or humaneval.")]


@app.command("list")
def list_all() -> None:
    """List all works: stage, modality, origin, formats, licence, and whether their records are published.

    Example:
      epistream sources list
    """
    from epistream.clients.cli.show import add_row, output, table_of
    from epistream.clients.sources.describe import BRIEF, brief
    from epistream.clients.sources.table import WORKS

    table = table_of("", *BRIEF)
    for work in WORKS:
        add_row(table, *brief(work))
    output().print(table)


@app.command()
def describe(name: _Name) -> None:
    """Describe a work: its format, its licence, what of it is not published.

    Example:
      epistream sources describe humaneval
    """
    from epistream.clients.cli.show import output
    from epistream.clients.cli.words import words
    from epistream.clients.sources.describe import described

    for label, value in described(work_of(name)):
        output().print(words(f"{label:<18}{value}"), soft_wrap=True)


@app.command()
def example(name: _Name) -> None:
    """Print an invented record of a work, and the submissions that become of it.

    Everything is JSON: the record first, then each submission on a line. Bytes
    are shown by their length and digest.

    Example:
      epistream sources example pick-a-pic
    """
    from epistream.clients.cli.show import print_json
    from epistream.clients.sources.examples import EXAMPLES
    from epistream.clients.sources.record import plain
    from epistream.clients.sources.submissions import submissions

    work, record = work_of(name), EXAMPLES[name]
    print(json.dumps(plain(record), ensure_ascii=False))
    print_json(submissions(work, record))


def work_of(name: str) -> "Work":
    """The work of a name.

    Raises:
        Wrong: there is none.
    """
    from epistream.clients.sources.table import BY_NAME

    if name not in BY_NAME:
        raise Wrong(f"No work is called {name!r}. There are: {', '.join(BY_NAME)}")
    return BY_NAME[name]
