"""`epistream access`: tokens, and what an access file means."""

import json
import secrets
from pathlib import Path
from typing import Annotated, Final

import typer

from epistream.wire.errors import InvalidInput

TOKEN_BYTES: Final = 32
TOKEN_PREFIX: Final = "eps_"  # noqa: S105 - what tokens begin with, so that scanners for leaked secrets find them
_BOUNDS: Final = ("origins", "producers", "consumers")

access = typer.Typer(help="Who may do what: make tokens, check access files.", no_args_is_help=True)


@access.command()
def token(*, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Make a new API token. It is kept nowhere: give it to whom it is for, and its hash to the access file.

    The token goes to the standard output, the hash to the standard error stream, so that
    `epistream access token > token` writes a token file.
    """
    from epistream.services.security.access import token_hash

    made = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    if as_json:
        typer.echo(json.dumps({"token": made, "hash": token_hash(made)}))
        return
    typer.echo(made)
    typer.echo(f'token_hashes = ["{token_hash(made)}"]', err=True)


@access.command()
def check(
    file: Annotated[Path, typer.Argument(help="The access file.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read an access file as the service does, and say what each principal may do. Exit code 1 where it is wrong."""
    from epistream.services.security.access import Access
    from epistream.services.security.files import Watched

    try:
        read = Access.read(file, Watched())
    except InvalidInput as error:
        typer.secho(error.message, err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
    listed = {
        name: [role.model_dump(mode="json", exclude_none=True) for role in principal.roles]
        for name, principal in sorted(read.principals.items())
    }
    if as_json:
        typer.echo(json.dumps({"file": str(file), "principals": listed, "unproven": read.unproven}))
        return
    for name, roles in listed.items():
        typer.echo(f"{name}, whom nobody can be: no token_hashes, no certificates" if name in read.unproven else name)
        for role in roles:
            only = "".join(f", {part} {' '.join(role[part])}" for part in _BOUNDS if part in role)
            vain = "monitor" in role["verbs"] and "*" not in role["namespaces"]
            typer.echo(
                f"  {' '.join(sorted(role['verbs']))} in {' '.join(role['namespaces'])}{only}"
                f"{'; monitor grants nothing: it needs *' if vain else ''}"
            )
    typer.echo(f"{file}: {len(listed)} principals")
