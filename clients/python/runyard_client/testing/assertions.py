"""Assertions about the runs that were enqueued inline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from runyard_client.context import read_time
from runyard_client.tasks.task import Task
from runyard_client.testing.inline_run import InlineRun

FIELDS = {
    "delay": "delaySeconds",
    "priority": "priority",
    "key": "dynamicKey",
    "unique": "uniqueKey",
    "metadata": "metadata",
    "name": "name",
    "version": "taskVersion",
}
"""Options of `Task.with_` that are compared as they are, and the fields of the input that have them."""

OPTIONS = frozenset({*FIELDS, "at", "tags"})


def find_enqueued(runs: Sequence[InlineRun], task: Task[..., Any], expected: Mapping[str, Any]) -> InlineRun:
    """Return the only run of the task that matches, and raise AssertionError if there is not exactly one."""
    found = _matching(runs, task, expected)
    if len(found) != 1:
        raise AssertionError(
            f"{len(found)} runs of {task.key} match {dict(expected)!r}; expected one.{_list(runs, task)}"
        )
    return found[0]


def refuse_enqueued(runs: Sequence[InlineRun], task: Task[..., Any], expected: Mapping[str, Any]) -> None:
    """Raise AssertionError if a run of the task matches."""
    if found := _matching(runs, task, expected):
        raise AssertionError(
            f"{len(found)} runs of {task.key} match {dict(expected)!r}; expected none.{_list(runs, task)}"
        )


def _matching(runs: Sequence[InlineRun], task: Task[..., Any], expected: Mapping[str, Any]) -> list[InlineRun]:
    names = set(task.parameters.names)
    unknown = expected.keys() - names - OPTIONS
    if unknown:
        raise TypeError(f"{min(unknown)!r} is neither a parameter of {task.key} nor an option that can be compared.")
    parameters = {name: _as_json(task.encode(value)) for name, value in expected.items() if name in names}
    options = {name: value for name, value in expected.items() if name not in names}
    return [run for run in runs if run.task.key == task.key and _matches(run, parameters, options)]


def _matches(run: InlineRun, parameters: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    missing = object()
    if any(run.parameters.get(name, missing) != value for name, value in parameters.items()):
        return False
    return all(_has_option(run.input, name, value) for name, value in options.items())


def _has_option(input: Mapping[str, Any], name: str, value: Any) -> bool:
    if name == "tags":
        return set(value) <= set(input.get("tags", ()))
    if name == "at":
        return read_time(input["state"].get("details", {}).get("scheduledTime")) == _utc(value)
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return bool(input.get(FIELDS[name]) == _as_json(value))


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _as_json(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def _list(runs: Sequence[InlineRun], task: Task[..., Any]) -> str:
    """Return the runs of the task, one a line."""
    inputs = [orjson.dumps(run.input).decode() for run in runs if run.task.key == task.key]
    return "".join(f"\n  {input}" for input in inputs) or " It was not enqueued."
