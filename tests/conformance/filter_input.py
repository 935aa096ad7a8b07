"""Says the filters of the recordings in ours.

Theirs come in four objects, whose conditions an `operator` joins, and the objects for flow runs, flows and deployments
all speak of the task run's one flow run. Ours are one tree. What is no filter there stays as it is, to be refused here.
"""

from collections.abc import Callable, Mapping
from typing import Any

Filter = dict[str, Any]
Conditions = Callable[[Any], list[Filter]]
"""From a sub-filter to the conditions that its own operator joins."""

NAMES = ("task_runs", "flow_runs", "flows", "deployments")

_JOINS = {"and_": "and", "or_": "or"}
_OPERATORS = {
    "any_": "any",
    "not_any_": "notAny",
    "all_": "all",
    "like_": "like",
    "is_null_": "isNull",
    "before_": "before",
    "after_": "after",
}


def filter_input(body: Filter) -> Filter | None:
    """The filter of task runs that the request asks for; None where it asks for none."""
    given = {name: body[name] for name in NAMES if body.get(name) is not None}
    parts = [_object(given["task_runs"], _TASK_RUN)] if "task_runs" in given else []
    if given.keys() - {"task_runs"}:
        of_flow_run = [_object(given["flow_runs"], _FLOW_RUN)] if "flow_runs" in given else []
        if "flows" in given:
            of_flow_run.append({"flow": _object(given["flows"], _FLOW)})
        if "deployments" in given:
            of_flow_run.append({"deployment": _object(given["deployments"], _DEPLOYMENT)})
        parts.append({"flowRun": {"and": of_flow_run}})
    return {"and": parts} if parts else None


def _object(given: Any, fields: Mapping[str, Conditions]) -> Any:
    if not isinstance(given, dict):
        return given
    filters = [_joined(given[name], conditions) for name, conditions in fields.items() if given.get(name) is not None]
    unknown = {name: value for name, value in given.items() if name not in fields and name != "operator"}
    return _join(given.get("operator", "and_"), filters) | unknown


def _joined(sub: Any, conditions: Conditions) -> Filter:
    if isinstance(sub, dict):
        rest = {name: value for name, value in sub.items() if name != "operator"}
        joined = conditions(rest)
        # A sub-filter without a condition is true, whatever its operator.
        return _join(sub.get("operator", "and_"), joined) if joined else {}
    return {"and": conditions(sub)}


def _join(operator: Any, filters: list[Filter]) -> Filter:
    return {_JOINS.get(operator, str(operator)): filters}


def _of(field: str, **renamed: str) -> Conditions:
    """Conditions on one field, under the names of our operators."""

    def conditions(sub: Any) -> list[Filter]:
        if not isinstance(sub, dict):
            return [{field: sub}]
        names = _OPERATORS | renamed
        return [{field: {names.get(name, name): value}} for name, value in sub.items()]

    return conditions


def _flag(field: str, name: str, *, opposite: bool = False) -> Conditions:
    """A condition that is true or false."""

    def conditions(sub: Any) -> list[Filter]:
        value = sub.get(name) if isinstance(sub, dict) else sub
        if value is None:
            return []
        return [{field: not value if opposite and isinstance(value, bool) else value}]

    return conditions


def _state(sub: Any) -> list[Filter]:
    return [{"state": condition} for part in sub for condition in _of(part)(sub[part])]


def _flow_run_id(sub: Any) -> list[Filter]:
    """True of `is_null_` leaves the other conditions out; false is no condition."""
    if sub.get("is_null_"):
        return [{"flowRunId": {"isNull": True}}]
    return _of("flowRunId")({name: value for name, value in sub.items() if name != "is_null_"})


_tags = _of("tags", is_null_="isEmpty")

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
