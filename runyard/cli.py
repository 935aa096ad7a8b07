"""The command `runyard`. What it needs is imported when a command needs it, so that help and refusals come at once."""

import logging
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from runyard.settings import Settings

HOUSE = Path(__file__).resolve().parent.parent
OUR_PACKAGES = ("db", "queries", "resolvers", "schema")

app = typer.Typer(
    help="A GraphQL API server for task runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
database_commands = typer.Typer(help="The database.", no_args_is_help=True)
schema_commands = typer.Typer(help="The GraphQL schema.", no_args_is_help=True)
app.add_typer(database_commands, name="db")
app.add_typer(schema_commands, name="schema")


def main() -> None:
    """Run the command, unless a foreign package stands where one of ours should."""
    refuse_foreign_packages()
    app()


def refuse_foreign_packages() -> None:
    """Exit with a clear message where `db`, `schema`, ... are somebody else's: these names are common."""
    for name in OUR_PACKAGES:
        found = getattr(import_module(name), "__file__", None)
        if found is None or Path(found).resolve().parent.parent != HOUSE:
            sys.exit(
                f"runyard: the package {name!r} at {found or 'an unknown place'} is not Runyard's, which is in {HOUSE}.\n"
                "Install Runyard in an environment of its own (python3 -m venv), start it in a folder that has no "
                f"{name!r} package, and look at PYTHONPATH."
            )


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on [RUNYARD_HOST; 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on [RUNYARD_PORT; 4200].")] = None,
) -> None:
    """Start the server. SIGTERM or Ctrl-C stops it in order."""
    from runyard.app import build_app  # noqa: PLC0415
    from runyard.server import build_server  # noqa: PLC0415

    settings = _settings(host=host, port=port)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)-8s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    typer.echo(f"Runyard keeps its runs in {settings.sqlite_path}", err=True)
    typer.echo(f"GraphiQL is at http://{settings.host}:{settings.port}/", err=True)
    build_server(build_app(settings), settings).run()


@database_commands.command("upgrade")
def upgrade() -> None:
    """Bring the database up to date, making it if there is none."""
    from db import migrations  # noqa: PLC0415
    from db.errors import DatabaseTooNew  # noqa: PLC0415

    path = _settings().sqlite_path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        changed = migrations.upgrade_sqlite(path)
    except DatabaseTooNew as error:
        sys.exit(f"runyard: {error}")
    typer.echo(f"{path} {'was brought up' if changed else 'was already up'} to revision {migrations.HEAD}.")


@schema_commands.command("print")
def print_schema() -> None:
    """Print the GraphQL schema."""
    from schema.root import print_schema  # noqa: PLC0415

    sys.stdout.write(print_schema())


def _settings(**given: object) -> "Settings":
    from pydantic import ValidationError  # noqa: PLC0415

    from runyard.settings import Settings  # noqa: PLC0415

    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})  # pyright: ignore
        _ = settings.sqlite_path
    except ValidationError as error:
        faults = (f"RUNYARD_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in error.errors())
        sys.exit("runyard: " + "\n".join(faults))
    except ValueError as error:
        sys.exit(f"runyard: {error}")
    return settings
