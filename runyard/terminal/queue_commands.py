"""`runyard queues`: lists, pauses and resumes queues."""

from typing import Annotated, Any

import typer

from runyard.terminal.options import DEFAULT_URL, AsJson, Token, Url, exit_on_error

commands = typer.Typer(help="List the queues of task keys, and pause and resume them.")

Keys = Annotated[list[str] | None, typer.Option("--key", help="Only the queue of this task key. Repeatable.")]
Key = Annotated[str, typer.Argument(help="Task key of the queue.")]


@commands.callback(invoke_without_command=True)
def list_queues(
    context: typer.Context, key: Keys = None, as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None
) -> None:
    """List the queues of task keys with their numbers of task runs."""
    if context.invoked_subcommand is not None:
        return
    from runyard.terminal.client import Client  # noqa: PLC0415
    from runyard.terminal.tables import print_json, print_table  # noqa: PLC0415

    with exit_on_error():
        queues: list[dict[str, Any]] = Client(url, token).execute("ListTaskQueues", taskKeys=key)
    if as_json:
        print_json(queues)
    else:
        print_table(_format_queues(queues))


@commands.command("pause")
def pause_queue(key: Key, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Pause a queue: its runs are not delivered until it is resumed. Workers keep the runs that they have."""
    _change("PauseTaskQueue", key, url, token)
    typer.echo(f"The queue of {key} is paused.")


@commands.command("resume")
def resume_queue(key: Key, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Resume a paused queue."""
    _change("ResumeTaskQueue", key, url, token)
    typer.echo(f"The queue of {key} is not paused.")


def _change(operation: str, key: str, url: str, token: str | None) -> None:
    from runyard.terminal.client import Client  # noqa: PLC0415

    with exit_on_error():
        Client(url, token).execute(operation, taskKey=key)


def _format_queues(queues: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of a table, with a header."""
    from runyard.terminal.tables import format_seconds, format_time  # noqa: PLC0415

    rows = [
        (
            queue["taskKey"],
            *(f"{queue[count]:,}" for count in ("scheduled", "retry", "delayed", "leased")),
            format_seconds(queue["oldestWaitSeconds"]),
            f"{queue['subscribers']:,}",
            format_time(queue["pausedAt"]),
        )
        for queue in queues
    ]
    return [("KEY", "SCHEDULED", "RETRY", "DELAYED", "LEASED", "OLDEST WAIT", "SUBSCRIBERS", "PAUSED SINCE"), *rows]
