"""From a row of the database straight to an answer, for selections that are plain data.

A `RowPlan` says which columns a selection needs and completes a row of just these: no record is made, and nothing is read
that was not asked for. Columns are named by paths: `name`, `state.type`, `flow_run.flow.name`; what comes before the last
dot is a relation to one row, which the database joins. Where a selection needs more than columns can tell (a history,
a place in the queue) there is no plan, and records are read.
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
    flow_run_policy,
    task_run_policy,
)
from resolvers.lists import BEFORE_SELECTED
from schema.context import Info
from schema.execution.codegen import (
    LEAVES,
    LEAVES_OF_ANY_LENGTH,
    Field,
    NotPlain,
    OutputType,
    Prepared,
    Writer,
    known_leaf,
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
"""Attributes that are another row, at most one; null where that row's id is."""

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
_COMPUTED: Mapping[type, Mapping[str, tuple[Callable[..., Any], tuple[str, ...]]]] = {
    TaskRunRecord: {
        **_RUN_COMPUTED,
        "empirical_policy": (task_run_policy, ("retries", "retry_delay_seconds", "retry_jitter_factor")),
    },
    FlowRunRecord: {
        **_RUN_COMPUTED,
        "empirical_policy": (flow_run_policy, ("retries", "retry_delay_seconds", "pause_keys", "resuming")),
    },
    StateRecord: {"details": (StateDetails.from_json, ("details",))},
    FlowRecord: _TAGS,
    DeploymentRecord: _TAGS,
}
"""Attributes that are no column: the function, and the columns that it takes. `now` is when the row was read."""

_RECORDS: Mapping[str, type] = {"TaskRun": TaskRunRecord, "FlowRun": FlowRunRecord}
"""For each type that can be read as rows, whose columns these are."""


@dataclass(frozen=True, slots=True)
class RowPlan:
    """How one object is read: a row has the columns of `paths` in this order."""

    paths: tuple[str, ...]
    object: Callable[[Row, str], dict[str, Any]]

    def complete(self, row: Row, now: str) -> Prepared:
        """The object, read at the instant `now`. NotPlain where only the ordinary path can word the answer."""
        return attempt(lambda: self.object(row, now))


@dataclass(frozen=True, slots=True)
class ConnectionPlan:
    """How a page is read: rows as of a `RowPlan`, behind what they are ordered by, made into what the connection has as
    `nodes` and `edges`. Their first path is the id."""

    paths: tuple[str, ...]
    complete_nodes: Callable[[Sequence[Row], str], list[dict[str, Any]]] | None
    """Completes `nodes`; None where these are not asked for."""
    complete_edges: Callable[[Sequence[Row], str, Sequence[str]], list[dict[str, Any]]] | None
    """Completes `edges`, with their cursors; None where these are not asked for."""
    has_cursors: bool
    """Whether the cursors of edges are asked for."""
    has_page_info: bool
    has_total_count: bool

    def nodes(self, rows: Sequence[Row], now: str) -> Prepared | None:
        """The nodes, None where they are not asked for. NotPlain where only the ordinary path can word the answer."""
        complete = self.complete_nodes
        return complete and attempt(lambda: complete(rows, now))

    def edges(self, rows: Sequence[Row], now: str, cursors: Sequence[str]) -> Prepared | None:
        """The edges, as `nodes`; the cursors are not looked at where `has_cursors` is false."""
        complete = self.complete_edges
        return complete and attempt(lambda: complete(rows, now, cursors))


def attempt(complete: Callable[[], Any]) -> Prepared:
    """What `complete` gives. NotPlain where it fails: only the ordinary path can word that."""
    try:
        return Prepared(complete())
    except Exception as error:
        raise NotPlain from error


def row_plan(info: Info) -> RowPlan | None:
    """How to read the object that the field answers with; None where records are to be read."""
    return plan_of(info, _row_plan)


def connection_plan(info: Info) -> ConnectionPlan | None:
    """How to read the page that the field answers with; None where records are to be read."""
    return plan_of(info, _connection_plan)


def plan_of(info: Info, write: Callable[[Selections, GraphQLObjectType, FieldDetailsList, bool], Plan]) -> Plan | None:
    """What `write` makes of the field's selection, once for each document; None where that is no plain data.

    It is told last whether a column can have nothing but values of its type.
    """
    selections = info.context.selections
    if selections is None:
        return None
    raw = cast("Any", info._raw_info)  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
    details = [FieldDetails(node, None) for node in raw.field_nodes]
    is_typed = info.context.database.is_typed
    key = write, raw.return_type, *map(id, raw.field_nodes)
    return selections.plan(key, lambda: write(selections, object_type(raw.return_type), details, is_typed))


def _row_plan(selections: Selections, type_: GraphQLObjectType, details: FieldDetailsList, is_typed: bool) -> RowPlan:
    writer = _RowWriter(selections, before=0, is_typed=is_typed)
    name = writer.object(type_, details)
    return RowPlan(tuple(writer.paths) or ("id",), writer.compiled()[name])


def _connection_plan(
    selections: Selections, type_: GraphQLObjectType, details: FieldDetailsList, is_typed: bool
) -> ConnectionPlan:
    # The id is part of the row's place.
    writer = _RowWriter(selections, before=BEFORE_SELECTED - 1, is_typed=is_typed)
    writer.paths["id"] = "column_0"
    asked: dict[str, list[str]] = {}
    written: dict[str, str] = {}
    for selected in selections.fields(type_, details).values():
        name = selected[0].node.name.value
        below = asked.setdefault(name, [])
        if name not in type_.fields:
            continue
        field_type = cast("object", get_named_type(type_.fields[name].type))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        if not isinstance(field_type, GraphQLObjectType):
            continue
        below += [each[0].node.name.value for each in selections.fields(field_type, selected).values()]
        if name in ("nodes", "edges"):
            # Selected twice, under two names, it would have to be two different values.
            if name in written:
                raise NotPlain
            write = writer.objects if name == "nodes" else writer.edges
            written[name] = write(field_type, selected)
    functions = writer.compiled()
    return ConnectionPlan(
        paths=tuple(writer.paths),
        complete_nodes=functions.get(written.get("nodes", "")),
        complete_edges=functions.get(written.get("edges", "")),
        has_cursors="cursor" in asked.get("edges", ()),
        has_page_info="pageInfo" in asked,
        has_total_count="totalCount" in asked,
    )


class _RowWriter(Writer):
    """Writes functions of rows, the instant of reading, and for edges the cursors; collects the columns they need."""

    def __init__(self, selections: Selections, *, before: int, is_typed: bool) -> None:
        """`before` is how many other columns a row has before its own. Where these are `is_typed`, values of theirs are
        answered without a look at each."""
        super().__init__(selections.fields)
        self.paths: dict[str, str] = {}
        self._answered: set[str] = set()
        self._before = before
        self._is_typed = is_typed

    def object(self, type_: GraphQLObjectType, details: FieldDetailsList) -> str:
        """A function that completes an object."""
        display = self._columns(type_, details, _record(type_), "")
        return self.function("row, now", *self._unpack(), f"return {display}")

    def objects(self, type_: GraphQLObjectType, details: FieldDetailsList) -> str:
        """A function that completes a list of objects."""
        return self._loop("rows, now", "row in rows", self._columns(type_, details, _record(type_), ""))

    def edges(self, type_: GraphQLObjectType, details: FieldDetailsList) -> str:
        """A function that completes a list of edges."""

        def write_field(field: Field, details: FieldDetailsList) -> str:
            if field.attribute == "cursor":
                return self.value(field.type, details, "cursor")
            node_type = object_type(field.type)
            return self._columns(node_type, details, _record(node_type), "")

        display = self.display(type_, self.collect(type_, details), write_field)
        return self._loop("rows, now, cursors", "row, cursor in zip(rows, cursors, strict=True)", display)

    def _loop(self, parameters: str, each: str, display: str) -> str:
        # A call for each row would take longer than some rows do.
        steps = [*self._unpack(), f"completed.append({display})"]
        body = [f"    {step}" for step in steps]
        return self.function(parameters, "completed = []", f"for {each}:", *body, "return completed")

    def _unpack(self) -> Sequence[str]:
        names = "".join(f"{name}, " for name in self.paths.values())
        # There may be more of them, which functions that are written later need.
        return [f"{names}= row[{self._before}:{self._before + len(self.paths)}]"] if names else []

    def _columns(self, type_: GraphQLObjectType, details: FieldDetailsList, record: type, before: str) -> str:
        """A display of an object made of the columns whose paths begin with `before`."""

        def write_field(field: Field, details: FieldDetailsList) -> str:
            name = field.attribute
            if (related := _RELATIONS.get(record, {}).get(name)) is not None:
                return self._related(field.type, details, related, f"{before}{name}.")
            if not field.is_attribute:
                raise NotPlain
            # What is answered once was weighed when it was read.
            is_weighed = before + name not in self._answered and is_leaf_type(get_named_type(field.type))
            self._answered.add(before + name)
            self.leaves = LEAVES_OF_ANY_LENGTH if is_weighed else LEAVES
            is_known = self._is_typed and is_weighed
            if name in _COMPUTED[record]:
                compute, columns = _COMPUTED[record][name]
                arguments = ["now" if column == "now" else self._column(before + column) for column in columns]
                source = f"{self.name(compute)}({', '.join(arguments)})"
                return source if is_known and name == "tags" else self.value(field.type, details, source)
            if name not in (hints := _stored(record)):
                raise NotPlain
            column = self._column(before + name)
            known = known_leaf(field.type, hints[name], column) if is_known else None
            return known or self.value(field.type, details, column)

        return self.display(type_, self.collect(type_, details), write_field)

    def _related(self, type_: OutputType, details: FieldDetailsList, record: type, before: str) -> str:
        missing = "prepared(None)" if isinstance(type_, GraphQLNonNull) else "None"
        key = self._column(before + "id")
        return f"({missing} if {key} is None else {self._columns(object_type(type_), details, record, before)})"

    def _column(self, path: str) -> str:
        return self.paths.setdefault(path, f"column_{len(self.paths)}")


def _record(type_: GraphQLObjectType) -> type:
    if type_.name not in _RECORDS:
        raise NotPlain
    return _RECORDS[type_.name]


def object_type(type_: OutputType) -> GraphQLObjectType:
    """The type without what it is wrapped in. NotPlain where it is none of objects."""
    named = cast("object", get_named_type(type_))
    if not isinstance(named, GraphQLObjectType):
        raise NotPlain
    return named


@cache
def _stored(record: type[Any]) -> Mapping[str, Any]:
    """The fields that are answered as they are stored, with what they are."""
    hints = get_type_hints(record)
    # As in db.row_mapping: keyword-only fields come from elsewhere, and a text of JSON is read before it is answered.
    names = [each.name for each in fields(record) if not each.kw_only and not each.name.endswith("_json")]
    return {name: hints[name] for name in names}
