"""Filters for lists. A filter is converted into a tree of plain values, the format of `db.query.filters`.

`schema.limits.filter_size` checks the size of a filter before these objects are created.
"""

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, cast

import strawberry

from resolvers.lists import Filter
from schema.enums import FlowRunSort, StateType, TaskRunSort
from schema.inputs.arguments import parse_ids
from schema.naming import to_camel_case
from schema.scalars import DateTime


@strawberry.input(description="Conditions on an id; those that are given are joined by AND.")
class IdFilter:
    any: list[strawberry.ID] | None = strawberry.field(
        default=None, description="It is one of these; none of them, none."
    )
    not_any: list[strawberry.ID] | None = strawberry.field(
        default=None, description="It is there and none of these. An empty list is no condition."
    )
    is_null: bool | None = strawberry.field(default=None, description="True: there is none. False: there is one.")


@strawberry.input(description="Conditions on a text; those that are given are joined by AND.")
class TextFilter:
    any: list[str] | None = strawberry.field(
        default=None, description="It is exactly one of these; none of them, none."
    )
    not_any: list[str] | None = strawberry.field(
        default=None, description="It is there and none of these. An empty list is no condition."
    )
    like: str | None = strawberry.field(
        default=None,
        description="It has this text in it. The letters A to Z count in either case, all else has to be the same; "
        "`%` and `_` stand for themselves.",
    )
    is_null: bool | None = strawberry.field(default=None, description="True: there is none. False: there is one.")


@strawberry.input(description="Conditions on tags, which are compared exactly; those that are given are joined by AND.")
class TagsFilter:
    all: list[str] | None = strawberry.field(
        default=None, description="Each of these is among the tags. An empty list is no condition."
    )
    any: list[str] | None = strawberry.field(
        default=None, description="At least one of these is among the tags; none of them, none."
    )
    is_empty: bool | None = strawberry.field(
        default=None, description="True: there are no tags. False: there are some."
    )


@strawberry.input(
    description="Conditions on an instant; those that are given are joined by AND. None is met by a null."
)
class DateTimeFilter:
    after: DateTime | None = strawberry.field(default=None, description="It is this instant or later.")
    before: DateTime | None = strawberry.field(default=None, description="It is this instant or earlier.")
    is_null: bool | None = strawberry.field(default=None, description="True: there is none. False: there is one.")


@strawberry.input(description="Conditions on the type of a state; those that are given are joined by AND.")
class StateTypeFilter:
    any: list[StateType] | None = strawberry.field(default=None, description="It is one of these; none of them, none.")
    not_any: list[StateType] | None = strawberry.field(
        default=None, description="It is there and none of these. An empty list is no condition."
    )
    is_null: bool | None = strawberry.field(default=None, description="True: there is no state. False: there is one.")


@strawberry.input(description="Conditions on the current state, joined by AND.")
class StateFilter:
    type: StateTypeFilter | None = strawberry.field(default=None, description="The type of the current state.")
    name: TextFilter | None = strawberry.field(default=None, description="The name of the current state.")


AND_DESCRIPTION = "Each of these filters lets it through."
OR_DESCRIPTION = (
    "At least one of these filters lets it through. One without a condition lets everything through; an empty list is "
    "no condition."
)
NOT_DESCRIPTION = (
    "This filter does not let it through. A condition on what is not there is not met, so its opposite is."
)


@strawberry.input(description="Which flows you want. All conditions are joined by AND; none lets every flow through.")
class FlowFilter:
    and_: list["FlowFilter"] | None = strawberry.field(name="and", default=None, description=AND_DESCRIPTION)
    or_: list["FlowFilter"] | None = strawberry.field(name="or", default=None, description=OR_DESCRIPTION)
    not_: "FlowFilter | None" = strawberry.field(name="not", default=None, description=NOT_DESCRIPTION)
    id: IdFilter | None = strawberry.field(default=None, description="The flow's id.")
    name: TextFilter | None = strawberry.field(default=None, description="The flow's name.")
    tags: TagsFilter | None = strawberry.field(default=None, description="The flow's tags.")
    has_deployment: bool | None = strawberry.field(default=None, description="Whether there is a deployment of it.")


@strawberry.input(
    description="Which deployments you want. All conditions are joined by AND; none lets every deployment through."
)
class DeploymentFilter:
    and_: list["DeploymentFilter"] | None = strawberry.field(name="and", default=None, description=AND_DESCRIPTION)
    or_: list["DeploymentFilter"] | None = strawberry.field(name="or", default=None, description=OR_DESCRIPTION)
    not_: "DeploymentFilter | None" = strawberry.field(name="not", default=None, description=NOT_DESCRIPTION)
    id: IdFilter | None = strawberry.field(default=None, description="The deployment's id.")
    name: TextFilter | None = strawberry.field(default=None, description="The deployment's name.")
    tags: TagsFilter | None = strawberry.field(default=None, description="The deployment's tags.")
    work_queue_name: TextFilter | None = strawberry.field(
        default=None, description="The work queue that its flow runs go to."
    )
    is_schedule_active: bool | None = strawberry.field(
        default=None, description="Whether its schedule makes flow runs."
    )


@strawberry.input(
    description="Which flow runs you want. All conditions are joined by AND; none lets every run through."
)
class FlowRunFilter:
    and_: list["FlowRunFilter"] | None = strawberry.field(name="and", default=None, description=AND_DESCRIPTION)
    or_: list["FlowRunFilter"] | None = strawberry.field(name="or", default=None, description=OR_DESCRIPTION)
    not_: "FlowRunFilter | None" = strawberry.field(name="not", default=None, description=NOT_DESCRIPTION)
    id: IdFilter | None = strawberry.field(default=None, description="The run's id.")
    name: TextFilter | None = strawberry.field(default=None, description="The run's name.")
    tags: TagsFilter | None = strawberry.field(default=None, description="The run's tags.")
    deployment_id: IdFilter | None = strawberry.field(
        default=None, description="The deployment it came from, also where that is gone."
    )
    work_queue_name: TextFilter | None = strawberry.field(default=None, description="The work queue it goes to.")
    state: StateFilter | None = strawberry.field(default=None, description="The run's current state.")
    flow_version: TextFilter | None = strawberry.field(default=None, description="The flow's version.")
    start_time: DateTimeFilter | None = strawberry.field(default=None, description="When it first entered RUNNING.")
    expected_start_time: DateTimeFilter | None = strawberry.field(
        default=None, description="When it was first meant to start."
    )
    next_scheduled_start_time: DateTimeFilter | None = strawberry.field(
        default=None, description="When it is due, while it is SCHEDULED."
    )
    parent_flow_run_id: IdFilter | None = strawberry.field(
        default=None,
        description="The flow run whose subflow it is: the one that its parent task run belongs to. One level only.",
    )
    parent_task_run_id: IdFilter | None = strawberry.field(
        default=None, description="The task run that stands for it in its parent flow run."
    )
    idempotency_key: TextFilter | None = strawberry.field(default=None, description="The key it was created with.")
    flow: FlowFilter | None = strawberry.field(default=None, description="Its flow.")
    deployment: DeploymentFilter | None = strawberry.field(
        default=None, description="Its deployment; a run without one, or whose deployment is gone, never passes."
    )


@strawberry.input(
    description="Which task runs you want. All conditions are joined by AND; none lets every run through."
)
class TaskRunFilter:
    and_: list["TaskRunFilter"] | None = strawberry.field(name="and", default=None, description=AND_DESCRIPTION)
    or_: list["TaskRunFilter"] | None = strawberry.field(name="or", default=None, description=OR_DESCRIPTION)
    not_: "TaskRunFilter | None" = strawberry.field(name="not", default=None, description=NOT_DESCRIPTION)
    id: IdFilter | None = strawberry.field(default=None, description="The run's id.")
    name: TextFilter | None = strawberry.field(default=None, description="The run's name.")
    task_key: TextFilter | None = strawberry.field(default=None, description="The task's key.")
    tags: TagsFilter | None = strawberry.field(default=None, description="The run's tags.")
    state: StateFilter | None = strawberry.field(default=None, description="The run's current state.")
    start_time: DateTimeFilter | None = strawberry.field(default=None, description="When it first entered RUNNING.")
    end_time: DateTimeFilter | None = strawberry.field(default=None, description="When it ended.")
    expected_start_time: DateTimeFilter | None = strawberry.field(
        default=None, description="When it was first meant to start."
    )
    created: DateTimeFilter | None = strawberry.field(default=None, description="When it was created.")
    flow_run_id: IdFilter | None = strawberry.field(
        default=None, description="Its flow run; `isNull: true` asks for background runs."
    )
    has_child_flow_run: bool | None = strawberry.field(
        default=None, description="Whether it stands for a flow run, as a subflow's parent."
    )
    flow_run: FlowRunFilter | None = strawberry.field(
        default=None,
        description="The flow run it belongs to; a background run never passes, even where this is empty.",
    )


TaskRunFilterArgument = Annotated[
    TaskRunFilter | None, strawberry.argument(description="Which task runs; left out, all of them.")
]
FlowRunFilterArgument = Annotated[
    FlowRunFilter | None, strawberry.argument(description="Which flow runs; left out, all of them.")
]
FlowFilterArgument = Annotated[
    FlowFilter | None, strawberry.argument(description="Which flows; left out, all of them.")
]
DeploymentFilterArgument = Annotated[
    DeploymentFilter | None, strawberry.argument(description="Which deployments; left out, all of them.")
]
TaskRunSortArgument = Annotated[
    TaskRunSort | None, strawberry.argument(description="In which order; left out, the latest first.")
]
FlowRunSortArgument = Annotated[
    FlowRunSort | None, strawberry.argument(description="In which order; left out, the latest first.")
]


def parse_filter(path: str, filter: Any) -> Filter:
    """Convert a filter into plain values by name, without null conditions. Raises BadInput for an invalid id."""
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
            plain[name] = parse_filter(child_path, value) if _is_input(value) else value
    return plain


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
    return [parse_filter(f"{path}.{index}", each) for index, each in enumerate(values)]


def _is_input(value: Any) -> bool:
    """Return whether a value is an input object. Faster than dataclasses.is_dataclass."""
    return hasattr(value.__class__, "__dataclass_fields__")
