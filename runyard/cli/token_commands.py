"""`runyard token create`, `list` and `revoke`."""

from typing import Annotated

import typer

from runyard.cli.database import exit_on_error, load_settings_with_database

commands = typer.Typer(help="Manage API tokens.", no_args_is_help=True)


@commands.command("create")
def create_token(
    scope: Annotated[
        list[str],
        typer.Option(help="Scope of the token: read, write (includes read) or work. Repeatable."),
    ],
    expires: Annotated[
        str | None, typer.Option(help="How long the token is valid: 90d, 12h, P1Y. By default, it does not expire.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name to recognize the token by in the list.")] = None,
) -> None:
    """Create a token and print it once. Only its SHA-256 hash is stored."""
    from db.enums import Scope  # noqa: PLC0415
    from resolvers.api_tokens import NewToken  # noqa: PLC0415
    from runyard.cli import tokens  # noqa: PLC0415
    from runyard.durations import parse_duration  # noqa: PLC0415

    if unknown := sorted(set(scope) - set(Scope)):
        raise typer.BadParameter(f"{unknown[0]} is not a scope. Use one of {', '.join(Scope)}.", param_hint="--scope")
    try:
        lifetime = None if expires is None else parse_duration(expires)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--expires") from None
    new_token = NewToken(frozenset(map(Scope, scope)), name, lifetime)
    with exit_on_error():
        created = tokens.create(load_settings_with_database(), new_token)
    typer.echo(created.text)
    typer.echo(
        f"Save it now; it cannot be shown again. Revoke it with `runyard token revoke {created.record.id}`.", err=True
    )


@commands.command("list")
def list_tokens() -> None:
    """List all tokens, without their secrets."""
    from runyard.cli import tokens  # noqa: PLC0415

    with exit_on_error():
        for line in tokens.format_token_table(load_settings_with_database()):
            typer.echo(line)


@commands.command("revoke")
def revoke_token(
    token: Annotated[str, typer.Argument(help="Id of the token, a unique prefix of the id, or the token itself.")],
) -> None:
    """Revoke a token. Within seconds, servers reject it and close its connections."""
    from runyard.cli import tokens  # noqa: PLC0415

    with exit_on_error():
        revoked = tokens.revoke(load_settings_with_database(), token)
    typer.echo(f"{revoked.id} is revoked.")
