"""Filters for lists. A filter is converted into a tree of plain values, the format of `db.query.filters`.

`schema.limits.filter_size` checks the size of a filter before these objects are created.
"""

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, cast

import strawberry

from db.records import JsonText
from resolvers.errors import BadInput
from resolvers.lists import Filter
from schema.enums import DeploymentSort, FlowRunSort, FlowSort, StateType, TaskRunSort
from schema.inputs.arguments import parse_ids, serialize_json
from schema.inputs.filter_bounds import require_bounds
from schema.naming import to_camel_case
from schema.scalars import JSON, DateTime


@strawberry.input(description="Filter for an id. Conditions are combined with AND.")
class IdFilter:
    in_: list[strawberry.ID] | None = strawberry.field(
        name="in", default=None, description="The value is in this list. An empty list matches nothing."
    )
    not_in: list[strawberry.ID] | None = strawberry.field(
        default=None, description="The value is not null and not in this list. An empty list is ignored."
    )
    is_null: bool | None = strawberry.field(default=None, description="Whether the value is null.")


@strawberry.input(description="Filter for a text value. Conditions are combined with AND.")
class TextFilter:
    in_: list[str] | None = strawberry.field(
        name="in", default=None, description="The value is in this list. An empty list matches nothing."
    )
    not_in: list[str] | None = strawberry.field(
        default=None, description="The value is not null and not in this list. An empty list is ignored."
    )
    contains: str | None = strawberry.field(
        default=None,
        description="The value contains this text. ASCII letters match in either case; all other characters match "
        "exactly, including `%` and `_`.",
    )
    starts_with: str | None = strawberry.field(
        default=None,
        description="The value starts with this text. All characters match exactly, including their case, `%` and `_`.",
    )
    is_null: bool | None = strawberry.field(default=None, description="Whether the value is null.")


@strawberry.input(
    description="Filter for tags. Conditions are combined with AND. Tags are compared exactly, including their case."
)
class TagsFilter:
    all: list[str] | None = strawberry.field(
        default=None, description="The tags include all tags of this list. An empty list is ignored."
    )
    any: list[str] | None = strawberry.field(
        default=None, description="The tags include at least one tag of this list. An empty list matches nothing."
    )
    is_empty: bool | None = strawberry.field(default=None, description="Whether there are no tags.")


@strawberry.input(
    description="Filter for a timestamp. Conditions are combined with AND. A null value matches only `isNull: true`."
)
class DateTimeFilter:
    after: DateTime | None = strawberry.field(default=None, description="The value is at or after this timestamp.")
    before: DateTime | None = strawberry.field(default=None, description="The value is at or before this timestamp.")
    is_null: bool | None = strawberry.field(default=None, description="Whether the value is null.")


@strawberry.input(description="Filter for an integer. Conditions are combined with AND.")
class IntFilter:
    at_least: int | None = strawberry.field(default=None, description="The value is at least this number.")
    at_most: int | None = strawberry.field(default=None, description="The value is at most this number.")


@strawberry.input(description="Filter for a number. Conditions are combined with AND.")
class FloatFilter:
    at_least: float | None = strawberry.field(default=None, description="The value is at least this number.")
    at_most: float | None = strawberry.field(default=None, description="The value is at most this number.")


@strawberry.input(description="Filter for a JSON object.")
class JSONFilter:
    contains: JSON = strawberry.field(
        description="The object has all members of this JSON object. Their values are text, numbers, Boolean values or "
        "null; lists and objects are invalid. Text is compared exactly, and numbers by value. An empty object matches every "
        "value that is not null."
    )


@strawberry.input(description="Filter for a state type. Conditions are combined with AND.")
class StateTypeFilter:
    in_: list[StateType] | None = strawberry.field(
        name="in", default=None, description="The value is in this list. An empty list matches nothing."
    )
    not_in: list[StateType] | None = strawberry.field(
        default=None, description="The value is not null and not in this list. An empty list is ignored."
    )
    is_null: bool | None = strawberry.field(
        default=None, description="Whether the value is null. True matches nothing: every run has a state."
    )


@strawberry.input(description="Filter for the current state of a run. Conditions are combined with AND.")
class StateFilter:
    type: StateTypeFilter | None = strawberry.field(default=None, description="Type of the current state.")
    name: TextFilter | None = strawberry.field(default=None, description="Name of the current state.")


AND_DESCRIPTION = "All filters of this list match. An empty list is ignored."
OR_DESCRIPTION = (
    "At least one filter of this list matches. An empty list is ignored. An empty filter in the list "
    "matches everything."
)
NOT_DESCRIPTION = (
    "This filter does not match. A null value matches no condition except `isNull: true`; it therefore "
    "matches the negation of every other condition. The negation of an empty filter matches nothing."
)


@strawberry.input(description="Filter for flows. Conditions are combined with AND. An empty filter matches every flow.")
class FlowFilter:
    and_: list["FlowFilter"] | None = strawberry.field(name="and", default=None, description=AND_DESCRIPTION)
    or_: list["FlowFilter"] | None = strawberry.field(name="or", default=None, description=OR_DESCRIPTION)
    not_: "FlowFilter | None" = strawberry.field(name="not", default=None, description=NOT_DESCRIPTION)
    id: IdFilter | None = strawberry.field(default=None, description="Id of the flow.")
    name: TextFilter | None = strawberry.field(default=None, description="Name of the flow.")
    tags: TagsFilter | None = strawberry.field(default=None, description="Tags of the flow.")
    has_deployment: bool | None = strawberry.field(default=None, description="Whether the flow has a deployment.")


@strawberry.input(
    description="Filter for deployments. Conditions are combined with AND. An empty filter matches every deployment."
)
class DeploymentFilter:
    and_: list["DeploymentFilter"] | None = strawberry.field(name="and", default=None, description=AND_DESCRIPTION)
    or_: list["DeploymentFilter"] | None = strawberry.field(name="or", default=None, description=OR_DESCRIPTION)
    not_: "DeploymentFilter | None" = strawberry.field(name="not", default=None, description=NOT_DESCRIPTION)
    id: IdFilter | None = strawberry.field(default=None, description="Id of the deployment.")
    name: TextFilter | None = strawberry.field(default=None, description="Name of the deployment.")
    tags: TagsFilter | None = strawberry.field(default=None, description="Tags of the deployment.")
    work_queue_name: TextFilter | None = strawberry.field(
        default=None, description="Work queue name of the deployment."
    )
    is_schedule_active: bool | None = strawberry.field(
        default=None,
        description="Whether the deployment is marked as having an active schedule. Runyard has no schedules: it stores "
        "the value and does not use it.",
    )


@strawberry.input(
    description="Filter for flow runs. Conditions are combined with AND. An empty filter matches every flow run."
)
class FlowRunFilter:
    and_: list["FlowRunFilter"] | None = strawberry.field(name="and", default=None, description=AND_DESCRIPTION)
    or_: list["FlowRunFilter"] | None = strawberry.field(name="or", default=None, description=OR_DESCRIPTION)
    not_: "FlowRunFilter | None" = strawberry.field(name="not", default=None, description=NOT_DESCRIPTION)
    id: IdFilter | None = strawberry.field(default=None, description="Id of the flow run.")
    name: TextFilter | None = strawberry.field(default=None, description="Name of the flow run.")
    tags: TagsFilter | None = strawberry.field(default=None, description="Tags of the flow run.")
    deployment_id: IdFilter | None = strawberry.field(
        default=None, description="Id of the deployment, which may have been deleted."
    )
    work_queue_name: TextFilter | None = strawberry.field(default=None, description="Work queue name of the flow run.")
    state: StateFilter | None = strawberry.field(default=None, description="Current state of the flow run.")
    flow_version: TextFilter | None = strawberry.field(
        default=None, description="Version of the flow, as sent by the client."
    )
    start_time: DateTimeFilter | None = strawberry.field(
        default=None, description="Time at which the flow run first became RUNNING."
    )
    expected_start_time: DateTimeFilter | None = strawberry.field(
        default=None, description="Time at which the flow run was expected to start, set with its first state."
    )
    next_scheduled_start_time: DateTimeFilter | None = strawberry.field(
        default=None, description="Scheduled time of the current state. Null unless the flow run is SCHEDULED."
    )
    parent_flow_run_id: IdFilter | None = strawberry.field(
        default=None,
        description="Id of the flow run that contains the parent task run. Matches direct subflows only, not subflows of "
        "subflows.",
    )
    parent_task_run_id: IdFilter | None = strawberry.field(
        default=None,
        description="Id of the task run that represents this flow run. Null if no task run represents it.",
    )
    idempotency_key: TextFilter | None = strawberry.field(default=None, description="Idempotency key of the flow run.")
    flow: FlowFilter | None = strawberry.field(default=None, description="Filter for the flow.")
    deployment: DeploymentFilter | None = strawberry.field(
        default=None,
        description="Filter for the deployment. Flow runs without a deployment or with a deleted one never match, not "
        "even an empty filter.",
    )


@strawberry.input(
    description="Filter for task runs. Conditions are combined with AND. An empty filter matches every task run."
)
class TaskRunFilter:
    and_: list["TaskRunFilter"] | None = strawberry.field(name="and", default=None, description=AND_DESCRIPTION)
    or_: list["TaskRunFilter"] | None = strawberry.field(name="or", default=None, description=OR_DESCRIPTION)
    not_: "TaskRunFilter | None" = strawberry.field(name="not", default=None, description=NOT_DESCRIPTION)
    id: IdFilter | None = strawberry.field(default=None, description="Id of the task run.")
    name: TextFilter | None = strawberry.field(default=None, description="Name of the task run.")
    task_key: TextFilter | None = strawberry.field(default=None, description="Task key of the task run.")
    tags: TagsFilter | None = strawberry.field(default=None, description="Tags of the task run.")
    state: StateFilter | None = strawberry.field(default=None, description="Current state of the task run.")
    start_time: DateTimeFilter | None = strawberry.field(
        default=None, description="Time at which the task run first became RUNNING."
    )
    end_time: DateTimeFilter | None = strawberry.field(
        default=None,
        description="Time at which the task run ended. Null while it has not ended, and for a run that never started.",
    )
    expected_start_time: DateTimeFilter | None = strawberry.field(
        default=None, description="Time at which the task run was expected to start, set with its first state."
    )
    next_scheduled_start_time: DateTimeFilter | None = strawberry.field(
        default=None, description="Scheduled time of the current state. Null unless the task run is SCHEDULED."
    )
    state_timestamp: DateTimeFilter | None = strawberry.field(
        default=None, description="Time at which the task run entered its current state."
    )
    created_at: DateTimeFilter | None = strawberry.field(
        default=None, description="Time at which the task run was created."
    )
    run_count: IntFilter | None = strawberry.field(
        default=None, description="Number of times that the task run has entered RUNNING, as `TaskRun.runCount`."
    )
    total_run_time_seconds: FloatFilter | None = strawberry.field(
        default=None, description="Time spent in past RUNNING states, in seconds."
    )
    dynamic_key: TextFilter | None = strawberry.field(default=None, description="Dynamic key of the task run.")
    worker_name: TextFilter | None = strawberry.field(
        default=None,
        description="Name of the worker that holds the current lease of the task run. Null without a lease, or when the "
        "worker gave no name.",
    )
    state_message: TextFilter | None = strawberry.field(
        default=None,
        description="Message of the current state. Requires a condition on `taskKey` (`in` or `startsWith`) or a time range "
        "beside it.",
    )
    metadata: JSONFilter | None = strawberry.field(
        default=None,
        description="Metadata of the task run. Requires a condition on `taskKey` (`in` or `startsWith`) or a time range "
        "beside it.",
    )
    flow_run_id: IdFilter | None = strawberry.field(
        default=None, description="Id of the flow run. `isNull: true` matches background runs."
    )
    has_child_flow_run: bool | None = strawberry.field(
        default=None, description="Whether the task run represents a subflow."
    )
    flow_run: FlowRunFilter | None = strawberry.field(
        default=None,
        description="Filter for the flow run. Background runs never match, not even an empty filter.",
    )


TaskRunFilterArgument = Annotated[
    TaskRunFilter | None, strawberry.argument(description="Filter for task runs. Defaults to all.")
]
FlowRunFilterArgument = Annotated[
    FlowRunFilter | None, strawberry.argument(description="Filter for flow runs. Defaults to all.")
]
FlowFilterArgument = Annotated[FlowFilter | None, strawberry.argument(description="Filter for flows. Defaults to all.")]
DeploymentFilterArgument = Annotated[
    DeploymentFilter | None, strawberry.argument(description="Filter for deployments. Defaults to all.")
]
_SORT_DESCRIPTION = "Sort order. Defaults to newest first."
TaskRunSortArgument = Annotated[TaskRunSort, strawberry.argument(description=_SORT_DESCRIPTION)]
FlowRunSortArgument = Annotated[FlowRunSort, strawberry.argument(description=_SORT_DESCRIPTION)]
FlowSortArgument = Annotated[FlowSort, strawberry.argument(description=_SORT_DESCRIPTION)]
DeploymentSortArgument = Annotated[DeploymentSort, strawberry.argument(description=_SORT_DESCRIPTION)]


def parse_filter(path: str, filter: Any) -> Filter:
    """Convert a filter into plain values by name, without null conditions.

    Raises BadInput for an invalid id, for nested values in JSON, and for a condition that lacks bounds.
    """
    plain = _to_plain(path, filter)
    if isinstance(filter, TaskRunFilter):
        require_bounds(path, plain)
    return plain


def _to_plain(path: str, filter: Any) -> Filter:
    plain: dict[str, Any] = {}
    if filter is None:
        return plain
    for attribute, name, graphql_name in _field_names(filter.__class__):
        if (value := getattr(filter, attribute)) is None:
            continue
        child_path = f"{path}.{graphql_name}"
        if isinstance(value, list):
            plain[name] = _parse_list(child_path, cast("list[Any]", value), filter)
        else:
            plain[name] = _to_plain(child_path, value) if _is_input(value) else value
    if isinstance(filter, JSONFilter):
        plain["contains"] = _serialize_members(f"{path}.contains", filter.contains)
    return plain


def _serialize_members(path: str, value: object) -> JsonText:
    """Serialize a JSON object without nested values. Raises BadInput for any other value."""
    if not isinstance(value, dict):
        raise BadInput(path, "must be a JSON object.")
    members = cast("dict[str, Any]", value)
    for name, each in members.items():
        if isinstance(each, list | dict):
            raise BadInput(f"{path}.{name}", "must be text, a number, a Boolean value or null.")
    return serialize_json(path, members)


@cache
def _field_names(type_: type) -> Sequence[tuple[str, str, str]]:
    """Return the attribute name, the name in plain filters and the GraphQL name of each condition."""
    attributes = [each.name for each in fields(type_)]
    return [(each, each.rstrip("_"), to_camel_case(each)) for each in attributes]


def _parse_list(path: str, values: list[Any], filter: Any) -> list[Any]:
    if isinstance(filter, IdFilter):
        return parse_ids(path, values)
    if not (values and _is_input(values[0])):
        return values
    return [_to_plain(f"{path}.{index}", each) for index, each in enumerate(values)]


def _is_input(value: Any) -> bool:
    """Return whether a value is an input object. Faster than dataclasses.is_dataclass."""
    return hasattr(value.__class__, "__dataclass_fields__")
