"""`runyard serve`: starts a server, and exits with 1 and a message when it cannot run."""

import logging
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runyard.cli.database import exit_on_error, prepare_database
from runyard.cli.settings_loading import load_settings, warn_of_unknown_variables

if TYPE_CHECKING:
    from runyard.server import Server
    from runyard.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [RUNYARD_HOST; 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [RUNYARD_PORT; 4200].")] = None,
) -> None:
    """Start the server. SIGTERM or Ctrl-C shuts it down gracefully."""
    from runyard.app import build_app  # noqa: PLC0415
    from runyard.file_lock import FileInUse, acquire_file_lock  # noqa: PLC0415
    from runyard.listening import AddressUnusable, check_address  # noqa: PLC0415
    from runyard.logs import configure_logging  # noqa: PLC0415
    from runyard.persisted_documents import TrustedDocumentsUnusable  # noqa: PLC0415
    from runyard.server import build_server  # noqa: PLC0415

    settings = load_settings(host=host, port=port)
    is_console = configure_logging(settings.log_level, settings.log_format)
    for warning in warn_of_unknown_variables():
        typer.echo(f"Warning: {warning}", err=True) if is_console else logging.getLogger("runyard").warning(warning)
    try:
        check_address(settings.host, settings.port)
        prepare_database(settings)
        if settings.needs_tokens:
            _require_token(settings)
        for message in _describe(settings):
            typer.echo(message, err=True) if is_console else logging.getLogger("runyard").info(message)
        server = build_server(build_app(settings), settings)
        file_lock = acquire_file_lock(settings.database) if isinstance(settings.database, Path) else nullcontext()
        with file_lock:
            run_until_stopped(server)
    except (AddressUnusable, FileInUse, TrustedDocumentsUnusable) as error:
        sys.exit(f"runyard: {error}")


def _describe(settings: "Settings") -> tuple[str, ...]:
    database_kind = "SQLite" if isinstance(settings.database, Path) else "PostgreSQL"
    return (
        f"Using {database_kind} database {settings.redacted_database}",
        f"GraphiQL is at http://{settings.host}:{settings.port}/",
        "Authentication is enabled: clients need an API token"
        if settings.needs_tokens
        else f"Authentication is disabled: clients on {settings.host} need no token",
    )


def run_until_stopped(server: "Server") -> None:
    """Run the server until a signal arrives. Exits with 1 when it does not start, or fails to shut down."""
    exit_code = None
    try:
        with suppress(KeyboardInterrupt):
            server.run()
    except SystemExit as error:  # uvicorn exits with 3 when the server does not start
        exit_code = error.code
    if not server.started:
        sys.exit("runyard: The server did not start. The reason is logged above.")
    if exit_code or server.lifespan.should_exit:
        sys.exit("runyard: The server failed. The reason is logged above.")


def _require_token(settings: "Settings") -> None:
    """Exit when no token is valid: the server would reject every client."""
    from runyard.cli import tokens  # noqa: PLC0415

    with exit_on_error():
        has_any = tokens.has_any(settings)
    if not has_any:
        sys.exit(
            f"runyard: Clients on {settings.host} need an API token, but {settings.redacted_database} has no valid "
            "token. Create one with `runyard token create --scope read --scope write --scope work`, or disable "
            "authentication with RUNYARD_ACCESS=anonymous."
        )
