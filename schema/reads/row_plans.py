"""Completes selections directly from database rows, for selections that can be compiled.

A `RowPlan` lists the columns that a selection needs and completes rows of exactly these columns. No record is created,
and no column is read that was not requested. Columns are named by paths: `name`, `state.type`, `flow_run.flow.name`.
The part before the last dot is a relation to one row, which the database joins. A selection that needs more than
columns (a history, a position in the queue) has no plan, and records are read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, TypeVar, cast, get_type_hints

import orjson
from graphql import GraphQLNonNull, GraphQLObjectType, get_named_type, is_leaf_type
from graphql.execution.collect_fields import FieldDetails, FieldDetailsList

from db.records import (
    DeploymentRecord,
    FlowRecord,
    FlowRunRecord,
    StateDetails,
    StateRecord,
    TaskRunRecord,
    estimate_lateness,
    estimate_run_time,
    flow_run_retry_policy,
    task_run_progress,
    task_run_retry_policy,
)
from resolvers.ended_task_runs import ENDED_ROW_PATHS
from resolvers.lists import LEADING_COLUMNS
from schema.context import Info
from schema.execution.codegen import (
    LEAF_EXPRESSIONS,
    UNCOUNTED_LEAF_EXPRESSIONS,
    CompletedValue,
    FunctionWriter,
    NotCompilable,
    OutputType,
    SelectedField,
    stored_leaf_expression,
)
from schema.execution.selections import Selections

Row = Sequence[Any]
Plan = TypeVar("Plan")

_RUN_RELATIONS = {"state": StateRecord}
_RELATIONS: Mapping[type, Mapping[str, type]] = {
    TaskRunRecord: {**_RUN_RELATIONS, "flow_run": FlowRunRecord},
    FlowRunRecord: {**_RUN_RELATIONS, "flow": FlowRecord, "deployment": DeploymentRecord},
    DeploymentRecord: {"flow": FlowRecord},
}
"""Attributes of each record that are one related row. The relation is null when the id of that row is null."""

_TAGS = {"tags": (orjson.loads, ("tags",))}
_RUN_COMPUTED = {
    **_TAGS,
    "estimated_run_time_seconds": (
        estimate_run_time,
        ("total_run_time_seconds", "state_type", "state_timestamp", "now"),
    ),
    "estimated_start_time_delta_seconds": (
        estimate_lateness,
        ("expected_start_time", "start_time", "state_type", "now"),
    ),
}
_COMPUTED_FIELDS: Mapping[type, Mapping[str, tuple[Callable[..., Any], tuple[str, ...]]]] = {
    TaskRunRecord: {
        **_RUN_COMPUTED,
        "retry_policy": (task_run_retry_policy, ("retries", "retry_delay_seconds", "retry_jitter_factor")),
        "progress": (task_run_progress, ("progress",)),
    },
    FlowRunRecord: {
        **_RUN_COMPUTED,
        "retry_policy": (flow_run_retry_policy, ("retries", "retry_delay_seconds")),
        "pause_keys": (orjson.loads, ("pause_keys",)),
    },
    StateRecord: {"details": (StateDetails.from_json, ("details",))},
    FlowRecord: _TAGS,
    DeploymentRecord: _TAGS,
}
"""Attributes computed from columns: the function and the columns it takes. `now` is the time of the read."""

_RECORD_TYPES: Mapping[str, type] = {"TaskRun": TaskRunRecord, "FlowRun": FlowRunRecord}
"""The record that defines the columns of each type that can be read as rows."""


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Plan for reading one object. Its row has the columns of `paths`, in this order."""

    paths: tuple[str, ...]
    complete_object: Callable[[Row, str], dict[str, Any]]

    def complete(self, row: Row, now: str) -> CompletedValue:
        """Complete the object from a row read at the time `now`. Raises NotCompilable when that fails."""
        return complete_or_raise(lambda: self.complete_object(row, now))


@dataclass(frozen=True, slots=True)
class ConnectionPlan:
    """Plan for reading a page and completing the `nodes` and `edges` of its connection.

    A row has the columns of the sort order first, and then those of `paths`. The first path is the id.
    """

    paths: tuple[str, ...]
    complete_nodes: Callable[[Sequence[Row], str], list[dict[str, Any]]] | None
    """Completes `nodes`; None when they are not selected."""
    complete_edges: Callable[[Sequence[Row], str, Sequence[str]], list[dict[str, Any]]] | None
    """Completes `edges` with their cursors; None when they are not selected."""
    has_cursors: bool
    """Whether the cursors of edges are selected."""
    has_page_info: bool
    has_total_count: bool

    def nodes(self, rows: Sequence[Row], now: str) -> CompletedValue | None:
        """Complete the nodes; None when they are not selected. Raises NotCompilable when that fails."""
        complete = self.complete_nodes
        return complete and complete_or_raise(lambda: complete(rows, now))

    def edges(self, rows: Sequence[Row], now: str, cursors: Sequence[str]) -> CompletedValue | None:
        """Complete the edges as `nodes` does. Cursors are ignored when `has_cursors` is false."""
        complete = self.complete_edges
        return complete and complete_or_raise(lambda: complete(rows, now, cursors))


@dataclass(frozen=True, slots=True)
class ListPlan:
    """Plan for reading the list of runs of a payload. A row has the columns of `paths`, in this order."""

    paths: tuple[str, ...]
    complete_list: Callable[[Sequence[Row], str], list[dict[str, Any]]] | None
    """Completes the list; None when it is not selected."""

    def complete(self, rows: Sequence[Row], now: str) -> CompletedValue:
        """Complete the list from rows read at the time `now`. Raises NotCompilable when that fails."""
        complete = self.complete_list
        return CompletedValue([]) if complete is None else complete_or_raise(lambda: complete(rows, now))


def complete_or_raise(complete: Callable[[], Any]) -> CompletedValue:
    """Return the result of `complete`. Raises NotCompilable when it fails: graphql-core reports the error."""
    try:
        return CompletedValue(complete())
    except Exception as error:
        raise NotCompilable from error


def plan_row(info: Info) -> RowPlan | None:
    """Return the plan for the object that the field returns; None when records must be read."""
    return cached_plan(info, _build_row_plan)


def plan_connection(info: Info) -> ConnectionPlan | None:
    """Return the plan for the page that the field returns; None when records must be read."""
    return cached_plan(info, _build_connection_plan)


def plan_ended_runs(info: Info) -> ListPlan | None:
    """Return the plan for the list of ended runs that the field returns; None when records must be read."""
    return cached_plan(info, _build_ended_runs_plan)


def cached_plan(
    info: Info, build_plan: Callable[[Selections, GraphQLObjectType, FieldDetailsList, bool], Plan]
) -> Plan | None:
    """Return the plan for the selection of the field, built once per document; None when it cannot be compiled.

    The last argument of `build_plan` is whether the database guarantees that a column has only values of its type.
    """
    selections = info.context.selections
    if selections is None:
        return None
    raw = cast("Any", info._raw_info)  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
    details = [FieldDetails(node, None) for node in raw.field_nodes]
    is_typed = info.context.database.is_typed
    key = build_plan, raw.return_type, *map(id, raw.field_nodes)
    return selections.cached_plan(key, lambda: build_plan(selections, object_type(raw.return_type), details, is_typed))


def _build_row_plan(
    selections: Selections, type_: GraphQLObjectType, details: FieldDetailsList, is_typed: bool
) -> RowPlan:
    writer = _RowFunctionWriter(selections, column_offset=0, is_typed=is_typed)
    name = writer.add_row_function(type_, details)
    return RowPlan(tuple(writer.paths) or ("id",), writer.compile_functions()[name])


def _build_ended_runs_plan(
    selections: Selections, type_: GraphQLObjectType, details: FieldDetailsList, is_typed: bool
) -> ListPlan:
    writer = _RowFunctionWriter(selections, column_offset=0, is_typed=is_typed)
    writer.paths |= {path: f"column_{number}" for number, path in enumerate(ENDED_ROW_PATHS)}
    function_name = None
    for selected in selections.compilable_fields(type_, details).values():
        if selected[0].node.name.value != "ended":
            continue
        # Two aliases need two different values.
        if function_name is not None:
            raise NotCompilable
        function_name = writer.add_row_list_function(object_type(type_.fields["ended"].type), selected)
    functions = writer.compile_functions()
    return ListPlan(tuple(writer.paths), functions[function_name] if function_name else None)


def _build_connection_plan(
    selections: Selections, type_: GraphQLObjectType, details: FieldDetailsList, is_typed: bool
) -> ConnectionPlan:
    # The id is the last leading column: it is part of the row's position.
    writer = _RowFunctionWriter(selections, column_offset=LEADING_COLUMNS - 1, is_typed=is_typed)
    writer.paths["id"] = "column_0"
    selected_names: dict[str, list[str]] = {}
    function_names: dict[str, str] = {}
    for selected in selections.compilable_fields(type_, details).values():
        name = selected[0].node.name.value
        subfield_names = selected_names.setdefault(name, [])
        if name not in type_.fields:
            continue
        field_type = cast("object", get_named_type(type_.fields[name].type))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        if not isinstance(field_type, GraphQLObjectType):
            continue
        subfield_names += [
            each[0].node.name.value for each in selections.compilable_fields(field_type, selected).values()
        ]
        if name in ("nodes", "edges"):
            # Two aliases need two different values, but a plan has one function for each of `nodes` and `edges`.
            if name in function_names:
                raise NotCompilable
            add_function = writer.add_row_list_function if name == "nodes" else writer.add_edge_list_function
            function_names[name] = add_function(field_type, selected)
    functions = writer.compile_functions()
    return ConnectionPlan(
        paths=tuple(writer.paths),
        complete_nodes=functions.get(function_names.get("nodes", "")),
        complete_edges=functions.get(function_names.get("edges", "")),
        has_cursors="cursor" in selected_names.get("edges", ()),
        has_page_info="pageInfo" in selected_names,
        has_total_count="totalCount" in selected_names,
    )


class _RowFunctionWriter(FunctionWriter):
    """Generates functions of rows, the time of the read and the cursors of edges. Collects the columns they need."""

    def __init__(self, selections: Selections, *, column_offset: int, is_typed: bool) -> None:
        """`column_offset` is the number of columns in a row before those of `paths`.

        When the columns are typed (`is_typed`), their values are returned without checking each of them.
        """
        super().__init__(selections.compilable_fields)
        self.paths: dict[str, str] = {}
        self._selected_paths: set[str] = set()
        self._column_offset = column_offset
        self._is_typed = is_typed

    def add_row_function(self, type_: GraphQLObjectType, details: FieldDetailsList) -> str:
        """Generate a function that completes an object; return its name."""
        display = self._columns(type_, details, _record_type(type_), "")
        return self.add_function("row, now", *self._unpack(), f"return {display}")

    def add_row_list_function(self, type_: GraphQLObjectType, details: FieldDetailsList) -> str:
        """Generate a function that completes a list of objects; return its name."""
        return self._add_loop_function(
            "rows, now", "row in rows", self._columns(type_, details, _record_type(type_), "")
        )

    def add_edge_list_function(self, type_: GraphQLObjectType, details: FieldDetailsList) -> str:
        """Generate a function that completes a list of edges; return its name."""

        def write_field(field: SelectedField, details: FieldDetailsList) -> str:
            if field.attribute == "cursor":
                return self.value_expression(field.type, details, "cursor")
            node_type = object_type(field.type)
            return self._columns(node_type, details, _record_type(node_type), "")

        display = self.object_display(type_, self.collect(type_, details), write_field)
        return self._add_loop_function("rows, now, cursors", "row, cursor in zip(rows, cursors, strict=True)", display)

    def _add_loop_function(self, parameters: str, each: str, display: str) -> str:
        # A loop in the generated function: calling a function for each row would take longer than completing some rows.
        steps = [*self._unpack(), f"completed.append({display})"]
        body = [f"    {step}" for step in steps]
        return self.add_function(parameters, "completed = []", f"for {each}:", *body, "return completed")

    def _unpack(self) -> Sequence[str]:
        names = "".join(f"{name}, " for name in self.paths.values())
        # The slice excludes columns that functions generated later will add.
        return [f"{names}= row[{self._column_offset}:{self._column_offset + len(self.paths)}]"] if names else []

    def _columns(self, type_: GraphQLObjectType, details: FieldDetailsList, record: type, path_prefix: str) -> str:
        """Return a dictionary display of an object from the columns whose paths begin with `path_prefix`."""

        def write_field(field: SelectedField, details: FieldDetailsList) -> str:
            name = field.attribute
            if (related_record := _RELATIONS.get(record, {}).get(name)) is not None:
                return self._related(field.type, details, related_record, f"{path_prefix}{name}.")
            if not field.is_attribute:
                raise NotCompilable
            # The read has counted each column once; only a second selection of it counts towards the response size.
            is_counted = path_prefix + name not in self._selected_paths and is_leaf_type(get_named_type(field.type))
            self._selected_paths.add(path_prefix + name)
            self.leaf_expressions = UNCOUNTED_LEAF_EXPRESSIONS if is_counted else LEAF_EXPRESSIONS
            is_type_known = self._is_typed and is_counted
            if name in _COMPUTED_FIELDS[record]:
                compute, columns = _COMPUTED_FIELDS[record][name]
                arguments = ["now" if column == "now" else self._column(path_prefix + column) for column in columns]
                source = f"{self.add_value(compute)}({', '.join(arguments)})"
                return (
                    source if is_type_known and name == "tags" else self.value_expression(field.type, details, source)
                )
            if name not in (hints := _stored_fields(record)):
                raise NotCompilable
            column = self._column(path_prefix + name)
            expression = stored_leaf_expression(field.type, hints[name], column) if is_type_known else None
            return expression or self.value_expression(field.type, details, column)

        return self.object_display(type_, self.collect(type_, details), write_field)

    def _related(self, type_: OutputType, details: FieldDetailsList, record: type, path_prefix: str) -> str:
        null_expression = "unwrap_completed(None)" if isinstance(type_, GraphQLNonNull) else "None"
        key = self._column(path_prefix + "id")
        return f"({null_expression} if {key} is None else {self._columns(object_type(type_), details, record, path_prefix)})"

    def _column(self, path: str) -> str:
        return self.paths.setdefault(path, f"column_{len(self.paths)}")


def _record_type(type_: GraphQLObjectType) -> type:
    if type_.name not in _RECORD_TYPES:
        raise NotCompilable
    return _RECORD_TYPES[type_.name]


def object_type(type_: OutputType) -> GraphQLObjectType:
    """Return the object type without its wrappers. Raises NotCompilable for other types."""
    named = cast("object", get_named_type(type_))
    if not isinstance(named, GraphQLObjectType):
        raise NotCompilable
    return named


@cache
def _stored_fields(record: type[Any]) -> Mapping[str, Any]:
    """Return the fields that are returned as stored, with their Python types."""
    hints = get_type_hints(record)
    # As in db.row_mapping: keyword-only fields are not columns of the row, and JSON texts are parsed first.
    names = [each.name for each in fields(record) if not each.kw_only and not each.name.endswith("_json")]
    return {name: hints[name] for name in names}
