"""What a filter means, said once more in plain Python, to hold the SQL against."""

import string
from collections.abc import Callable, Mapping
from typing import Any

from db.records import DeploymentRecord, FlowRecord, FlowRunRecord, TaskRunRecord
from tests.builders.population import Population

Filter = Mapping[str, Any]

_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def meets(filter: Filter, row: Any, all: Population) -> bool:
    """Whether the filter lets the row through."""
    return _all(_part(name, value, row, all) for name, value in filter.items() if value is not None)


def _part(name: str, value: Any, row: Any, all: Population) -> bool:  # noqa: PLR0911 - a table
    match name, row:
        case "and", _:
            return _all(meets(each, row, all) for each in value)
        case "or", _:
            return not value or any(meets(each, row, all) for each in value)
        case "not", _:
            return not meets(value, row, all)
        case "tags", _:
            return _all(_tags(operator, wanted, row.tags) for operator, wanted in value.items() if wanted is not None)
        case "state", _:
            return _value(value.get("type") or {}, row.state_type) and _value(value.get("name") or {}, row.state_name)
        case "has_child_flow_run", TaskRunRecord():
            return any(each.parent_task_run_id == row.id for each in all.flow_runs.values()) == value
        case "has_deployment", FlowRecord():
            return any(each.flow_id == row.id for each in all.deployments.values()) == value
        case "is_schedule_active", DeploymentRecord():
            return bool(row.is_schedule_active) == value
        case "parent_flow_run_id", FlowRunRecord():
            parent = all.task_runs.get(row.parent_task_run_id or "")
            return _value(value, parent.flow_run_id if parent else None)
        case "flow_run" | "flow" | "deployment", _:
            related = getattr(all, f"{name}s").get(getattr(row, f"{name}_id"))
            return related is not None and meets(value, related, all)
        case _:
            return _value(value, getattr(row, name))


def _value(asked: Filter, value: Any) -> bool:
    return _all(_OPERATORS[operator](value, wanted) for operator, wanted in asked.items() if wanted is not None)


def _tags(operator: str, wanted: Any, tags: list[str]) -> bool:
    if operator == "is_empty":
        return (not tags) == wanted
    return set(wanted) <= set(tags) if operator == "all" else not set(wanted).isdisjoint(tags)


def _all(parts: Any) -> bool:
    return all(list(parts))


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "any": lambda value, wanted: value in wanted,
    "not_any": lambda value, wanted: not wanted or (value is not None and value not in wanted),
    "like": lambda value, wanted: value is not None and wanted.translate(_SMALL) in value.translate(_SMALL),
    "after": lambda value, wanted: value is not None and value >= wanted,
    "before": lambda value, wanted: value is not None and value <= wanted,
    "is_null": lambda value, wanted: (value is None) == wanted,
}
