"""Options of several commands."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:4200"
CLIENT_VARIABLES = {"RUNYARD_URL": DEFAULT_URL, "RUNYARD_TOKEN": None}
"""Environment variables of the commands that use the API, with their defaults."""

Url = Annotated[str, typer.Option("--url", envvar="RUNYARD_URL", help="URL of the server.")]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", envvar="RUNYARD_TOKEN", help="API token, when the server requires one.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
States = Annotated[
    list[str] | None,
    typer.Option(
        "--state", help="Only runs in this state: a type such as FAILED, or a name such as AwaitingRetry. Repeatable."
    ),
]
Keys = Annotated[list[str] | None, typer.Option("--key", help="Only runs with this task key. Repeatable.")]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", help="Only runs with this tag. Repeatable: all tags must match.")
]
Since = Annotated[
    str | None, typer.Option("--since", help="Only runs that were created within this time: 24h, 30min, P7D.")
]


@contextmanager
def exit_on_error() -> Generator[None]:
    """Exit with 1 and the message of an error of the API, and with 130 on Ctrl-C."""
    from runyard.terminal.client import RequestFailed  # noqa: PLC0415

    try:
        yield
    except RequestFailed as error:
        sys.exit(f"runyard: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
