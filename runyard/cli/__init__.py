"""The command `runyard`. What it needs is imported when a command needs it, so that help and refusals come at once."""

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

HOUSE = Path(__file__).resolve().parent.parent.parent
OUR_PACKAGES = ("db", "queries", "resolvers", "schema")

app = typer.Typer(
    help="A GraphQL API server for task runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
database_commands = typer.Typer(help="The database.", no_args_is_help=True)
schema_commands = typer.Typer(help="The GraphQL schema.", no_args_is_help=True)
token_commands = typer.Typer(help="API tokens, by which clients are let in.", no_args_is_help=True)
app.add_typer(database_commands, name="db")
app.add_typer(token_commands, name="token")
app.add_typer(schema_commands, name="schema")


def main() -> None:
    """Run the command, unless a foreign package stands where one of ours should."""
    refuse_foreign_packages()
    app()


def refuse_foreign_packages() -> None:
    """Exit with a clear message where `db`, `schema`, ... are somebody else's: these names are common."""
    for name in OUR_PACKAGES:
        # Looked for, not imported: a foreign package is not to run.
        spec = find_spec(name)
        found = spec.origin if spec else None
        if found is None or Path(found).resolve().parent.parent != HOUSE:
            sys.exit(
                f"runyard: the package {name!r} at {found or 'an unknown place'} is not Runyard's, which is in {HOUSE}.\n"
                "Install Runyard in an environment of its own (python3 -m venv), start it in a folder that has no "
                f"{name!r} package, and look at PYTHONPATH."
            )


@app.callback(invoke_without_command=True)
def show_version(
    version: Annotated[bool, typer.Option("--version", help="Tell the version.")] = False,
) -> None:
    if version:
        from runyard import __version__  # noqa: PLC0415

        typer.echo(f"runyard {__version__}")
        raise typer.Exit


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on [RUNYARD_HOST; 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on [RUNYARD_PORT; 4200].")] = None,
) -> None:
    """Start the server. SIGTERM or Ctrl-C stops it in order."""
    from runyard.app import build_app  # noqa: PLC0415
    from runyard.file_lock import FileInUse, only_server_of  # noqa: PLC0415
    from runyard.logs import set_up_logs  # noqa: PLC0415
    from runyard.persisted_documents import TrustedDocumentsUnusable  # noqa: PLC0415
    from runyard.server import build_server  # noqa: PLC0415

    settings = _settings(host=host, port=port)
    for_people = set_up_logs(settings.log_level, settings.log_format)
    _make_ready(settings)
    if settings.needs_tokens:
        _require_token(settings)
    for welcome in (
        f"Runyard keeps its runs in {settings.database_shown}",
        f"GraphiQL is at http://{settings.host}:{settings.port}/",
        "Access is by API tokens" if settings.needs_tokens else f"Whoever reaches {settings.host} is let in",
    ):
        typer.echo(welcome, err=True) if for_people else logging.getLogger("runyard").info(welcome)
    try:
        server = build_server(build_app(settings), settings)
        alone = only_server_of(settings.database) if isinstance(settings.database, Path) else nullcontext()
        with alone, suppress(KeyboardInterrupt):
            server.run()
    except (FileInUse, TrustedDocumentsUnusable) as error:
        sys.exit(f"runyard: {error}")
    if not server.started:
        sys.exit("runyard: the server could not start; the reason is above.")


@app.command("prune")
def prune_runs(
    older_than: Annotated[str, typer.Option(help="How long ago they have to have ended: 30d, 12h, P30D.")],
    state: Annotated[
        list[str] | None,
        typer.Option(help="Only those that ended COMPLETED, FAILED, CANCELLED or CRASHED; may be given several times."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell how many these are.")] = False,
) -> None:
    """Delete runs that ended long ago. Servers may go on meanwhile.

    A task run of a flow run goes with its flow run, when that has ended long ago.
    """
    import asyncio  # noqa: PLC0415

    from db.enums import TERMINAL, StateType  # noqa: PLC0415
    from db.errors import DatabaseError  # noqa: PLC0415
    from runyard.cli.prune import prune_database  # noqa: PLC0415
    from runyard.durations import read_duration  # noqa: PLC0415

    try:
        keep = read_duration(older_than)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from None
    named = {name.upper() for name in state or TERMINAL}
    if unknown := sorted(named - {each.value for each in TERMINAL}):
        ends = ", ".join(sorted(TERMINAL))
        raise typer.BadParameter(f"{unknown[0]} is no state that a run ends in: {ends}.", param_hint="--state")
    settings = _settings()
    if isinstance(settings.database, Path):
        if not settings.database.exists():
            sys.exit(f"runyard: There is no file {settings.database}.")
    else:
        _require_current(settings)
    states = [StateType(name) for name in sorted(named)]
    try:
        asyncio.run(prune_database(settings, keep, states, dry_run=dry_run, tell=typer.echo))
    except DatabaseError as error:
        sys.exit(f"runyard: {error} What was deleted until now stays deleted; the same again goes on with it.")


@app.command("doctor")
def run_doctor() -> None:
    """Look whether everything is as it has to be, and say what to do where it is not. Changes nothing."""
    from runyard.cli.doctor import examine  # noqa: PLC0415

    is_healthy = True
    for finding in examine(_settings()):
        typer.echo(f"{'✓' if finding.is_good else '✗'} {finding.text}")
        is_healthy = is_healthy and finding.is_good
    if not is_healthy:
        raise typer.Exit(1)


@database_commands.command("upgrade")
def upgrade() -> None:
    """Bring the database up to date, making it if there is none."""
    settings = _settings()
    changed = _upgrade(settings.database)
    typer.echo(f"{settings.database_shown} {'is now' if changed else 'was already'} up to date.")


@token_commands.command("create")
def create_token(
    scope: Annotated[
        list[str],
        typer.Option(help="What it is good for: read, write (and read), or work; may be given several times."),
    ],
    expires: Annotated[
        str | None, typer.Option(help="How long it is valid: 90d, 12h, P1Y; left out, for ever.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What it is for, so that people know it again.")] = None,
) -> None:
    """Make a token and print it: this once, since only a hash of it is kept."""
    from db.enums import Scope  # noqa: PLC0415
    from resolvers.api_tokens import WantedToken  # noqa: PLC0415
    from runyard.cli import tokens  # noqa: PLC0415
    from runyard.durations import read_duration  # noqa: PLC0415

    if unknown := sorted(set(scope) - set(Scope)):
        raise typer.BadParameter(f"{unknown[0]} is no scope: {', '.join(Scope)}.", param_hint="--scope")
    try:
        lifetime = None if expires is None else read_duration(expires)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--expires") from None
    wanted = WantedToken(frozenset(map(Scope, scope)), name, lifetime)
    with _told_plainly():
        made = tokens.create(_settings_with_database(), wanted)
    typer.echo(made.text)
    typer.echo(f"Keep it: it can not be shown again. `runyard token revoke {made.record.id}` ends it.", err=True)


@token_commands.command("list")
def list_tokens() -> None:
    """List all tokens, without their secrets."""
    from runyard.cli import tokens  # noqa: PLC0415

    with _told_plainly():
        for line in tokens.tell_all(_settings_with_database()):
            typer.echo(line)


@token_commands.command("revoke")
def revoke_token(
    token: Annotated[str, typer.Argument(help="Its id, as listed, or a beginning that no other has.")],
) -> None:
    """Let a token open nothing any more. Servers notice within seconds, and end what is open with it."""
    from runyard.cli import tokens  # noqa: PLC0415

    with _told_plainly():
        revoked = tokens.revoke(_settings_with_database(), token)
    typer.echo(f"{revoked.id} is revoked.")


@schema_commands.command("print")
def print_schema() -> None:
    """Print the GraphQL schema."""
    from schema.root import print_schema  # noqa: PLC0415

    sys.stdout.write(print_schema())


def _settings_with_database() -> "Settings":
    settings = _settings()
    _make_ready(settings)
    return settings


def _make_ready(settings: "Settings") -> None:
    """Have a database that is there and current: a SQLite file is made so, of PostgreSQL it is expected."""
    if isinstance(settings.database, Path):
        _upgrade(settings.database)
    else:
        _require_current(settings)


def _require_token(settings: "Settings") -> None:
    """Exit where nobody would be let in."""
    from runyard.cli import tokens  # noqa: PLC0415

    with _told_plainly():
        has_any = tokens.has_any(settings)
    if not has_any:
        sys.exit(
            f"runyard: Access to {settings.host} is by API tokens, and {settings.database_shown} has no valid one. Make one "
            "with `runyard token create --scope read --scope write --scope work`, or let anybody in who reaches that "
            "address: RUNYARD_ACCESS=anonymous."
        )


@contextmanager
def _told_plainly() -> Generator[None]:
    """Exit with what the database, or whoever refuses, has to say."""
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
    """Exit where PostgreSQL has not the migrations of this version: several servers use it, one person upgrades it."""
    from db import migrations  # noqa: PLC0415
    from db.errors import DatabaseError  # noqa: PLC0415

    try:
        revision = migrations.postgresql_revision(str(settings.database))
    except DatabaseError as error:
        sys.exit(f"runyard: {error}")
    if revision != migrations.HEAD:
        sys.exit(
            f"runyard: {settings.database_shown} is at migration {revision or 'none'}, and this version needs "
            f"{migrations.HEAD}. `runyard db upgrade` brings an older one up to date."
        )


def _settings(**given: object) -> "Settings":
    from pydantic import ValidationError  # noqa: PLC0415

    from runyard.settings import Settings  # noqa: PLC0415

    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})  # pyright: ignore
        _ = settings.database
    except ValidationError as error:
        faults = (f"RUNYARD_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in error.errors())
        sys.exit("runyard: " + "\n".join(faults))
    except ValueError as error:
        sys.exit(f"runyard: {error}")
    return settings
