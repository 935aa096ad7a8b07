"""Prints state changes, one per line."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import typer

from runyard.terminal.tables import format_state, format_time, one_line

STATE_WIDTH = 25


def has_state(change: dict[str, Any], states: Sequence[str] | None) -> bool:
    """Return whether the run entered one of these states, given by type or name; without states, always."""
    state = change["state"]
    return not states or any(each.upper() == state["type"] or each == state["name"] for each in states)


def print_change(change: dict[str, Any], *, as_json: bool) -> None:
    """Print a change as JSON, or as text with columns, and flush the output for programs that read it."""
    typer.echo(json.dumps(change, ensure_ascii=False) if as_json else format_change(change))
    sys.stdout.flush()


def format_change(change: dict[str, Any]) -> str:
    """Return time, id, state, task key, name and message of a change."""
    state, run = change["state"], change["taskRun"]
    columns = (
        format_time(state["timestamp"]),
        run["id"],
        format_state(state["type"], one_line(state["name"])).ljust(STATE_WIDTH),
        one_line(run["taskKey"]),
        one_line(run["name"]),
        one_line(state["message"]),
    )
    return "  ".join(columns).rstrip()
