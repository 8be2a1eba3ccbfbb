"""`--set FIELD=VALUE`: any field of a policy, for all commands that take some."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from epistream.v1 import namespace_service_pb2 as ns

PolicyFields = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Any field of the policy by its name in the contract, such as anchor_after=500. May be repeated.",
    ),
]


def set_field(policy: "ns.Policy", value: str) -> None:
    """Set a field as `FIELD=VALUE` says, in protobuf's JSON form.

    Raises:
        typer.BadParameter: there is no such field, or it is not of that kind.
    """
    from google.protobuf import json_format

    name, _, text = value.partition("=")
    fields = policy.DESCRIPTOR.fields_by_name
    if name not in fields:
        raise typer.BadParameter(f"{name!r} is no field of a policy: {', '.join(sorted(fields))} are")
    try:
        told = json.loads(text)
    except ValueError:
        told = text  # the name of an enum's value
    try:
        json_format.ParseDict({name: told}, policy)
    except json_format.ParseError as error:
        raise typer.BadParameter(f"{value!r}: {error}") from error
