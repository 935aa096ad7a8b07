"""Creates a task run, and waits for its end."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import typer

from db.enums import StateType
from runyard.terminal.client import Client, ConnectionFailed, RequestFailed
from runyard.terminal.feed import follow_state_changes
from runyard.terminal.filters import parse_age
from runyard.terminal.tables import format_state, one_line, print_json


def build_input(
    key: str, *, parameters: str | None, name: str | None, tags: Sequence[str] | None, delay: str | None
) -> dict[str, Any]:
    """Return the TaskRunCreateInput of a SCHEDULED run. Raises typer.BadParameter for an invalid option."""
    input: dict[str, Any] = {"taskKey": key, "state": {"type": "SCHEDULED"}}
    if parameters is not None:
        try:
            input["parameters"] = json.loads(parameters)
        except ValueError as error:
            raise typer.BadParameter(f"{error}.", param_hint="--parameters") from None
    if name is not None:
        input["name"] = name
    if tags:
        input["tags"] = list(tags)
    if delay is not None:
        input["delaySeconds"] = parse_age(delay, "--delay").total_seconds()
    return input


def create_and_wait(client: Client, input: dict[str, Any], report: Callable[[str], None]) -> dict[str, Any]:
    """Create a task run, wait until it has ended, and return it.

    Reports the id when the run was created. Waits across disconnections and restarts of the server. Raises
    RequestFailed when the run is deleted.
    """
    after: str = client.execute("GetStateChangeCursor")
    id: str = client.execute("CreateTaskRun", input=input)["taskRun"]["id"]
    report(f"Created the task run {id}. Waiting for its end ...")
    for change in follow_state_changes(client, {"id": {"in": [id]}}, after, report):
        # Deleting a run is no state change. Without changes, the run itself is read from time to time.
        if change is None or StateType(change["state"]["type"]).is_terminal:
            try:
                run = client.execute("GetTaskRun", id=id)
            except ConnectionFailed:
                continue  # the feed connects again, and repeats no change: the next keep-alive reads the run
            if run is None:
                raise RequestFailed(f"The task run {id} was deleted.")
            if StateType(run["stateType"]).is_terminal:
                return run
    raise RequestFailed("The server has ended the subscription.")


def print_outcome(run: dict[str, Any], *, as_json: bool) -> int:
    """Print the result of a run that has ended, and return the exit code: 0 when it is COMPLETED, otherwise 1."""
    is_completed = run["stateType"] == StateType.COMPLETED
    if as_json:
        print_json(run)
    elif is_completed:
        print_json(run["state"]["data"])
    if not is_completed:
        message = one_line(run["state"]["message"])
        state = format_state(run["stateType"], run["stateName"])
        typer.echo(f"runyard: The task run is {state}{f': {message}' if message else '.'}", err=True)
    return 0 if is_completed else 1
