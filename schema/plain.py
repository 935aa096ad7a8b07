"""What of a document is plain data, found out once and kept with the document.

A field is plain where it is an attribute without arguments, and all that is selected of it is plain again. `Plans` belong
to a document, `Selections` to one operation of it under one set of values for `@skip` and `@include`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from graphql import (
    GraphQLError,
    GraphQLObjectType,
    NamedTypeNode,
    NonNullTypeNode,
    OperationDefinitionNode,
)
from graphql.execution.collect_fields import (
    CollectedFields,
    FieldDetailsList,
    GroupedFieldSet,
    collect_fields,
    collect_subfields,
)
from graphql.execution.executor import Executor
from graphql.execution.values import VariableValues

from schema.completion import Complete, NotPlain, OutputType, Writer

MOST_VARIANTS = 8
"""Sets of values for `@skip` and `@include` that one document's functions are kept for; beyond, nothing is plain."""

MOST_FIELDS = 1000
"""Fields looked at for one set of values: fragments within fragments can select more than there is memory for."""

Plan = TypeVar("Plan")


class Plans:
    """The selections of one document's operations."""

    def __init__(self) -> None:
        self._selections: dict[Any, Selections] = {}

    def selections_of(self, executor: Executor[Any]) -> "Selections | None":
        """The selections of the operation that is executed."""
        # Only variables of this type can be used in @skip and @include; the others do not change what is selected.
        names = [name for name in _boolean_variables(executor.operation) if name in executor.variable_values.coerced]
        values = {name: executor.variable_values.coerced[name] for name in names}
        key = id(executor.operation), *values.items()
        if key not in self._selections:
            if len(self._selections) == MOST_VARIANTS:
                return None
            sources = {name: executor.variable_values.sources[name] for name in names}
            self._selections[key] = Selections(executor, VariableValues(sources, values))
        return self._selections[key]


def _boolean_variables(operation: OperationDefinitionNode) -> list[str]:
    names: list[str] = []
    for definition in operation.variable_definitions or ():
        type_ = definition.type
        if isinstance(type_, NonNullTypeNode):
            type_ = type_.type
        if isinstance(type_, NamedTypeNode) and type_.name.value == "Boolean":
            names.append(definition.variable.name.value)
    return names


@dataclass(frozen=True, slots=True)
class Split:
    """An object's fields: the plain ones as a function that leaves None for the others, and the others."""

    complete: Complete
    rest: GroupedFieldSet


class Selections:
    """What one operation selects, for all its executions with the same values for @skip and @include."""

    def __init__(self, executor: Executor[Any], variable_values: VariableValues) -> None:
        self._schema = executor.schema
        self._fragments = executor.fragments
        self._operation = executor.operation
        self._variable_values = variable_values
        self._hide_suggestions = executor.hide_suggestions
        self._root: GroupedFieldSet | None = None
        self._collected: dict[Any, CollectedFields] = {}
        self._plans: dict[Any, Any] = {}
        self._looked_at = 0

    def collect_root(self, type_: GraphQLObjectType) -> GroupedFieldSet:
        """The fields that are selected of the operation's root."""
        if self._root is None:
            self._root = collect_fields(
                self._schema,
                self._fragments,
                self._variable_values,
                type_,
                self._operation,
                self._hide_suggestions,
            ).grouped_field_set
        return self._root

    def collect(self, type_: GraphQLObjectType, details: FieldDetailsList) -> CollectedFields:
        """The fields that are selected of an object; the same object for the same nodes of the document."""
        key = _key(type_, details)
        if key not in self._collected:
            self._collected[key] = collect_subfields(
                self._schema, self._fragments, self._variable_values, self._operation, type_, details
            )
        return self._collected[key]

    def fields(self, type_: GraphQLObjectType, details: FieldDetailsList) -> GroupedFieldSet:
        """As `collect`, for what is to be written down; NotPlain where that would be too much."""
        collected = self.collect(type_, details)
        self._looked_at += len(collected.grouped_field_set)
        if collected.new_defer_usages or self._looked_at > MOST_FIELDS:
            raise NotPlain
        return collected.grouped_field_set

    def completion(self, type_: OutputType, details: FieldDetailsList) -> Complete | None:
        """A function that completes a value of this type, where all that is selected of it is plain."""

        def write() -> Complete:
            writer = Writer(self.fields)
            name = writer.function("value", f"return {writer.value(type_, details, 'value')}")
            return writer.compiled()[name]

        return self.plan(_key(type_, details), write)

    def split(self, type_: GraphQLObjectType, fields: GroupedFieldSet) -> Split | None:
        """The fields that `collect` has found, divided; None where none is plain."""

        def write() -> Split:
            writer = Writer(self.fields)
            name, rest = writer.part_of_record(type_, fields)
            if len(rest) == len(fields):
                raise NotPlain
            return Split(writer.compiled()[name], rest)

        return self.plan(id(fields), write)

    def plan(self, key: Any, write: Callable[[], Plan]) -> Plan | None:
        """What `write` gives, which is called once; None where it finds something that is not plain."""
        if key not in self._plans:
            try:
                self._plans[key] = write()
            except (NotPlain, GraphQLError):
                self._plans[key] = None
        return cast("Plan | None", self._plans[key])


def _key(type_: OutputType, details: FieldDetailsList) -> Any:
    # Nodes live as long as their document, and so do these keys.
    if len(details) == 1:
        return type_, id(details[0].node)
    return type_, *[id(each.node) for each in details]
