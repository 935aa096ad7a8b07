"""`runyard runs`: lists, shows, creates and follows task runs."""

from typing import Annotated, Any

import typer

from runyard.terminal.change_commands import cancel_runs, retry_runs
from runyard.terminal.options import DEFAULT_URL, AsJson, Keys, Since, States, Tags, Token, Url, exit_on_error

commands = typer.Typer(help="List, show, create and change task runs of a running server.", no_args_is_help=True)
commands.command("cancel")(cancel_runs)
commands.command("retry")(retry_runs)


@commands.command("list")
def list_runs(
    state: States = None,
    key: Keys = None,
    tag: Tags = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of runs.")] = 50,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """List task runs, newest first."""
    from runyard.terminal.client import Client  # noqa: PLC0415
    from runyard.terminal.filters import build_filter, parse_since  # noqa: PLC0415
    from runyard.terminal.run_lists import format_runs, read_runs  # noqa: PLC0415
    from runyard.terminal.tables import print_json, print_table  # noqa: PLC0415

    filter = build_filter(states=state, keys=key, tags=tag, min_created_at=parse_since(since))
    with exit_on_error():
        runs, has_more = read_runs(Client(url, token), filter, limit)
    if as_json:
        print_json(runs)
    else:
        print_table(format_runs(runs))
    if has_more:
        typer.echo("More task runs match. Increase --limit to list them.", err=True)


@commands.command("show")
def show_run(
    id: Annotated[str, typer.Argument(help="Id of the task run.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show a task run: its state, its states so far, its parameters and result, and its lease."""
    from runyard.terminal.client import Client, RequestFailed  # noqa: PLC0415
    from runyard.terminal.run_details import format_run  # noqa: PLC0415
    from runyard.terminal.tables import print_json  # noqa: PLC0415

    with exit_on_error():
        run = Client(url, token).execute("GetTaskRun", id=id)
        if run is None:
            raise RequestFailed(f"No task run has the id {id}.")
    if as_json:
        print_json(run)
    else:
        for line in format_run(run):
            typer.echo(line)


@commands.command("create")
def create_run(
    key: Annotated[str, typer.Argument(help="Task key: workers that receive this key execute the run.")],
    parameters: Annotated[
        str | None, typer.Option(help="Values that the task is executed with, as JSON.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run. By default, it is generated.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Tag of the run. Repeatable.")] = None,
    delay: Annotated[str | None, typer.Option(help="Time until the run is due: 90s, 10min, 12h, P1D.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run has ended, and print its result.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Create a task run, and queue it for workers. Prints its id.

    With --wait, prints the result as JSON, and exits with 0 when the run is COMPLETED and with 1 when it is FAILED,
    CRASHED or CANCELLED. Ctrl-C ends the command and not the run.
    """
    from runyard.terminal.client import Client  # noqa: PLC0415
    from runyard.terminal.creation import build_input, create_and_wait, print_outcome  # noqa: PLC0415
    from runyard.terminal.tables import print_json  # noqa: PLC0415

    input = build_input(key, parameters=parameters, name=name, tags=tag, delay=delay)
    with exit_on_error():
        client = Client(url, token)
        if wait:
            run = create_and_wait(client, input, _report)
            raise typer.Exit(print_outcome(run, as_json=as_json))
        run = client.execute("CreateTaskRun", input=input)["taskRun"]
    if as_json:
        print_json(run)
    else:
        typer.echo(run["id"])


@commands.command("watch")
def watch_runs(
    id: Annotated[list[str] | None, typer.Argument(help="Ids of task runs. By default, all runs.")] = None,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="Only changes to this state: a type such as FAILED, or a name. Repeatable."),
    ] = None,
    key: Keys = None,
    tag: Tags = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Exit after this number of changes.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Print state changes of task runs as they happen, until Ctrl-C.

    Connects again when the server is restarted, and misses no change then.
    """
    from runyard.terminal.client import Client  # noqa: PLC0415
    from runyard.terminal.feed import follow_state_changes  # noqa: PLC0415
    from runyard.terminal.filters import build_filter  # noqa: PLC0415
    from runyard.terminal.watching import has_state, print_change  # noqa: PLC0415

    printed = 0
    with exit_on_error():
        client = Client(url, token)
        after: str = client.execute("GetStateChangeCursor")
        filter: dict[str, Any] = build_filter(ids=id, keys=key, tags=tag)
        typer.echo("Following state changes. Press Ctrl-C to stop.", err=True)
        for change in follow_state_changes(client, filter, after, _report):
            if change is None:
                continue
            if change["gap"]:
                _report("Changes were skipped before the next one.")
            if has_state(change, state):
                print_change(change, as_json=as_json)
                printed += 1
                if printed == limit:
                    return


def _report(message: str) -> None:
    typer.echo(message, err=True)
