"""`python -m epistream.services`: the processes of Epistream."""

import asyncio
import functools
import gc
import inspect
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from epistream.services.security.command import access
from epistream.services.settings import DEFAULT_ADDRESS, DEFAULT_FOLDER, Settings, is_loopback
from epistream.wire.errors import Broken, EpistreamError, InvalidInput
from epistream.wire.kafka_security import SETTINGS as KAFKA_SECURITY
from epistream.wire.printable import printable
from epistream.wire.topics import SUBMISSIONS, dead_letter_topic

if TYPE_CHECKING:
    from epistream.clients.cli.policy_fields import PolicyFields
    from epistream.clients.client_settings import Service as Reached
    from epistream.services.compose import Service

app = typer.Typer(help="The processes of Epistream.", no_args_is_help=True, pretty_exceptions_enable=False)
kafka = typer.Typer(help="Apache Kafka on this machine.", no_args_is_help=True)
app.add_typer(kafka, name="kafka")
app.add_typer(access, name="access")


def up(**flags: object) -> None:
    """Serve until a signal to stop.

    Each flag can also be set by the environment, as EPISTREAM_ and its name, or in a TOML file.
    """
    settings = _settings(flags)
    _log_to_stderr(settings.log_level)
    # A full collection looks at all that is remembered and stops every thread: 80 ms at 40,000 items (measured). What
    # it finds is little: hardly anything here is in cycles.
    gc.set_threshold(2_000, 10, 5_000)
    try:
        code = asyncio.run(_serve(settings))
    except EpistreamError as error:
        _give_up(error)
    # Everything that must be durable is. A model that is still loading, and torch's threads, would hold up the end.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _log_to_stderr(level: str) -> None:
    """Ours from `level` on; of the libraries what is wrong, and everything only for debugging."""
    debug = level == "debug"
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("epistream").setLevel(level.upper())
    if not debug:
        # It reports each failed attempt to connect as an error, several times a second; our own parts say it once.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)


async def _serve(settings: Settings) -> int:
    from epistream.services.compose import Service

    service = Service(settings)
    await service.start()
    for name, value in _description(service):
        typer.echo(f"{name:<10} {value}")
    return await service.stopped()


def _description(service: "Service") -> list[tuple[str, str]]:
    """What is in use, for whoever started it."""
    settings, engine = service.settings, service.engine
    scheme = "http" if service.tls is None else "https"
    heads = ", ".join(f"{n.name} at revision {n.head_revision}" for n in engine.namespaces.list())
    return [
        ("gRPC", service.address),
        ("metrics", f"{scheme}://{service.metrics_address}/metrics" if service.metrics_address else "not served"),
        *([("health", f"{service.health_address}, alone and in plaintext")] if service.health_address else []),
        ("security", _security(service)),
        ("store", f"{settings.folder.resolve()}, epoch {engine.epoch}"),
        ("namespaces", heads or "none yet"),
        ("encoder", "none" if settings.encoder == "none" else f"{settings.encoder}, loading"),
        ("Kafka", _kafka(settings)),
        *([("traces", f"to {settings.trace_endpoint}")] if settings.trace_endpoint else []),
    ]


def _security(service: "Service") -> str:
    settings, tls = service.settings, service.tls
    exposed = [each for each in (service.address, service.metrics_address) if each and not is_loopback(each)]
    if tls is None:
        encryption = "NO ENCRYPTION" if exposed else "no TLS"
    else:
        until = datetime.fromtimestamp(tls.not_after(), UTC).date().isoformat()
        encryption = f"TLS, certificate until {until}"
        encryption += ", client certificates required" if settings.tls_client_ca_file is not None else ""
    nobody = "nobody is asked who they are"
    if exposed:
        nobody = "ANYBODY MAY " + ("DO ANYTHING" if service.address in exposed else "READ THE METRICS")
    who = f"access by {settings.access_file}" if service.guard.guarded else nobody
    where = f"{' and '.join(exposed)} can be reached from other machines" if exposed else "loopback only"
    return f"{where}, {encryption}, {who}" + (f", audit in {settings.audit_file}" if settings.audit_file else "")


def _kafka(settings: Settings) -> str:
    if settings.kafka is None:
        return "none: knowledge comes in over gRPC only"
    return f"{settings.kafka} over {settings.security_of_kafka().describe()}"


_AFTER_FSCK = "Run it with --rebuild; where that cannot help either, restore a backup (docs/backup.md)"
_AFTER_REBUILD = "Nothing was changed: restore a backup (docs/backup.md)"


@app.command()
def fsck(
    folder: Annotated[
        Path, typer.Option(help="The folder of the store. No service may have it open.")
    ] = DEFAULT_FOLDER,
    *,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild", help="Make the views, and a damaged file, anew from a sound journal; drop the index."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Verify a store: the file, the chain of its journal, and that its views are what the journal makes."""
    from epistream.indexer import repair
    from epistream.indexer import store as stores

    if not (folder / stores.FILE).is_file():
        _give_up(InvalidInput.at("folder", stores.missing(folder)))
    try:
        rebuilt = repair.remake(folder) if rebuild else None
        if rebuild:
            shutil.rmtree(folder / "index", ignore_errors=True)
        store = stores.Store(folder)
        try:
            rebuilt = store.renewed if rebuilt is None else rebuilt
            findings = stores.check(store)
        finally:
            store.close()
    except Broken as error:
        # It says to run this command: here it must say what comes after.
        said = error.message.partition(". Stop the service")[0]
        _give_up(Broken(f"{said}. {_AFTER_REBUILD if rebuild else _AFTER_FSCK}", reason=error.reason))
    except EpistreamError as error:
        _give_up(error)
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "findings": findings, "rebuiltFromEntries": rebuilt}))
    else:
        if rebuilt is not None:
            typer.echo(f"rebuilt from {rebuilt} journal entries")
        for finding in findings:
            typer.echo(printable(finding))
        typer.echo(f"{folder}: {len(findings)} findings" if findings else f"{folder}: all is well")
    raise typer.Exit(1 if findings else 0)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="The backup, as `epistream backup` wrote it.")],
    *,
    folder: Annotated[
        Path, typer.Option(help="The folder for the store, which must not hold one. It is made if there is none.")
    ] = DEFAULT_FOLDER,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Check the store as fsck does before it is put in its place.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a store from a backup, with a new epoch: whole, or not at all."""
    from epistream.services.restore_command import restore_command

    try:
        restore_command(file, folder, checked=check, as_json=as_json)
    except EpistreamError as error:
        _give_up(error)


def rehearse(
    folder: Annotated[
        Path, typer.Argument(help="The folder of the store, which no service may have open; or of a restored backup.")
    ],
    *,
    namespace: Annotated[str, typer.Option("--namespace", "-n", envvar="EPISTREAM_NAMESPACE", help="The namespace.")],
    values: "PolicyFields" = None,
    encode: Annotated[
        bool,
        typer.Option("--encode", help="Run the namespace's encoder on what is held and has no vector in the journal."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Decide a namespace's journal again, with other fields of the policy, and tell what differs. Changes nothing."""
    from epistream.clients.cli.policy_fields import set_field
    from epistream.services.rehearse_command import rehearse_command
    from epistream.v1 import namespace_service_pb2 as ns_pb

    changed = ns_pb.Policy()
    for value in values or ():
        set_field(changed, value)
    try:
        rehearse_command(folder, namespace, changed, encode=encode, as_json=as_json)
    except EpistreamError as error:
        _give_up(error)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A submission of code with its tests, as JSON; - is standard input.")],
    *,
    bubblewrap: Annotated[
        Path | None, typer.Option(help="The bubblewrap program; the one on the search path where it is not given.")
    ] = None,
    no_sandbox: Annotated[
        bool, typer.Option("--no-sandbox", help="Go on where nothing can be isolated. The code may do harm then.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the tests of a submission's code in a sandbox. Exit code 1 where it is not verified."""
    from epistream.services.execution.command import verify_command

    try:
        verified = verify_command(file, bubblewrap, allow_none=no_sandbox, as_json=as_json)
    except EpistreamError as error:
        _give_up(error)
    raise typer.Exit(0 if verified else 1)


def execute(
    *,
    namespace: Annotated[str, typer.Option("--namespace", "-n", envvar="EPISTREAM_NAMESPACE", help="The namespace.")],
    service: "Reached",
    name: Annotated[
        str, typer.Option(help="In whose name: as a consumer, as the producer of its feedback, as a reviewer.")
    ] = "executor",
    at_a_time: Annotated[
        int | None, typer.Option(min=1, help="How many tests are run at one time; one for each core by itself.")
    ] = None,
    bubblewrap: Annotated[
        Path | None, typer.Option(help="The bubblewrap program; the one on the search path where it is not given.")
    ] = None,
    no_sandbox: Annotated[
        bool, typer.Option("--no-sandbox", help="Go on where nothing can be isolated. The code may do harm then.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="End when all that the namespace has now is judged.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Follow the code of a namespace, run the tests of each version in a sandbox, and submit what came of it."""
    from epistream.services.execution.assessing import Place
    from epistream.services.execution.execute_command import execute_command

    _log_to_stderr("info")
    place = Place(service.address, namespace, service.credentials, name)
    try:
        execute_command(place, bubblewrap, at_a_time=at_a_time, allow_none=no_sandbox, once=once, as_json=as_json)
    except EpistreamError as error:
        _give_up(error)


@kafka.command("up")
def kafka_up(
    folder: Annotated[Path, typer.Option(help="The folder for Kafka's data.")] = Path("epistream-kafka"),
    port: Annotated[int, typer.Option(help="Where it listens; 0: as the last time, or a free port.")] = 9092,
) -> None:
    """Run a local Kafka with Epistream's topics until a signal to stop."""
    from epistream.services.kafka.command import kafka_up as run

    raise typer.Exit(run(folder, port))


@kafka.command("reread")
def kafka_reread(
    topic: Annotated[str, typer.Argument(help="The topic.")],
    partition: Annotated[int, typer.Argument(help="The number of its partition.")],
    offset: Annotated[
        int | None, typer.Argument(help="The next record to read. Without it: as if it had never been read.")
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="The folder of the store. No service may have it open.")
    ] = DEFAULT_FOLDER,
) -> None:
    """Set where a partition is read next. What is read again has no second effect."""
    from epistream.services.kafka.positions import reread

    try:
        typer.echo(reread(folder, topic, partition, offset))
    except EpistreamError as error:
        _give_up(error)


def redrive(  # its flags about Kafka's security are the service's settings, and set as these are
    *,
    kafka: Annotated[str | None, typer.Option(help="Redrive the letters in Kafka at HOST:PORT.")] = None,
    topics: Annotated[str, typer.Option(help="Kafka's topics of dead letters, separated by commas.")] = ",".join(
        map(dead_letter_topic, SUBMISSIONS)
    ),
    folder: Annotated[Path | None, typer.Option(help="Redrive the letters that the store in this folder kept.")] = None,
    service: "Reached",
    reason: Annotated[str | None, typer.Option(help="Only those refused for it, such as unknown_namespace.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many of each topic, and of the store.")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="Those too that were redriven before.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing: print each letter, and why it was refused.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    **kafka_flags: object,
) -> None:
    """Send dead letters on their way again, once what was wrong with them is put right.

    In Kafka's topics each --reason keeps a place of its own, and so does a redrive without one: what was sent for a
    reason is counted, and sent, again without it, and --dry-run tells what is left for the same --reason only. What is
    sent twice has no second effect.
    """
    if kafka is None and folder is None:
        _give_up(InvalidInput("nothing to redrive: give --kafka, --folder, or both"))
    from epistream.services.kafka.redrive_command import redrive_command

    code = redrive_command(
        kafka,
        [topic.strip() for topic in topics.split(",")],
        folder,
        service.address,
        credentials=service.credentials,
        reason=reason,
        limit=limit,
        everything=everything,
        dry_run=dry_run,
        as_json=as_json,
        security=_settings(kafka_flags).security_of_kafka(),
    )
    raise typer.Exit(code)


def _settings(flags: dict[str, object]) -> Settings:
    try:
        return Settings.load(**{name: value for name, value in flags.items() if value is not None})
    except InvalidInput as error:
        _give_up(error)


def _give_up(error: EpistreamError) -> NoReturn:
    from epistream.clients.cli.exits import ExitCode, exit_code

    typer.secho(printable(error.message), err=True, fg=typer.colors.RED)
    raise typer.Exit(ExitCode.USAGE if isinstance(error, InvalidInput) else exit_code(error))


def _flag(name: str, field: Any) -> inspect.Parameter:
    """The flag for a setting; None when it is not given, so that the environment and the file have their turn."""
    kind = bool if field.annotation is bool else str
    default = ", ".join(field.default) if isinstance(field.default, tuple) else field.default
    shown = "" if default is None or kind is bool else f" Default: {default}"
    option = typer.Option(help=f"{field.description}{shown}")
    annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _with_flags(command: Any, names: Iterable[str]) -> Any:
    """A command as typer sees it: with one flag for each of these settings."""
    own = [p for p in inspect.signature(command).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [*own, *(_flag(name, Settings.model_fields[name]) for name in names)]
    command.__signature__ = inspect.Signature(parameters)
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


app.command("up")(_with_flags(up, Settings.model_fields))


@functools.cache
def commands() -> typer.Typer:
    """All commands. Those with options of the clients' are added here: their packages load NumPy, after `main`."""
    from epistream.clients.cli.connection import PANEL, reaching, reaching_at
    from epistream.clients.cli.policy_fields import PolicyFields

    target = Annotated[
        str | None,
        typer.Option(
            envvar="EPISTREAM_ADDRESS",
            help=f"The running service that takes those of a store. Default: {DEFAULT_ADDRESS}",
            rich_help_panel=PANEL,
        ),
    ]
    rehearse.__annotations__["values"] = PolicyFields
    app.command("rehearse")(rehearse)
    app.command("execute")(reaching(execute))
    app.command("redrive")(_with_flags(reaching_at("target", target)(redrive), KAFKA_SECURITY))
    return app


def main() -> None:
    """Run the command line."""
    # Before NumPy is loaded: BLAS threads and spinning OpenMP ones would fight over the cores (docs/decisions/0004).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        commands()()
    except EpistreamError as error:  # the connection's options cannot be used
        from epistream.clients.cli.exits import exit_code, explain

        explain(error)
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()
