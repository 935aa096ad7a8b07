"""The command `runyard`.

    doctor.py  `runyard doctor`
    prune.py   `runyard prune`
    tokens.py  `runyard token`

Invalid settings and unusable databases exit with a message, without a traceback. Each command imports its dependencies
when it is called: the help and error messages appear without delay. May import every layer.
"""

import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from runyard.settings import Settings

PACKAGE_ROOT = Path(__file__).resolve().parent.parent.parent
TOP_LEVEL_PACKAGES = ("db", "queries", "resolvers", "schema")

app = typer.Typer(
    help="A GraphQL API server for task runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
database_commands = typer.Typer(help="Manage the database.", no_args_is_help=True)
schema_commands = typer.Typer(help="Show the GraphQL schema.", no_args_is_help=True)
token_commands = typer.Typer(help="Manage API tokens.", no_args_is_help=True)
app.add_typer(database_commands, name="db")
app.add_typer(token_commands, name="token")
app.add_typer(schema_commands, name="schema")


def main() -> None:
    """Run the command. Exits with a message when a foreign package shadows one of Runyard."""
    check_package_origins()
    app()


def check_package_origins() -> None:
    """Exit with a message when `db`, `schema`, … are not the packages of Runyard: these names are common."""
    for name in TOP_LEVEL_PACKAGES:
        # The package is located but not imported: a foreign package must not be executed.
        spec = find_spec(name)
        found = spec.origin if spec else None
        if found is None or Path(found).resolve().parent.parent != PACKAGE_ROOT:
            sys.exit(
                f"runyard: The package {name!r} at {found or 'an unknown path'} is not part of Runyard, "
                f"which is installed in {PACKAGE_ROOT}.\n"
                "Install Runyard in a separate environment (python3 -m venv), start it in a folder without a "
                f"{name!r} package, and check PYTHONPATH."
            )


@app.callback(invoke_without_command=True)
def show_version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from runyard import __version__  # noqa: PLC0415

        typer.echo(f"runyard {__version__}")
        raise typer.Exit


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [RUNYARD_HOST; 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [RUNYARD_PORT; 4200].")] = None,
) -> None:
    """Start the server. SIGTERM or Ctrl-C shuts it down gracefully."""
    from runyard.app import build_app  # noqa: PLC0415
    from runyard.file_lock import FileInUse, acquire_file_lock  # noqa: PLC0415
    from runyard.logs import configure_logging  # noqa: PLC0415
    from runyard.persisted_documents import TrustedDocumentsUnusable  # noqa: PLC0415
    from runyard.server import build_server  # noqa: PLC0415

    settings = _load_settings(host=host, port=port)
    is_console = configure_logging(settings.log_level, settings.log_format)
    _prepare_database(settings)
    if settings.needs_tokens:
        _require_token(settings)
    database_kind = "SQLite" if isinstance(settings.database, Path) else "PostgreSQL"
    for message in (
        f"Using {database_kind} database {settings.redacted_database}",
        f"GraphiQL is at http://{settings.host}:{settings.port}/",
        "Authentication is enabled: clients need an API token"
        if settings.needs_tokens
        else f"Authentication is disabled: clients on {settings.host} need no token",
    ):
        typer.echo(message, err=True) if is_console else logging.getLogger("runyard").info(message)
    try:
        server = build_server(build_app(settings), settings)
        file_lock = acquire_file_lock(settings.database) if isinstance(settings.database, Path) else nullcontext()
        with file_lock, suppress(KeyboardInterrupt):
            server.run()
    except (FileInUse, TrustedDocumentsUnusable) as error:
        sys.exit(f"runyard: {error}")
    if not server.started:
        sys.exit("runyard: The server did not start. The reason is logged above.")


@app.command("prune")
def prune_runs(
    older_than: Annotated[str, typer.Option(help="Delete runs that ended longer ago than this: 30d, 12h, P30D.")],
    state: Annotated[
        list[str] | None,
        typer.Option(help="Delete only runs in this state: COMPLETED, FAILED, CANCELLED or CRASHED. Repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the runs.")] = False,
) -> None:
    """Delete runs that ended long ago. Servers can keep running meanwhile.

    Task runs of a flow run are deleted together with the flow run, not before.
    """
    import asyncio  # noqa: PLC0415

    from db.enums import TERMINAL, StateType  # noqa: PLC0415
    from db.errors import DatabaseError  # noqa: PLC0415
    from runyard.cli.prune import prune_database  # noqa: PLC0415
    from runyard.durations import parse_duration  # noqa: PLC0415

    try:
        min_age = parse_duration(older_than)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from None
    state_names = {name.upper() for name in state or TERMINAL}
    if unknown := sorted(state_names - {each.value for each in TERMINAL}):
        ends = ", ".join(sorted(TERMINAL))
        raise typer.BadParameter(f"{unknown[0]} is not a terminal state. Use one of {ends}.", param_hint="--state")
    settings = _load_settings()
    if isinstance(settings.database, Path):
        if not settings.database.exists():
            sys.exit(f"runyard: No such file: {settings.database}")
    else:
        _require_current(settings)
    states = [StateType(name) for name in sorted(state_names)]
    try:
        asyncio.run(prune_database(settings, min_age, states, dry_run=dry_run, report=typer.echo))
    except DatabaseError as error:
        sys.exit(f"runyard: {error} Runs that were already deleted stay deleted. Run the command again to continue.")


@app.command("doctor")
def run_doctor() -> None:
    """Check the settings and the database, and suggest how to fix problems. Changes nothing.

    Exits with 1 when a check fails.
    """
    from runyard.cli.doctor import run_checks  # noqa: PLC0415

    is_healthy = True
    for finding in run_checks(_load_settings()):
        typer.echo(f"{'✓' if finding.is_ok else '✗'} {finding.text}")
        is_healthy = is_healthy and finding.is_ok
    if not is_healthy:
        raise typer.Exit(1)


@database_commands.command("upgrade")
def upgrade() -> None:
    """Apply pending migrations to the database. Creates a SQLite file that does not exist."""
    settings = _load_settings()
    changed = _upgrade(settings.database)
    typer.echo(f"{settings.redacted_database} {'is now' if changed else 'was already'} up to date.")


@token_commands.command("create")
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
    with _exit_on_error():
        created = tokens.create(_settings_with_database(), new_token)
    typer.echo(created.text)
    typer.echo(
        f"Save it now; it cannot be shown again. Revoke it with `runyard token revoke {created.record.id}`.", err=True
    )


@token_commands.command("list")
def list_tokens() -> None:
    """List all tokens, without their secrets."""
    from runyard.cli import tokens  # noqa: PLC0415

    with _exit_on_error():
        for line in tokens.format_token_table(_settings_with_database()):
            typer.echo(line)


@token_commands.command("revoke")
def revoke_token(
    token: Annotated[str, typer.Argument(help="Id of the token, a unique prefix of the id, or the token itself.")],
) -> None:
    """Revoke a token. Within seconds, servers reject it and close its connections."""
    from runyard.cli import tokens  # noqa: PLC0415

    with _exit_on_error():
        revoked = tokens.revoke(_settings_with_database(), token)
    typer.echo(f"{revoked.id} is revoked.")


@schema_commands.command("print")
def print_schema() -> None:
    """Print the GraphQL schema."""
    from schema.root import print_schema  # noqa: PLC0415

    sys.stdout.write(print_schema())


def _settings_with_database() -> "Settings":
    settings = _load_settings()
    _prepare_database(settings)
    return settings


def _prepare_database(settings: "Settings") -> None:
    """Create and migrate a SQLite file; exit when the migrations of a PostgreSQL database are not current."""
    if isinstance(settings.database, Path):
        _upgrade(settings.database)
    else:
        _require_current(settings)


def _require_token(settings: "Settings") -> None:
    """Exit when no token is valid: the server would reject every client."""
    from runyard.cli import tokens  # noqa: PLC0415

    with _exit_on_error():
        has_any = tokens.has_any(settings)
    if not has_any:
        sys.exit(
            f"runyard: Clients on {settings.host} need an API token, but {settings.redacted_database} has no valid "
            "token. Create one with `runyard token create --scope read --scope write --scope work`, or disable "
            "authentication with RUNYARD_ACCESS=anonymous."
        )


@contextmanager
def _exit_on_error() -> Generator[None]:
    """Exit with the message of a database error or refusal."""
    from db.errors import DatabaseError  # noqa: PLC0415
    from resolvers.errors import Refusal  # noqa: PLC0415

    try:
        yield
    except (DatabaseError, Refusal) as error:
        sys.exit(f"runyard: {error}")


def _upgrade(database: Path | str) -> bool:
    from db import migrations  # noqa: PLC0415
    from db.errors import DatabaseError  # noqa: PLC0415

    try:
        if not isinstance(database, Path):
            return migrations.upgrade_postgresql(database)
        database.parent.mkdir(parents=True, exist_ok=True)
        return migrations.upgrade_sqlite(database)
    except (DatabaseError, OSError) as error:
        sys.exit(f"runyard: {error}")


def _require_current(settings: "Settings") -> None:
    """Exit when the migrations of a PostgreSQL database are not those of this version.

    Servers do not apply them, because several servers can share the database.
    """
    from db import migrations  # noqa: PLC0415
    from db.errors import DatabaseError  # noqa: PLC0415
    from db.statements.schema_version import HEAD  # noqa: PLC0415

    try:
        revision = migrations.postgresql_revision(str(settings.database))
    except DatabaseError as error:
        sys.exit(f"runyard: {error}")
    if revision != HEAD:
        sys.exit(
            f"runyard: {settings.redacted_database} is at migration {revision or 'none'}, but this version needs "
            f"{HEAD}. Upgrade an older database with `runyard db upgrade`."
        )


def _setting_error(location: tuple[int | str, ...], message: str) -> str:
    """Return the message of an invalid setting, which begins with its variable."""
    message = message.removeprefix("Value error, ")
    return f"RUNYARD_{'_'.join(map(str, location)).upper()}: {message}" if location else message


def _load_settings(**overrides: object) -> "Settings":
    from pydantic import ValidationError  # noqa: PLC0415

    from runyard.settings import Settings  # noqa: PLC0415

    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})  # pyright: ignore
        _ = settings.database, settings.listen_database
    except ValidationError as error:
        sys.exit("runyard: " + "\n".join(_setting_error(each["loc"], each["msg"]) for each in error.errors()))
    except ValueError as error:
        sys.exit(f"runyard: {error}")
    return settings
