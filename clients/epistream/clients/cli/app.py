"""All commands of `epistream`. Each command imports what it needs when it runs, so that `--help` comes at once."""

from collections.abc import Callable
from typing import Annotated

import typer

from epistream.clients.cli import namespaces, review, services, sources
from epistream.clients.cli.ask import alarms, diff, explain, feedback, get, history, search, signals
from epistream.clients.cli.backup import backup
from epistream.clients.cli.demo import demo
from epistream.clients.cli.exits import HELP
from epistream.clients.cli.importing import import_records
from epistream.clients.cli.produce import produce
from epistream.clients.cli.submit import retract, submit
from epistream.clients.cli.watch import watch

_PASSED_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}

app = typer.Typer(
    help=f"Epistream: a live, versioned feed of knowledge for models.\n\n{HELP}",
    epilog="`epistream COMMAND --help` explains a command with examples.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:  # noqa: FBT001 -- as typer calls it
    if wanted:
        from importlib.metadata import version

        typer.echo(f"epistream {version('epistream')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


def _passed_on(name: str) -> Callable[[typer.Context], None]:
    def pass_on(context: typer.Context) -> None:
        services.become(name, context.args)

    return pass_on


for publish in (submit, produce, retract):
    app.command(rich_help_panel="Publish")(publish)
app.command("import", rich_help_panel="Publish")(import_records)
app.add_typer(sources.app, name="sources", rich_help_panel="Publish")
for ask in (search, get, history, diff, explain, feedback, alarms, signals):
    app.command(rich_help_panel="Ask")(ask)
for follow in (watch, namespaces.consumers):
    app.command(rich_help_panel="Follow")(follow)
app.add_typer(review.app, name="review", rich_help_panel="Review")
app.add_typer(namespaces.app, name="namespaces", rich_help_panel="Operate")
app.command(rich_help_panel="Operate")(backup)
for name, text in services.COMMANDS.items():
    app.command(name, help=text, add_help_option=False, context_settings=_PASSED_ON, rich_help_panel="Operate")(
        _passed_on(name)
    )
app.command(rich_help_panel="Operate")(demo)
