"""Reference implementation of filters in plain Python, to compare the SQL with."""

import json
import string
from collections.abc import Callable, Mapping
from typing import Any

from db.records import DeploymentRecord, FlowRecord, FlowRunRecord, TaskRunRecord
from tests.builders.population import Population

Filter = Mapping[str, Any]

_ASCII_LOWERCASE = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def matches(filter: Filter, row: Any, population: Population) -> bool:
    """Return whether the row matches the filter."""
    return _all(_matches_field(name, value, row, population) for name, value in filter.items() if value is not None)


def _matches_field(name: str, value: Any, row: Any, population: Population) -> bool:  # noqa: PLR0911, PLR0912 - a table
    match name, row:
        case "and", _:
            return _all(matches(each, row, population) for each in value)
        case "or", _:
            return not value or any(matches(each, row, population) for each in value)
        case "not", _:
            return not matches(value, row, population)
        case "tags", _:
            return _all(
                _matches_tags(operator, operand, row.tags) for operator, operand in value.items() if operand is not None
            )
        case "state", _:
            return _matches_value(value.get("type") or {}, row.state_type) and _matches_value(
                value.get("name") or {}, row.state_name
            )
        case "has_child_flow_run", TaskRunRecord():
            return any(each.parent_task_run_id == row.id for each in population.flow_runs.values()) == value
        case "has_deployment", FlowRecord():
            return any(each.flow_id == row.id for each in population.deployments.values()) == value
        case "is_schedule_active", DeploymentRecord():
            return bool(row.is_schedule_active) == value
        case "parent_flow_run_id", FlowRunRecord():
            parent = population.task_runs.get(row.parent_task_run_id or "")
            return _matches_value(value, parent.flow_run_id if parent else None)
        case "flow_run" | "flow" | "deployment", _:
            related = getattr(population, f"{name}s").get(getattr(row, f"{name}_id"))
            return related is not None and matches(value, related, population)
        case "metadata", TaskRunRecord():
            return row.metadata is not None and _has_members(json.loads(row.metadata), json.loads(value["contains"]))
        case "state_message", TaskRunRecord():
            state = population.states.get(row.state_id or "")
            return _matches_value(value, state.message if state else None)
        case "worker_name", TaskRunRecord():
            entry = population.queue_entries.get(row.id)
            return _matches_value(value, entry.worker_name if entry else None)
        case "created_at", _:
            return _matches_value(value, row.created)
        case _:
            return _matches_value(value, getattr(row, name))


def _matches_value(operators: Filter, value: Any) -> bool:
    return _all(_OPERATORS[operator](value, operand) for operator, operand in operators.items() if operand is not None)


def _matches_tags(operator: str, operand: Any, tags: list[str]) -> bool:
    if operator == "is_empty":
        return (not tags) == operand
    return set(operand) <= set(tags) if operator == "all" else not set(operand).isdisjoint(tags)


def _has_members(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return _all(name in document and _are_equal(document[name], value) for name, value in wanted.items())


def _are_equal(value: Any, other: Any) -> bool:
    """Compare JSON values. In Python, True equals 1."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other


def _all(parts: Any) -> bool:
    return all(list(parts))


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "in": lambda value, operand: value in operand,
    "not_in": lambda value, operand: not operand or (value is not None and value not in operand),
    "contains": lambda value, operand: (
        value is not None and operand.translate(_ASCII_LOWERCASE) in value.translate(_ASCII_LOWERCASE)
    ),
    "starts_with": lambda value, operand: value is not None and value.startswith(operand),
    "after": lambda value, operand: value is not None and value >= operand,
    "before": lambda value, operand: value is not None and value <= operand,
    "is_null": lambda value, operand: (value is None) == operand,
    "at_least": lambda value, operand: value >= operand,
    "at_most": lambda value, operand: value <= operand,
}
