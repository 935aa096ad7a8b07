"""Convert the filters of the recordings to GraphQL filter inputs.

A recorded filter has four objects whose conditions are combined by an `operator`; those for flow runs, flows and deployments
all apply to the flow run of the task run. A Runyard filter is one tree. Invalid filters are passed on unchanged.
"""

from collections.abc import Callable, Mapping
from typing import Any

Filter = dict[str, Any]
Conditions = Callable[[Any], list[Filter]]
"""Converts a sub-filter to the conditions that its own operator combines."""

NAMES = ("task_runs", "flow_runs", "flows", "deployments")

_COMBINATORS = {"and_": "and", "or_": "or"}
_OPERATORS = {
    "any_": "in",
    "not_any_": "notIn",
    "all_": "all",
    "like_": "contains",
    "is_null_": "isNull",
    "before_": "before",
    "after_": "after",
}


def filter_input(body: Filter) -> Filter | None:
    """Return the task run filter of the request; None if it has none."""
    given = {name: body[name] for name in NAMES if body.get(name) is not None}
    parts = [_object(given["task_runs"], _TASK_RUN)] if "task_runs" in given else []
    if given.keys() - {"task_runs"}:
        flow_run_parts = [_object(given["flow_runs"], _FLOW_RUN)] if "flow_runs" in given else []
        if "flows" in given:
            flow_run_parts.append({"flow": _object(given["flows"], _FLOW)})
        if "deployments" in given:
            flow_run_parts.append({"deployment": _object(given["deployments"], _DEPLOYMENT)})
        parts.append({"flowRun": {"and": flow_run_parts}})
    return {"and": parts} if parts else None


def _object(given: Any, fields: Mapping[str, Conditions]) -> Any:
    if not isinstance(given, dict):
        return given
    filters = [
        _convert_subfilter(given[name], conditions)
        for name, conditions in fields.items()
        if given.get(name) is not None
    ]
    unknown = {name: value for name, value in given.items() if name not in fields and name != "operator"}
    return _combine(given.get("operator", "and_"), filters) | unknown


def _convert_subfilter(sub: Any, conditions: Conditions) -> Filter:
    if isinstance(sub, dict):
        rest = {name: value for name, value in sub.items() if name != "operator"}
        converted = conditions(rest)
        # A sub-filter without conditions matches everything, whatever its operator.
        return _combine(sub.get("operator", "and_"), converted) if converted else {}
    return {"and": conditions(sub)}


def _combine(operator: Any, filters: list[Filter]) -> Filter:
    return {_COMBINATORS.get(operator, str(operator)): filters}


def _of(field: str, **renamed: str) -> Conditions:
    """Return the conditions on one field, with the operator names of Runyard."""

    def conditions(sub: Any) -> list[Filter]:
        if not isinstance(sub, dict):
            return [{field: sub}]
        names = _OPERATORS | renamed
        return [{field: {names.get(name, name): value}} for name, value in sub.items()]

    return conditions


def _flag(field: str, name: str, *, opposite: bool = False) -> Conditions:
    """Return a Boolean condition."""

    def conditions(sub: Any) -> list[Filter]:
        value = sub.get(name) if isinstance(sub, dict) else sub
        if value is None:
            return []
        return [{field: not value if opposite and isinstance(value, bool) else value}]

    return conditions


def _state(sub: Any) -> list[Filter]:
    return [{"state": condition} for part in sub for condition in _of(part)(sub[part])]


def _flow_run_id(sub: Any) -> list[Filter]:
    """Return the conditions on the flow run id: a true `is_null_` replaces the others, a false one is ignored."""
    if sub.get("is_null_"):
        return [{"flowRunId": {"isNull": True}}]
    return _of("flowRunId")({name: value for name, value in sub.items() if name != "is_null_"})


_tags = _of("tags", any_="any", is_null_="isEmpty")

_TASK_RUN: Mapping[str, Conditions] = {
    "id": _of("id"),
    "name": _of("name"),
    "tags": _tags,
    "state": _state,
    "start_time": _of("startTime"),
    "subflow_runs": _flag("hasChildFlowRun", "exists_"),
    "flow_run_id": _flow_run_id,
}
_FLOW_RUN: Mapping[str, Conditions] = {
    "id": _of("id"),
    "name": _of("name"),
    "tags": _tags,
    "deployment_id": _of("deploymentId"),
    "work_queue_name": _of("workQueueName"),
    "state": _state,
    "flow_version": _of("flowVersion"),
    "start_time": _of("startTime"),
    "expected_start_time": _of("expectedStartTime"),
    "next_scheduled_start_time": _of("nextScheduledStartTime"),
    "parent_flow_run_id": _of("parentFlowRunId"),
    "parent_task_run_id": _of("parentTaskRunId"),
    "idempotency_key": _of("idempotencyKey"),
}
_FLOW: Mapping[str, Conditions] = {
    "id": _of("id"),
    "name": _of("name"),
    "tags": _tags,
    "deployment": _flag("hasDeployment", "is_null_", opposite=True),
}
_DEPLOYMENT: Mapping[str, Conditions] = {
    "id": _of("id"),
    "name": _of("name"),
    "tags": _tags,
    "work_queue_name": _of("workQueueName"),
    "is_schedule_active": _flag("isScheduleActive", "eq_"),
}
