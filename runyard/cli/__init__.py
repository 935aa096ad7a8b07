"""The command `runyard`.

    serving.py           `runyard serve`
    maintenance.py       `runyard prune`, with prune.py, and `runyard doctor`, with doctor.py
    database.py          `runyard db`, and the database as other commands need it
    token_commands.py    `runyard token`, with tokens.py
    settings_loading.py  the settings of a command, and variables that are not settings

The commands of `runyard.terminal` use the API of a running server.

Invalid settings and unusable databases exit with a message, without a traceback. Each command imports its dependencies
when it is called: the help and error messages appear without delay. May import every layer.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from runyard.cli import database, maintenance, serving, token_commands
from runyard.terminal import queue_commands, run_commands, worker_commands

PACKAGE_ROOT = Path(__file__).resolve().parent.parent.parent
TOP_LEVEL_PACKAGES = ("db", "queries", "resolvers", "schema")

app = typer.Typer(
    help="A GraphQL API server for task runs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
schema_commands = typer.Typer(help="Show the GraphQL schema.", no_args_is_help=True)
app.command("serve")(serving.serve)
app.command("prune")(maintenance.prune_runs)
app.command("doctor")(maintenance.run_doctor)
app.add_typer(run_commands.commands, name="runs")
app.add_typer(queue_commands.commands, name="queues")
app.command("workers")(worker_commands.list_workers)
app.add_typer(database.commands, name="db")
app.add_typer(token_commands.commands, name="token")
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
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")] = False,
) -> None:
    if version:
        from runyard import __version__  # noqa: PLC0415

        typer.echo(f"runyard {__version__}")
        raise typer.Exit


@schema_commands.command("print")
def print_schema() -> None:
    """Print the GraphQL schema."""
    from schema.root import print_schema  # noqa: PLC0415

    sys.stdout.write(print_schema())
