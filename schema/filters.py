"""What clients ask lists about. A filter becomes a tree of plain values, as `db.filters` reads it."""

from dataclasses import fields, is_dataclass
from typing import Any

import strawberry

from resolvers.task_runs import Filter
from schema.arguments import read_ids
from schema.enums import StateType


@strawberry.input(description="Conditions on an id; those that are given are joined by AND.")
class IdFilter:
    any: list[strawberry.ID] | None = strawberry.field(
        default=None, description="It is one of these; none of them, none."
    )
    not_any: list[strawberry.ID] | None = strawberry.field(default=None, description="It is there and none of these.")
    is_null: bool | None = strawberry.field(default=None, description="True: there is none. False: there is one.")

    def read(self, path: str) -> Filter:
        return {
            "any": None if self.any is None else read_ids(f"{path}.any", self.any),
            "not_any": None if self.not_any is None else read_ids(f"{path}.notAny", self.not_any),
            "is_null": self.is_null,
        }


@strawberry.input(description="Conditions on a text; those that are given are joined by AND.")
class TextFilter:
    any: list[str] | None = strawberry.field(
        default=None, description="It is exactly one of these; none of them, none."
    )
    not_any: list[str] | None = strawberry.field(default=None, description="It is there and none of these.")
    is_null: bool | None = strawberry.field(default=None, description="True: there is none. False: there is one.")


@strawberry.input(description="Conditions on the type of a state; those that are given are joined by AND.")
class StateTypeFilter:
    any: list[StateType] | None = strawberry.field(default=None, description="It is one of these; none of them, none.")
    not_any: list[StateType] | None = strawberry.field(default=None, description="It is there and none of these.")
    is_null: bool | None = strawberry.field(default=None, description="True: there is no state. False: there is one.")


@strawberry.input(description="Conditions on the current state, joined by AND.")
class StateFilter:
    type: StateTypeFilter | None = strawberry.field(default=None, description="The type of the current state.")


@strawberry.input(
    description="Which task runs you want. All conditions are joined by AND; none lets every run through."
)
class TaskRunFilter:
    id: IdFilter | None = strawberry.field(default=None, description="The run's id.")
    task_key: TextFilter | None = strawberry.field(default=None, description="The task's key.")
    state: StateFilter | None = strawberry.field(default=None, description="The run's current state.")


def read_filter(path: str, filter: TaskRunFilter | None) -> Filter:
    """The plain form of a filter; BadInput for a malformed id in it."""
    return {} if filter is None else _plain(path, filter)


def _plain(path: str, input: Any) -> Any:
    if isinstance(input, IdFilter):
        return input.read(path)
    if is_dataclass(input):
        return {each.name: _plain(f"{path}.{_camel(each.name)}", getattr(input, each.name)) for each in fields(input)}
    return input


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
