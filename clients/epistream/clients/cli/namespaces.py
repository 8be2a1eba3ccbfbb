"""`epistream namespaces …` and `epistream consumers`."""

from typing import TYPE_CHECKING, Annotated

import typer

from epistream.clients.cli import options
from epistream.clients.cli.ask import ask
from epistream.clients.cli.connection import reaching
from epistream.clients.cli.policy_fields import PolicyFields, set_field
from epistream.clients.client_settings import Service

if TYPE_CHECKING:
    from epistream.v1 import namespace_service_pb2 as ns

app = typer.Typer(
    help="List, show and make namespaces, and change their policies.", no_args_is_help=True, rich_markup_mode="rich"
)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="The namespace.")]
_Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        min=0.5,
        max=1.0,
        help="From this cosine on two items are compared as claims. The service's default: 0.95.",
    ),
]
_OwnVectors = Annotated[
    bool | None,
    typer.Option("--own-vectors/--no-own-vectors", help="Whether producers may send embeddings of their own."),
]
_Retained = Annotated[
    int | None, typer.Option("--retained", min=0, help="How many of the newest revisions can be resumed from; 0: all.")
]


def _policy_of(
    *, threshold: float | None, own_vectors: bool | None, retained: int | None, values: list[str] | None
) -> "ns.Policy":
    """The policy as far as it is given."""
    from epistream.v1 import namespace_service_pb2 as ns

    given = ns.Policy(
        near_duplicate_threshold=threshold, accept_producer_embeddings=own_vectors, retained_revisions=retained
    )
    for value in values or ():
        set_field(given, value)
    return given


@app.command("list")
@reaching
def list_all(
    *,
    service: Service,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """List all namespaces with their figures.

    Example:
      epistream namespaces list
    """
    from epistream.clients.cli import show

    found = ask(service, timeout, lambda client: client.namespaces())
    show.show(found, as_json=as_json, table=lambda: show.namespaces_table(found))


@app.command("get")
@reaching
def get(
    name: _Name,
    *,
    service: Service,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """Show one namespace: its figures, and what its policy says.

    Example:
      epistream namespaces get pharmacy --json
    """
    from epistream.clients.cli import show

    found = ask(service, timeout, lambda client: client.namespace(name))
    show.show([found], as_json=as_json, table=lambda: show.namespaces_table([found]))
    if not as_json:
        show.output().print(show.policy_table(found))


@app.command("create")
@reaching
def create(
    name: _Name,
    *,
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            help="The model that makes its vectors: the service's own when not given, `none` to bring your own.",
        ),
    ] = "",
    dimension: Annotated[
        int,
        typer.Option("--dimension", min=0, max=8192, help="The length of a vector; needed with the encoder `none`."),
    ] = 0,
    threshold: _Threshold = None,
    own_vectors: _OwnVectors = None,
    retained: _Retained = None,
    values: PolicyFields = None,
    service: Service,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """Make a namespace. One that is just so already is the answer too.

    Examples:
      epistream namespaces create pharmacy
      epistream namespaces create vectors --encoder none --dimension 768
      epistream namespaces create made --set real_share_floor=0
    """
    from epistream.clients.cli import show
    from epistream.v1 import namespace_service_pb2 as ns

    policy = _policy_of(threshold=threshold, own_vectors=own_vectors, retained=retained, values=values)
    wanted = ns.Encoder(model=encoder, dimension=dimension) if encoder or dimension else None
    made = ask(service, timeout, lambda client: client.create_namespace(name, encoder=wanted, policy=policy))
    show.show([made], as_json=as_json, table=lambda: show.namespaces_table([made]))


@app.command("policy")
@reaching
def policy(
    name: _Name,
    *,
    threshold: _Threshold = None,
    own_vectors: _OwnVectors = None,
    retained: _Retained = None,
    values: PolicyFields = None,
    service: Service,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """Change the policy of a namespace: what is given; the rest stays.

    Examples:
      epistream namespaces policy pharmacy --threshold 0.97
      epistream namespaces policy programs --set verify_code=true
      epistream namespaces policy pharmacy --set on_collapse=COLLAPSE_ACTION_HOLD --set watch_every=250
    """
    from epistream.clients.cli import show
    from epistream.v1 import namespace_service_pb2 as ns

    wanted = _policy_of(threshold=threshold, own_vectors=own_vectors, retained=retained, values=values)
    if wanted == ns.Policy():
        raise typer.BadParameter(
            "nothing to change: give --threshold, --own-vectors, --no-own-vectors, --retained or --set"
        )
    changed = ask(service, timeout, lambda client: client.update_policy(name, wanted))
    show.show([changed], as_json=as_json, table=lambda: show.policy_table(changed))


@app.command("policies")
@reaching
def policies(
    name: _Name,
    *,
    service: Service,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """List the policies that a namespace has had, the newest first: since when, and what each changed.

    The version is the one that `epistream explain` tells. With --json each policy is whole.

    Examples:
      epistream namespaces policies pharmacy
      epistream namespaces policies pharmacy --json
    """
    from epistream.clients.cli import show

    found = ask(service, timeout, lambda client: client.policies(name))
    show.show(found, as_json=as_json, table=lambda: show.policies_table(name, found))


@reaching
def consumers(
    *,
    service: Service,
    namespace: options.Namespace,
    timeout: options.Timeout = options.DEFAULT_SECONDS,
    as_json: options.Json = False,
) -> None:
    """List the consumers of a namespace and how far each of them is.

    Example:
      epistream consumers -n pharmacy
    """
    from epistream.clients.cli import show

    answer = ask(service, timeout, lambda client: client.consumers(namespace))
    show.show(answer.consumers, as_json=as_json, table=lambda: show.consumers_table(answer))
